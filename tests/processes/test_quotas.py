"""Both apps with limits for each sender: counted together in a real Redis, which dies, and in memory."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from contract.api import KEPT_SHORT, Api, check_problem, form, part
from contract.bucket import Bucket
from patience import PATIENCE, wait_until
from processes.redis_server import RedisServer, redis_server

import flask_app
import quart_app
from demo import stack
from filehandoff import Settings
from filehandoff.errors import SettingsError
from filehandoff.settings import KIB, MIB

#: The limits of each address. A year of 360 days does not end during a test.
RATE, QUOTA = 20, 12 * MIB
LIMITS = {
    "UPLOAD_RATE": f"{RATE}/year",
    "UPLOAD_QUOTA": "12 MiB/year",
    "UPLOAD_PART_BYTES": "5 MiB",
    "UPLOAD_TRUSTED_PROXIES": "1",
    "UPLOAD_S3": "moto",
    "UPLOAD_DRAIN_SECONDS": "1",
}
#: The line about an outage of Redis.
AWAY = "the store of the limits does not respond"
#: Two processes of each app.
COMMANDS = {name: [*command, "--workers=2"] for name, command in stack.COMMANDS.items()}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """The Redis server of all processes."""
    with redis_server() as started:
        yield started


@pytest.fixture(scope="module", params=["closed"])
def running(
    request: pytest.FixtureRequest, server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[stack.Stack]:
    """The store and both apps, which pass or refuse uploads while Redis is away."""
    folder: Path = tmp_path_factory.mktemp("limits")
    environ = LIMITS | {
        "UPLOAD_LIMITS_STORE": f"redis+unix://{server.path}",
        "UPLOAD_LIMITS_FAIL": request.param,
        "TMPDIR": str(folder),
    }
    with stack.running(environ, log_path=folder / "servers.log", commands=COMMANDS) as started:
        yield started


@pytest.fixture
def fails_open(running: stack.Stack) -> bool:
    """Whether uploads pass while Redis is away."""
    return running.settings.limits_fail == "open"


@pytest.fixture
def counters(server: RedisServer) -> Iterator["redis.Redis"]:
    """A client of Redis, which is empty before the test."""
    with redis.Redis(unix_socket_path=str(server.path)) as client:
        client.flushdb()
        yield client


def counted(client: "redis.Redis") -> int:
    """The bytes that are counted for the only sender."""
    keys: Any = client.keys("filehandoff:bytes-*")
    values: Any = [client.get(key) for key in keys]
    return sum(map(int, values))


@pytest.fixture
def apps(running: stack.Stack) -> Iterator[dict[str, Api]]:
    """Both apps, each for a sender of its own; they leave only the objects of 201 answers."""
    found = {name: Api(server.url) for name, server in running.apps.items()}
    for name, api in found.items():
        api._http.headers["X-Forwarded-For"] = {"flask": "192.0.2.1", "quart": "192.0.2.2"}[name]  # noqa: SLF001 - a test's own class
    yield found
    named = {key for api in found.values() for key in api.stored}
    for api in found.values():
        api.close()
    with closing(running.store.client()) as s3:
        Bucket(s3, running.settings.bucket, None).check_and_empty(named)


@pytest.fixture(params=stack.COMMANDS)
def app(request: pytest.FixtureRequest, apps: dict[str, Api]) -> Api:
    """Each app in turn."""
    return apps[request.param]


def rest(answer: httpx.Response) -> dict[str, int]:
    """The rest of each limit in an answer's headers."""
    items = answer.headers["RateLimit"].split(", ")
    return {name.strip('"').partition("-")[0]: int(left[2:]) for name, left, _ in (item.split(";") for item in items)}


def chunks(*sizes: int) -> Iterator[bytes]:
    """A body without a declared length, in chunks of at most 64 KiB."""
    for size in sizes:
        for start in range(0, size, 64 * KIB):
            yield bytes(min(64 * KIB, size - start))


@pytest.mark.usefixtures("counters")
def test_all_processes_share_a_rate(apps: dict[str, Api]) -> None:
    """Two processes of each app take exactly as many uploads as one limit allows."""
    headers = {"X-Forwarded-For": "198.51.100.7"}
    senders = [httpx.Client(headers=headers, timeout=PATIENCE, limits=KEPT_SHORT) for _ in range(6)]
    urls = [api.url for api in apps.values()]

    def send(number: int) -> httpx.Response:
        answer = senders[number % len(senders)].put(f"{urls[number % 2]}/uploads/a", content=b"hello")
        apps["flask"].remember(answer)
        return answer

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, range(RATE + 10)))
    for sender in senders:
        sender.close()
    assert sorted(answer.status_code for answer in answers) == [201] * RATE + [429] * 10
    assert sorted(rest(answer)["uploads"] for answer in answers) == [0] * 10 + list(range(RATE))
    for answer in answers:
        if answer.status_code == 429:
            check_problem(answer, 429, "too-many-requests")
            assert 0 < int(answer.headers["Retry-After"]) <= 360 * 86_400


