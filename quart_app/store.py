"""Performs calls to S3 by aioboto3, runs flows, and owns the life of the clients.

An error of boto's becomes one of ours here and nowhere else.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from contextvars import ContextVar
from errno import EPIPE
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import aioboto3
import aiohttp
from aiobotocore.response import StreamingBody
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError, UnseekableStreamError

from filehandoff.errors import StoreUnavailable, from_store_answer
from filehandoff.metrics import Metrics
from filehandoff.parts import Part
from filehandoff.presigned import is_aws
from filehandoff.s3 import flows
from filehandoff.s3.botocore_tuning import lasting_secret
from filehandoff.s3.calls import SILENCE, Call, Finish, Flow, HeadProbe, Presign, ReadBack, Step
from filehandoff.settings import Settings
from quart_app.client import new_client
from quart_app.handoffs.presigned import hand_off, hand_off_part, read_back
from quart_app.head_probe import Probe
from quart_app.hooks import Hook
from quart_app.payload import FileBody, PartBody
from quart_app.tasks import finish_despite_cancel

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

logger = logging.getLogger(__name__)

#: Seconds to connect, and to read: /readyz answers within one second.
PROBE_TIMEOUTS = (0.9, 0.9)
#: Seconds that the start waits for S3 to show the bucket.
START_TIMEOUTS = (3.0, 3.0)
READ_BYTES = 256 * 1024

_hook: ContextVar[Hook | None] = ContextVar("hook", default=None)


class Store:
    """One bucket, by clients for the whole process; safe to use from many tasks."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clients: dict[str, S3Client] = {}
        self._exits = AsyncExitStack()
        #: Seconds for a whole call by a client, where its own timeouts do not bound it: all of its connections may be
        #: held by slow downloads.
        self._limits: dict[str, float | None] = {
            "uploads": None,
            "downloads": settings.s3_connect_timeout + settings.s3_read_timeout,
            "probe": PROBE_TIMEOUTS[0],
        }

    async def open(self) -> str | None:
        """Make the clients; return the secret of the AWS credentials, if it lasts.

        Raises:
            SettingsError: AWS_PROFILE names no profile.
        """
        enter = self._exits.enter_async_context
        # Clients that download slowly may hold all of its connections, and no upload shall wait for those.
        uploads, downloads = await enter(self.new_client()), await enter(self.new_client())
        signer = await self._new_signer(uploads)
        probe = await enter(new_client(self._settings, PROBE_TIMEOUTS, attempts=1))
        self._clients = {"uploads": uploads, "downloads": downloads, "signer": signer, "probe": probe}
        for client in {uploads, signer}:
            for operation in ("PutObject", "CreateMultipartUpload"):
                client.meta.events.register(f"before-parameter-build.s3.{operation}", _run_hook)  # type: ignore[arg-type] # the stubs do not know that aiobotocore awaits
        for client in (uploads, downloads):
            client.meta.events.register("request-created.s3", self._metrics.count_retry)
        credentials = await cast("Any", aioboto3.Session()).get_credentials()
        self._probe = await Probe.of(uploads, self._settings.bucket, credentials)
        return lasting_secret(await credentials.get_frozen_credentials() if credentials else None)

    async def _new_signer(self, uploads: "S3Client") -> "S3Client":
        """Return the client whose URLs lead to where clients reach S3."""
        if public := self._settings.s3_public_endpoint_url:
            return await self._exits.enter_async_context(self.new_client(public))
        if is_aws(uploads.meta.endpoint_url):
            return await self._exits.enter_async_context(self.new_client(addressing="virtual"))
        return uploads

    def new_client(
        self, endpoint_url: str | None = None, addressing: Literal["auto", "virtual"] = "auto"
    ) -> "AbstractAsyncContextManager[S3Client]":
        """Make a client for the caller alone, without our hook.

        Its presigned URLs for AWS name the region only where each bucket has its own host (`addressing` is `virtual`).
        boto signs for the region and names the global host otherwise (boto/boto3#3015), which for a while redirects
        URLs of a new bucket to a host that they are not signed for.
        """
        timeouts = self._settings.s3_connect_timeout, self._settings.s3_read_timeout
        return new_client(self._settings, timeouts, self._settings.s3_attempts, endpoint_url, addressing)

    async def run[T](self, flow: Flow[T]) -> T:
        """Run a flow: perform each step that it yields, and send it the result or throw it the error."""
        step: Callable[[], Step[Any]] = partial(next, flow)
        while True:
            try:
                wanted = step()
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                step = partial(flow.send, await self.perform(wanted))
            except BaseException as error:  # noqa: BLE001 - the flow may have something to undo
                step = partial(flow.throw, error)

    async def perform(self, step: Step[Any]) -> Any:
        """Do one step of a flow."""
        match step:
            case Call():
                return await self._call(step)
            case Finish(flow, leave):
                return await finish_despite_cancel(self.run(flow), leave)
            case HeadProbe(key):
                return await self._probe(key)
            case ReadBack(body, silence):
                with store_errors(silence=silence):
                    return await read_back(read_body(body))
            case Presign():
                return await self._sign(step)
        raise TypeError(step)

    async def _call[T](self, call: Call[T]) -> T:
        method = getattr(self._clients[call.client], call.operation)
        parameters = dict(call.parameters)
        if call.body is not None:
            body = PartBody if isinstance(call.body, Part) else FileBody
            parameters["Body"] = cast("Any", body)(call.body, self._settings.s3_read_timeout)
        with store_errors(call.refused, call.silence), calling(call.hook):
            try:
                async with asyncio.timeout(self._limits[call.client]):
                    answer = await method(Bucket=self._settings.bucket, **parameters)
            except TimeoutError as error:
                raise StoreUnavailable(call.silence) from error
        return call.read(answer)

    async def _sign(self, url: Presign) -> str:
        await asyncio.sleep(0)  # signing takes half a millisecond, and awaits nothing
        sign = hand_off if url.operation == "put_object" else hand_off_part
        with store_errors(), calling(url.hook):
            parameters = {"Bucket": self._settings.bucket, **url.parameters}
            return await sign(self._clients["signer"], parameters, url.seconds)

    async def close(self) -> None:
        """Close the connections to S3."""
        await self._exits.aclose()


