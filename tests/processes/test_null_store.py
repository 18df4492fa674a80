"""The null store accepts and refuses requests as S3 does, and keeps only sizes."""

import itertools
import os
import re
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from zlib import crc32 as crc

import pytest
from botocore.exceptions import ClientError
from patience import PATIENCE

from benchmarks.null_s3 import LARGEST_PART, SMALLEST_PART
from benchmarks.null_store import NullStore, running
from demo import stores
from demo.processes import ROOT, python

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET = "uploads"


@pytest.fixture(scope="module")
def store() -> Iterator[NullStore]:
    """A store without limits, shared by tests that use different keys."""
    with running(bucket=BUCKET) as started:
        yield started


@pytest.fixture(scope="module")
def s3(store: NullStore) -> Iterator["S3Client"]:
    """A boto3 client of the store."""
    client = stores.Store("null", store.endpoint_url, store.environ).client()
    yield client
    client.close()


keys = (f"key {number} & <more>" for number in itertools.count())


@pytest.fixture
def key() -> str:
    """A unique key with characters that XML and URLs escape."""
    return next(keys)


@pytest.fixture
def upload_id(s3: "S3Client", key: str) -> str:
    """The id of an unfinished multipart upload."""
    return s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]


def refusal(call: Callable[[], object]) -> tuple[int, str]:
    """The status and code of a refused call."""
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


