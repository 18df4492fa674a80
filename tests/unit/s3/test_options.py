"""The operator's own parameters for stored objects."""

import json
from functools import partial
from typing import Any

import botocore.session
import pytest

from filehandoff.errors import SettingsError
from filehandoff.s3 import options
from filehandoff.s3.options import OPTIONS, REFUSED
from filehandoff.settings import Settings

#: A valid value of each option.
VALID: options.Options = {
    "ServerSideEncryption": "aws:kms",
    "SSEKMSKeyId": "arn:aws:kms:eu-central-1:123456789012:key/an-id",
    "SSEKMSEncryptionContext": "eyJhIjogImIifQ==",
    "BucketKeyEnabled": True,
    "StorageClass": "GLACIER_IR",
    "Tagging": "team=a%20b&retain=",
    "ACL": "bucket-owner-full-control",
    "GrantFullControl": 'id="an-account"',
    "GrantRead": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"',
    "GrantReadACP": 'id="a"',
    "GrantWriteACP": 'id="b", id="c"',
    "ExpectedBucketOwner": "123456789012",
    "ObjectLockLegalHoldStatus": "ON",
    "CacheControl": "private, max-age=60",
    "ContentDisposition": "attachment",
    "ContentLanguage": "de, en",
}


@pytest.fixture
def model() -> Any:
    """Return a function that returns botocore's model of a call."""
    return botocore.session.get_session().get_service_model("s3").operation_model


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_is_read(name: str) -> None:
    """The environment variable holds JSON with boto's parameter names."""
    chosen = {name: VALID[name]}
    assert Settings.from_env({"UPLOAD_S3_OPTIONS": json.dumps(chosen)}).s3_options == chosen


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param("AES256", "a JSON object of S3's parameters, such as", id="no JSON"),
        pytest.param('["ACL"]', "a JSON object of S3's parameters, such as", id="no object"),
        pytest.param("[" * 100_000, "a JSON object of S3's parameters, such as", id="deep JSON"),
        pytest.param('{"Encryption": "AES256"}', "without 'Encryption'; the known names are Server", id="unknown"),
        pytest.param('{"acl": "private"}', "without 'acl'; the known names are Server", id="another case"),
        pytest.param('{"Bucket": "b"}', "without Bucket: the service sets it itself", id="ours"),
        pytest.param('{"SSECustomerKey": "k"}', "without SSECustomerKey: every download would need", id="SSE-C"),
        pytest.param('{"ObjectLockMode": "GOVERNANCE"}', "without ObjectLockMode: a fixed date", id="a retention"),
        pytest.param('{"ACL": "everybody"}', "a JSON object in which ACL is one of private, ", id="a wrong word"),
        pytest.param('{"BucketKeyEnabled": "true"}', "in which BucketKeyEnabled is true or false", id="no boolean"),
        pytest.param('{"SSEKMSKeyId": 1}', "in which SSEKMSKeyId is a string", id="a number"),
        pytest.param('{"CacheControl": null}', "in which CacheControl is a string", id="null"),
        pytest.param('{"CacheControl": ""}', "in which CacheControl is a string", id="empty"),
        pytest.param('{"CacheControl": "a\\r\\nb: c"}', "in which CacheControl is a string", id="a line end"),
        pytest.param('{"CacheControl": " a"}', "in which CacheControl is a string", id="a blank at the start"),
        pytest.param('{"ContentLanguage": "\u00e9"}', "in which ContentLanguage is a string", id="not ASCII"),
        pytest.param('{"StorageClass": "GLACIER"}', "in which StorageClass is a storage class whose", id="an archive"),
        pytest.param('{"Tagging": "a"}', "in which Tagging is up to 10 tags", id="a tag without a value"),
        pytest.param(json.dumps({"Tagging": "&".join(["a=b"] * 11)}), "Tagging is up to 10 tags", id="eleven tags"),
    ],
)
def test_a_wrong_option_is_an_error_of_one_line(text: str, wanted: str) -> None:
    """The error has the reason, or the valid values or names."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"UPLOAD_S3_OPTIONS": text})
    (line,) = str(caught.value).splitlines()
    assert line.startswith("UPLOAD_S3_OPTIONS is ")
    assert wanted in line.partition("; it must be ")[2]


def test_options_are_checked_however_settings_are_made() -> None:
    """An app's own code gets the same error."""
    with pytest.raises(SettingsError, match="without Key"):
        Settings(s3_options={"Key": "k"})


def test_each_parameter_of_botocore_is_an_option_or_refused(model: Any) -> None:
    """A new parameter of a put or a create needs a decision."""
    members = {*model("PutObject").input_shape.members, *model("CreateMultipartUpload").input_shape.members}
    assert members == OPTIONS.keys() | REFUSED.keys()
    assert not OPTIONS.keys() & REFUSED.keys()


def test_a_header_has_the_name_of_botocore_and_each_value_its_form(model: Any) -> None:
    """A presigned URL's client must send the headers that botocore has signed."""
    members = model("PutObject").input_shape.members
    expected = {members[name].serialization["name"].lower() for name in OPTIONS}
    sent = options.headers(VALID)
    assert sent.keys() == expected
    assert sent["x-amz-server-side-encryption-bucket-key-enabled"] == "true"
    assert options.headers({"BucketKeyEnabled": False, "Key": "k"}) == {
        "x-amz-server-side-encryption-bucket-key-enabled": "false"
    }


@pytest.mark.parametrize(
    ("operation", "presigned", "added"),
    [
        ("PutObject", False, VALID.keys()),
        ("PutObject", True, VALID.keys()),
        ("CreateMultipartUpload", False, VALID.keys()),
        ("UploadPart", False, {"ExpectedBucketOwner"}),
        ("UploadPart", True, set()),
        ("CompleteMultipartUpload", False, {"ExpectedBucketOwner"}),
        ("AbortMultipartUpload", False, {"ExpectedBucketOwner"}),
        ("ListParts", False, {"ExpectedBucketOwner"}),
        ("ListMultipartUploads", False, {"ExpectedBucketOwner"}),
        ("HeadObject", False, {"ExpectedBucketOwner"}),
        ("GetObject", False, {"ExpectedBucketOwner"}),
        ("DeleteObject", False, {"ExpectedBucketOwner"}),
        ("HeadBucket", False, {"ExpectedBucketOwner"}),
    ],
)
def test_each_call_gets_the_options_that_it_has(
    model: Any,
    operation: str,
    presigned: bool,  # noqa: FBT001 - parametrised
    added: set[str],
) -> None:
    """All of them for puts and creates, and the bucket's owner for the other calls."""
    params: dict[str, Any] = {}
    options.add(VALID, params, model(operation), {"is_presign_request": True} if presigned else {})
    assert params == {name: VALID[name] for name in added}


def test_a_hook_may_set_another_value(model: Any) -> None:
    """A hook knows its request."""
    params = {"CacheControl": "no-store"}
    partial(options.add, VALID)(params=params, model=model("PutObject"), context={}, event_name="an event")
    assert params == {**VALID, "CacheControl": "no-store"}