async def check_bucket(settings: Settings) -> None:
    """Look for the bucket before the first request.

    Raises:
        BucketMissing: S3 says that there is none.
        SettingsError: AWS_PROFILE names no profile.
    """
    store = Store(settings, Metrics())
    store._limits["probe"] = None  # noqa: SLF001 - ours
    async with new_client(settings, START_TIMEOUTS, attempts=1) as store._clients["probe"]:  # noqa: SLF001 - ours
        await store.run(flows.check_bucket(settings.bucket))


async def read_body(body: StreamingBody) -> AsyncGenerator[bytes]:
    """Yield an object's bytes in chunks; close S3's answer at its end, or where the reader stops."""
    try:
        async for chunk in body.iter_chunks(READ_BYTES):
            yield chunk
    finally:
        body.close()


async def send_body(body: StreamingBody) -> AsyncGenerator[bytes]:
    """Yield them for a client whose answer has begun: where S3 breaks off, break the client's connection too.

    The client has a part of the object, and sees that it is a part. `Connection` ends with this error, silently.
    """
    try:
        async for chunk in body.iter_chunks(READ_BYTES):
            yield chunk
    except (BotoCoreError, aiohttp.ClientError) as error:  # aiobotocore makes boto's errors of a few of these alone
        logger.error("a download was broken off: %s", error)  # noqa: TRY400 - a store that is down needs no traceback for each request
        raise BrokenPipeError(EPIPE, "S3 broke off") from error
    finally:
        body.close()


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
    except (BotoCoreError, aiohttp.ClientError) as error:
        raise StoreUnavailable(silence) from error


async def _run_hook(**event: Any) -> None:
    hook = _hook.get()
    if hook is not None:
        await hook(**event)