def connect(store: NullStore) -> socket.socket:
    """A raw connection with small buffers."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    connection.settimeout(PATIENCE)
    host, port = store.endpoint_url.removeprefix("http://").split(":")
    connection.connect((host, int(port)))
    return connection


def head(target: str, length: int, *headers: str) -> bytes:
    """The head of a PUT."""
    lines = [f"PUT {target} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def test_an_object_is_known_by_its_size_until_it_is_deleted(s3: "S3Client", store: NullStore, key: str) -> None:
    """An object appears in HEAD, in lists and in the counters until it is deleted."""
    etag = s3.put_object(Bucket=BUCKET, Key=key, Body=bytes(100_000))["ETag"]
    assert re.fullmatch('"[^"]+"', etag)
    seen = s3.head_object(Bucket=BUCKET, Key=key)
    assert (seen["ContentLength"], seen["ETag"], seen["ContentType"]) == (100_000, etag, "binary/octet-stream")
    assert store.stats().objects[key] == 100_000
    (listed,) = s3.list_objects_v2(Bucket=BUCKET, Prefix=key)["Contents"]
    assert (listed["Key"], listed["Size"], listed["ETag"]) == (key, 100_000, etag)
    s3.delete_object(Bucket=BUCKET, Key=key)
    assert refusal(lambda: s3.head_object(Bucket=BUCKET, Key=key)) == (404, "404")
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix=key)
    assert key not in store.stats().objects


def test_a_kept_object_can_be_read_back(s3: "S3Client", key: str) -> None:
    """An object named `kept-…` can be read back, put at once or in parts."""
    name = f"{key}/kept-{key}"
    body = os.urandom(300_000)
    s3.put_object(Bucket=BUCKET, Key=name, Body=body)
    assert s3.get_object(Bucket=BUCKET, Key=name)["Body"].read() == body
    assert refusal(lambda: s3.get_object(Bucket=BUCKET, Key=name, Range="bytes=0-1")) == (501, "NotImplemented")
    upload_id = s3.create_multipart_upload(Bucket=BUCKET, Key=name)["UploadId"]
    bodies = [os.urandom(SMALLEST_PART), b"", os.urandom(7)]
    sent = []
    for number, part_body in ((3, bodies[2]), (1, bodies[0])):
        answer = s3.upload_part(Bucket=BUCKET, Key=name, UploadId=upload_id, PartNumber=number, Body=part_body)
        sent.append((number, answer["ETag"]))
    complete(s3, name, upload_id, sorted(sent))
    assert s3.get_object(Bucket=BUCKET, Key=name)["Body"].read() == b"".join(bodies)
    s3.delete_object(Bucket=BUCKET, Key=name)
    assert refusal(lambda: s3.get_object(Bucket=BUCKET, Key=name)) == (404, "NoSuchKey")


def test_the_checksum_that_came_is_returned(s3: "S3Client", key: str, upload_id: str) -> None:
    """A put and a part return the checksum that came with them, as S3 does."""
    body = b"checked"
    crc32 = b64encode(crc(body).to_bytes(4)).decode()
    assert s3.put_object(Bucket=BUCKET, Key=key, Body=body)["ChecksumCRC32"] == crc32
    sent = s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload_id, PartNumber=1, Body=body)
    assert sent["ChecksumCRC32"] == crc32


def test_over_tls_a_put_comes_in_chunks_with_a_checksum(key: str) -> None:
    """Over TLS, boto3 sends a file in chunks with its checksum behind them, and gets the same bytes back."""
    name = f"kept-{key}"
    body = os.urandom(2_500_000)
    with running(bucket=BUCKET, tls=True) as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_CA_BUNDLE", store.environ["AWS_CA_BUNDLE"])
        with closing(stores.Store("null", store.endpoint_url, store.environ).client()) as client:
            sent = client.put_object(Bucket=BUCKET, Key=name, Body=BytesIO(body))
            assert sent["ChecksumCRC32"] == b64encode(crc(body).to_bytes(4)).decode()
            assert store.stats().bytes_received > len(body)  # the chunks' sizes and the checksum
            assert client.get_object(Bucket=BUCKET, Key=name)["Body"].read() == body
        assert store.stats().objects[name] == len(body)


CHUNKED = ("Content-Encoding: aws-chunked", "Transfer-Encoding: chunked", "X-Amz-Decoded-Content-Length: 6")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"6\r\nabcdef\r\n0\r\n\r\n", b"200 OK", id="its length"),
        pytest.param(b"4\r\nabcd\r\n1;ext=1\r\ne\r\n1\r\nf\r\n0\r\n\r\n", b"200 OK", id="in pieces"),
        pytest.param(b"5\r\nabcde\r\n0\r\n\r\n", b"400 Bad Request", id="a byte less"),
        pytest.param(b"x\r\n", b"400 Bad Request", id="no chunk"),
    ],
)
@pytest.mark.parametrize("at_once", [1, 1000])
def test_a_chunked_body_has_its_declared_length(
    store: NullStore, key: str, body: bytes, status: bytes, at_once: int
) -> None:
    """A chunked body is stored if it has its declared length, however its bytes arrive."""
    target = f"/{BUCKET}/{quote(key)}"
    pieces = (body[start : start + at_once] for start in range(0, len(body), at_once))
    sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    with connect(store) as connection:
        lines = [f"PUT {target} HTTP/1.1", "Host: localhost", *CHUNKED, "", ""]
        connection.sendall("\r\n".join(lines).encode() + sent + b"0\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 " + status)
    assert store.stats().objects.get(key) == (6 if status == b"200 OK" else None)


def test_no_etag_comes_twice(s3: "S3Client", key: str) -> None:
    """The same bytes get a new ETag each time, because it is no digest."""
    first, second = (s3.put_object(Bucket=BUCKET, Key=key, Body=b"same")["ETag"] for _ in range(2))
    assert first != second


def test_a_bucket_is_there_once_it_is_created(s3: "S3Client") -> None:
    """A bucket answers 404 to HEAD and refuses objects until it is created."""
    assert refusal(lambda: s3.head_bucket(Bucket="later")) == (404, "404")
    assert refusal(lambda: s3.put_object(Bucket="later", Key="key", Body=b"body")) == (404, "NoSuchBucket")
    s3.create_bucket(Bucket="later")
    s3.head_bucket(Bucket="later")
    s3.put_object(Bucket="later", Key="key", Body=b"body")


def test_parts_become_an_object(s3: "S3Client", store: NullStore, key: str, upload_id: str) -> None:
    """An upload is unfinished until it completes to an object of its total size."""
    sizes = [SMALLEST_PART, SMALLEST_PART + 1, 1]
    sent = [part(s3, key, upload_id, number, size) for number, size in enumerate(sizes, start=1)]
    (unfinished,) = s3.list_multipart_uploads(Bucket=BUCKET, Prefix=key)["Uploads"]
    assert (unfinished["Key"], unfinished["UploadId"]) == (key, upload_id)
    assert store.stats().unfinished[upload_id] == key
    assert key not in store.stats().objects
    etag = complete(s3, key, upload_id, sent)["ETag"]
    assert re.fullmatch('"[^"-]+-3"', etag)
    assert store.stats().objects[key] == sum(sizes)
    assert s3.head_object(Bucket=BUCKET, Key=key)["ETag"] == etag
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET, Prefix=key)


def test_an_aborted_upload_is_gone(s3: "S3Client", store: NullStore, key: str, upload_id: str) -> None:
    """An aborted upload takes no parts, is not listed, and cannot be aborted again."""
    part(s3, key, upload_id, 1)
    s3.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload_id)
    assert upload_id not in store.stats().unfinished
    assert refusal(lambda: part(s3, key, upload_id, 2)) == (404, "NoSuchUpload")
    again = refusal(lambda: s3.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload_id))
    assert again == (404, "NoSuchUpload")


def part(s3: "S3Client", key: str, upload_id: str, number: int, size: int = 1) -> tuple[int, str]:
    """Send a part; return its number and ETag."""
    answer = s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload_id, PartNumber=number, Body=bytes(size))
    return number, answer["ETag"]


def complete(s3: "S3Client", key: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> Any:
    """Complete an upload."""
    named: Any = [{"PartNumber": number, "ETag": etag} for number, etag in parts]
    return s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload_id, MultipartUpload={"Parts": named})


@pytest.mark.parametrize(
    ("choose", "code"),
    [
        pytest.param(lambda first, second: [first, second, (3, second[1])], "InvalidPart", id="a part never sent"),
        pytest.param(lambda *_: [(number, "never") for number in range(1, 1001)], "InvalidPart", id="a long list"),
        pytest.param(lambda first, _second: [first, (2, first[1])], "InvalidPart", id="another part's ETag"),
        pytest.param(lambda first, second: [second, first], "InvalidPartOrder", id="backwards"),
        pytest.param(lambda first, _second: [first, first], "InvalidPartOrder", id="a part twice"),
        pytest.param(lambda first, second: [first, second], "EntityTooSmall", id="a small part before the last"),
        pytest.param(lambda _first, _second: [], "MalformedXML", id="no part"),
    ],
)
def test_parts_that_make_no_object_are_refused(
    s3: "S3Client", store: NullStore, key: str, upload_id: str, choose: Callable[..., list[Any]], code: str
) -> None:
    """A wrong list of parts gets S3's error, and the upload can still be completed."""
    sent = [part(s3, key, upload_id, number) for number in (1, 2)]
    assert refusal(lambda: complete(s3, key, upload_id, choose(*sent))) == (400, code)
    assert key not in store.stats().objects
    complete(s3, key, upload_id, sent[1:])
    assert store.stats().objects[key] == 1


