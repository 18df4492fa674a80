"""The faults' own tools: the proxy harms nothing unless it is told to, and then does what its faults say."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, ResponseStreamingError
from contract.api import TLS
from faults.proxy import Proxy
from faults.script import (
    ANY,
    OPERATIONS,
    Answer,
    Call,
    CutAnswer,
    Drip,
    Fault,
    FlipAnswerByte,
    FlipRequestByte,
    Latency,
    LostAnswer,
    Reset,
    Script,
    Stall,
    When,
    name_call,
)

from demo import stack, stores
from demo.processes import ending
from handoff.settings import Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET = "proxied"
PART = 5 * 1024**2
DATA = os.urandom(300_000)
SIZE = 64 * 1024**2
TIMEOUT = 0.5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    """An S3 server with a bucket, for the module."""
    with (tmp_path_factory.mktemp("proxy") / "moto.log").open("w+b") as log:
        started = stores.start("moto", {}, log)
        assert started.server is not None
        with ending([started.server]):
            settings = Settings.from_env({"UPLOAD_BUCKET": BUCKET})
            stack.create_bucket(stack.Stack(started, settings, {}, [started.server]), log)
            yield started


@pytest.fixture(scope="module")
def direct(store: stores.Store) -> "Iterator[S3Client]":
    """A client that asks the store itself."""
    with closing(store.client()) as client:
        yield client


@pytest.fixture
def proxy(store: stores.Store) -> Iterator[Proxy]:
    """A proxy in front of the store, which nothing outlives."""
    threads = threading.active_count()
    with Proxy(store.endpoint_url) as started:
        yield started
    assert threading.active_count() == threads


@pytest.fixture(scope="module")
def session(store: stores.Store) -> boto3.session.Session:
    """What the clients have in common."""
    return boto3.session.Session(
        aws_access_key_id=store.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=store.environ["AWS_SECRET_ACCESS_KEY"],
        region_name=store.environ["AWS_DEFAULT_REGION"],
    )


@pytest.fixture
def s3(session: boto3.session.Session, proxy: Proxy) -> "Iterator[S3Client]":
    """A client of the store by way of the proxy, which tries once, and leaves the bytes it reads to the tests."""
    config = Config(retries={"total_max_attempts": 1}, response_checksum_validation="when_required")
    with closing(session.client("s3", endpoint_url=proxy.url, config=config)) as client:
        yield client


@pytest.fixture
def hasty(session: boto3.session.Session, proxy: Proxy) -> "Iterator[S3Client]":
    """Likewise, but it does not wait for an answer for long."""
    config = Config(retries={"total_max_attempts": 1}, read_timeout=TIMEOUT)
    with closing(session.client("s3", endpoint_url=proxy.url, config=config)) as client:
        yield client


def stored(direct: "S3Client", key: str) -> bytes | None:
    """What the store holds under a key, removed; None if it holds nothing."""
    try:
        data = direct.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    except direct.exceptions.NoSuchKey:
        return None
    direct.delete_object(Bucket=BUCKET, Key=key)
    return data


def test_nothing_happens_unless_it_is_scripted(proxy: Proxy, s3: "S3Client", direct: "S3Client") -> None:
    """Every call that the apps make gets the store's own answer, is named and recorded."""
    s3.head_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="a b/ü", Body=DATA, Metadata={"request-id": "1"})
    assert s3.head_object(Bucket=BUCKET, Key="a b/ü")["Metadata"] == {"request-id": "1"}
    assert s3.get_object(Bucket=BUCKET, Key="a b/ü")["Body"].read() == DATA
    assert s3.get_object(Bucket=BUCKET, Key="a b/ü", Range="bytes=1-2")["Body"].read() == DATA[1:3]
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["a b/ü"]
    s3.delete_object(Bucket=BUCKET, Key="a b/ü")
    with pytest.raises(ClientError, match="Not Found"):
        s3.head_object(Bucket=BUCKET, Key="a b/ü")
    assert stored(direct, "a b/ü") is None
    assert [(call.operation, call.status) for call in proxy.calls] == [
        ("head_bucket", 200),
        ("put_object", 200),
        ("head_object", 200),
        ("get_object", 200),
        ("get_object", 206),
        ("list_objects_v2", 200),
        ("delete_object", 204),
        ("head_object", 404),
    ]
    assert proxy.calls[1].path == f"/{BUCKET}/a%20b/%C3%BC"


