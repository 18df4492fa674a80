"""Every error a client can be told, each with a stable code and an HTTP status.

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
    │   ├── DigestMismatch        422 digest-mismatch
    │   ├── SizeMismatch          422 size-mismatch
    │   └── TypeMismatch          422 type-mismatch
    ├── NotFound                  404 not-found
    │   ├── UnknownHandoff        404 unknown-handoff
    │   ├── UnknownHook           404 unknown-hook
    │   ├── UnknownCause          404 unknown-cause
    │   └── ObjectMissing         404 object-missing
    ├── MethodNotAllowed          405 method-not-allowed
    ├── PreconditionFailed        412 precondition-failed
    ├── RangeNotSatisfiable       416 range-not-satisfiable
    ├── FileClosed                500 file-closed
    ├── Internal                  500 internal
    ├── StoreRejected             502 store-rejected
    │   └── UploadGone            502 store-rejected
    ├── StoreUnavailable          503 store-unavailable, with Retry-After
    ├── Overloaded                503 overloaded, with Retry-After
    └── StorageFull               507 storage-full, with Retry-After

Each is rendered as problem details (RFC 9457) by `UploadError.problem`.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

PROBLEM_CONTENT_TYPE = "application/problem+json"

#: Seconds after which a client may try again when the store did not answer, or this process cannot.
RETRY_AFTER_SECONDS = 5


class UploadError(Exception):
    """An error with an answer: `detail` is one sentence for the person who sent the request.

    `headers` are the answer's extra headers, such as `Allow` or `Retry-After`.
    """

    status: int = 500
    code: str = "internal"
    title: str = "Something went wrong on our side"

    def __init__(self, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})

    def problem(self, request_id: str) -> dict[str, str | int]:
        """The members of a problem details object (RFC 9457, section 3), with our `code` and `request_id`."""
        return problem(self.status, self.code, self.title, self.detail, request_id)


def problem(status: int, code: str, title: str, detail: str, request_id: str) -> dict[str, str | int]:
    """A problem details object (RFC 9457) from its values."""
    return {
        "type": f"urn:problem-type:handoff:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }


class FormError(UploadError):
    """What was sent cannot be taken."""

    status = 400


class FormMalformed(FormError):
    """The body is not the multipart/form-data it says it is (RFC 7578)."""

    code = "form-malformed"
    title = "The form could not be read"

    def __init__(self, detail: str, *, cut_short: bool = False) -> None:
        super().__init__(detail)
        #: The body ended too early, or its chunks are broken: most often, nobody is there to be told.
        self.cut_short = cut_short


class JsonMalformed(FormMalformed):
    """The body is not the JSON object that a presigned upload is asked for by."""

    title = "The JSON could not be read"


class FileMissing(FormError):
    """The form holds no file under one of the names in `UPLOAD_FIELD_NAMES`."""

    code = "file-missing"
    title = "There is no file in the form"


class DigestMalformed(FormError):
    """A promised digest is not one, or belongs to no file."""

    code = "digest-malformed"
    title = "The promised digest cannot be read"


class ChunkedForm(FormError):
    """The form holds one chunk of a file that its client sends in several forms."""

    code = "chunked-form"
    title = "The form holds one chunk of a file"


class RequestTimedOut(FormError):
    """The body stopped arriving."""

    status = 408
    code = "request-timeout"
    title = "The upload stopped moving"


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
    """The body is of another type than multipart/form-data, or than JSON where a presigned upload is asked for."""

    status = 415
    code = "unsupported-media-type"
    title = "A body of this type is not taken here"


class DigestMismatch(FormError):
    """The bytes that arrived are not the bytes that were promised; nothing was stored, or what was is removed."""

    status = 422
    code = "digest-mismatch"
    title = "The file is not the one that was promised"


class SizeMismatch(FormError):
    """What the client sent to S3 itself is not as long as it promised; it was removed."""

    status = 422
    code = "size-mismatch"
    title = "The file is not as long as was promised"


class TypeMismatch(FormError):
    """S3 names another media type for the client's upload than was promised; the object is left."""

    status = 422
    code = "type-mismatch"
    title = "The file is of another type than was promised"


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
    """The address exists, the method does not; the answer's `Allow` names those that do."""

    status = 405
    code = "method-not-allowed"
    title = "This method is not allowed here"


class PreconditionFailed(UploadError):
    """The object is not in the state that the request was for (RFC 9110, section 15.5.13)."""

    status = 412
    code = "precondition-failed"
    title = "The object is in another state"


class RangeNotSatisfiable(UploadError):
    """The asked range lies outside the object (RFC 9110, section 15.5.17)."""

    status = 416
    code = "range-not-satisfiable"
    title = "The range lies outside the object"


class FileClosed(UploadError):
    """The uploaded file was closed while S3 was still to read it (pallets/flask#5399)."""

    code = "file-closed"
    title = "The file was closed before S3 had read it"


class Internal(UploadError):
    """Our own fault; the log has the traceback under the request's id."""


class StoreRejected(UploadError):
    """S3 answered and said no."""

    status = 502
    code = "store-rejected"
    title = "The store refused the upload"


class UploadGone(StoreRejected):
    """S3 knows of no such multipart upload, and of no object that was made of it."""

    def __init__(self) -> None:
        super().__init__("S3 has no such multipart upload, nor an object that was made of it.")


