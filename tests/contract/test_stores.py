"""Each store behaves as store_differences.py says, asked without an app."""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.exceptions import ClientError, FlexibleChecksumError
from contract.api import TLS
from contract.bucket import Bucket, md5
from contract.store_differences import Behaviour
from patience import PATIENCE

from demo.stores import Store

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

MIB = 1024**2
CRC32_OF_DATA = "rfPzYw=="
WRONG_CRC32 = "AAAAAA=="
#: Puts at once, and how often, until a store without one step shows it.
AT_ONCE, ROUNDS = 8, 20


@pytest.fixture
def key(bucket: Bucket) -> Iterator[str]:
    """A key for one object, deleted after the test."""
    key = f"store/{uuid.uuid4().hex}"
    yield key
    bucket.delete(key)


def test_a_presigned_url_is_good_for_its_time(s3: "S3Client", bucket: Bucket, key: str, behaviour: Behaviour) -> None:
    """A URL signed for one second stores nothing after two."""
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket.name, "Key": key}, ExpiresIn=1)
    time.sleep(2.1)
    assert httpx.put(url, content=b"late", verify=TLS, timeout=PATIENCE).status_code == behaviour.answers_late_urls


def refusal(call: Callable[..., Any], **arguments: Any) -> str | None:
    """The code of S3's error, or None for success."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def upload_parts(s3: "S3Client", bucket: str, key: str, *parts: bytes) -> str:
    """Store an object by a multipart upload and return its ETag; abort it on failure."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    try:
        sent: list[CompletedPartTypeDef] = []
        for number, data in enumerate(parts, 1):
            answer = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=data)
            sent.append({"PartNumber": number, "ETag": answer["ETag"]})
        return s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": sent})[
            "ETag"
        ].strip('"')
    except ClientError:
        s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        raise


def test_a_wrong_secret(running_store: Store, bucket: Bucket, behaviour: Behaviour, key: str) -> None:
    """A request signed with another secret is refused."""
    wrong = replace(running_store, environ={**running_store.environ, "AWS_SECRET_ACCESS_KEY": "wrong"}).client()
    expected = "SignatureDoesNotMatch" if behaviour.checks_signatures else None
    assert refusal(wrong.put_object, Bucket=bucket.name, Key=key, Body=b"data") == expected
    wrong.close()


def test_a_wrong_crc32(s3: "S3Client", bucket: Bucket, behaviour: Behaviour, key: str) -> None:
    """A body with a wrong CRC-32 is refused: the purpose of our apps' checksums."""
    expected = "BadDigest" if behaviour.checks_crc32 else None
    assert refusal(s3.put_object, Bucket=bucket.name, Key=key, Body=b"data", ChecksumCRC32=WRONG_CRC32) == expected


def test_the_checksum_of_an_object(s3: "S3Client", bucket: Bucket, behaviour: Behaviour, key: str) -> None:
    """A right CRC-32 is accepted, and returned or forgotten; our apps do not read it."""
    s3.put_object(Bucket=bucket.name, Key=key, Body=b"data", ChecksumAlgorithm="CRC32", ChecksumCRC32=CRC32_OF_DATA)
    seen = s3.head_object(Bucket=bucket.name, Key=key, ChecksumMode="ENABLED").get("ChecksumCRC32")
    assert seen == (CRC32_OF_DATA if behaviour.gives_checksums_back else None)


def test_a_small_part(s3: "S3Client", bucket: Bucket, behaviour: Behaviour, key: str) -> None:
    """A too small part before the last is refused at completion."""
    too_small = behaviour.least_part_bytes - 1
    if too_small < 0:
        upload_parts(s3, bucket.name, key, b"1", b"2")
        return
    with pytest.raises(ClientError, match="EntityTooSmall"):
        upload_parts(s3, bucket.name, key, bytes(too_small), b"2")


def test_the_etag_of_parts(s3: "S3Client", bucket: Bucket, behaviour: Behaviour, key: str) -> None:
    """Completion returns the MD5 of the parts' MD5s with their number.

    HEAD has it, or the MD5 of the whole.
    """
    parts = os.urandom(5 * MIB), os.urandom(10)
    answered = upload_parts(s3, bucket.name, key, *parts)
    assert answered == md5(b"".join(md5(part).digest() for part in parts)).hexdigest() + "-2"
    whole = md5(b"".join(parts)).hexdigest()
    seen = s3.head_object(Bucket=bucket.name, Key=key)["ETag"].strip('"')
    assert seen == (answered if behaviour.keeps_multipart_etags else whole)


