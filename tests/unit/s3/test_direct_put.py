"""The request of a direct put, and the reading of its response, without I/O."""

import io
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials

from filehandoff.parts import Part
from filehandoff.s3.direct_put import JOINED_BYTES, MOST_REFUSALS, SAMPLE_KEY, DirectPuts, joined
from filehandoff.s3.signing import Signer

CREDENTIALS = ReadOnlyCredentials("a-key", "a-secret", None)
NOW = datetime(2026, 11, 26, 20, 30, tzinfo=UTC)
PUT = {
    "Bucket": "a-bucket",
    "Key": "2026/a file (1).txt",
    "Body": object(),
    "ContentType": "text/plain",
    "Metadata": {"Request-Id": "1"},
    "ChecksumCRC32": "AAAAAQ==",
}


def puts_at(endpoint_url: str | None, bucket: str = "a-bucket", token: str | None = None, **config: Any) -> Any:
    """Return the direct puts of a client for this endpoint."""
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name="eu-central-1",
        aws_access_key_id="a-key",
        aws_secret_access_key="a-secret",
        aws_session_token=token,
        config=Config(**{"signature_version": "s3v4", **config}),
    )
    url = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": SAMPLE_KEY})
    return DirectPuts.at(url, "an-agent")


@pytest.mark.parametrize(
    ("puts", "url", "host"),
    [
        pytest.param(
            puts_at("http://127.0.0.1:9000"),
            "http://127.0.0.1:9000/a-bucket/2026/a%20file%20%281%29.txt",
            "127.0.0.1:9000",
            id="a path of a port",
        ),
        pytest.param(
            puts_at("http://[::1]:9000/"),
            "http://[::1]:9000/a-bucket/2026/a%20file%20%281%29.txt",
            "[::1]:9000",
            id="IPv6",
        ),
        pytest.param(
            puts_at("https://Store.example:443/s3"),
            "https://Store.example:443/s3/a-bucket/2026/a%20file%20%281%29.txt",
            "store.example",
            id="below a path, with the scheme's own port",
        ),
        pytest.param(
            puts_at(None, s3={"addressing_style": "virtual"}),
            "https://a-bucket.s3.eu-central-1.amazonaws.com/2026/a%20file%20%281%29.txt",
            "a-bucket.s3.eu-central-1.amazonaws.com",
            id="the bucket's own host",
        ),
        pytest.param(
            puts_at(None, token="a-token", s3={"addressing_style": "path"}),
            "https://s3.eu-central-1.amazonaws.com/a-bucket/2026/a%20file%20%281%29.txt",
            "s3.eu-central-1.amazonaws.com",
            id="a session token",
        ),
    ],
)
def test_a_bucket_is_addressed_as_by_boto(puts: DirectPuts, url: str, host: str) -> None:
    """The request goes to the address of boto's presigned URLs, and names its host."""
    request = puts.request("put_object", PUT, 11, CREDENTIALS, NOW)
    assert request is not None
    assert (request[0], request[1]["host"]) == (url, host)
    assert puts.signer == Signer("eu-central-1", "s3")


def test_a_put_has_its_type_its_metadata_and_its_crc32() -> None:
    """The signature covers all of them; the body's length and the agent are outside of it."""
    _, headers = puts_at("http://127.0.0.1:9000").request("put_object", PUT, 11, CREDENTIALS, NOW)
    authorization = headers.pop("authorization")
    assert headers == {
        "host": "127.0.0.1:9000",
        "content-type": "text/plain",
        "content-length": "11",
        "user-agent": "an-agent",
        "x-amz-checksum-crc32": "AAAAAQ==",
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
        "x-amz-date": "20261126T203000Z",
        "x-amz-meta-request-id": "1",
    }
    signed = sorted(headers.keys() - {"content-length", "user-agent"})
    assert f"SignedHeaders={';'.join(signed)}," in authorization