def test_an_empty_object_passes(s3: "S3Client", direct: "S3Client") -> None:
    """A body of no bytes is one."""

    def expect_nothing(request: Any, **_event: Any) -> None:
        """With Expect, botocore may take one answer for the next one's: boto/botocore#3755."""
        del request.headers["Expect"]

    s3.meta.events.register("before-send.s3.PutObject", expect_nothing)
    s3.put_object(Bucket=BUCKET, Key="empty", Body=b"")
    assert stored(direct, "empty") == b""


def multipart(s3: "S3Client", key: str, parts: list[bytes]) -> None:
    """Store an object in parts."""
    upload_id = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    try:
        etags = [
            s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload_id, PartNumber=number, Body=part)["ETag"]
            for number, part in enumerate(parts, 1)
        ]
        done = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload_id, MultipartUpload={"Parts": done})  # type: ignore[typeddict-item]
    except ClientError:
        with suppress(s3.exceptions.NoSuchUpload):
            s3.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload_id)
        raise


def test_a_multipart_upload_passes(proxy: Proxy, s3: "S3Client", direct: "S3Client") -> None:
    """Parts are told apart by their numbers."""
    data = os.urandom(PART + 1)
    multipart(s3, "parts", [data[:PART], data[PART:]])
    assert stored(direct, "parts") == data
    assert [(call.operation, call.part_number) for call in proxy.calls] == [
        ("create_multipart_upload", None),
        ("upload_part", 1),
        ("upload_part", 2),
        ("complete_multipart_upload", None),
    ]


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", "/", "other"),
        ("GET", "/?list-type=2", "other"),
        ("GET", "/b?uploads", "list_multipart_uploads"),
        ("GET", "/b/?prefix=a", "list_objects"),
        ("GET", "/b/k?uploadId=1", "list_parts"),
        ("GET", "/b/k?partNumber=1", "get_object"),
        ("POST", "/b?delete", "other"),
        ("PUT", "/b", "create_bucket"),
    ],
)
def test_a_call_is_named_by_its_request(method: str, target: str, operation: str) -> None:
    """Names are boto3's; what the apps never call is some other."""
    assert name_call(method, target).operation == operation


def test_every_name_is_an_operation_of_boto3(direct: "S3Client") -> None:
    """A script that names an operation means what boto3 means by it."""
    assert [name for name in OPERATIONS.values() if not hasattr(direct, name)] == []


# The framing of bodies, against a store that sends what it is given.


@contextmanager
def canned(answer: bytes, end: bytes = b"\r\n\r\n") -> Iterator[tuple[str, list[bytes]]]:
    """A store that reads each request up to its end, and answers all with the same bytes."""
    received: list[bytes] = []

    def serve() -> None:
        with suppress(OSError):  # the listener is shut down
            while True:
                connection, _ = listener.accept()
                with connection, suppress(ConnectionError):
                    request = b""
                    while not request.endswith(end) and (more := connection.recv(65536)):
                        request += more
                    received.append(request)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield "http://{}:{}".format(*listener.getsockname()), received
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def connect(proxy: Proxy) -> socket.socket:
    """A bare connection to the proxy."""
    url = urlsplit(proxy.url)
    assert url.hostname is not None
    return socket.create_connection((url.hostname, url.port or 80), timeout=5)


