"""The S3 client: put, the calls of a multipart upload, head, get, delete; owns the client's life.

What S3 says no to becomes one of our errors here and nowhere else.
"""

import http.client
import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from errno import EPIPE
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Literal

import boto3
import urllib3
from botocore.credentials import Credentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ParamValidationError,
    UnseekableStreamError,
)
from botocore.response import StreamingBody

from filehandoff import logs
from filehandoff.digest import crc32_header
from filehandoff.errors import (
    GONE_CODES,
    BucketMissing,
    ObjectMissing,
    RangeNotSatisfiable,
    StoreUnavailable,
    UploadError,
    UploadGone,
    from_store_answer,
)
from filehandoff.http import ObjectInfo, clamp
from filehandoff.parts import Part
from filehandoff.presigned import Seal, is_aws
from filehandoff.receipt import Incoming
from filehandoff.settings import Settings
from filehandoff.sweep import Unfinished
from filehandoff.verify import Completed, bare_etag, check_crc32, quoted_etag, told
from filehandoff.web.metrics import Metrics
from flask_app.client import new_client
from flask_app.glance import Glance
from flask_app.hooks import Hook
from flask_app.undoing import Undoing

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef, PartTypeDef

logger = logging.getLogger(__name__)

#: /readyz answers within a second; connecting and reading get half of it each.
PROBE_TIMEOUT = 0.45
#: How long the start waits for S3 to say whether there is the bucket.
START_TIMEOUT = 3.0
READ_BYTES = 256 * 1024

_hook: ContextVar[Hook | None] = ContextVar("hook", default=None)