def test_a_part_is_addressed_by_its_upload_and_number() -> None:
    """The id is encoded, and the part has no type and no metadata."""
    part = {
        "Bucket": "a-bucket",
        "Key": "a key",
        "Body": object(),
        "UploadId": "an/id=",
        "PartNumber": 3,
        "ContentLength": 11,
        "ChecksumCRC32": "AAAAAQ==",
    }
    url, headers = puts_at("http://127.0.0.1:9000").request("upload_part", part, 11, CREDENTIALS, NOW)
    assert url == "http://127.0.0.1:9000/a-bucket/a%20key?partNumber=3&uploadId=an%2Fid%3D"
    assert (headers["content-length"], headers["x-amz-checksum-crc32"]) == ("11", "AAAAAQ==")
    assert not [name for name in headers if name.startswith(("content-type", "x-amz-meta"))]


def test_botocore_waits_as_long_as_for_its_own_second_attempt() -> None:
    """The wait is random and below a second; after a refusal there is none, because S3 works."""
    waits = {DirectPuts.pause(status) for status in (None, 503) for _ in range(20)}
    assert len(waits) > 1
    assert all(0 <= wait < 1 for wait in waits)
    assert DirectPuts.pause(403) == 0


def test_signature_version_2_leaves_all_puts_to_botocore() -> None:
    """Its presigned URLs have other parameters."""
    assert puts_at(None, signature_version="s3") is None


def test_other_parameters_leave_a_put_to_botocore() -> None:
    """A hook may add any parameter of boto's."""
    assert puts_at("http://127.0.0.1:9000").request("put_object", PUT | {"Expires": "0"}, 11, CREDENTIALS, NOW) is None


@pytest.mark.parametrize(
    ("status", "headers", "answer"),
    [
        pytest.param(200, {"etag": '"e"'}, {"ETag": '"e"'}, id="an ETag"),
        pytest.param(
            200,
            {"etag": '"e"', "x-amz-checksum-crc32": "AAAAAQ=="},
            {"ETag": '"e"', "ChecksumCRC32": "AAAAAQ=="},
            id="a CRC-32",
        ),
        pytest.param(200, {}, None, id="no ETag"),
        pytest.param(204, {"etag": '"e"'}, None, id="another status"),
        pytest.param(503, {"etag": '"e"'}, None, id="a failure"),
    ],
)
def test_only_a_plain_success_has_an_answer(
    status: int, headers: dict[str, str], answer: dict[str, str] | None
) -> None:
    """All other responses are for botocore to explain."""
    assert puts_at("http://127.0.0.1:9000").answer(status, headers) == answer


@pytest.mark.parametrize(
    ("status", "enabled"), [(None, True), (200, True), (503, True), (301, False), (400, False), (403, False)]
)
def test_refusals_in_a_row_end_direct_puts(status: int | None, *, enabled: bool) -> None:
    """S3 would refuse the next one too: another region, another signature. A failure of S3 passes."""
    puts = puts_at("http://127.0.0.1:9000")
    for _ in range(MOST_REFUSALS - 1):
        puts.count_refusal(status)
    assert puts.enabled
    puts.count_refusal(status)
    assert puts.enabled is enabled


def test_a_success_forgets_earlier_refusals() -> None:
    """A refusal now and then shows a damaged request, which S3 rejects."""
    puts = puts_at("http://127.0.0.1:9000")
    for _ in range(MOST_REFUSALS):
        puts.count_refusal(400)
        puts.answer(200, {"etag": '"e"'})
    assert puts.enabled


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(Part(1, (b"some ", memoryview(b"bytes"))).open(), b"some bytes", id="a small part"),
        pytest.param(Part(1, ()).open(), b"", id="an empty part"),
        pytest.param(Part(1, (bytes(JOINED_BYTES + 1),)).open(), None, id="a larger part"),
        pytest.param(io.BytesIO(b"some bytes"), None, id="a file"),
    ],
)
def test_only_a_small_part_is_joined(body: Any, expected: bytes | None) -> None:
    """A file is read while it is sent, and the chunks of a larger part are not copied."""
    size = body.seek(0, io.SEEK_END)
    body.seek(0)
    assert joined(body, size) == expected
