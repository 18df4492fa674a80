"""Each fault has its described effect on a real store."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from contract.api import TLS
from faults.proxy import Proxy
from faults.script import (
    ANY,
    Answer,
    CutAnswer,
    Drip,
    Fault,
    FlipAnswerByte,
    FlipAnswerHeader,
    FlipRequestByte,
    Hold,
    Latency,
    LostAnswer,
    Refuse,
    Reset,
    Stall,
    When,
)
from patience import PATIENCE, wait_until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

from faults.tools.talk import BUCKET, DATA, PART, connect, multipart, receive, send_until_blocked, stored


def check_call(proxy: Proxy, fault: Fault | None, status: int | None) -> None:
    """Assert that the call has its fault, and that the next one passes."""
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
    """The client reads S3's error, whether or not the store performed the call."""
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
    """After a reset the client has no answer.

    The store has the object only after a whole request.
    """
    proxy.on("put_object", fault)
    with pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket=BUCKET, Key="reset", Body=DATA)
    assert stored(direct, "reset") == kept
    check_call(proxy, fault, None)


@pytest.mark.parametrize("fault", [Reset(), Reset(after=3), LostAnswer(), CutAnswer(1, reset=True)])
def test_a_reset_is_one(proxy: Proxy, fault: Fault) -> None:
    """A reset ends the connection by RST, not by FIN."""
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
    """A call that never ends makes the client give up; the store has nothing."""
    proxy.on("put_object", fault)
    with pytest.raises(ReadTimeoutError):
        hasty.put_object(Bucket=BUCKET, Key="slow", Body=DATA)
    assert stored(direct, "slow") is None
    check_call(proxy, fault, None)


@pytest.mark.parametrize("seconds", [pytest.param(0.3, id="its time"), pytest.param(600, id="until cleared")])
def test_a_store_that_refuses(proxy: Proxy, s3: "S3Client", direct: "S3Client", seconds: float) -> None:
    """The call is reset and connections are refused, until the proxy listens again."""
    proxy.on("put_object", Refuse(seconds))
    with pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket=BUCKET, Key="refused", Body=DATA)
    with pytest.raises(EndpointConnectionError):
        put_until_refused(s3)
    if seconds > 1:
        assert not is_there(proxy)
        proxy.clear()
        assert is_there(proxy)
    wait_until(lambda: is_there(proxy), lambda: "the proxy does not listen again")
    assert stored(direct, "refused") is None


def put_until_refused(s3: "S3Client") -> None:
    """Put repeatedly while the proxy stops listening and resets connections.

    Raises:
        EndpointConnectionError: the proxy no longer listens.
    """
    while True:
        with suppress(ConnectionClosedError):
            s3.put_object(Bucket=BUCKET, Key="refused", Body=DATA)


def is_there(proxy: Proxy) -> bool:
    """Whether the proxy accepts a connection."""
    try:
        return httpx.get(proxy.url, verify=TLS).status_code == HTTPStatus.OK
    except httpx.ConnectError:
        return False


def test_an_answer_that_comes_too_late(proxy: Proxy, hasty: "S3Client", direct: "S3Client") -> None:
    """The client gives up, but the store has the object."""
    proxy.on("put_object", Latency(600))
    with pytest.raises(ReadTimeoutError):
        hasty.put_object(Bucket=BUCKET, Key="late", Body=DATA)
    wait_until(lambda: direct.list_objects_v2(Bucket=BUCKET)["KeyCount"], lambda: "the store does not do it")
    assert stored(direct, "late") == DATA
    check_call(proxy, Latency(600), None)


@pytest.mark.parametrize(
    ("when", "before"), [pytest.param(When.BEFORE_BODY, None, id="not done"), pytest.param(When.DONE, DATA, id="done")]
)
def test_a_call_is_held_until_cleared(
    proxy: Proxy, s3: "S3Client", direct: "S3Client", when: When, before: bytes | None
) -> None:
    """A held call is answered after the script is cleared, performed before or after it."""
    proxy.on("put_object", Hold(when))
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(s3.put_object, Bucket=BUCKET, Key="held", Body=DATA)
        wait_until(lambda: proxy.calls, lambda: "the call does not come")
        if when is When.DONE:
            wait_until(lambda: direct.list_objects_v2(Bucket=BUCKET)["KeyCount"], lambda: "the store does not do it")
        assert (stored(direct, "held"), put.done()) == (before, False)
        proxy.clear()
        put.result()
    assert stored(direct, "held") == (DATA if when is When.BEFORE_BODY else None)