class Store:
    """One bucket, by clients for the whole process; safe to use from many threads."""

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        self.settings = settings
        self.metrics = metrics or Metrics()
        self.undoing = Undoing()

    def open(self) -> None:
        """Make the clients; registers the one permanent handler that calls each upload's own hook.

        Raises:
            SettingsError: AWS_PROFILE names no profile.
        """
        self._client = self.new_client()
        # As in Quart, where an upload would wait for connections that slow downloads hold; here it would make new ones.
        self._downloads = self.new_client()
        self._probe = new_client(self.settings, PROBE_TIMEOUT, PROBE_TIMEOUT, attempts=1)
        self._signer = self._open_signer()
        for client in {self._client, self._signer}:
            for operation in ("PutObject", "CreateMultipartUpload"):
                client.meta.events.register(f"before-parameter-build.s3.{operation}", _run_hook)
        credentials = boto3.session.Session().get_credentials()
        self._glance = Glance.of(self._client, self.settings.bucket, credentials)
        self.seal = Seal(self.settings.promise_secret or _lasting_secret(credentials))
        for client in (self._client, self._downloads):
            client.meta.events.register("request-created.s3", self.metrics.count_retry)

    def _open_signer(self) -> "S3Client":
        """The client whose URLs lead to where clients reach S3."""
        if public := self.settings.s3_public_endpoint_url:
            return self.new_client(public)
        if is_aws(self._client.meta.endpoint_url):
            return self.new_client(addressing="virtual")
        return self._client

    def new_client(
        self, endpoint_url: str | None = None, addressing: Literal["auto", "virtual"] = "auto"
    ) -> "S3Client":
        """A client of the caller's own, without our handler.

        Its presigned URLs for AWS name the region only where each bucket has its own host (`addressing` is `virtual`).
        boto signs for the region and names the global host otherwise (boto/boto3#3015), which for a while answers URLs
        of a new bucket with a redirect to a host that they are not signed for.
        """
        settings = self.settings
        timeouts = settings.s3_connect_timeout, settings.s3_read_timeout
        return new_client(settings, *timeouts, settings.s3_attempts, endpoint_url, addressing)

    def put(self, incoming: Incoming, body: IO[bytes], crc32: int, hook: Hook) -> str:
        """Store a file by one put and answer its ETag; S3 refuses it if the bytes it gets have another CRC-32."""
        checksum = crc32_header(crc32)
        with store_errors(), calling(hook):
            answer = self._client.put_object(
                Bucket=self.settings.bucket,
                Key=incoming.key,
                Body=body,
                ContentType=incoming.content_type,
                Metadata=incoming.metadata(),
                ChecksumCRC32=checksum,
            )
        check_crc32(checksum, answer.get("ChecksumCRC32"))
        return bare_etag(answer)

    def create_multipart(self, incoming: Incoming, hook: Hook, metadata: dict[str, str] | None = None) -> str:
        """Begin a multipart upload and answer its id; what an earlier try of the same call began is aborted.

        With `metadata` instead of the file's own it is the client that sends the parts, and without a checksum.
        """
        checked: dict[str, Any] = {} if metadata else {"ChecksumAlgorithm": "CRC32"}
        with store_errors(), calling(hook):
            answer = self._client.create_multipart_upload(
                Bucket=self.settings.bucket,
                Key=incoming.key,
                ContentType=incoming.content_type,
                Metadata=metadata or incoming.metadata(),
                **checked,
            )
        if answer["ResponseMetadata"].get("RetryAttempts"):
            try:
                self.abort_lost(incoming.key, answer.get("UploadId"))
            except Exception as error:  # noqa: BLE001 - also a want of memory must lose no upload
                self.metrics.undo_failures.inc()
                logger.warning(
                    "a first try of '%s' may be unfinished in S3: %s", incoming.key, error.__cause__ or error
                )
                abort = partial(self.abort_lost, incoming.key, answer.get("UploadId"))
                self.undoing.later(abort, logs.bound_id(), incoming.key)
        return str(told(answer, "UploadId"))

    def upload_part(
        self, key: str, upload_id: str, part: Part, crc32: int, go_on: Callable[[], None]
    ) -> "CompletedPartTypeDef":
        """Send one part, straight from the chunks it came in; S3 refuses it if what it gets has another CRC-32.

        While it is sent, `go_on` is called again and again, and breaks it off by raising.
        """
        checksum = crc32_header(crc32)
        with store_errors(), self.metrics.part(), part.open(go_on) as body:
            answer = self._client.upload_part(
                Bucket=self.settings.bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=part.number,
                Body=body,
                ContentLength=part.size,
                ChecksumCRC32=checksum,
            )
        check_crc32(checksum, answer.get("ChecksumCRC32"))
        return {"PartNumber": part.number, "ETag": quoted_etag(answer), "ChecksumCRC32": checksum}

    def complete_multipart(self, key: str, upload_id: str, parts: "list[CompletedPartTypeDef]") -> Completed:
        """Make one object of the parts, given in order; what S3 says of it is still to be compared with them.

        Where the answer to a first try was lost, S3 answers the second like the first, but not every store does: that
        the upload is gone then means that it was completed, if the object is there, for nothing else has its key. So it
        does where somebody else has completed it.

        Raises:
            UploadGone: there is neither the upload nor the object.
        """
        with store_errors():
            try:
                answer: Mapping[str, Any] = self._client.complete_multipart_upload(
                    Bucket=self.settings.bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
                )
            except ClientError as error:
                if not is_gone(error):
                    raise
                answer = self._completed(key)
        return Completed.from_s3(answer)

    def _completed(self, key: str) -> Mapping[str, Any]:
        """What S3 says of the object that a completion has made."""
        try:
            return self._client.head_object(Bucket=self.settings.bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == ObjectMissing.status:
                raise UploadGone from error
            raise

    def list_parts(self, key: str, upload_id: str) -> "list[PartTypeDef]":
        """The parts of a multipart upload that S3 has, in order.

        Raises:
            UploadGone: there is no such upload.
        """
        with store_errors():
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self.settings.bucket, Key=key, UploadId=upload_id
            )
            try:
                return [part for page in pages for part in page.get("Parts", [])]
            except ClientError as error:
                if is_gone(error):
                    raise UploadGone from error
                raise

    def abort_multipart(self, key: str, upload_id: str) -> bool:
        """End a multipart upload without an object; whether there was one: one that is gone already is as good."""
        with store_errors():
            try:
                self._client.abort_multipart_upload(Bucket=self.settings.bucket, Key=key, UploadId=upload_id)
            except ClientError as error:
                if not is_gone(error):
                    raise
                return False
        self.metrics.aborts.inc()
        return True

    def abort_lost(self, key: str, known: str | None = None) -> None:
        """Abort what S3 began for this key without our learning of it, its answer lost: all but the known one."""
        for upload in self.unfinished_uploads(key):
            if upload.upload_id != known:
                self.abort_multipart(upload.key, upload.upload_id)

    def unfinished_uploads(self, prefix: str) -> list[Unfinished]:
        """The multipart uploads below this prefix that were neither completed nor aborted, whoever began them.

        Raises:
            BucketMissing: there is no such bucket.
        """
        bucket = self.settings.bucket
        with store_errors():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
            try:
                return [Unfinished.from_s3(entry) for page in pages for entry in page.get("Uploads", [])]
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == "NoSuchBucket":
                    raise BucketMissing(bucket) from None
                if code == "NoSuchUpload":  # how rclone says that there are none
                    return []
                raise

    def head(self, key: str) -> ObjectInfo:
        """What is known of an object.

        Raises:
            ObjectMissing: there is none.
        """
        with store_errors():
            return ObjectInfo.from_s3(key, self._client.head_object(Bucket=self.settings.bucket, Key=key))

    def look(self, key: str) -> tuple[int, str]:
        """The size in bytes and the ETag, in its quotes, of an object; by the shortest way that S3 takes.

        Raises:
            ObjectMissing: there is none.
        """
        if (seen := self._glance(key)) is not None:
            return seen
        info = self.head(key)
        return info.length, info.etag

    def get(self, key: str, byte_range: str | None) -> tuple[ObjectInfo, StreamingBody]:
        """An object for a client, or one range of it, with its bytes still to be read: whoever gets them closes them.

        Raises:
            ObjectMissing: there is none.
            RangeNotSatisfiable: the range begins after its end.
        """
        with store_errors():
            try:
                return self._get(self._downloads, key, byte_range)
            except ClientError as error:
                if (
                    byte_range is None
                    or error.response["ResponseMetadata"]["HTTPStatusCode"] != RangeNotSatisfiable.status
                ):
                    raise
                length = (self.head(key)).length
                clamped = clamp(byte_range, length)
                if clamped is None or clamped == byte_range:
                    raise RangeNotSatisfiable(
                        f"The object has {length} bytes.", headers={"Content-Range": f"bytes */{length}"}
                    ) from error
            return self._get(self._downloads, key, clamped)

    def read(self, key: str) -> tuple[ObjectInfo, StreamingBody]:
        """An object for ourselves, as `get`: however many clients download slowly, it is not waited for.

        Raises:
            ObjectMissing: there is none.
        """
        with store_errors():
            return self._get(self._client, key)

    def _get(self, client: "S3Client", key: str, byte_range: str | None = None) -> tuple[ObjectInfo, StreamingBody]:
        wanted = {"Range": byte_range} if byte_range else {}
        answer = client.get_object(Bucket=self.settings.bucket, Key=key, **wanted)  # type: ignore[arg-type] # a dict of one optional keyword
        return ObjectInfo.from_s3(key, answer), answer["Body"]

    @contextmanager
    def signing(self, hook: Hook | None = None) -> "Iterator[S3Client]":
        """The client that signs URLs for other clients; what it signs a put with goes by this hook."""
        with store_errors(), calling(hook) if hook else nullcontext():
            yield self._signer

    def delete(self, key: str) -> None:
        """Remove an object; one that is gone already is as good."""
        with store_errors():
            self._client.delete_object(Bucket=self.settings.bucket, Key=key)

    def ready(self) -> None:
        """Ask S3 for the bucket, within a second.

        Raises:
            StoreUnavailable: it does not answer, or not for this bucket.
        """
        with store_errors():
            try:
                self._probe.head_bucket(Bucket=self.settings.bucket)
            except ClientError as error:
                raise StoreUnavailable(f"S3 does not give us the bucket '{self.settings.bucket}'.") from error

    def check_bucket(self) -> None:
        """Look for the bucket before the first request.

        Raises:
            BucketMissing: S3 says that there is none. An S3 that says nothing may still come up: that is only logged.
        """
        client = new_client(self.settings, START_TIMEOUT, START_TIMEOUT, attempts=1)
        try:
            client.head_bucket(Bucket=self.settings.bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == ObjectMissing.status:
                raise BucketMissing(self.settings.bucket) from None
            logger.warning("S3 answers, but not for bucket '%s': %s", self.settings.bucket, error)
        except BotoCoreError as error:
            logger.warning("the bucket could not be looked for yet: %s", error)
        finally:
            client.close()

    def close(self) -> None:
        """Close the connections to S3, when what is still to be undone there was tried once more."""
        self.undoing.close()
        for client in {self._client, self._downloads, self._signer, self._probe}:
            client.close()


def read_body(body: StreamingBody) -> Generator[bytes]:
    """An object's bytes in chunks; closes the answer at its end, or where the reader stops."""
    try:
        yield from body.iter_chunks(READ_BYTES)
    finally:
        body.close()


def send_body(body: StreamingBody) -> Generator[bytes]:
    """The same for a client, whose answer has begun: where S3 breaks off, the connection to the client breaks too.

    It has what came of the object, and sees that this is not all. A server takes the error for a client that has left.
    """
    try:
        with store_errors("S3 broke off."):
            yield from read_body(body)
    except UploadError as error:
        logger.error("a download was broken off: %s", error.__cause__)  # noqa: TRY400 - a store that is down needs no traceback for each request
        raise BrokenPipeError(EPIPE, "S3 broke off") from error


def is_gone(error: ClientError) -> bool:
    """Whether S3 says that it has no such multipart upload, or has it no more."""
    return error.response["Error"]["Code"] in GONE_CODES


@contextmanager
def calling(hook: Hook) -> Iterator[None]:
    """Let the client's one permanent handler call this hook, in this thread only.

    A handler registered for each request would be called for other requests as well: they share the client.
    """
    token = _hook.set(hook)
    try:
        yield
    finally:
        _hook.reset(token)


@contextmanager
def store_errors(silence: str = "S3 did not answer. Nothing was stored; try again later.") -> Iterator[None]:
    """Turn what boto raises into our errors; `silence` is what to say of an S3 that does not answer."""
    try:
        yield
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        answer = error.response["Error"]
        raise from_store_answer(status, answer.get("Code", ""), answer.get("Message", "")) from error
    except (ParamValidationError, UnseekableStreamError):
        raise  # ours to mend: what was to be sent cannot be
    # boto makes its own errors of most of these, but not where an answer ends too early that it reads as it comes
    except (BotoCoreError, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
        raise StoreUnavailable(silence) from error


def _run_hook(**event: Any) -> None:
    hook = _hook.get()
    if hook is not None:
        hook(**event)


def _lasting_secret(credentials: Credentials | None) -> str | None:
    """The secret of the AWS credentials, where it is one that lasts: that of a role is another for each process."""
    frozen = credentials.get_frozen_credentials() if credentials else None
    return frozen.secret_key if frozen and not frozen.token else None
