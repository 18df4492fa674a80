"""Calls to S3 by boto3, flows of calls, and the life of the clients.

Only this module turns boto's errors into errors of `filehandoff`.
"""

import http.client
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from errno import EPIPE
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import boto3
import urllib3
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError, UnseekableStreamError
from botocore.response import StreamingBody

from filehandoff import cancellation
from filehandoff.errors import StoreUnavailable, UploadError, from_store_answer
from filehandoff.metrics import Metrics
from filehandoff.parts import Part
from filehandoff.presigned import is_aws
from filehandoff.s3.botocore_tuning import lasting_secret
from filehandoff.s3.calls import SILENCE, Call, Compute, Finish, Flow, Md5, Presign, ReadBack, Step
from filehandoff.s3.direct_put import PARAMETERS
from filehandoff.s3.upload_lock import check_store
from filehandoff.settings import Settings
from filehandoff.stored import Handle
from flask_app.client import new_client
from flask_app.direct_put import DirectPut
from flask_app.handoffs.presigned import hand_off, hand_off_part, read_back
from flask_app.hooks import Hook
from flask_app.stored import handle
from flask_app.threads import finish

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Seconds to connect, and to read: /readyz responds within one second.
PROBE_TIMEOUTS = (0.45, 0.45)
#: Seconds to connect, and to read, for the check of the bucket before the start.
START_TIMEOUTS = (3.0, 3.0)
READ_BYTES = 256 * 1024

_hook: ContextVar[Hook | None] = ContextVar("hook", default=None)


class PartAborted(BaseException):
    """A part was aborted while boto sent it.

    This is no Exception, because boto would send the part again after one.
    """


