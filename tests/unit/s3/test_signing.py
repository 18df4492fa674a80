"""Signature version 4, against the examples of AWS and against botocore."""

import hashlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials, ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from filehandoff.s3.signing import Signer

#: The published examples' keys, which open nothing.
EXAMPLE = ReadOnlyCredentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None)
EXAMPLE_TIME = datetime(2013, 5, 24, tzinfo=UTC)
EMPTY = hashlib.sha256(b"").hexdigest()
TEXT = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()
NOW = datetime(2026, 11, 26, 20, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("method", "target", "headers", "signature"),
    [
        pytest.param(
            "GET",
            ("/test.txt", ""),
            {"range": "bytes=0-9", "x-amz-content-sha256": EMPTY},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            id="get an object",
        ),
        pytest.param(
            "PUT",
            ("/test%24file.text", ""),
            {
                "date": "Fri, 24 May 2013 00:00:00 GMT",
                "x-amz-storage-class": "REDUCED_REDUNDANCY",
                "x-amz-content-sha256": TEXT,
            },
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            id="put an object",
        ),
        pytest.param(
            "GET",
            ("/", "lifecycle="),
            {"x-amz-content-sha256": EMPTY},
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            id="get a bucket's lifecycle",
        ),
        pytest.param(
            "GET",
            ("/", "max-keys=2&prefix=J"),
            {"x-amz-content-sha256": EMPTY},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            id="list objects",
        ),
    ],
)
def test_the_examples_of_aws_are_signed_alike(
    method: str, target: tuple[str, str], headers: dict[str, str], signature: str
) -> None:
    """The signatures are those of https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html."""
    headers = {"host": "examplebucket.s3.amazonaws.com", **headers}
    signed = Signer("us-east-1").sign(method, target, headers, EXAMPLE, EXAMPLE_TIME)
    assert signed["authorization"].rpartition("Signature=")[2] == signature


def signed_by_botocore(url: str, headers: dict[str, str], credentials: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return botocore's `Authorization` for a put."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOW.replace(tzinfo=None))
    request = AWSRequest("PUT", url, headers)
    checksum = {"request_algorithm": {"in": "header", "name": "x-amz-checksum-crc32"}}
    request.context |= {"client_config": Config(s3={"payload_signing_enabled": False}), "checksum": checksum}
    S3SigV4Auth(credentials, "s3", "eu-central-1").add_auth(request)
    return str(request.headers["Authorization"])


VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1).filter(str.strip)


@given(
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda key: not key.startswith("/")),
    metadata=st.dictionaries(st.from_regex("[a-z0-9-]{1,20}", fullmatch=True), VALUES, max_size=3),
    token=st.none() | st.from_regex("[A-Za-z0-9+/=]{1,40}", fullmatch=True),
)
def test_every_key_and_every_value_is_signed_as_by_botocore(
    key: str, metadata: dict[str, str], token: str | None
) -> None:
    """Spaces, slashes, dots and non-ASCII characters in keys, runs of spaces in values, and session tokens."""
    path = "/bucket/" + quote(key, safe="/~")
    headers = {
        "host": "127.0.0.1:9000",
        "content-type": "text/plain",
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
        "x-amz-checksum-crc32": "AAAAAQ==",
        **{f"x-amz-meta-{name}": value for name, value in metadata.items()},
    }
    credentials = Credentials("a-key", "a-secret", token)
    signed = Signer("eu-central-1").sign("PUT", (path, ""), headers, credentials.get_frozen_credentials(), NOW)
    with pytest.MonkeyPatch.context() as monkeypatch:
        expected = signed_by_botocore("http://127.0.0.1:9000" + path, headers, credentials, monkeypatch)
    assert signed["authorization"] == expected
    assert signed.get("x-amz-security-token") == token


def test_each_day_and_each_secret_has_its_own_key() -> None:
    """The cached signing key of one day or secret signs no request of another."""

    def signature(day: int, secret: str) -> str:
        headers = {"host": "a", "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
        credentials = ReadOnlyCredentials("a-key", secret, None)
        time = NOW.replace(day=day)
        return Signer("us-east-1").sign("PUT", ("/", ""), headers, credentials, time)["authorization"]

    made = {signature(day, secret) for day in (1, 2) for secret in ("one", "another")}
    assert len(made) == 4
