"""The limits of a sender: their settings, counters and decisions, and the outages of their store."""

import builtins
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from unit.sansio_request import make_request

from filehandoff.errors import LimitsUnavailable, SettingsError, TooManyRequests
from filehandoff.identity import Identity
from filehandoff.quotas import (
    BYTES,
    MAX_AMOUNT,
    RETRY_SECONDS,
    UPLOADS,
    Account,
    Flow,
    Limit,
    Memory,
    Meter,
    Outage,
    limits_of,
    redis_url,
    sender_of,
)
from filehandoff.settings import GIB, MIB, Settings
from filehandoff.web import access

DAY = 86_400
PER_MINUTE, PER_DAY = Limit(UPLOADS, 2, 60), Limit(UPLOADS, 3, DAY)
QUOTA = Limit(BYTES, 10 * MIB, DAY)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0 * DAY

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def play(flow: Flow[object], counters: Memory) -> None:
    """Run a flow on counters in memory."""
    count = None
    try:
        while True:
            change = next(flow) if count is None else flow.send(count)
            count = counters.incr(change.key, change.limit.seconds, change.amount)
    except StopIteration:
        pass


@pytest.fixture
def clock() -> Clock:
    """A clock at midnight."""
    return Clock()


@pytest.fixture
def counters(clock: Clock) -> Memory:
    """The counters of a process."""
    return Memory(clock=clock)


@pytest.fixture
def account(clock: Clock) -> Callable[..., Account]:
    """Make the account of a request with these limits."""
    return lambda *limits, sender="name:ann": Account(limits, sender, clock)


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        pytest.param({}, (), id="none"),
        pytest.param({"rate": "2/minute"}, (PER_MINUTE,), id="one rate"),
        pytest.param({"rate": "3 per day; 2 per 1 minute"}, (PER_MINUTE, PER_DAY), id="the shortest period first"),
        pytest.param({"rate": "3/day", "quota": "10 MiB/day"}, (PER_DAY, QUOTA), id="uploads and bytes"),
        pytest.param({"quota": "10MiB/day;1 GiB / 30 days"}, (QUOTA, Limit(BYTES, GIB, 30 * DAY)), id="two quotas"),
    ],
)
def test_the_settings_name_the_limits(given: dict[str, Any], limits: tuple[Limit, ...]) -> None:
    """Each has an amount and a period."""
    assert limits_of(Settings(**given)) == limits


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        *(("rate", text) for text in ("100", "0/minute", "1/fortnight", "x/minute", "1/minute;", "1/minute;2/minute")),
        *(("rate", text) for text in ("-1/minute", "1/2 years", f"{MAX_AMOUNT + 1}/day", "10 MiB/day")),
        *(("quota", text) for text in ("1 GiB", "0/day", "1 GB/day", "/day", "1 MiB/day;1 GiB/24 hours")),
    ],
)
def test_a_limit_that_cannot_work_stops_the_start(setting: str, text: str) -> None:
    """The message is one line, with an example."""
    with pytest.raises(SettingsError, match=f"^UPLOAD_{setting.upper()} is '{re.escape(text)}'; it must be .*'$"):
        limits_of(Settings.from_env({f"UPLOAD_{setting.upper()}": text}))


