"""The proxy changes nothing without a script."""

import os
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import (
    ClientError,
)
from faults.proxy import Proxy
from faults.script import (
    OPERATIONS,
    name_call,
)

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

from faults.tools.talk import BUCKET, DATA, PART, multipart, stored


def test_nothing_happens_unless_it_is_scripted(proxy: Proxy, s3: "S3Client", direct: "S3Client") -> None:
    """Each of the apps' calls gets the store's own answer, and is named and recorded."""
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
    """An empty body passes."""

    def expect_nothing(request: Any, **_event: Any) -> None:
        """With Expect, botocore may take one answer for the next one's: boto/botocore#3755."""
        del request.headers["Expect"]

    s3.meta.events.register("before-send.s3.PutObject", expect_nothing)
    s3.put_object(Bucket=BUCKET, Key="empty", Body=b"")
    assert stored(direct, "empty") == b""


def test_a_multipart_upload_passes(proxy: Proxy, s3: "S3Client", direct: "S3Client") -> None:
    """Parts are recorded with their numbers."""
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
    """Calls have boto3's names; others are OTHER."""
    assert name_call(method, target).operation == operation


def test_every_name_is_an_operation_of_boto3(direct: "S3Client") -> None:
    """Every name in the script is an operation of boto3."""
    assert [name for name in OPERATIONS.values() if not hasattr(direct, name)] == []