@pytest.mark.usefixtures("counters")
def test_addresses_of_one_network_share_a_limit(app: Api) -> None:
    """In IPv6, the first 64 bits count; an entry that the client sends does not."""
    left = []
    for entries in ("2001:db8::1", "203.0.113.9, 2001:db8::2", "2001:db8:0:1::1"):
        answer = app.send("PUT", "/uploads/a", content=b"hello", headers={"X-Forwarded-For": entries})
        assert answer.status_code == 201
        left.append(rest(answer)["uploads"])
    assert left == [RATE - 1, RATE - 2, RATE - 1]


BODIES: dict[str, Callable[[Api, int], httpx.Response]] = {
    "raw": lambda app, size: app.send("PUT", "/uploads/a", content=chunks(size)),
} | {
    handoff: lambda app, size, handoff=handoff: app.upload(
        (chunk for chunk in (form(part("file", bytes(size), "a")),)), f"/uploads/{handoff}"
    )
    for handoff in ("stream", "file", "read_early", "temp_file", "byte_queue")
}


@pytest.mark.every_other
@pytest.mark.parametrize("body", BODIES)
def test_a_chunked_body_is_refused_where_it_crosses_the_quota(app: Api, counters: "redis.Redis", body: str) -> None:
    """Two parts are in S3 by then, or in a temporary file; nothing stays."""
    answer = BODIES[body](app, QUOTA + MIB)
    check_problem(answer, 429, "too-many-requests")
    assert rest(answer)["bytes"] == QUOTA - counted(counters) <= 2 * MIB


@pytest.mark.every_other
@pytest.mark.parametrize("body", ["raw", "stream", "file"])
def test_a_chunked_body_counts_exactly(app: Api, counters: "redis.Redis", body: str) -> None:
    """The steps that it reserved and did not use are returned."""
    answer = BODIES[body](app, 3 * MIB + 5)
    assert answer.status_code == 201, answer.text
    form_bytes = 0 if body == "raw" else len(form(part("file", b"", "a")))
    assert counted(counters) == 3 * MIB + 5 + form_bytes == QUOTA - rest(answer)["bytes"]


def test_a_length_that_cannot_fit_is_refused_before_the_body(app: Api, counters: "redis.Redis") -> None:
    """The client sends no byte of it, and it counts nothing."""
    host, port = app.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        head = f"PUT /uploads/a HTTP/1.1\r\nHost: a\r\nContent-Length: {QUOTA + 1}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(12) == b"HTTP/1.1 429"
    assert counted(counters) == 0


def test_what_a_client_does_not_send_is_returned(app: Api, counters: "redis.Redis") -> None:
    """It disconnects in the middle of the declared length."""
    host, port = app.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        head = f"PUT /uploads/a HTTP/1.1\r\nHost: a\r\nContent-Length: {QUOTA}\r\n\r\n"
        connection.sendall(head.encode() + bytes(1000))
        wait_until(lambda: counted(counters) == QUOTA, lambda: "the length is not reserved")
    wait_until(lambda: counted(counters) <= 1000, lambda: f"{counted(counters)} bytes stay counted")


def test_a_presigned_upload_counts_its_promise(app: Api, counters: "redis.Redis") -> None:
    """Its begin and its completion are two uploads; its size counts once."""
    given = app.presign(bytes(MIB)).json()
    before = counted(counters)
    assert MIB < before < MIB + KIB  # with the JSON
    refused = app.send("POST", "/uploads/presigned", json={"filename": "a", "size": QUOTA})
    check_problem(refused, 429, "too-many-requests")
    assert rest(refused)["uploads"] == RATE - 2
    assert counted(counters) < before + KIB
    app.send_to_s3(given, bytes(MIB))
    answer = app.send("POST", given["complete"])
    assert answer.status_code == 201
    assert rest(answer) == {"uploads": RATE - 3}