@pytest.mark.parametrize("number", [0, 10_001])
def test_a_part_number_has_limits(s3: "S3Client", key: str, upload_id: str, number: int) -> None:
    """Part numbers range from 1 to 10,000."""
    assert refusal(lambda: part(s3, key, upload_id, number)) == (400, "InvalidArgument")
    part(s3, key, upload_id, min(max(number, 1), 10_000))


def test_an_upload_belongs_to_its_key(s3: "S3Client", key: str, upload_id: str) -> None:
    """An unknown upload id is refused, and so is a known one with another key."""
    assert refusal(lambda: part(s3, key, "never", 1)) == (404, "NoSuchUpload")
    assert refusal(lambda: part(s3, f"{key}2", upload_id, 1)) == (404, "NoSuchUpload")
    assert refusal(lambda: complete(s3, key, "never", [(1, "etag")])) == (404, "NoSuchUpload")


def test_unsupported_requests_are_refused(s3: "S3Client", store: NullStore, key: str) -> None:
    """Reads, copies, conditions and unknown requests are refused with 501."""
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"body")
    calls: list[Callable[[], object]] = [
        lambda: s3.get_object(Bucket=BUCKET, Key=key),
        lambda: s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": key}),
        lambda: s3.put_object(Bucket=BUCKET, Key="condition", Body=b"body", IfNoneMatch="*"),
        lambda: s3.put_object_tagging(Bucket=BUCKET, Key=key, Tagging={"TagSet": []}),
        lambda: s3.list_objects_v2(Bucket=BUCKET, MaxKeys=1),
        s3.list_buckets,
    ]
    for call in calls:
        assert refusal(call) == (501, "NotImplemented")
    assert not store.stats().objects.keys() & {"copy", "condition"}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        pytest.param({}, 411, "MissingContentLength", id="no length"),
        pytest.param({"Content-Length": str(LARGEST_PART + 1)}, 400, "EntityTooLarge", id="a byte over 5 GiB"),
        pytest.param({"Content-Length": "-1"}, 400, "BadRequest", id="a length that is none"),
        pytest.param({"Transfer-Encoding": "chunked"}, 501, "NotImplemented", id="chunked"),
    ],
)
@pytest.mark.parametrize("is_part", [False, True], ids=["object", "part"])
def test_a_wrong_length_is_refused_before_the_body(
    store: NullStore, s3: "S3Client", headers: dict[str, str], status: int, code: str, *, is_part: bool
) -> None:
    """A wrong length is refused before the body, and the connection closes."""
    target = part_target(s3, "length") if is_part else f"/{BUCKET}/length"
    connection = HTTPConnection(store.endpoint_url.removeprefix("http://"), timeout=PATIENCE)
    connection.putrequest("PUT", target)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    with connection.getresponse() as answer:
        assert (answer.status, answer.headers["Connection"]) == (status, "close")
        assert f"<Error><Code>{code}</Code><Message>" in answer.read().decode()
    connection.close()