@pytest.mark.parametrize("setting", ["rate", "quota"])
def test_without_the_package_the_message_says_how_to_install_it(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported for these settings alone."""
    real = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name == "limits":
            raise ModuleNotFoundError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert limits_of(Settings()) == ()
    with pytest.raises(SettingsError, match=r"pip install 'filehandoff\[limits\]'"):
        limits_of(Settings.from_env({f"UPLOAD_{setting.upper()}": "1/day"}))


@pytest.mark.parametrize(
    "url", ["http://a", "redis:/a", "redis://", "redis+unix://a", "memory://", "redis://a b", "redis+cluster://a"]
)
def test_the_store_is_a_redis_whose_url_is_never_shown(url: str) -> None:
    """It may hold a password."""
    with pytest.raises(SettingsError, match=r"^UPLOAD_LIMITS_STORE is not shown; it must be a URL of redis://"):
        Settings.from_env({"UPLOAD_LIMITS_STORE": url})
    assert "secret" not in repr(Settings(limits_store="redis://:secret@a"))


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("redis://:valkey@a:1/0", "redis://:valkey@a:1/0"),
        ("rediss://a", "rediss://a"),
        ("redis+unix:///run/a", "unix:///run/a"),
        ("valkey://valkey", "redis://valkey"),
        ("valkeys://a", "rediss://a"),
        ("valkey+unix:///run/valkey", "unix:///run/valkey"),
    ],
)
def test_valkey_is_spoken_to_as_redis(url: str, used: str) -> None:
    """Only the scheme changes."""
    assert redis_url(Settings(limits_store=url).limits_store or "") == used


@pytest.mark.parametrize(
    ("name", "address", "sender"),
    [
        ("ann", "192.0.2.1", "name:ann"),
        ("", "192.0.2.1", "address:192.0.2.1"),
        ("", "2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::/64"),
        ("", "", "address:unknown"),
    ],
)
def test_a_sender_is_a_name_or_a_network(name: str, address: str, sender: str) -> None:
    """A host may use 64 bits of an IPv6 address as it likes."""
    assert sender_of(name, address) == sender


def test_a_rate_refuses_the_upload_after_the_last(
    account: Callable[..., Account], counters: Memory, clock: Clock
) -> None:
    """The next period and another sender begin anew."""
    clock.now += 45.5
    for left in (1, 0):
        one = account(PER_MINUTE)
        play(one.add(UPLOADS, 1), counters)
        assert one.headers == {
            "RateLimit-Policy": '"uploads-60";q=2;w=60',
            "RateLimit": f'"uploads-60";r={left};t=15',
        }
    refused = account(PER_MINUTE)
    with pytest.raises(TooManyRequests) as caught:
        play(refused.add(UPLOADS, 1), counters)
    assert caught.value.headers == {"Retry-After": "15"}
    assert refused.headers["RateLimit"] == '"uploads-60";r=0;t=15'
    play(account(PER_MINUTE, sender="name:bob").add(UPLOADS, 1), counters)
    clock.now += 14.5
    play(account(PER_MINUTE).add(UPLOADS, 1), counters)


def test_a_refused_upload_counts_against_no_limit(
    account: Callable[..., Account], counters: Memory, clock: Clock
) -> None:
    """Refusals in a minute use up no day."""
    for _ in range(2):
        play(account(PER_MINUTE, PER_DAY).add(UPLOADS, 1), counters)
    for _ in range(5):
        with pytest.raises(TooManyRequests):
            play(account(PER_MINUTE, PER_DAY).add(UPLOADS, 1), counters)
    clock.now += 60
    play(account(PER_MINUTE, PER_DAY).add(UPLOADS, 1), counters)
    last = account(PER_MINUTE, PER_DAY)
    with pytest.raises(TooManyRequests) as caught:
        play(last.add(UPLOADS, 1), counters)
    assert caught.value.headers == {"Retry-After": str(DAY - 60)}
    assert last.headers["RateLimit"] == f'"uploads-60";r=1;t=60, "uploads-86400";r=0;t={DAY - 60}'


def test_a_request_without_a_limit_has_no_headers(account: Callable[..., Account], counters: Memory) -> None:
    """Quotas do not count uploads."""
    one = account(QUOTA)
    play(one.add(UPLOADS, 1), counters)
    assert one.headers == {}


def rest(account: Account) -> int:
    """The rest of the only limit in the headers."""
    return int(account.headers["RateLimit"].partition(";r=")[2].partition(";")[0])


def test_a_declared_length_is_reserved_at_once(account: Callable[..., Account], counters: Memory) -> None:
    """A second body that cannot fit beside it is refused before it is read, and counts nothing."""
    first, second = account(QUOTA), account(QUOTA)
    meter = Meter(first, 6 * MIB)
    play(meter.begin(), counters)
    assert first.headers == {
        "RateLimit-Policy": '"bytes-86400";q=10485760;w=86400;qu="content-bytes"',
        "RateLimit": f'"bytes-86400";r={4 * MIB};t=86400',
    }
    other = Meter(second, 5 * MIB)
    with pytest.raises(TooManyRequests, match=f"{4 * MIB} are left, and this upload needs {5 * MIB} more"):
        play(other.begin(), counters)
    play(other.end(), counters)
    play(meter.receive(6 * MIB), counters)
    play(meter.end(), counters)
    play(account(QUOTA).add(BYTES, 4 * MIB), counters)


def test_the_rest_of_a_declared_length_is_returned(account: Callable[..., Account], counters: Memory) -> None:
    """The bytes that arrived stay counted."""
    one = account(QUOTA)
    meter = Meter(one, 6 * MIB)
    for flow in (meter.begin(), meter.receive(MIB), meter.end()):
        play(flow, counters)
    assert rest(one) == 9 * MIB


@pytest.mark.parametrize("declared", [None, 0])
def test_a_body_without_a_length_reserves_steps(
    account: Callable[..., Account], counters: Memory, declared: int | None
) -> None:
    """At its end exactly its bytes are counted."""
    one = account(QUOTA)
    meter = Meter(one, declared)
    play(meter.begin(), counters)
    assert one.headers == {}
    for size, reserved in ((1, MIB), (MIB - 1, MIB), (1, 2 * MIB), (4 * MIB, 5 * MIB + 1), (MIB // 2, 6 * MIB + 1)):
        play(meter.receive(size), counters)
        assert rest(one) == QUOTA.amount - reserved
    play(meter.end(), counters)
    assert rest(one) == QUOTA.amount - 5 * MIB - MIB // 2 - 1


def test_a_body_may_use_the_last_byte_of_a_quota(account: Callable[..., Account], counters: Memory) -> None:
    """Less than a step may be left; the byte after the last is refused."""
    play(account(QUOTA).add(BYTES, QUOTA.amount - 100), counters)
    one = account(QUOTA)
    meter = Meter(one, None)
    for size in (60, 40):
        play(meter.receive(size), counters)
    assert rest(one) == 0
    with pytest.raises(TooManyRequests):
        play(meter.receive(1), counters)
    play(meter.end(), counters)
    assert rest(one) == 0


def test_a_large_chunk_is_refused_as_a_whole(account: Callable[..., Account], counters: Memory) -> None:
    """There is no smaller step."""
    one = account(QUOTA)
    with pytest.raises(TooManyRequests):
        play(Meter(one, None).receive(QUOTA.amount + 1), counters)
    assert rest(one) == QUOTA.amount


def test_the_shorter_quota_is_returned_if_the_longer_refuses(account: Callable[..., Account], counters: Memory) -> None:
    """All quotas of a refused length are as before."""
    hourly = Limit(BYTES, 20 * MIB, 3600)
    one = account(hourly, QUOTA)
    with pytest.raises(TooManyRequests):
        play(one.add(BYTES, 11 * MIB), counters)
    assert one.headers["RateLimit"] == f'"bytes-3600";r={20 * MIB};t=3600, "bytes-86400";r={10 * MIB};t=86400'


def test_memory_forgets_ended_counters_first(clock: Clock) -> None:
    """The others keep their values."""
    counters = Memory(at_most=10, clock=clock)
    counters.incr("long", DAY, 5)
    for number in range(9):
        counters.incr(f"short {number}", 60, 1)
    clock.now += 60
    assert counters.incr("new", 60, 1) == 1
    assert counters.incr("long", DAY, 1) == 6
    assert counters.incr("short 0", 60, 1) == 1


def test_memory_is_bounded(clock: Clock) -> None:
    """Beyond its bound the oldest counters go, a tenth at once."""
    counters = Memory(at_most=10, clock=clock)
    for number in range(11):
        counters.incr(str(number), DAY, 1)
    assert counters.incr("1", DAY, 1) == 2
    assert counters.incr("0", DAY, 1) == 1


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log from `info` on."""
    caplog.set_level(logging.INFO, "filehandoff")
    return caplog


def test_one_request_at_a_time_asks_a_store_that_is_away(lines: pytest.LogCaptureFixture) -> None:
    """All others pass without it, until it responds."""
    outage = Outage(fails_open=True)
    assert outage.may_ask(0)
    outage.begin(OSError("gone"), 0)
    outage.begin(OSError("gone"), 0)
    assert [outage.may_ask(now) for now in (1, RETRY_SECONDS - 1)] == [False, False]
    assert [outage.may_ask(now) for now in (RETRY_SECONDS, RETRY_SECONDS)] == [True, False]
    outage.begin(OSError("gone"), RETRY_SECONDS + 1)
    assert not outage.may_ask(2 * RETRY_SECONDS)
    outage.pass_or_refuse()
    outage.end(12)
    outage.end(12)
    assert outage.may_ask(12)
    assert [(one.levelname, one.getMessage()) for one in lines.records] == [
        ("ERROR", "the store of the limits does not respond, and uploads pass without limits: gone"),
        ("INFO", "the store of the limits responds again"),
    ]


def test_closed_limits_refuse_uploads_without_their_store(lines: pytest.LogCaptureFixture) -> None:
    """The reason is in the log, at least by the name of the error."""
    outage = Outage(fails_open=False)
    outage.begin(TimeoutError(), 0)
    with pytest.raises(LimitsUnavailable) as caught:
        outage.pass_or_refuse()
    assert caught.value.headers == {"Retry-After": "5"}
    assert lines.messages == ["the store of the limits does not respond, and uploads are refused: TimeoutError"]


def test_a_store_that_fails_now_and_then_writes_a_line_a_second(lines: pytest.LogCaptureFixture) -> None:
    """An outage that ends at once does not fill the log."""
    outage = Outage(fails_open=True)
    for number in range(30):
        outage.begin(OSError("gone"), number / 10)
        outage.end(number / 10)
    assert len(lines.records) == 3


@pytest.mark.parametrize(
    ("method", "endpoint", "counts"),
    [
        ("POST", "uploads.upload", True),
        ("PUT", "uploads.put", True),
        ("POST", "uploads.presign", True),
        ("POST", "uploads.complete", True),
        ("POST", "uploads.show_cause", True),
        ("OPTIONS", "uploads.upload", False),
        ("GET", "uploads.presign_parts", False),
        ("DELETE", "uploads.delete_object", False),
        ("GET", "uploads.healthz", False),
        ("GET", None, False),
    ],
)
def test_uploads_alone_count(method: str, endpoint: str | None, *, counts: bool) -> None:
    """Without limits, no request has an account."""
    request: Any = make_request(method)
    request.endpoint = endpoint
    request.identity = Identity("ann")
    assert (access.account_of(request, [QUOTA]) is not None) is counts
    assert access.account_of(request, []) is None


def test_every_view_that_counts_exists() -> None:
    """A renamed view would be unlimited."""
    assert access.SCOPE_OF.keys() >= access.LIMITED


@pytest.mark.parametrize(
    ("view", "uploads"), [("create_upload", 1), ("patch_upload", 0), ("override", 0), ("upload", 1)]
)
def test_a_resumable_upload_counts_once(view: str, uploads: int) -> None:
    """Its creation counts as an upload, and each request's bytes count."""
    request: Any = make_request("POST")
    request.endpoint = f"files.{view}"
    assert access.uploads_in(request) == uploads
    assert access.account_of(request, [Limit(BYTES, 5, 60)]) is not None
    request.endpoint = "files.get_upload"
    assert access.account_of(request, [Limit(BYTES, 5, 60)]) is None