def receive(connection: socket.socket, length: int) -> bytes:
    """So many bytes, or fewer if the connection ends before."""
    received = b""
    while len(received) < length and (more := connection.recv(length - len(received))):
        received += more
    return received


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n.\r\n0\r\n"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        pytest.param(b"GET", b"HTTP/1.1 200 OK\r\ncontent-length:  3 \r\n\r\nabc", id="a length"),
        pytest.param(b"GET", b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n", id="chunks"),
        pytest.param(b"GET", b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"A: b\r\n\r\n", id="chunks and a trailer"),
        pytest.param(b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", id="the length of what HEAD leaves out"),
        pytest.param(b"DELETE", b"HTTP/1.1 204 No Content\r\n\r\n", id="no content"),
        pytest.param(b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", id="not modified"),
        pytest.param(
            b"PUT", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", id="an interim answer"
        ),
    ],
)
def test_an_answer_passes_byte_for_byte_and_its_end_is_known(method: bytes, answer: bytes) -> None:
    """However an answer ends, it passes at once and the same connection serves the next request."""
    with canned(answer) as (url, received), Proxy(url) as proxy, connect(proxy) as connection:
        request = method + b" /b/k HTTP/1.1\r\nhost:  Odd\r\nX-A: b\r\n\r\n"
        for _ in range(2):
            connection.sendall(request)
            assert receive(connection, len(answer)) == answer
    assert received == [request, request]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", id="no length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", id="the store's wish"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", id="HTTP/1.0"),
    ],
)
def test_an_answer_that_ends_the_connection_does(answer: bytes) -> None:
    """Where the store closes, the proxy closes."""
    with canned(answer) as (url, _), Proxy(url) as proxy, connect(proxy) as connection:
        connection.sendall(b"GET /b/k HTTP/1.1\r\n\r\n")
        assert receive(connection, 10_000) == answer


def test_a_chunked_request_passes_byte_for_byte() -> None:
    """A body in chunks reaches the store in the same chunks; an offset counts content only."""
    answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    request = b"PUT /b/k HTTP/1.1\r\n" + CHUNKED + b"\r\n"
    with canned(answer, b"\r\n0\r\n\r\n") as (url, received), Proxy(url) as proxy, connect(proxy) as connection:
        proxy.on("put_object", FlipRequestByte(5), nth=2)
        for _ in range(2):
            connection.sendall(request)
            assert receive(connection, len(answer)) == answer
    assert received == [request, request.replace(b"\r\n.\r\n", b"\r\n/\r\n")]