def part_target(s3: "S3Client", key: str) -> str:
    """The URL path of the first part of a new upload."""
    upload_id = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    return f"/{BUCKET}/{key}?partNumber=1&uploadId={upload_id}"


def test_expect_continue_is_answered(store: NullStore) -> None:
    """`Expect: 100-continue` gets 100 for an acceptable request, even of 5 GiB."""
    with connect(store) as connection:
        for size in (3, 5):
            connection.sendall(head(f"/{BUCKET}/asked", size, "Expect: 100-continue"))
            assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(bytes(size))
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
            assert store.stats().objects["asked"] == size
        connection.sendall(head(f"/{BUCKET}/asked", LARGEST_PART, "Expect: 100-continue"))
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_the_answer_to_head_has_no_body(store: NullStore) -> None:
    """A HEAD gets no body even if it is refused.

    The next answer follows the head directly.
    """
    with connect(store) as connection:
        for _ in range(2):
            connection.sendall(f"HEAD /{BUCKET}/missing HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
            assert answer.endswith(b"\r\n\r\n")


def test_a_head_may_come_in_pieces(store: NullStore) -> None:
    """A head may arrive in two pieces, split anywhere."""
    whole = head(f"/{BUCKET}/pieces", 4) + b"body"
    with connect(store) as connection:
        for cut in (1, whole.index(b"\r\n\r\n") + 2, len(whole) - 2):
            connection.sendall(whole[:cut])
            store.stats()  # this round trip ensures that the store has read the first piece
            connection.sendall(whole[cut:])
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"hello\r\n\r\n", id="no HTTP"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", id="an older HTTP"),
        pytest.param(b"GET / HTTP/1.1\r\n" + 20_000 * b"x", id="a head without end"),
        pytest.param(2 * f"HEAD /{BUCKET} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), id="two requests at once"),
    ],
)
def test_a_malformed_request_ends_the_connection(store: NullStore, sent: bytes) -> None:
    """A malformed request gets 400 and `Connection: close`."""
    with connect(store) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nConnection: close\r\n" in answer


