"""The counters of senders' limits, in memory or in Redis, without a blocking call on the event loop."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from inspect import isawaitable
from typing import Any

from filehandoff.errors import LimitsUnavailable, SettingsError
from filehandoff.quotas import (
    KEY_PREFIX,
    STORE_SECONDS,
    WANTED_STORE,
    Account,
    Change,
    Flow,
    Memory,
    Meter,
    Outage,
    limits_of,
    redis_url,
)
from filehandoff.settings import Settings, variable

#: Requests that use the store at once, each with a connection to Redis. The others wait before their time limit runs:
#: thousands may arrive at once, and their number alone is no outage.
AT_ONCE = 32


class Limiter:
    """Runs the flows of `filehandoff.quotas`; safe to use from many tasks.

    Without limits in the settings, none of its counters is used.

    Raises:
        SettingsError: a limit is malformed, or a package is missing.
    """

    def __init__(self, settings: Settings) -> None:
        self.limits = limits_of(settings)
        self._outage = Outage(fails_open=settings.limits_fail == "open")
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._pool: Any = None
        self._counters: Any = Memory()
        self._failures: tuple[type[Exception], ...] = (OSError,)
        if self.limits and settings.limits_store is not None:
            self._use_redis(settings.limits_store)

    def _use_redis(self, url: str) -> None:
        try:
            from limits.aio.storage import RedisStorage  # noqa: PLC0415 - optional, like redis
            from limits.errors import StorageError  # noqa: PLC0415
            from redis.asyncio import ConnectionPool  # noqa: PLC0415
            from redis.asyncio.retry import Retry  # noqa: PLC0415
            from redis.backoff import NoBackoff  # noqa: PLC0415

            self._pool = ConnectionPool.from_url(redis_url(url), retry=Retry(NoBackoff(), 0))
        except (ImportError, ValueError):
            raise SettingsError(variable("limits_store"), "", WANTED_STORE) from None
        options: dict[str, Any] = {"connection_pool": self._pool, "key_prefix": KEY_PREFIX}
        self._counters = RedisStorage("async+redis://", wrap_exceptions=True, implementation="redispy", **options)
        self._failures = (OSError, ValueError, StorageError)

    async def run(self, flow: Flow[object]) -> None:
        """Run a flow on the counters, within a bounded time.

        Raises:
            TooManyRequests: the flow refuses the request.
            LimitsUnavailable: the store does not respond, and the settings say `closed`.
        """
        with suppress(StopIteration):
            change = next(flow)
            async with self._turns:
                while self._outage.may_ask(time.monotonic()):
                    try:
                        count = await self._increment(change)
                    except self._failures as error:
                        self._outage.begin(error, time.monotonic())
                        break
                    self._outage.end(time.monotonic())
                    change = flow.send(count)
            self._outage.pass_or_refuse()

    async def _increment(self, change: Change) -> int:
        async with asyncio.timeout(STORE_SECONDS):
            count = self._counters.incr(change.key, change.limit.seconds, change.amount)
            return int(await count if isawaitable(count) else count)

    @asynccontextmanager
    async def meter(self, account: Account, declared: int | None) -> AsyncIterator[Meter]:
        """Reserve a body's declared length for the block; return the part that the block does not use.

        Raises:
            TooManyRequests: the length exceeds a quota.
        """
        meter = Meter(account, declared)
        try:
            await self.run(meter.begin())
            yield meter
        finally:
            with suppress(LimitsUnavailable):
                await self.run(meter.end())

    async def metered(
        self, account: Account, declared: int | None, body: AsyncGenerator[bytes]
    ) -> AsyncGenerator[bytes]:
        """Yield a body's chunks and count them.

        Raises:
            TooManyRequests: the body exceeds a quota; the chunk that does so is not yielded.
        """
        async with aclosing(body), self.meter(account, declared) as meter:
            async for chunk in body:
                await self.run(meter.receive(len(chunk)))
                yield chunk

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._pool is not None:
            await self._pool.disconnect()
