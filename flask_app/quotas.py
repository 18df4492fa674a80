"""The counters of senders' limits, in memory or in Redis, in the request's thread."""

import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from threading import Lock
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


class Limiter:
    """Runs the flows of `filehandoff.quotas`; safe to use from many threads.

    Without limits in the settings, none of its counters is used.

    Raises:
        SettingsError: a limit is malformed, or a package is missing.
    """

    def __init__(self, settings: Settings) -> None:
        self.limits = limits_of(settings)
        self._outage = Outage(Lock(), fails_open=settings.limits_fail == "open")
        self._pool: Any = None
        self._counters: Any = Memory(Lock())
        self._failures: tuple[type[Exception], ...] = (OSError,)
        if self.limits and settings.limits_store is not None:
            self._use_redis(settings.limits_store)

    def _use_redis(self, url: str) -> None:
        try:
            from limits.errors import StorageError  # noqa: PLC0415 - optional, like redis
            from limits.storage import RedisStorage  # noqa: PLC0415
            from redis import ConnectionPool  # noqa: PLC0415
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.retry import Retry  # noqa: PLC0415

            # connecting may take half of the time, the response the other half
            options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": STORE_SECONDS / 2}
            self._pool = ConnectionPool.from_url(redis_url(url), socket_connect_timeout=STORE_SECONDS / 2, **options)
        except (ImportError, ValueError):
            raise SettingsError(variable("limits_store"), "", WANTED_STORE) from None
        options = {"connection_pool": self._pool, "key_prefix": KEY_PREFIX}
        self._counters = RedisStorage("redis://", wrap_exceptions=True, **options)
        self._failures = (OSError, ValueError, StorageError)

    def run(self, flow: Flow[object]) -> None:
        """Run a flow on the counters, within a bounded time.

        Raises:
            TooManyRequests: the flow refuses the request.
            LimitsUnavailable: the store does not respond, and the settings say `closed`.
        """
        with suppress(StopIteration):
            change = next(flow)
            while self._outage.may_ask(time.monotonic()):
                try:
                    count = self._increment(change)
                except self._failures as error:
                    self._outage.begin(error, time.monotonic())
                    break
                self._outage.end(time.monotonic())
                change = flow.send(count)
            self._outage.pass_or_refuse()

    def _increment(self, change: Change) -> int:
        return int(self._counters.incr(change.key, change.limit.seconds, change.amount))

    @contextmanager
    def meter(self, account: Account, declared: int | None) -> Iterator[Meter]:
        """Reserve a body's declared length for the block; return the part that the block does not use.

        Raises:
            TooManyRequests: the length exceeds a quota.
        """
        meter = Meter(account, declared)
        try:
            self.run(meter.begin())
            yield meter
        finally:
            with suppress(LimitsUnavailable):
                self.run(meter.end())

    def metered(self, account: Account, declared: int | None, body: Generator[bytes]) -> Generator[bytes]:
        """Yield a body's chunks and count them.

        Raises:
            TooManyRequests: the body exceeds a quota; the chunk that does so is not yielded.
        """
        with closing(body), self.meter(account, declared) as meter:
            for chunk in body:
                self.run(meter.receive(len(chunk)))
                yield chunk

    def close(self) -> None:
        """Close the connections to Redis."""
        if self._pool is not None:
            self._pool.disconnect()