def test_a_store_that_reads_nothing_is_felt_by_the_client() -> None:
    """What the store does not read stays with the client, but for what the kernel holds."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Proxy("http://{}:{}".format(*silent.getsockname())) as proxy,
        connect(proxy) as connection,
    ):
        assert send_until_blocked(connection) < SIZE / 2


def send_until_blocked(connection: socket.socket) -> int:
    """Begin a put of `SIZE` bytes, and say how many could be sent."""
    connection.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % SIZE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    connection.settimeout(TIMEOUT)
    sent = 0
    with suppress(TimeoutError):
        while sent < SIZE:
            sent += connection.send(bytes(65536))
    return sent


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="no answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="half a head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", id="half a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc", id="half of the chunks"),
    ],
)
def test_a_store_that_goes_away_resets_the_client(answer: bytes) -> None:
    """Where the store does not answer to the end, the client's connection breaks."""
    with canned(answer) as (url, _), Proxy(url) as proxy, connect(proxy) as connection:
        connection.sendall(b"GET /b/k HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            receive(connection, 10_000)


def test_a_store_that_is_not_there_resets_the_client() -> None:
    """Where nothing listens, the proxy that does cannot refuse any more."""
    with canned(b"") as (url, _):
        pass
    with Proxy(url) as proxy, connect(proxy) as connection:
        connection.sendall(b"GET /b/k HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            receive(connection, 1)


def test_a_client_that_goes_away_resets_the_store() -> None:
    """Where a body stops short, the store's connection breaks."""
    with (
        socket.create_server(("127.0.0.1", 0)) as store,
        Proxy("http://{}:{}".format(*store.getsockname())) as proxy,
    ):
        with connect(proxy) as connection:
            connection.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: 4\r\n\r\nabc")
        store.settimeout(5)
        with store.accept()[0] as accepted, pytest.raises(ConnectionResetError):
            receive(accepted, 10_000)


def test_a_stores_early_answer_ends_the_connection() -> None:
    """What a client still sends after its answer is never taken for another request."""
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    with canned(answer) as (url, _), Proxy(url) as proxy, connect(proxy) as connection:
        connection.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: 3\r\n\r\n")
        assert receive(connection, 10_000) == answer
        connection.sendall(b"abc")
        assert len(proxy.calls) == 1


def test_a_cut_answer_ends_the_connection() -> None:
    """An answer that lacks its last byte is followed by nothing, even if the store would keep the connection."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    with canned(answer) as (url, _), Proxy(url) as proxy, connect(proxy) as connection:
        proxy.on("get_object", CutAnswer(2))
        connection.sendall(b"GET /b/k HTTP/1.1\r\n\r\n")
        assert receive(connection, 10_000) == answer[:-1]


# The faults, on a real store.


def check_call(proxy: Proxy, fault: Fault | None, status: int | None) -> None:
    """Assert that the one call so far was recorded with its fault, and that the next passes."""
    (call,) = proxy.calls
    assert (call.fault, call.status) == (fault, status)
    assert httpx.get(proxy.url, verify=TLS).status_code == HTTPStatus.OK


@pytest.mark.parametrize(
    ("fault", "kept"),
    [
        pytest.param(Answer(503, "SlowDown"), None, id="before the body"),
        pytest.param(Answer(403, "AccessDenied", When.AFTER_BODY), None, id="after the body"),
        pytest.param(Answer(500, "InternalError", When.DONE), DATA, id="when it is done"),
    ],
)
def test_an_answer_in_the_stores_place(
    proxy: Proxy, s3: "S3Client", direct: "S3Client", fault: Answer, kept: bytes | None
) -> None:
    """The client reads S3's error, whether the store did it or never heard of it."""
    proxy.on("put_object", fault)
    with pytest.raises(ClientError) as raised:
        s3.put_object(Bucket=BUCKET, Key="answered", Body=DATA)
    assert raised.value.response["Error"]["Code"] == fault.code
    assert stored(direct, "answered") == kept
    check_call(proxy, fault, fault.status)


@pytest.mark.parametrize(
    ("fault", "kept"),
    [
        pytest.param(Reset(), None, id="before the body"),
        pytest.param(Reset(after=1000), None, id="in the body"),
        pytest.param(Reset(after=len(DATA) - 1), None, id="at its last byte"),
        pytest.param(LostAnswer(), DATA, id="when it is done"),
    ],
)
def test_a_reset(proxy: Proxy, s3: "S3Client", direct: "S3Client", fault: Fault, kept: bytes | None) -> None:
    """The client gets no answer, and the store has the object only if it was asked whole."""
    proxy.on("put_object", fault)
    with pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket=BUCKET, Key="reset", Body=DATA)
    assert stored(direct, "reset") == kept
    check_call(proxy, fault, None)


@pytest.mark.parametrize("fault", [Reset(), Reset(after=3), LostAnswer(), CutAnswer(1, reset=True)])
def test_a_reset_is_one(proxy: Proxy, fault: Fault) -> None:
    """The connection ends by RST, not by the FIN that a server sends when it is done."""
    proxy.on("put_object", fault)
    with connect(proxy) as connection:
        connection.sendall(b"PUT /b/k HTTP/1.1\r\nHost: here\r\nContent-Length: 6\r\n\r\nabcdef")
        with pytest.raises(ConnectionResetError):
            receive(connection, 10_000)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Stall(), id="before the body"),
        pytest.param(Stall(after=1000), id="in the body"),
        pytest.param(Drip(up=1000), id="drop by drop"),
    ],
)
def test_a_call_that_does_not_end(proxy: Proxy, hasty: "S3Client", direct: "S3Client", fault: Fault) -> None:
    """The client gives up, and the store has nothing."""
    proxy.on("put_object", fault)
    with pytest.raises(ReadTimeoutError):
        hasty.put_object(Bucket=BUCKET, Key="slow", Body=DATA)
    assert stored(direct, "slow") is None
    check_call(proxy, fault, None)


