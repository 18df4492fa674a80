"""Limits on a sender's uploads and bytes in a period: counters and decisions, without I/O.

`UPLOAD_RATE` limits uploads, `UPLOAD_QUOTA` bytes. A counter belongs to a limit, a sender and a period. Periods begin
at the multiples of their length since 1970 in UTC: a day begins at midnight. So a counter is one number, its key alone
says when it ends, and a store needs only the operation `incr` of the library `limits`.

The methods of `Account` and `Meter` are flows: generators that yield each `Change`, receive the counter's new value,
and raise TooManyRequests. A shell's `Limiter` runs them. A refused change is undone, so refused requests cost nothing.
"""

import logging
import re
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from ipaddress import IPv6Network, ip_address
from math import ceil
from typing import TypeAlias, TypeVar

from filehandoff.errors import LimitsUnavailable, SettingsError, TooManyRequests
from filehandoff.settings import MIB, Settings, size_in_bytes, variable

logger = logging.getLogger(__name__)

UPLOADS, BYTES = "uploads", "bytes"
#: The largest integer of a structured header field (RFC 9651, section 3.3.1).
MAX_AMOUNT = 999_999_999_999_999
#: Seconds of the longest period, the library's year.
MAX_SECONDS = 360 * 86_400
#: Bytes that a body without a declared length reserves at once: each reservation may be a call to Redis.
STEP_BYTES = MIB
#: Counters in memory, of some 300 bytes each; the oldest are forgotten beyond that.
MAX_COUNTERS = 65_536
#: Seconds until a store is asked again after a failure, and the least seconds between two lines about it.
RETRY_SECONDS, LOG_SECONDS = 5.0, 1.0
#: Seconds that a request may wait for the store.
STORE_SECONDS = 1.0
#: A usable `UPLOAD_LIMITS_STORE`.
WANTED_STORE = "a URL that the client of Redis accepts, which pip install 'filehandoff[limits]' brings"
#: The beginning of the keys in a store.
KEY_PREFIX = "filehandoff"


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest number of uploads or bytes in a period of `seconds`."""

    unit: str
    amount: int
    seconds: int

    @property
    def name(self) -> str:
        """The name in response headers and keys, such as `uploads-60`."""
        return f"{self.unit}-{self.seconds}"

    @property
    def policy(self) -> str:
        """The item of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10, section 3)."""
        unit = ';qu="content-bytes"' if self.unit == BYTES else ""
        return f'"{self.name}";q={self.amount};w={self.seconds}{unit}'

    def rest(self, now: float) -> int:
        """Return the seconds until the period ends, at least 1."""
        return max(1, ceil(self.seconds - now % self.seconds))

    def change(self, sender: str, amount: int, now: float) -> "Change":
        """Return the addition to the sender's counter of the current period."""
        return Change(self, f"{self.name}/{int(now // self.seconds)}/{sender}", amount)


@dataclass(frozen=True, slots=True)
class Change:
    """An addition to the counter of this key; a negative one undoes another."""

    limit: Limit
    key: str
    amount: int


T = TypeVar("T")
#: A generator that yields changes and receives the new values of their counters.
Flow: TypeAlias = Generator[Change, int, T]


def limits_of(settings: Settings) -> tuple[Limit, ...]:
    """Return the limits that the settings name, the shortest periods first.

    Raises:
        SettingsError: a limit is malformed, or the package `limits` is missing.
    """
    found = [*_limits(settings, "rate", UPLOADS, str.strip), *_limits(settings, "quota", BYTES, _in_bytes)]
    return tuple(sorted(found, key=lambda limit: limit.seconds))


