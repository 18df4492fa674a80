"""Every error that a client can receive, with its stable code and HTTP status.

    UploadError
    ├── FormError
    │   ├── FormMalformed         400 form-malformed
    │   │   └── JsonMalformed     400 form-malformed
    │   ├── FileMissing           400 file-missing
    │   ├── DigestMalformed       400 digest-malformed
    │   ├── ChunkedForm           400 chunked-form
    │   ├── RequestTimedOut       408 request-timeout
    │   ├── BodyTooLarge          413 body-too-large
    │   ├── FileTooLarge          413 file-too-large
    │   ├── TooManyParts          413 too-many-parts
    │   ├── TooManyFields         413 too-many-fields
    │   ├── UnsupportedMediaType  415 unsupported-media-type
    │   ├── TypeNotAllowed        415 type-not-allowed
    │   ├── DigestMismatch        422 digest-mismatch
    │   ├── SizeMismatch          422 size-mismatch
    │   └── TypeMismatch          422 type-mismatch
    ├── TusError
    │   ├── TusMalformed          400 tus-header-malformed
    │   ├── ChecksumUnsupported   400 checksum-unsupported
    │   ├── FinalUpload           403 final-upload
    │   ├── OffsetConflict        409 offset-conflict
    │   ├── PartialUnfinished     409 partial-unfinished
    │   ├── Expired               410 gone
    │   ├── TusVersionUnsupported 412 tus-version-unsupported, with Tus-Version
    │   ├── Locked                423 locked, with Retry-After
    │   └── ChecksumMismatch      460 checksum-mismatch
    ├── Unauthorized              401 unauthorized, with WWW-Authenticate
    ├── Forbidden                 403 forbidden, with WWW-Authenticate
    ├── OriginNotAllowed          403 origin-not-allowed
    ├── NotFound                  404 not-found
    │   ├── UnknownHandoff        404 unknown-handoff
    │   ├── UnknownHook           404 unknown-hook
    │   ├── UnknownCause          404 unknown-cause
    │   └── ObjectMissing         404 object-missing
    ├── MethodNotAllowed          405 method-not-allowed
    ├── PreconditionFailed        412 precondition-failed
    ├── RangeNotSatisfiable       416 range-not-satisfiable
    ├── HostNotAllowed            421 host-not-allowed
    ├── TooManyRequests           429 too-many-requests, with Retry-After
    ├── FileClosed                500 file-closed
    ├── Internal                  500 internal
    ├── StoreRejected             502 store-rejected
    │   └── UploadGone            502 store-rejected
    ├── HandlerFailed             502 handler-failed
    ├── StoreUnavailable          503 store-unavailable, with Retry-After
    ├── IdentityUnavailable       503 identity-unavailable, with Retry-After
    ├── LimitsUnavailable         503 limits-unavailable, with Retry-After
    ├── Overloaded                503 overloaded, with Retry-After
    └── StorageFull               507 storage-full, with Retry-After

`UploadError.problem` renders each as problem details (RFC 9457).
"""

import errno
import re
from collections.abc import Mapping

PROBLEM_CONTENT_TYPE = "application/problem+json"

#: Characters of a request's header that an error shows.
MAX_SHOWN = 100
#: Seconds in `Retry-After`, for a client to retry when S3 or this process had no capacity.
RETRY_AFTER_SECONDS = 5

#: The user and the password of a URL.
_USER_INFO = re.compile(r"//[^/@]*@")


class UploadError(Exception):
    """An error with a response; `detail` is one sentence for the request's sender.

    `headers` are the response's extra headers, such as `Allow` or `Retry-After`.
    """

    status: int = 500
    code: str = "internal"
    title: str = "The service failed"

    def __init__(self, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})

    def problem(self, request_id: str) -> dict[str, str | int]:
        """Return the members of a problem details object (RFC 9457), with `code` and `request_id`."""
        return problem(self.status, self.code, self.title, self.detail, request_id)