def test_an_answer_that_comes_too_late(proxy: Proxy, hasty: "S3Client", direct: "S3Client") -> None:
    """The client gives up on what the store has done."""
    proxy.on("put_object", Latency(60))
    with pytest.raises(ReadTimeoutError):
        hasty.put_object(Bucket=BUCKET, Key="late", Body=DATA)
    assert stored(direct, "late") == DATA
    check_call(proxy, Latency(60), None)


def test_a_stall_reads_no_more_and_ends_when_cleared(proxy: Proxy) -> None:
    """A client cannot even send one part of the smallest size; when the script is cleared, it is reset."""
    proxy.on("put_object", Stall(after=1))
    with connect(proxy) as connection:
        assert send_until_blocked(connection) < PART
        proxy.clear()
        connection.settimeout(5)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    check_call(proxy, Stall(after=1), None)


def test_an_early_answer_reaches_a_client_that_sends_on(proxy: Proxy) -> None:
    """A client that sends its whole body before it looks for an answer gets it."""
    proxy.on("put_object", Answer(503, "SlowDown"))
    with connect(proxy) as connection:
        connection.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % PART + bytes(PART))
        assert b"<Code>SlowDown</Code>" in receive(connection, 10_000)


def test_a_client_that_waits_to_be_asked_for_its_body_is(proxy: Proxy) -> None:
    """An answer after the body gets a body from a client that expects 100 Continue first."""
    proxy.on("put_object", Answer(503, "SlowDown", When.AFTER_BODY))
    with connect(proxy) as connection:
        connection.sendall(b"PUT /b/k HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert receive(connection, 25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert receive(connection, 12) == b"HTTP/1.1 503"


@pytest.mark.parametrize("fault", [CutAnswer(0), CutAnswer(1000)])
def test_an_answer_that_is_cut(proxy: Proxy, s3: "S3Client", direct: "S3Client", fault: Fault) -> None:
    """The client gets the head and its status, and then too few bytes."""
    direct.put_object(Bucket=BUCKET, Key="cut", Body=DATA)
    proxy.on("get_object", fault)
    body = s3.get_object(Bucket=BUCKET, Key="cut")["Body"]
    with pytest.raises(ResponseStreamingError):
        body.read()
    assert stored(direct, "cut") == DATA
    check_call(proxy, fault, 200)


def test_a_byte_is_flipped_on_its_way(proxy: Proxy, s3: "S3Client") -> None:
    """The store takes another byte than was sent, and the client reads another than is stored."""
    flipped = DATA[:70_000] + bytes([DATA[70_000] ^ 1]) + DATA[70_001:]
    proxy.on("put_object", FlipRequestByte(70_000))
    proxy.on("get_object", FlipAnswerByte(70_000), nth=2)
    s3.put_object(Bucket=BUCKET, Key="flipped", Body=DATA)
    for expected in (flipped, DATA):
        assert s3.get_object(Bucket=BUCKET, Key="flipped")["Body"].read() == expected
    s3.delete_object(Bucket=BUCKET, Key="flipped")


@pytest.mark.parametrize(
    ("when", "kept"), [pytest.param(When.AFTER_BODY, None, id="not done"), pytest.param(When.DONE, b"ab", id="done")]
)
def test_a_completion_that_fails_with_200(
    proxy: Proxy, s3: "S3Client", direct: "S3Client", when: When, kept: bytes | None
) -> None:
    """Completing answers 200 with an error in its body, whether the object is there or not."""
    proxy.on("complete_multipart_upload", Answer(200, "InternalError", when))
    with pytest.raises(ClientError, match="InternalError"):
        multipart(s3, "completed", [b"ab"])
    assert stored(direct, "completed") == kept
    assert ("complete_multipart_upload", 200) in [(call.operation, call.status) for call in proxy.calls]


def test_one_part_of_an_upload_can_fail(proxy: Proxy, s3: "S3Client", direct: "S3Client") -> None:
    """A fault finds the part it is meant for."""
    proxy.on("upload_part", Answer(500, "InternalError"), part_number=2)
    with pytest.raises(ClientError, match="InternalError"):
        multipart(s3, "parted", [b"a", b"b", b"c"])
    assert stored(direct, "parted") is None
    assert [(call.operation, call.part_number, call.status) for call in proxy.calls][1:] == [
        ("upload_part", 1, 200),
        ("upload_part", 2, 500),
        ("abort_multipart_upload", None, 204),
    ]


@pytest.mark.parametrize("setting", ["latency", "up", "down", "a late answer", "drops up", "drops down"])
def test_a_call_can_take_its_time(proxy: Proxy, s3: "S3Client", setting: str) -> None:
    """What is slow by so much, for one call or for all, takes that much longer and is whole."""
    faults: dict[str, Fault] = {
        "a late answer": Latency(0.1),
        "drops up": Drip(up=100_000),
        "drops down": Drip(down=100_000),
    }
    if setting in faults:
        proxy.on(ANY, faults[setting], every=True)
    else:
        setattr(proxy, setting, 0.1 if setting == "latency" else 100_000)
    began = time.monotonic()
    s3.put_object(Bucket=BUCKET, Key="slow", Body=DATA[:10_000])
    assert s3.get_object(Bucket=BUCKET, Key="slow")["Body"].read() == DATA[:10_000]
    assert time.monotonic() - began > 0.1
    proxy.clear()
    s3.delete_object(Bucket=BUCKET, Key="slow")


# The script.


def faults_of(script: Script, *calls: Call) -> list[Fault | None]:
    """What befalls these calls, one after the other."""
    return [script.fault_for(call) for call in calls]


PUT, HEAD = Call("put_object", "/b/k", None), Call("head_object", "/b/k", None)


@pytest.mark.parametrize(
    ("line", "struck"),
    [
        pytest.param({}, [1], id="the first"),
        pytest.param({"nth": 2}, [2], id="the second"),
        pytest.param({"nth": 2, "times": 2}, [2, 3], id="two from the second on"),
        pytest.param({"every": True}, [1, 2, 3, 4], id="every one"),
        pytest.param({"nth": 3, "every": True}, [3, 4], id="every one from the third on"),
    ],
)
def test_a_fault_befalls_the_calls_it_is_for(line: dict[str, Any], struck: list[int]) -> None:
    """Calls are counted by operation, from when the fault was scripted."""
    script = Script()
    faults_of(script, PUT)
    script.on("put_object", Reset(), **line)
    assert faults_of(script, PUT, HEAD, PUT, PUT, PUT)[1] is None
    script.clear()
    script.on("put_object", Reset(), **line)
    assert [number for number, fault in enumerate(faults_of(script, *[PUT] * 4), 1) if fault] == struck


def test_the_fault_that_was_scripted_first_happens() -> None:
    """One call has one fault, and each line counts on its own."""
    script = Script()
    script.on("put_object", Reset())
    script.on(ANY, Stall(), times=2)
    assert faults_of(script, PUT, HEAD, PUT) == [Reset(), Stall(), None]


def test_a_fault_that_cannot_happen_is_an_error() -> None:
    """A script that does nothing would let a test pass that has tested nothing."""
    with pytest.raises(ValueError, match="put_objects"):
        Script().on("put_objects", Reset())
    with canned(b"HTTP/1.1 204 No Content\r\n\r\n") as (url, _):
        proxy = Proxy(url)
        proxy.on("put_object", FlipRequestByte(3))
        with connect(proxy) as connection:
            connection.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
            with pytest.raises(ConnectionResetError):
                receive(connection, 1)
        with pytest.raises(ExceptionGroup) as raised:
            proxy.close()
    assert raised.group_contains(ValueError, match="3 bytes")