def test_a_stall_reads_no_more_and_ends_when_cleared(proxy: Proxy) -> None:
    """A stalled client cannot send even one smallest part; clearing the script resets it."""
    proxy.on("put_object", Stall(after=1))
    with connect(proxy) as connection:
        assert send_until_blocked(connection) < PART
        proxy.clear()
        connection.settimeout(PATIENCE)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    check_call(proxy, Stall(after=1), None)


def test_an_early_answer_reaches_a_client_that_sends_on(proxy: Proxy) -> None:
    """A client that sends its whole body before it reads gets an early answer."""
    proxy.on("put_object", Answer(503, "SlowDown"))
    with connect(proxy) as connection:
        connection.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % PART + bytes(PART))
        assert b"<Code>SlowDown</Code>" in receive(connection, 10_000)


def test_a_client_that_waits_to_be_asked_for_its_body_is(proxy: Proxy) -> None:
    """An answer after the body gets the body of a client that expects 100 Continue."""
    proxy.on("put_object", Answer(503, "SlowDown", When.AFTER_BODY))
    with connect(proxy) as connection:
        connection.sendall(b"PUT /b/k HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert receive(connection, 25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert receive(connection, 12) == b"HTTP/1.1 503"


@pytest.mark.parametrize("fault", [CutAnswer(0), CutAnswer(1000)])
def test_an_answer_that_is_cut(proxy: Proxy, s3: "S3Client", direct: "S3Client", fault: Fault) -> None:
    """The client gets the head and status, then too few bytes."""
    direct.put_object(Bucket=BUCKET, Key="cut", Body=DATA)
    proxy.on("get_object", fault)
    body = s3.get_object(Bucket=BUCKET, Key="cut")["Body"]
    with pytest.raises(ResponseStreamingError):
        body.read()
    assert stored(direct, "cut") == DATA
    check_call(proxy, fault, 200)


def test_a_byte_is_flipped_on_its_way(proxy: Proxy, s3: "S3Client") -> None:
    """A flipped byte reaches the store in a put, and the client in a get."""
    flipped = DATA[:70_000] + bytes([DATA[70_000] ^ 1]) + DATA[70_001:]
    proxy.on("put_object", FlipRequestByte(70_000))
    proxy.on("get_object", FlipAnswerByte(70_000), nth=2)
    s3.put_object(Bucket=BUCKET, Key="flipped", Body=DATA)
    for expected in (flipped, DATA):
        assert s3.get_object(Bucket=BUCKET, Key="flipped")["Body"].read() == expected
    s3.delete_object(Bucket=BUCKET, Key="flipped")


def test_a_header_of_an_answer_is_flipped_on_its_way(proxy: Proxy, s3: "S3Client", direct: "S3Client") -> None:
    """One character of one header differs; the rest of the answer is unchanged."""
    direct.put_object(Bucket=BUCKET, Key="flipped", Body=b"123456")
    proxy.on("head_object", FlipAnswerHeader("content-length", -1))
    flipped, answer = (s3.head_object(Bucket=BUCKET, Key="flipped") for _ in range(2))
    assert (flipped["ContentLength"], answer["ContentLength"]) == (7, 6)
    assert flipped["ETag"] == answer["ETag"]
    direct.delete_object(Bucket=BUCKET, Key="flipped")


@pytest.mark.parametrize(
    ("when", "kept"), [pytest.param(When.AFTER_BODY, None, id="not done"), pytest.param(When.DONE, b"ab", id="done")]
)
def test_a_completion_that_fails_with_200(
    proxy: Proxy, s3: "S3Client", direct: "S3Client", when: When, kept: bytes | None
) -> None:
    """A completion answers 200 with an error, whether or not the object exists."""
    proxy.on("complete_multipart_upload", Answer(200, "InternalError", when))
    with pytest.raises(ClientError, match="InternalError"):
        multipart(s3, "completed", [b"ab"])
    assert stored(direct, "completed") == kept
    assert ("complete_multipart_upload", 200) in [(call.operation, call.status) for call in proxy.calls]


def test_one_part_of_an_upload_can_fail(proxy: Proxy, s3: "S3Client", direct: "S3Client") -> None:
    """A fault for one part strikes that part only."""
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
    """A delayed call, or all calls, take longer by the delay and pass whole."""
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
