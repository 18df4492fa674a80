"""The operator's own parameters for stored objects, such as their encryption: `UPLOAD_S3_OPTIONS`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

#: Values by boto's parameter names.
Options: TypeAlias = Mapping[str, str | bool]

#: A header value: printable ASCII without blanks at its ends, which HTTP removes.
_TEXT = r"[!-~](?:[ -~]{0,1022}[!-~])?"
_TAG = r"[!-%'-<>-~]{1,384}=[!-%'-<>-~]{0,768}"


@dataclass(frozen=True, slots=True)
class Option:
    """One parameter: its request header, and its values, a switch without a `pattern`.

    Attributes:
        header: the lowercase name.
        pattern: a regular expression of all its values.
        wanted: describes the values; empty for any text of printable ASCII.
    """

    header: str
    pattern: str | None = _TEXT
    wanted: str = ""

    def objection(self, value: object) -> str:
        """Describe the valid values if this value is invalid; otherwise return an empty string."""
        if self.pattern is None:
            return "" if isinstance(value, bool) else "true or false"
        if isinstance(value, str) and re.fullmatch(self.pattern, value):
            return ""
        return self.wanted or "a string of printable ASCII characters"


def _one_of(header: str, *values: str) -> Option:
    return Option(header, "|".join(map(re.escape, values)), f"one of {', '.join(values)}")


#: The parameters that an operator may set; S3 checks their values further.
#: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html and API_CreateMultipartUpload.html
OPTIONS = {
    "ServerSideEncryption": _one_of("x-amz-server-side-encryption", "AES256", "aws:kms", "aws:kms:dsse"),
    "SSEKMSKeyId": Option("x-amz-server-side-encryption-aws-kms-key-id"),
    "SSEKMSEncryptionContext": Option(
        "x-amz-server-side-encryption-context", r"[A-Za-z0-9+/]+={0,2}", "a JSON object in base64"
    ),
    "BucketKeyEnabled": Option("x-amz-server-side-encryption-bucket-key-enabled", None),
    "StorageClass": Option(
        "x-amz-storage-class",
        r"(?!(?:GLACIER|DEEP_ARCHIVE)\Z)[A-Za-z0-9_.-]{1,64}",
        "a storage class whose objects can be read at once, such as STANDARD_IA or GLACIER_IR",
    ),
    "Tagging": Option("x-amz-tagging", rf"{_TAG}(?:&{_TAG}){{0,9}}", "up to 10 tags, encoded as in a query: a=b&c=d"),
    "ACL": _one_of(
        "x-amz-acl",
        *("private", "public-read", "public-read-write", "authenticated-read"),
        *("aws-exec-read", "bucket-owner-read", "bucket-owner-full-control"),
    ),
    "GrantFullControl": Option("x-amz-grant-full-control"),
    "GrantRead": Option("x-amz-grant-read"),
    "GrantReadACP": Option("x-amz-grant-read-acp"),
    "GrantWriteACP": Option("x-amz-grant-write-acp"),
    "ExpectedBucketOwner": Option("x-amz-expected-bucket-owner", r"[!-~]{1,64}", "an account's id"),
    "ObjectLockLegalHoldStatus": _one_of("x-amz-object-lock-legal-hold", "ON", "OFF"),
    "CacheControl": Option("cache-control"),
    "ContentDisposition": Option("content-disposition"),
    "ContentLanguage": Option("content-language"),
}

_OURS = (
    *("Bucket", "Key", "Body", "ContentLength", "ContentType", "ContentMD5", "Metadata", "IfMatch", "IfNoneMatch"),
    *("ChecksumAlgorithm", "ChecksumCRC32", "ChecksumCRC32C", "ChecksumCRC64NVME", "ChecksumSHA1", "ChecksumSHA256"),
    "ChecksumType",
)
_SSE_C = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")
_RETENTION = ("ObjectLockMode", "ObjectLockRetainUntilDate")
#: The parameters that an operator must not set, each with the reason.
REFUSED = {
    **dict.fromkeys(_OURS, "the service sets it itself"),
    **dict.fromkeys(_SSE_C, "every download would need the key too"),
    **dict.fromkeys(_RETENTION, "a fixed date would end all uploads; set a default retention for the bucket"),
    "ContentEncoding": "the service stores the bytes as they arrive",
    "Expires": "a fixed date passes; set CacheControl",
    "RequestPayer": "the client of a presigned part would need it too",
    "WebsiteRedirectLocation": "each object would redirect to it",
    "WriteOffsetBytes": "the service never appends to an object",
}


def read(text: str) -> dict[str, Any] | None:
    """Parse a JSON object; return None for anything else."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def objection(options: Mapping[str, object]) -> str:
    """Describe the valid form of the first invalid option; return an empty string if all are valid."""
    for name, value in options.items():
        if name in REFUSED:
            return f"without {name}: {REFUSED[name]}"
        if name not in OPTIONS:
            return f"without {name[:64]!r}; the known names are {', '.join(OPTIONS)}"
        if wanted := OPTIONS[name].objection(value):
            return f"a JSON object in which {name} is {wanted}"
    return ""


def headers(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the request headers of those parameters that are options, by lowercase names."""
    return {
        option.header: str(parameters[name]).lower() if option.pattern is None else parameters[name]
        for name, option in OPTIONS.items()
        if name in parameters
    }


def add(options: Options, params: dict[str, Any], model: Any, context: Mapping[str, Any], **_event: Any) -> None:
    """Add the options to a call's parameters; a handler of boto's event `before-parameter-build`.

    Adds only parameters that the call has and that no hook has set. A presigned part gets none, so that clients need
    no headers for it: S3 has checked the bucket's owner when it created the upload.

    Args:
        options: those of the settings.
        params: the call's parameters.
        model: botocore's model of the call.
        context: botocore's context of the call.
    """
    if model.name == "UploadPart" and context.get("is_presign_request"):
        return
    for name, value in options.items():
        if name in model.input_shape.members:
            params.setdefault(name, value)