def test_a_bucket_without_uploads(s3: "S3Client", behaviour: Behaviour) -> None:
    """A bucket without uploads lists none, or answers NoSuchUpload."""
    fresh = f"fresh-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=fresh)
    expected = None if behaviour.lists_uploads_before_the_first else "NoSuchUpload"
    assert refusal(s3.list_multipart_uploads, Bucket=fresh) == expected
    s3.delete_bucket(Bucket=fresh)


def test_a_part_of_an_upload_that_is_over(s3: "S3Client", bucket: Bucket, key: str) -> None:
    """A part of an upload that was aborted is rejected by the code that a resumable upload recognizes."""
    upload_id = s3.create_multipart_upload(Bucket=bucket.name, Key=key)["UploadId"]
    s3.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=upload_id)
    part = {"Bucket": bucket.name, "Key": key, "UploadId": upload_id, "PartNumber": 1, "Body": b"data"}
    assert refusal(s3.upload_part, **part) == "NoSuchUpload"


def test_the_names_of_metadata(s3: "S3Client", bucket: Bucket, behaviour: Behaviour, key: str) -> None:
    """Metadata names come back in lowercase or in HTTP's canonical form."""
    s3.put_object(Bucket=bucket.name, Key=key, Body=b"", Metadata={"some-name": "Some Value"})
    name = "some-name" if behaviour.lowercases_metadata_names else "Some-Name"
    assert s3.head_object(Bucket=bucket.name, Key=key)["Metadata"] == {name: "Some Value"}


def test_dots_in_a_key(s3: "S3Client", bucket: Bucket, behaviour: Behaviour, key: str) -> None:
    """A key that is no canonical path is accepted or refused."""
    expected = None if behaviour.takes_dots_in_keys else "InvalidArgument"
    assert refusal(s3.put_object, Bucket=bucket.name, Key=f"{key}/..", Body=b"") == expected
    if expected is None:
        s3.delete_object(Bucket=bucket.name, Key=f"{key}/..")


def test_if_none_match(s3: "S3Client", bucket: Bucket, behaviour: Behaviour, key: str) -> None:
    """A put with If-None-Match replaces no object."""
    expected = "PreconditionFailed" if behaviour.heeds_if_none_match else None
    assert refusal(s3.put_object, Bucket=bucket.name, Key=key, Body=b"first", IfNoneMatch="*") is None
    assert refusal(s3.put_object, Bucket=bucket.name, Key=key, Body=b"second", IfNoneMatch="*") == expected


def test_if_none_match_at_once(s3: "S3Client", bucket: Bucket, behaviour: Behaviour, key: str) -> None:
    """Of many puts with If-None-Match at once, one succeeds: two processes cannot both create an object."""

    def put(number: int) -> str | None:
        return refusal(s3.put_object, Bucket=bucket.name, Key=key, Body=b"%d" % number, IfNoneMatch="*")

    # rclone, which ignores the header, may keep an object after several puts of one key at once and its deletion
    at_once = AT_ONCE if behaviour.heeds_if_none_match else 1
    for _ in range(ROUNDS):
        with ThreadPoolExecutor(at_once) as pool:
            succeeded = list(pool.map(put, range(at_once))).count(None)
        assert succeeded == 1 or (succeeded > 1 and not behaviour.compares_and_writes_at_once)
        bucket.delete(key)


def test_a_range(s3: "S3Client", bucket: Bucket, behaviour: Behaviour, key: str) -> None:
    """A range has the Content-Range that our apps use.

    Its status and checksum may be wrong.
    """
    s3.put_object(Bucket=bucket.name, Key=key, Body=b"some data")
    answer = s3.get_object(Bucket=bucket.name, Key=key, Range="bytes=0-3")
    assert (answer["ContentRange"], answer["ContentLength"]) == ("bytes 0-3/9", 4)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == (206 if behaviour.answers_ranges_with_206 else 200)
    with nullcontext() if behaviour.keeps_checksums_from_ranges else pytest.raises(FlexibleChecksumError):
        assert answer["Body"].read() == b"some"


def test_a_suffix_that_is_too_long(s3: "S3Client", bucket: Bucket, behaviour: Behaviour, key: str) -> None:
    """A suffix longer than the object gets all bytes, or a known error."""
    s3.put_object(Bucket=bucket.name, Key=key, Body=b"some data")
    expected = None if behaviour.serves_longer_suffixes else "InvalidRange"
    assert refusal(s3.get_object, Bucket=bucket.name, Key=key, Range="bytes=-99") == expected
