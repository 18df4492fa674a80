"""Performs calls to S3 by boto3, runs flows, and owns the life of the clients.

An error of boto's becomes one of ours here and nowhere else.
"""

import http.client
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from errno import EPIPE
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import boto3
import urllib3
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError, UnseekableStreamError
from botocore.response import StreamingBody

from filehandoff import cancellation
from filehandoff.errors import StoreUnavailable, UploadError, from_store_answer
from filehandoff.metrics import Metrics
from filehandoff.parts import Part
from filehandoff.presigned import is_aws
from filehandoff.s3 import flows
from filehandoff.s3.botocore_tuning import lasting_secret
from filehandoff.s3.calls import SILENCE, Call, Finish, Flow, HeadProbe, Presign, ReadBack, Step
from filehandoff.settings import Settings
from flask_app.client import new_client
from flask_app.handoffs.presigned import hand_off, hand_off_part, read_back
from flask_app.head_probe import Probe
from flask_app.hooks import Hook
from flask_app.threads import finish

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

#: Seconds to connect, and to read: /readyz answers within one second.
PROBE_TIMEOUTS = (0.45, 0.45)
#: Seconds that the start waits for S3 to show the bucket.
START_TIMEOUTS = (3.0, 3.0)
READ_BYTES = 256 * 1024

_hook: ContextVar[Hook | None] = ContextVar("hook", default=None)


class BrokenOff(BaseException):
    """The part that is being sent is not wanted any more; no Exception, or boto would send it again."""


class Store:
    """One bucket, by clients for the whole process; safe to use from many threads."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clients: dict[str, S3Client] = {}

    def open(self) -> str | None:
        """Make the clients; return the secret of the AWS credentials, if it lasts.

        Raises:
            SettingsError: AWS_PROFILE names no profile.
        """
        # As in Quart, where slow downloads hold the connections of their client; here they would make new ones.
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
        self._probe = Probe.of(uploads, self._settings.bucket, credentials)
        return lasting_secret(credentials.get_frozen_credentials() if credentials else None)

    def _new_signer(self, uploads: "S3Client") -> "S3Client":
        """Return the client whose URLs lead to where clients reach S3."""
        if public := self._settings.s3_public_endpoint_url:
            return self.new_client(public)
        if is_aws(uploads.meta.endpoint_url):
            return self.new_client(addressing="virtual")
        return uploads

    def new_client(
        self, endpoint_url: str | None = None, addressing: Literal["auto", "virtual"] = "auto"
    ) -> "S3Client":
        """Make a client for the caller alone, without our hook.

        Its presigned URLs for AWS name the region only where each bucket has its own host (`addressing` is `virtual`).
        boto signs for the region and names the global host otherwise (boto/boto3#3015), which for a while redirects
        URLs of a new bucket to a host that they are not signed for.
        """
        timeouts = self._settings.s3_connect_timeout, self._settings.s3_read_timeout
        return new_client(self._settings, timeouts, self._settings.s3_attempts, endpoint_url, addressing)

    def run[T](self, flow: Flow[T]) -> T:
        """Run a flow: perform each step that it yields, and send it the result or throw it the error."""
        step: Callable[[], Step[Any]] = partial(next, flow)
        while True:
            try:
                wanted = step()
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                step = partial(flow.send, self.perform(wanted))
            except BaseException as error:  # noqa: BLE001 - the flow may have something to undo
                step = partial(flow.throw, error)

    def perform(self, step: Step[Any]) -> Any:
        """Do one step of a flow."""
        match step:
            case Call():
                return self._call(step)
            case Finish(flow, leave):
                return finish(partial(self.run, flow), leave) if leave else self.run(flow)
            case HeadProbe(key):
                return self._probe(key)
            case ReadBack(body, silence):
                with store_errors(silence=silence):
                    return read_back(_until_cancelled(read_body(body)))
            case Presign():
                return self._sign(step)
        raise TypeError(step)

    def _call[T](self, call: Call[T]) -> T:
        method = getattr(self._clients[call.client], call.operation)
        parameters = dict(call.parameters)
        if isinstance(call.body, Part):
            # A put is not broken off: it might be stored all the same.
            parameters["Body"] = call.body.open(_break_off if call.operation == "upload_part" else None)
        elif call.body is not None:
            parameters["Body"] = call.body
        with store_errors(call.refused, call.silence), calling(call.hook):
            answer = method(Bucket=self._settings.bucket, **parameters)
        return call.read(answer)

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
    """Look for the bucket before the first request.

    Raises:
        BucketMissing: S3 says that there is none.
        SettingsError: AWS_PROFILE names no profile.
    """
    store = Store(settings, Metrics())
    store._clients["probe"] = new_client(settings, START_TIMEOUTS, attempts=1)  # noqa: SLF001 - ours
    try:
        store.run(flows.check_bucket(settings.bucket))
    finally:
        store.close()


def read_body(body: StreamingBody) -> Generator[bytes]:
    """Yield an object's bytes in chunks; close S3's answer at its end, or where the reader stops."""
    try:
        yield from body.iter_chunks(READ_BYTES)
    finally:
        body.close()


def send_body(body: StreamingBody) -> Generator[bytes]:
    """Yield them for a client whose answer has begun: where S3 breaks off, break the client's connection too.

    The client has a part of the object, and sees that it is a part. A server takes the error for a client that left.
    """
    try:
        with store_errors(silence="S3 broke off."):
            yield from read_body(body)
    except UploadError as error:
        logger.error("a download was broken off: %s", error.__cause__)  # noqa: TRY400 - a store that is down needs no traceback for each request
        raise BrokenPipeError(EPIPE, "S3 broke off") from error


def _until_cancelled(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        cancellation.check()
        yield chunk


def _break_off() -> None:
    try:
        cancellation.check()
    except UploadError as error:
        raise BrokenOff from error


@contextmanager
def calling(hook: Hook | None) -> Iterator[None]:
    """Let the client's one permanent handler call this hook for the calls of this block alone.

    A handler registered for each request would be called for other requests as well: they share the client.
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
    """Turn an error of boto's into ours: `refused` makes that of an answer, `silence` is the detail without one."""
    try:
        yield
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        answer = error.response["Error"]
        raise refused(status, answer.get("Code", ""), answer.get("Message", "")) from error
    except (ParamValidationError, UnseekableStreamError):
        raise  # a fault of ours: the body or the parameters cannot be sent
    # boto makes its own errors of most of these, but not where an answer that is being read ends too early
    except (BotoCoreError, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
        raise StoreUnavailable(silence) from error


def _run_hook(**event: Any) -> None:
    hook = _hook.get()
    if hook is not None:
        hook(**event)
