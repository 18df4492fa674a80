"""Calls to S3 by aioboto3, flows of calls, and the life of the clients.

Only this module turns boto's errors into errors of `filehandoff`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from contextvars import ContextVar
from errno import EPIPE
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import aioboto3
import aiohttp
from aiobotocore.credentials import AioCredentials
from aiobotocore.response import StreamingBody
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError, UnseekableStreamError

from filehandoff.errors import StoreUnavailable, from_store_answer
from filehandoff.metrics import Metrics
from filehandoff.parts import Part
from filehandoff.presigned import is_aws
from filehandoff.s3.botocore_tuning import lasting_secret
from filehandoff.s3.calls import SILENCE, Call, Compute, Finish, Flow, Md5, Presign, ReadBack, Step
from filehandoff.s3.direct_put import PARAMETERS
from filehandoff.s3.upload_lock import check_store
from filehandoff.settings import Settings
from filehandoff.stored import Handle
from quart_app.client import new_client
from quart_app.direct_put import DirectPut
from quart_app.handoffs.presigned import hand_off, hand_off_part, read_back
from quart_app.hooks import Hook
from quart_app.payload import FileBody, PartBody
from quart_app.stored import handle
from quart_app.tasks import finish_despite_cancel

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Seconds to connect, and to read: /readyz responds within one second.
PROBE_TIMEOUTS = (0.9, 0.9)
#: Seconds to connect, and to read, for the check of the bucket before the start.
START_TIMEOUTS = (3.0, 3.0)
READ_BYTES = 256 * 1024
#: Bytes that the event loop itself digests, in a tenth of a millisecond; a thread takes longer to start.
INLINE_BYTES = 64 * 1024

_hook: ContextVar[Hook | None] = ContextVar("hook", default=None)


class Store:
    """The clients for one bucket, for the whole process; safe to use from many tasks."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clients: dict[str, S3Client] = {}
        self._direct_put: DirectPut | None = None
        self._exits = AsyncExitStack()
        #: Seconds for a whole call by each client. Slow downloads may hold all of its connections, and the client's own
        #: timeouts do not bound the wait for one.
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
        # Two, because slow downloads may hold all connections of a client, and uploads must not wait for those.
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
        self._direct_put = await self._new_direct_put(uploads, credentials)
        return lasting_secret(await credentials.get_frozen_credentials() if credentials else None)

    async def _new_signer(self, uploads: "S3Client") -> "S3Client":
        """Return the client whose URLs name the public address of S3."""
        if public := self._settings.s3_public_endpoint_url:
            return await self._exits.enter_async_context(self.new_client(public))
        if is_aws(uploads.meta.endpoint_url):
            return await self._exits.enter_async_context(self.new_client(addressing="virtual"))
        return uploads

    async def _new_direct_put(self, uploads: "S3Client", credentials: AioCredentials | None) -> DirectPut | None:
        """Return the sender of first attempts; None if botocore must make all."""
        attempts = self._settings.s3_attempts - 1
        if credentials is None or not attempts:
            return None
        again = await self._exits.enter_async_context(self.new_client(attempts=attempts))
        again.meta.events.register("request-created.s3", self._metrics.count_retry)
        return await DirectPut.of(uploads, again, self._settings.bucket, credentials, self._metrics)

    def new_client(
        self,
        endpoint_url: str | None = None,
        addressing: Literal["auto", "virtual"] = "auto",
        attempts: int | None = None,
    ) -> "AbstractAsyncContextManager[S3Client]":
        """Make a client for the caller alone, without the permanent hook handler.

        With `addressing` `virtual`, its presigned URLs for AWS name the region, because each bucket has its own host.
        Otherwise boto signs for the region but names the global host (boto/boto3#3015). For some time AWS redirects
        such URLs of a new bucket to a host that their signature does not cover.
        """
        timeouts = self._settings.s3_connect_timeout, self._settings.s3_read_timeout
        return new_client(self._settings, timeouts, attempts or self._settings.s3_attempts, endpoint_url, addressing)

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow: perform each step, and send the flow its result or error."""
        step: Callable[[], Step[Any]] = partial(next, flow)
        while True:
            try:
                wanted = step()
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                step = partial(flow.send, await self.perform(wanted))
            except BaseException as error:  # noqa: BLE001 - the flow may undo its work
                step = partial(flow.throw, error)

    async def perform(self, step: Step[Any]) -> Any:  # noqa: PLR0911 - one for each kind of step
        """Perform one step of a flow."""
        match step:
            case Call():
                return await self._call(step)
            case Finish(flow, abandon):
                return await finish_despite_cancel(self.run(flow), abandon)
            case Md5():
                return await asyncio.to_thread(step.compute)
            case Compute(work, size):
                return work() if size <= INLINE_BYTES else await asyncio.to_thread(work)
            case ReadBack(body, head, silence):
                with store_errors(silence=silence):
                    return await read_back(head.receive(chunk) async for chunk in read_body(body))
            case Handle():
                return await handle(step)
            case Presign():
                return await self._sign(step)
        raise TypeError(step)

    async def _call(self, call: Call[T]) -> T:
        method = getattr(self._clients[call.client], call.operation)
        if self._direct_put and call.operation in PARAMETERS:
            method = partial(self._direct_put, call.operation)
        with store_errors(call.refused, call.silence), calling(call.hook), self._opened(call) as body:
            try:
                async with asyncio.timeout(self._limits[call.client]):
                    answer = await method(Bucket=self._settings.bucket, **call.parameters, **body)
            except TimeoutError as error:
                raise StoreUnavailable(call.silence) from error
        return call.read(answer)

    @contextmanager
    def _opened(self, call: Call[Any]) -> Iterator[dict[str, Any]]:
        """Yield the body as boto's parameter; the end frees a part, which boto's own objects may hold for longer."""
        if isinstance(call.body, Part):
            with PartBody(call.body, self._settings.s3_read_timeout) as reader:
                yield {"Body": reader}
        else:
            yield {} if call.body is None else {"Body": FileBody(call.body, self._settings.s3_read_timeout)}

    async def _sign(self, url: Presign) -> str:
        await asyncio.sleep(0)  # signing takes half a millisecond without an await
        sign = hand_off if url.operation == "put_object" else hand_off_part
        with store_errors(), calling(url.hook):
            parameters = {"Bucket": self._settings.bucket, **url.parameters}
            return await sign(self._clients["signer"], parameters, url.seconds)

    async def close(self) -> None:
        """Close the connections to S3."""
        await self._exits.aclose()


async def check_bucket(settings: Settings) -> None:
    """Check the bucket before the first request.

    Raises:
        BucketMissing: the bucket does not exist.
        SettingsError: AWS_PROFILE names no profile.
    """
    store = Store(settings, Metrics())
    store._limits["probe"] = None  # noqa: SLF001 - ours
    async with new_client(settings, START_TIMEOUTS, attempts=1) as client:
        store._clients = {"probe": client, "uploads": client}  # noqa: SLF001 - ours
        await store.run(check_store(settings))


async def read_body(body: StreamingBody) -> AsyncGenerator[bytes]:
    """Yield an object's bytes; close S3's response when the reader stops."""
    try:
        async for chunk in body.iter_chunks(READ_BYTES):
            yield chunk
    finally:
        body.close()


async def send_body(body: StreamingBody) -> AsyncGenerator[bytes]:
    """Yield an object's bytes to a client whose answer has begun.

    If S3 fails meanwhile, break the client's connection, so that the client sees an incomplete object. `Connection`
    ends with the error and logs nothing.
    """
    try:
        async for chunk in body.iter_chunks(READ_BYTES):
            yield chunk
    except (BotoCoreError, aiohttp.ClientError) as error:  # aiobotocore wraps only a few of these in boto's errors
        logger.error("a download was aborted: %s", error)  # noqa: TRY400 - a store that is down needs no traceback for each request
        raise BrokenPipeError(EPIPE, "S3 failed during the download") from error
    finally:
        body.close()


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
    except (BotoCoreError, aiohttp.ClientError) as error:
        raise StoreUnavailable(silence) from error


async def _run_hook(**event: Any) -> None:
    hook = _hook.get()
    if hook is not None:
        await hook(**event)