@pytest.mark.usefixtures("counters")
def test_other_requests_do_not_count(app: Api) -> None:
    """They have no headers about limits."""
    for method, path in (("GET", "/healthz"), ("GET", "/objects/a"), ("OPTIONS", "/uploads")):
        assert "RateLimit" not in app.send(method, path).headers


in_both_ways = pytest.mark.parametrize(
    "running", ["closed", pytest.param("open", marks=pytest.mark.thorough)], indirect=True, scope="module"
)


@in_both_ways
def test_uploads_go_on_or_are_refused_while_redis_is_away(
    app: Api, server: RedisServer, counters: "redis.Redis", running: stack.Stack, *, fails_open: bool
) -> None:
    """Never with a 500, and in a bounded time; afterwards the limits hold again."""
    assert "RateLimit" in app.send("PUT", "/uploads/a", content=b"hello").headers
    log = Path(running.environ["TMPDIR"], "servers.log")
    before = log.read_text().count(AWAY)
    for break_it in (server.pause, server.kill):
        break_it()
        began = time.monotonic()
        for _ in range(60):
            check_outage(app.send("PUT", "/uploads/a", content=b"hello"), fails_open=fails_open)
        # each of two processes waits a second at once and after each 5 seconds; all 60 would wait 60 seconds
        assert time.monotonic() - began < 45
    assert 1 <= log.read_text().count(AWAY) - before <= 2  # one line for each process
    server.start()
    wait_until(
        lambda: "RateLimit" in app.send("PUT", "/uploads/a", content=b"hello").headers, lambda: "no limits again"
    )
    assert counters.ping()


def check_outage(answer: httpx.Response, *, fails_open: bool) -> None:
    """Assert that an upload has passed without limits, or was refused."""
    assert "RateLimit" not in answer.headers
    if fails_open:
        assert answer.status_code == 201
    else:
        check_problem(answer, 503, "limits-unavailable")
        assert answer.headers["Retry-After"] == "5"


@in_both_ways
def test_redis_may_die_in_the_middle_of_a_body(
    app: Api, server: RedisServer, counters: "redis.Redis", *, fails_open: bool
) -> None:
    """The body is stored or refused, and a refused one leaves nothing in S3."""

    def body() -> Iterator[bytes]:
        yield from chunks(6 * MIB)
        wait_until(lambda: counted(counters) >= 6 * MIB, lambda: "the bytes are not counted")
        server.kill()
        yield from chunks(6 * MIB + KIB)

    wait_until(lambda: "RateLimit" in app.send("PUT", "/uploads/a", content=b"hello").headers, lambda: "no limits")
    counters.flushdb()
    answer = app.send("PUT", "/uploads/a", content=body())
    server.start()
    if fails_open:
        assert answer.status_code == 201, answer.text
        assert answer.json()["receipts"][0]["size"] == 12 * MIB + KIB
    else:
        check_problem(answer, 503, "limits-unavailable")


CREATE = {"flask": flask_app.create_app, "quart": quart_app.create_app}
both = pytest.mark.parametrize("framework", CREATE)


def post(framework: str, app: Any, times: int) -> list[int]:
    """Send uploads without a body to an app without a server; return the statuses."""
    client = app.test_client()
    if framework == "flask":
        return [client.post("/uploads").status_code for _ in range(times)]

    async def send() -> list[int]:
        return [(await client.post("/uploads")).status_code for _ in range(times)]

    return asyncio.run(send())


@both
def test_without_redis_each_process_counts_in_memory(framework: str) -> None:
    """A request without a file counts as well."""
    app = CREATE[framework](Settings(rate="2/year", quota="1 GiB/year"))
    assert post(framework, app, 4) == [400, 400, 429, 429]


@both
def test_a_store_without_limits_is_not_used(framework: str) -> None:
    """Nothing connects to it."""
    app = CREATE[framework](Settings(limits_store="redis://127.0.0.1:1", limits_fail="closed"))
    assert post(framework, app, 2) == [400, 400]


@both
@pytest.mark.parametrize("missing", ["redis", None])
def test_a_store_that_cannot_work_stops_the_start(
    framework: str, missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client of Redis is missing, or does not accept the URL; the message does not show it."""
    if missing:
        monkeypatch.setitem(__import__("sys").modules, "redis", None)
        monkeypatch.setitem(__import__("sys").modules, "redis.asyncio", None)
    settings = Settings(rate="1/day", limits_store="redis://:secret@a:port/0")
    with pytest.raises(
        SettingsError, match=r"^UPLOAD_LIMITS_STORE is not shown; .*pip install 'filehandoff\[limits\]'"
    ):
        CREATE[framework](settings)