class Store:
    """The clients for one bucket, for the whole process; safe to use from many threads."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clients: dict[str, S3Client] = {}
        self._direct_put: DirectPut | None = None

    def open(self) -> str | None:
        """Make the clients; return the secret of the AWS credentials, if it lasts.

        Raises:
            SettingsError: AWS_PROFILE names no profile.
        """
        # Two, as in Quart, where slow downloads hold their client's connections; boto3 would open more.
        uploads, downloads = self.new_client(), self.new_client()
        signer = self._new_signer(uploads)
        probe = new_client(self._settings, PROBE_TIMEOUTS, attempts=1)
        self._clients = {"uploads": uploads, "downloads": downloads, "signer": signer, "probe": probe}
        for client in {uploads, signer}:
            for operation in ("PutObject", "CreateMultipartUpload"):
                client.meta.events.register(f"before-parameter-build.s3.{operation}", _run_hook)
        for client in (uploads, downloads):
            client.meta.events.register("request-created.s3", self._metrics.count_retry)
        credentials = boto3.session.Session().get_credentials()
        self._direct_put = self._new_direct_put(uploads, credentials)
        return lasting_secret(credentials.get_frozen_credentials() if credentials else None)

    def _new_signer(self, uploads: "S3Client") -> "S3Client":
        """Return the client whose URLs name the public address of S3."""
        if public := self._settings.s3_public_endpoint_url:
            return self.new_client(public)
        if is_aws(uploads.meta.endpoint_url):
            return self.new_client(addressing="virtual")
        return uploads

    def _new_direct_put(self, uploads: "S3Client", credentials: Credentials | None) -> DirectPut | None:
        """Return the sender of first attempts; None if botocore must make all."""
        attempts = self._settings.s3_attempts - 1
        if credentials is None or not attempts:
            return None
        again = self.new_client(attempts=attempts)
        self._clients["again"] = again
        again.meta.events.register("request-created.s3", self._metrics.count_retry)
        return DirectPut.of(uploads, again, self._settings.bucket, credentials, self._metrics)

    def new_client(
        self,
        endpoint_url: str | None = None,
        addressing: Literal["auto", "virtual"] = "auto",
        attempts: int | None = None,
    ) -> "S3Client":
        """Make a client for the caller alone, without the permanent hook handler.

        With `addressing` `virtual`, its presigned URLs for AWS name the region, because each bucket has its own host.
        Otherwise boto signs for the region but names the global host (boto/boto3#3015). For some time AWS redirects
        such URLs of a new bucket to a host that their signature does not cover.
        """
        timeouts = self._settings.s3_connect_timeout, self._settings.s3_read_timeout
        return new_client(self._settings, timeouts, attempts or self._settings.s3_attempts, endpoint_url, addressing)

    def run(self, flow: Flow[T]) -> T:
        """Run a flow: perform each step, and send the flow its result or error."""
        step: Callable[[], Step[Any]] = partial(next, flow)
        while True:
            try:
                wanted = step()
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                step = partial(flow.send, self.perform(wanted))
            except BaseException as error:  # noqa: BLE001 - the flow may undo its work
                step = partial(flow.throw, error)

    def perform(self, step: Step[Any]) -> Any:  # noqa: PLR0911 - one for each kind of step
        """Perform one step of a flow."""
        match step:
            case Call():
                return self._call(step)
            case Finish(flow, abandon):
                return finish(partial(self.run, flow), abandon) if abandon else self.run(flow)
            case Md5():
                return step.compute()
            case Compute(work):
                return work()
            case ReadBack(body, head, silence):
                with store_errors(silence=silence):
                    return read_back(map(head.receive, _until_cancelled(read_body(body))))
            case Handle():
                return handle(step)
            case Presign():
                return self._sign(step)
        raise TypeError(step)

    def _call(self, call: Call[T]) -> T:
        method = getattr(self._clients[call.client], call.operation)
        if self._direct_put and call.operation in PARAMETERS:
            method = partial(self._direct_put, call.operation)
        with store_errors(call.refused, call.silence), calling(call.hook), self._opened(call) as body:
            answer = method(Bucket=self._settings.bucket, **call.parameters, **body)
        return call.read(answer)

    @contextmanager
    def _opened(self, call: Call[Any]) -> Iterator[dict[str, Any]]:
        """Yield the body as boto's parameter; the end frees a part, which boto's own objects may hold for longer."""
        if isinstance(call.body, Part):
            # A put is never aborted: S3 might store its object anyway.
            with call.body.open(_abort_part if call.operation == "upload_part" else None) as reader:
                yield {"Body": reader}
        else:
            yield {} if call.body is None else {"Body": call.body}

    def _sign(self, url: Presign) -> str:
        sign = hand_off if url.operation == "put_object" else hand_off_part
        with store_errors(), calling(url.hook):
            parameters = {"Bucket": self._settings.bucket, **url.parameters}
            return sign(self._clients["signer"], parameters, url.seconds)

    def close(self) -> None:
        """Close the connections to S3."""
        for client in {*self._clients.values()}:
            client.close()


def check_bucket(settings: Settings) -> None:
    """Check the bucket before the first request.

    Raises:
        BucketMissing: the bucket does not exist.
        SettingsError: AWS_PROFILE names no profile.
    """
    store = Store(settings, Metrics())
    client = new_client(settings, START_TIMEOUTS, attempts=1)
    store._clients = {"probe": client, "uploads": client}  # noqa: SLF001 - ours
    try:
        store.run(check_store(settings))
    finally:
        store.close()


def read_body(body: StreamingBody) -> Generator[bytes]:
    """Yield an object's bytes; close S3's response when the reader stops."""
    try:
        yield from body.iter_chunks(READ_BYTES)
    finally:
        body.close()


def send_body(body: StreamingBody) -> Generator[bytes]:
    """Yield an object's bytes to a client whose answer has begun.

    If S3 fails meanwhile, break the client's connection, so that the client sees an incomplete object. A server treats
    the error as a disconnected client.
    """
    try:
        with store_errors(silence="S3 failed during the download."):
            yield from read_body(body)
    except UploadError as error:
        logger.error("a download was aborted: %s", error.__cause__)  # noqa: TRY400 - a store that is down needs no traceback for each request
        raise BrokenPipeError(EPIPE, "S3 failed during the download") from error


def _until_cancelled(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        cancellation.check()
        yield chunk


def _abort_part() -> None:
    try:
        cancellation.check()
    except UploadError as error:
        raise PartAborted from error


@contextmanager
def calling(hook: Hook | None) -> Iterator[None]:
    """Run this hook for the calls of this block.

    Each client has one permanent handler, which runs the block's hook. A handler for each request would run for other
    requests, too, because they share the client.
    """
    token = _hook.set(hook)
    try:
        yield
    finally:
        _hook.reset(token)


@contextmanager
def store_errors(
    refused: Callable[[int, str, str], Exception] = from_store_answer, silence: str = SILENCE
) -> Iterator[None]:
    """Turn boto's errors into ours.

    `refused` makes the error from a response of S3; `silence` is the detail if S3 did not respond.
    """
    try:
        yield
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        answer = error.response["Error"]
        raise refused(status, answer.get("Code", ""), answer.get("Message", "")) from error
    except (ParamValidationError, UnseekableStreamError):
        raise  # our own fault: boto cannot send the body or the parameters
    # boto wraps most of these in its own errors, but not the early end of a response that is being read
    except (BotoCoreError, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
        raise StoreUnavailable(silence) from error


def _run_hook(**event: Any) -> None:
    hook = _hook.get()
    if hook is not None:
        hook(**event)