class StoreUnavailable(UploadError):
    """S3 did not answer in time, or said that it is too busy."""

    status = 503
    code = "store-unavailable"
    title = "The store cannot be reached"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


class Overloaded(UploadError):
    """This process takes no more requests of this kind now; another process may, or this one later."""

    status = 503
    code = "overloaded"
    title = "The service is too busy for this now"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


class StorageFull(UploadError):
    """The temporary folder takes no more bytes: it is full, over a quota, missing or not writable."""

    status = 507
    code = "storage-full"
    title = "The service has no room for the upload"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


class SettingsError(ValueError):
    """A setting has a value that cannot work; the message is one line for the person who starts the app."""

    def __init__(self, variable: str, value: object, wanted: str) -> None:
        shown = "not shown" if variable.endswith("_SECRET") else repr(str(value))
        super().__init__(f"{variable} is {shown}; it must be {wanted}")
        self.variable = variable
        self.wanted = wanted


class BucketMissing(Exception):
    """The configured bucket does not exist; the message is one line for the person who starts the app."""

    def __init__(self, bucket: str) -> None:
        super().__init__(f"there is no bucket '{bucket}'; create it or set UPLOAD_BUCKET")


#: S3's codes for a multipart upload that it does not have, or not any more: Swift says of one that was completed that
#: there is no such key.
GONE_CODES = frozenset({"NoSuchUpload", "NoSuchKey"})
#: S3's codes for "not now", beside every 5xx status.
_BUSY_CODES = frozenset({"SlowDown", "RequestTimeout", "ThrottlingException", "TooManyRequests"})


def from_store_answer(status: int, code: str, message: str) -> UploadError:
    """The error for an S3 error answer: busy and broken stores may be tried again, refusals not.

    `status` is the HTTP status, `code` and `message` are from the answer's XML body
    (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
    """
    if status >= 500 or code in _BUSY_CODES:  # noqa: PLR2004 - HTTP's own classes
        return StoreUnavailable(f"S3 answered {status} {code}. Nothing was stored; try again later.")
    if code in {"NoSuchKey", "404", "NotFound"}:
        return ObjectMissing("No object has this key.")
    return StoreRejected(f"S3 answered {status} {code}: {message}")


#: Errors of a system that cannot write a temporary file: no space, no quota, a file size limit, a read-only or
#: vanished folder. `tempfile` raises ENOENT if no folder is usable.
_UNWRITABLE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
        *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ESTALE),
    }
)
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})


@contextmanager
def temporary_files() -> Iterator[None]:
    """Turn an operating system's refusal to write a temporary file into an error of ours.

    Wrap a block whose other I/O has errors of its own, as the calls to S3 and the reading of a body have.

    Raises:
        StorageFull: the temporary folder takes no more.
        Overloaded: the process has no file descriptor left.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _UNWRITABLE:
            raise StorageFull(
                f"The service cannot write a temporary file ({error.strerror}). Nothing was stored; try again later, "
                "or use the hand-off 'stream', which writes none."
            ) from error
        if error.errno in _NO_DESCRIPTOR:
            raise Overloaded("The service can open no more files. Nothing was stored; try again later.") from error
        raise


def from_http(status: int, name: str, detail: str, headers: Mapping[str, str]) -> UploadError:
    """The error for one that a framework raised itself, such as 404 by its router, from its values."""
    known: dict[int, type[UploadError]] = {404: NotFound, 405: MethodNotAllowed, 413: BodyTooLarge}
    if status in known:
        return known[status](detail, headers=headers)
    error = UploadError(detail, headers=headers)
    error.status, error.code, error.title = status, name.lower().replace(" ", "-"), name
    return error


def is_exhausted(error: BaseException) -> bool:
    """Whether this process had too little memory, or too few threads or file descriptors, for a request."""
    match error:
        case MemoryError():
            return True
        case RuntimeError():
            return str(error) == "can't start new thread"  # CPython has no type for this
        case OSError():
            return error.errno in _NO_DESCRIPTOR | {errno.ENOMEM}
    return False


def fault(error: Exception) -> UploadError:
    """The error for an unexpected one: Overloaded where this process has run out of a resource, else Internal."""
    answer: UploadError = Internal("The log has more under this request's id.")
    if is_exhausted(error):
        answer = Overloaded("This process lacks memory, threads or files. Nothing was stored; try again later.")
    answer.__cause__ = error
    return answer


def file_closed(handoff: str, hook: str, explanation: str | None = None) -> FileClosed:
    """The error for an upload whose file was closed under it, in words that say who did it and what to do.

    `explanation` is what was seen of the close (`filehandoff.explain`); without it, what is known of the hook is told.
    """
    if explanation is not None:
        return FileClosed(explanation)
    if hook == "copied":
        reading = "gave S3 the request's own file" if handoff == "file" else "was still reading the request's own file"
        return FileClosed(
            f"The hand-off '{handoff}' {reading}, and the hook 'copied' closed it: a hook "
            "wrapped in copy_current_request_context pushes a copied request context, and when the hook returns, "
            "popping that context closes every file of the request it shares (pallets/flask#5399). What was read "
            "then was a closed file. Nothing was stored. Bind the hook to plain values (hook=bound), or hand over "
            "bytes that the request does not own (read_early, temp_file)."
        )
    return FileClosed(
        f"The hand-off '{handoff}' with the hook '{hook}' read the request's own file after something had closed it. "
        "Nothing was stored. Hand over bytes that the request does not own (read_early, temp_file)."
    )