def problem(status: int, code: str, title: str, detail: str, request_id: str) -> dict[str, str | int]:
    """Return a problem details object (RFC 9457) with these members."""
    return {
        "type": f"urn:problem-type:handoff:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }


class FormError(UploadError):
    """The request's body cannot be accepted."""

    status = 400


class FormMalformed(FormError):
    """The body is not valid multipart/form-data (RFC 7578)."""

    code = "form-malformed"
    title = "The form could not be read"

    def __init__(self, detail: str, *, cut_short: bool = False) -> None:
        super().__init__(detail)
        #: The body ended too early, or its chunks are broken: most often the client has disconnected.
        self.cut_short = cut_short


class JsonMalformed(FormMalformed):
    """The body is not the JSON object that requests a presigned upload."""

    title = "The JSON could not be read"


class FileMissing(FormError):
    """The form has no file in a field of `UPLOAD_FIELD_NAMES`."""

    code = "file-missing"
    title = "The form has no file"


class DigestMalformed(FormError):
    """A promised digest is malformed, or belongs to no file."""

    code = "digest-malformed"
    title = "The promised digest cannot be read"


class ChunkedForm(FormError):
    """The form holds one chunk of a file that the client sends in several forms."""

    code = "chunked-form"
    title = "The form holds one chunk of a file"


class RequestTimedOut(FormError):
    """No byte of the body arrived for `UPLOAD_IDLE_TIMEOUT`."""

    status = 408
    code = "request-timeout"
    title = "The upload stalled"


class BodyTooLarge(FormError):
    """The body is longer than `UPLOAD_MAX_BODY_BYTES`, declared or counted."""

    status = 413
    code = "body-too-large"
    title = "The request is too large"


class FileTooLarge(FormError):
    """One file is longer than `UPLOAD_MAX_FILE_BYTES`."""

    status = 413
    code = "file-too-large"
    title = "A file is too large"


class TooManyParts(FormError):
    """The form has more parts than `UPLOAD_MAX_FORM_PARTS`."""

    status = 413
    code = "too-many-parts"
    title = "The form has too many parts"


class TooManyFields(FormError):
    """The form's text fields together hold more than `UPLOAD_MAX_FIELD_BYTES`."""

    status = 413
    code = "too-many-fields"
    title = "The form's fields hold too much"


class UnsupportedMediaType(FormError):
    """The body is neither multipart/form-data nor, in a request for a presigned upload, JSON."""

    status = 415
    code = "unsupported-media-type"
    title = "This type of body is not supported here"


class TypeNotAllowed(FormError):
    """A file is of a type that `UPLOAD_ALLOWED_TYPES` does not list, by its first bytes."""

    status = 415
    code = "type-not-allowed"
    title = "Files of this type are not allowed"


class DigestMismatch(FormError):
    """The file's SHA-256 differs from the promised one; nothing of the upload stays stored."""

    status = 422
    code = "digest-mismatch"
    title = "The file is not the promised one"


class SizeMismatch(FormError):
    """The object that the client sent to S3 has another length than promised.

    The app has removed it.
    """

    status = 422
    code = "size-mismatch"
    title = "The file has another length than promised"


class TypeMismatch(FormError):
    """The object that the client sent to S3 has another media type than promised.

    It stays stored.
    """

    status = 422
    code = "type-mismatch"
    title = "The file has another type than promised"


class TusError(UploadError):
    """A request of a resumable upload does not follow the protocol (https://tus.io, version 1.0.0), or cannot now."""


class TusMalformed(TusError):
    """A header of a resumable upload is missing, malformed or contradictory (https://tus.io, version 1.0.0)."""

    status = 400
    code = "tus-header-malformed"
    title = "The headers of the resumable upload cannot be used"


class ChecksumUnsupported(TusError):
    """The service does not support the algorithm of an `Upload-Checksum`."""

    status = 400
    code = "checksum-unsupported"
    title = "This kind of checksum is not supported"


class FinalUpload(TusError):
    """A final upload is made of other uploads; it takes no bytes of its own."""

    status = 403
    code = "final-upload"
    title = "This upload takes no bytes"


class OffsetConflict(TusError):
    """The client continues a resumable upload at another offset than the service has; `offset` is in bytes."""

    status = 409
    code = "offset-conflict"
    title = "The upload has another offset"

    def __init__(self, offset: int) -> None:
        super().__init__(f"The service has {offset} bytes of this upload; continue there.")


class PartialUnfinished(TusError):
    """A final upload names a partial upload whose bytes have not all arrived."""

    status = 409
    code = "partial-unfinished"
    title = "A part of the upload is not complete"


class Expired(TusError):
    """A resumable upload has expired; the service may remove its bytes."""

    status = 410
    code = "gone"
    title = "The upload has expired"


class TusVersionUnsupported(TusError):
    """The request's `Tus-Resumable` is missing, or names another version of the protocol."""

    status = 412
    code = "tus-version-unsupported"
    title = "The service supports another version of the protocol"


class Locked(TusError):
    """Another request sends bytes to this resumable upload, or removes it."""

    status = 423
    code = "locked"
    title = "Another request holds the upload"

    def __init__(self) -> None:
        super().__init__("Another request holds this upload; try again soon.", headers={"Retry-After": "1"})


class ChecksumMismatch(TusError):
    """A chunk of a resumable upload differs from its `Upload-Checksum`; the service has discarded the chunk.

    The protocol defines the status (https://tus.io, version 1.0.0, "Checksum").
    """

    status = 460
    code = "checksum-mismatch"
    title = "The chunk is not the promised one"


class Unauthorized(UploadError):
    """The request names no sender, or its credentials are not valid (RFC 6750, section 3).

    `invalid` says whether it has credentials.
    """

    status = 401
    code = "unauthorized"
    title = "The request needs valid credentials"

    def __init__(self, detail: str, *, invalid: bool = True) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"' if invalid else "Bearer"})


class Forbidden(UploadError):
    """The sender lacks the scope for this request (RFC 6750, section 3.1)."""

    status = 403
    code = "forbidden"
    title = "The sender may not do this"

    def __init__(self, scope: str) -> None:
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        super().__init__(f"This request needs the scope '{scope}'.", headers={"WWW-Authenticate": challenge})


class OriginNotAllowed(UploadError):
    """A page of another origin than those of `UPLOAD_CORS_ORIGINS` has made the request."""

    status = 403
    code = "origin-not-allowed"
    title = "Pages of this origin may not do this"

    def __init__(self, origin: str | None) -> None:
        named = "an origin that it hides" if origin is None else f"the origin {shorten(origin)}"
        super().__init__(f"A page of {named} has made the request, and the service does not allow that origin.")


class HostNotAllowed(UploadError):
    """The request names another host than those of `UPLOAD_HOSTS` (RFC 9110, section 15.5.20)."""

    status = 421
    code = "host-not-allowed"
    title = "The service does not have this name"

    def __init__(self, host: str) -> None:
        super().__init__(f"The service does not respond by the name {shorten(host)}.")


def shorten(text: str) -> str:
    """Return the beginning of a client's text in quotes, without a password."""
    text = _USER_INFO.sub("//[hidden]@", text)
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")


class NotFound(UploadError):
    """There is nothing at this address."""

    status = 404
    code = "not-found"
    title = "There is nothing here"


class UnknownHandoff(NotFound):
    """No hand-off has this name."""

    code = "unknown-handoff"
    title = "There is no such hand-off"


class UnknownHook(NotFound):
    """No hook has this name."""

    code = "unknown-hook"
    title = "There is no such hook"


class UnknownCause(NotFound):
    """No cause has this name."""

    code = "unknown-cause"
    title = "There is no such cause"


class ObjectMissing(NotFound):
    """No uploaded object has this key."""

    code = "object-missing"
    title = "There is no such object"


class MethodNotAllowed(UploadError):
    """This address does not support the method; `Allow` lists the supported ones."""

    status = 405
    code = "method-not-allowed"
    title = "This method is not allowed here"


class PreconditionFailed(UploadError):
    """The object does not meet a precondition of the request (RFC 9110, section 15.5.13)."""

    status = 412
    code = "precondition-failed"
    title = "The object is in another state"


class RangeNotSatisfiable(UploadError):
    """The requested range lies outside the object (RFC 9110, section 15.5.17)."""

    status = 416
    code = "range-not-satisfiable"
    title = "The range lies outside the object"


class TooManyRequests(UploadError):
    """The sender has reached a limit of `UPLOAD_RATE` or `UPLOAD_QUOTA` (RFC 6585, section 4).

    `retry_after` is the number of seconds until the limit's period ends.
    """

    status = 429
    code = "too-many-requests"
    title = "The sender has reached a limit"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class FileClosed(UploadError):
    """The uploaded file was closed before S3 had read it (pallets/flask#5399)."""

    code = "file-closed"
    title = "The file was closed before S3 had read it"


class Internal(UploadError):
    """A fault of the service; the log has the traceback under the request's id."""


class StoreRejected(UploadError):
    """S3 rejected the request."""

    status = 502
    code = "store-rejected"
    title = "The store rejected the request"


class UploadGone(StoreRejected):
    """S3 has neither this multipart upload nor an object made of it."""

    def __init__(self) -> None:
        super().__init__("S3 has neither this multipart upload nor an object made of it.")


class HandlerFailed(UploadError):
    """The handler of stored files (`filehandoff.stored`) failed; the log has the reason."""

    status = 502
    code = "handler-failed"
    title = "The work on the stored files failed"


class StoreUnavailable(UploadError):
    """S3 did not respond in time, or is too busy."""

    status = 503
    code = "store-unavailable"
    title = "The store cannot be reached"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


class Overloaded(UploadError):
    """This process has no capacity for the request.

    Another process may have, or this one later.
    """

    status = 503
    code = "overloaded"
    title = "The service is too busy"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


class IdentityUnavailable(UploadError):
    """The keys that verify a token cannot be had."""

    status = 503
    code = "identity-unavailable"
    title = "The sender cannot be identified now"

    def __init__(self) -> None:
        super().__init__(
            "The service cannot get the keys that verify tokens. Nothing was stored; try again later.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )


class LimitsUnavailable(UploadError):
    """The store of the limits' counters does not respond, and `UPLOAD_LIMITS_FAIL` is `closed`."""

    status = 503
    code = "limits-unavailable"
    title = "The limits cannot be checked now"

    def __init__(self) -> None:
        super().__init__(
            "The service cannot count this upload. Nothing was stored; try again later.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )


class StorageFull(UploadError):
    """The temporary folder is full, over its quota, missing or not writable."""

    status = 507
    code = "storage-full"
    title = "The service has no room for the upload"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


#: Every error class that the apps raise; the excluded ones are base classes.
CLASSES = [
    error
    for error in tuple(globals().values())
    if isinstance(error, type) and issubclass(error, UploadError) and error not in {UploadError, FormError, TusError}
]
#: The error class of each code: the first one, of which others are special cases.
ERRORS = {error.code: next(one for one in CLASSES if one.code == error.code) for error in CLASSES}


class SettingsError(ValueError):
    """A setting has an invalid value; the message is one line for the operator."""

    def __init__(self, variable: str, value: object, wanted: str) -> None:
        secret = variable.endswith(("_SECRET", "_WEBHOOK_URL", "_LIMITS_STORE"))  # a URL may hold a password or a token
        shown = "not shown" if secret else repr(_USER_INFO.sub("//[hidden]@", str(value)))
        super().__init__(f"{variable} is {shown}; it must be {wanted}")
        self.variable = variable
        self.wanted = wanted


class BucketMissing(Exception):
    """The configured bucket does not exist; the message is one line for the operator."""

    def __init__(self, bucket: str) -> None:
        super().__init__(f"there is no bucket '{bucket}'; create it or set UPLOAD_BUCKET")


#: S3's codes for a multipart upload that does not exist, or no longer. Swift answers NoSuchKey for a completed one.
GONE_CODES = frozenset({"NoSuchUpload", "NoSuchKey"})
#: S3's codes for a temporary failure, beside every 5xx status.
_BUSY_CODES = frozenset({"SlowDown", "RequestTimeout", "ThrottlingException", "TooManyRequests"})


def from_store_answer(status: int, code: str, message: str) -> UploadError:
    """Return the error for an error response of S3; only rejections are permanent.

    `status` is the HTTP status, `code` and `message` are from the response's XML body
    (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
    """
    if status >= 500 or code in _BUSY_CODES:  # noqa: PLR2004 - HTTP's own classes
        return StoreUnavailable(f"S3 answered {status} {code}. Nothing was stored; try again later.")
    if code in {"NoSuchKey", "404", "NotFound"}:
        return ObjectMissing("No object has this key.")
    return StoreRejected(f"S3 answered {status} {code}: {message}")


#: The errno of an open file too many, of the process and of the system.
NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})


def from_http(status: int, name: str, detail: str, headers: Mapping[str, str]) -> UploadError:
    """Return the error for an HTTP error of the framework, such as its router's 404."""
    known: dict[int, type[UploadError]] = {404: NotFound, 405: MethodNotAllowed, 413: BodyTooLarge}
    if status in known:
        return known[status](detail, headers=headers)
    error = UploadError(detail, headers=headers)
    error.status, error.code, error.title = status, name.lower().replace(" ", "-"), name
    return error


def is_exhausted(error: BaseException) -> bool:
    """Whether the process lacked memory, a thread or a file descriptor."""
    match error:
        case MemoryError():
            return True
        case RuntimeError():
            return str(error) == "can't start new thread"  # CPython has no exception type for this
        case OSError():
            return error.errno in NO_DESCRIPTOR | {errno.ENOMEM}
    return False


def fault(error: Exception) -> UploadError:
    """Convert an unexpected error: Overloaded if the process lacks a resource, else Internal."""
    answer: UploadError = Internal("The log has the details under this request's id.")
    if is_exhausted(error):
        answer = Overloaded("This process lacks memory, threads or files. Nothing was stored; try again later.")
    answer.__cause__ = error
    return answer


def file_closed(handoff: str, hook: str, explanation: str | None = None) -> FileClosed:
    """Return the error for an upload whose file was closed too early.

    `explanation` is the note on the observed close (`filehandoff.explain`). Without one, the detail describes the hook.
    """
    if explanation is not None:
        return FileClosed(explanation)
    if hook == "copied":
        reading = "gave S3 the request's own file" if handoff == "file" else "was still reading the request's own file"
        return FileClosed(
            f"The hand-off '{handoff}' {reading}, and the hook 'copied' closed it: a hook "
            "wrapped in copy_current_request_context pushes a copied request context, and when the hook returns, "
            "popping that context closes every file of the request it shares (pallets/flask#5399). The next "
            "read found a closed file. Nothing was stored. Bind the hook to plain values (hook=bound), or hand over "
            "bytes that the request does not own (read_early, temp_file)."
        )
    return FileClosed(
        f"The hand-off '{handoff}' with the hook '{hook}' read the request's own file after something had closed it. "
        "Nothing was stored. Hand over bytes that the request does not own (read_early, temp_file)."
    )