def test_a_refused_body_is_read_to_its_end(store: NullStore) -> None:
    """A client that sends its whole body before reading gets the refusal, no reset."""
    with connect(store) as connection:
        connection.sendall(head(f"/{BUCKET}/refused?partNumber=1&uploadId=never", 8 * 2**20))
        connection.sendall(bytes(8 * 2**20))
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"<Code>NoSuchUpload</Code>" in answer


@pytest.mark.parametrize("is_part", [False, True], ids=["object", "part"])
def test_a_client_that_goes_in_mid_body_leaves_nothing(store: NullStore, s3: "S3Client", *, is_part: bool) -> None:
    """A body one byte short is not answered and stores nothing."""
    target = part_target(s3, "broken") if is_part else f"/{BUCKET}/broken"
    with connect(store) as connection:
        connection.sendall(head(target, 100_000) + bytes(99_999))
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(4096) == b""
    assert "broken" not in store.stats().objects
    if is_part:
        upload_id = target.rpartition("=")[2]
        assert refusal(lambda: complete(s3, "broken", upload_id, [(1, "any")])) == (400, "InvalidPart")


def test_it_counts_requests_bytes_and_connections() -> None:
    """The counters have operations, bytes, and the most connections and parts at once."""
    with running() as store, ExitStack() as exits:
        s3 = stores.Store("null", store.endpoint_url, store.environ).client()
        exits.callback(s3.close)
        target = part_target(s3, "counted")
        at_once = [exits.enter_context(connect(store)) for _ in range(3)]
        for connection in at_once:
            connection.sendall(head(target, 10, "Expect: 100-continue"))
            assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        for connection in at_once:
            connection.sendall(bytes(10))
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        at_once[0].sendall(head(target, 10) + bytes(10))
        assert at_once[0].recv(4096).startswith(b"HTTP/1.1 200 ")
        stats = store.stats()
    assert stats.requests == {"CreateMultipartUpload": 1, "UploadPart": 4}
    assert (stats.bytes_received, stats.most_connections, stats.most_parts) == (40, 4, 3)


def test_connections_one_after_the_other_are_not_at_once(store: NullStore) -> None:
    """A closed connection no longer counts as open."""
    for _ in range(30):
        with connect(store) as connection:
            connection.sendall(head(f"/{BUCKET}/serial", 0))
            connection.recv(4096)
    assert store.stats().most_connections < 20


def test_the_rate_is_that_of_all_bodies_together() -> None:
    """Sending 4 MiB over two connections takes over a second at 2 MB/s in all."""
    with running(bytes_per_second=2_000_000) as store, ThreadPoolExecutor() as pool:

        def time_when_sent(key: str) -> float:
            with connect(store) as connection:
                connection.sendall(head(f"/{BUCKET}/{key}", 2 * 2**20) + bytes(2 * 2**20))
                sent = time.monotonic()
                assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
            return sent

        began = time.monotonic()
        # 2 s, less the kernel's buffers; with a rate per connection it would be half
        assert max(pool.map(time_when_sent, ["one", "other"])) - began > 1.2
        assert store.stats().objects == {"one": 2 * 2**20, "other": 2 * 2**20}


def test_latency_holds_back_the_answer() -> None:
    """With an hour's latency the object is stored at once, but the answer waits.

    The counters do not.
    """
    with running(latency_ms=3_600_000) as store, connect(store) as connection:
        connection.sendall(head(f"/{BUCKET}/late", 4) + b"body")
        while "late" not in store.stats().objects:
            time.sleep(0.01)
        connection.settimeout(0)
        with pytest.raises(BlockingIOError):
            connection.recv(4096)


def test_by_hand_it_prints_its_port() -> None:
    """`--port 0` prints the port in one line."""
    command = python("benchmarks.null_store", "--port", "0")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        try:
            assert process.stdout is not None
            connection = HTTPConnection("127.0.0.1", int(process.stdout.readline()), timeout=PATIENCE)
            connection.request("HEAD", f"/{BUCKET}")
            with connection.getresponse() as answer:
                assert answer.status == 200
            connection.close()
        finally:
            process.terminate()
        assert process.stdout.read() == ""
    assert process.returncode == 0