def _limits(settings: Settings, setting: str, unit: str, normal: Callable[[str], str]) -> list[Limit]:
    text: str = getattr(settings, setting)
    if not text:
        return []
    try:
        from limits import parse  # noqa: PLC0415 - optional
    except ModuleNotFoundError:
        wanted = "empty, because the package limits is missing: pip install 'filehandoff[limits]'"
        raise SettingsError(variable(setting), text, wanted) from None
    try:
        items = [parse(normal(one)) for one in re.split("[;,|]", text)]
    except ValueError:
        items = []
    found = {item.get_expiry(): Limit(unit, item.amount, item.get_expiry()) for item in items}
    if (
        not found
        or len(found) < len(items)
        or not all(1 <= one.amount <= MAX_AMOUNT and one.seconds <= MAX_SECONDS for one in found.values())
    ):
        example = "100/minute;1000/day" if unit == UPLOADS else "10 GiB/day;100 GiB/month"
        raise SettingsError(variable(setting), text, f"limits of 1 or more, one for each period, such as '{example}'")
    return list(found.values())


def _in_bytes(text: str) -> str:
    """Replace a size with its number of bytes: `10737418240/day` for `10 GiB/day`."""
    size, slash, period = text.partition("/")
    return f"{size_in_bytes(size.strip())}{slash}{period}"


def sender_of(name: str, address: str) -> str:
    """Return the owner of counters: a name, or else an IPv4 address or an IPv6 network of 64 bits.

    A host may use all addresses of such a network (RFC 7421). Clients without a known address share their counters.
    """
    if name:
        return f"name:{name}"
    if ":" in address:
        return f"address:{IPv6Network((int(ip_address(address)), 64), strict=False)}"
    return f"address:{address or 'unknown'}"


def redis_url(url: str) -> str:
    """Return the URL for the client of Redis, which speaks with Valkey as well."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.replace('valkey', 'redis').removeprefix('redis+')}://{rest}"


class Account:
    """The counters of one request's sender."""

    def __init__(self, limits: Iterable[Limit], sender: str, clock: Callable[[], float] = time.time) -> None:
        self._limits = tuple(limits)
        self._sender = sender
        self._clock = clock
        self._counts: dict[Limit, int] = {}

    def add(self, unit: str, amount: int) -> Flow[list[Change]]:
        """Add to the sender's counters of this unit; return the changes.

        Raises:
            TooManyRequests: a limit is exceeded; no counter has changed.
        """
        now = self._clock()
        made: list[Change] = []
        for limit in self._limits:
            if limit.unit != unit:
                continue
            made.append(change := limit.change(self._sender, amount, now))
            if (yield from self._make(change)) > limit.amount:
                yield from self.take_back(made, amount)
                raise TooManyRequests(_refusal(limit, amount, self._left(limit)), limit.rest(now))
        return made

    def take_back(self, made: Iterable[Change], amount: int) -> Flow[None]:
        """Subtract from counters; those of an ended period count for nothing."""
        for change in made:
            yield from self._make(replace(change, amount=-amount))

    def _make(self, change: Change) -> Flow[int]:
        count = yield change
        self._counts[change.limit] = count
        return count

    def _left(self, limit: Limit) -> int:
        return min(max(limit.amount - self._counts[limit], 0), limit.amount)

    @property
    def headers(self) -> dict[str, str]:
        """The fields of the response about the limits that this request has met.

        draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4.
        """
        if not self._counts:
            return {}
        now = self._clock()
        left = (f'"{limit.name}";r={self._left(limit)};t={limit.rest(now)}' for limit in self._counts)
        return {"RateLimit-Policy": ", ".join(limit.policy for limit in self._counts), "RateLimit": ", ".join(left)}


def _refusal(limit: Limit, amount: int, left: int) -> str:
    if limit.unit == UPLOADS:
        return f"A sender may begin {limit.amount} uploads in {limit.seconds} seconds. Nothing was stored."
    return (
        f"A sender may send {limit.amount} bytes in {limit.seconds} seconds; {left} are left, and this upload needs "
        f"{amount} more. Nothing was stored."
    )


class Meter:
    """Counts one body against its sender's quotas.

    A declared length is reserved before the body is read, any other body in steps of `STEP_BYTES`. The end returns the
    part of the reservation that has not arrived.
    """

    def __init__(self, account: Account, declared: int | None) -> None:
        self._account = account
        self._declared = declared or 0
        self._reserved = 0
        self._received = 0
        self._made: list[Change] = []

    def begin(self) -> Flow[None]:
        """Reserve the declared length.

        Raises:
            TooManyRequests: it exceeds a quota.
        """
        if self._declared:
            yield from self._reserve(self._declared)

    def receive(self, size: int) -> Flow[None]:
        """Count the next bytes.

        Raises:
            TooManyRequests: they exceed a quota.
        """
        self._received += size
        lacking = self._received - self._reserved
        if lacking <= 0:
            return
        try:
            yield from self._reserve(max(lacking, STEP_BYTES))
        except TooManyRequests:
            if lacking >= STEP_BYTES:
                raise
            yield from self._reserve(lacking)  # less than a step may be left

    def end(self) -> Flow[None]:
        """Return the reserved bytes that have not arrived."""
        if (surplus := self._reserved - self._received) > 0:
            yield from self._account.take_back(self._made, surplus)

    def _reserve(self, size: int) -> Flow[None]:
        self._made = yield from self._account.add(BYTES, size)
        self._reserved += size


class Memory:
    """The counters of one process, a bounded number; a lock makes it safe for threads.

    The storage of the library `limits` has no bound. It looks at all its counters after each change, which takes 10 ms
    for 100,000 counters, in a thread that it starts for this.
    """

    def __init__(
        self,
        lock: AbstractContextManager[object] | None = None,
        at_most: int = MAX_COUNTERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at_most = at_most
        self._clock = clock
        self._lock = lock or nullcontext()
        self._counters: dict[str, tuple[int, float]] = {}

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a counter, which lives for `expiry` seconds; return its value."""
        now = self._clock()
        with self._lock:
            if key not in self._counters and len(self._counters) >= self._at_most:
                self._forget(now)
            count, until = self._counters.get(key, (0, now + expiry))
            self._counters[key] = count + amount, until
        return count + amount

    def _forget(self, now: float) -> None:
        """Forget the ended counters, and the oldest if a tenth is not free then."""
        alive = [(key, counter) for key, counter in self._counters.items() if counter[1] > now]
        self._counters = dict(alive[-(self._at_most * 9 // 10) :])


class Outage:
    """Remembers that the store of counters does not respond, so that few requests wait for it.

    During an outage, one request every `RETRY_SECONDS` asks the store; all others pass at once, or are refused at once.
    """

    def __init__(self, lock: AbstractContextManager[object] | None = None, *, fails_open: bool) -> None:
        self._fails_open = fails_open
        self._lock = lock or nullcontext()
        self._next: float | None = None
        self._silent_until = float("-inf")

    def may_ask(self, now: float) -> bool:
        """Whether to ask the store."""
        if self._next is None:
            return True
        with self._lock:
            if self._next is not None and now < self._next:
                return False
            self._next = now + RETRY_SECONDS
        return True

    def end(self, now: float) -> None:
        """Note that the store has responded."""
        if self._next is not None:
            self._next = None
            self._log(now, logging.INFO, "the store of the limits responds again")

    def begin(self, error: Exception, now: float) -> None:
        """Note that the store has failed."""
        began, self._next = self._next is None, now + RETRY_SECONDS
        if began:
            passing = "uploads pass without limits" if self._fails_open else "uploads are refused"
            reason = str(error) or type(error).__name__
            self._log(now, logging.ERROR, f"the store of the limits does not respond, and {passing}: {reason}")

    def pass_or_refuse(self) -> None:
        """Let a request pass without the store, by `UPLOAD_LIMITS_FAIL`.

        Raises:
            LimitsUnavailable: it may not.
        """
        if not self._fails_open:
            raise LimitsUnavailable

    def _log(self, now: float, level: int, message: str) -> None:
        if now >= self._silent_until:
            self._silent_until = now + LOG_SECONDS
            logger.log(level, message)
