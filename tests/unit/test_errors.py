"""Errors: their tree, their responses, and the mapping of errors of S3 and the frameworks."""

import errno
import inspect
import json
import re
from collections.abc import Iterator

import pytest

from filehandoff import errors
from filehandoff.errors import (
    BodyTooLarge,
    BucketMissing,
    DigestMalformed,
    DigestMismatch,
    FileClosed,
    FileMissing,
    FileTooLarge,
    FormError,
    FormMalformed,
    Internal,
    JsonMalformed,
    MethodNotAllowed,
    NotFound,
    ObjectMissing,
    Overloaded,
    PreconditionFailed,
    RangeNotSatisfiable,
    RequestTimedOut,
    SettingsError,
    StorageFull,
    StoreRejected,
    StoreUnavailable,
    TooManyFields,
    TooManyParts,
    TusError,
    TypeMismatch,
    UnknownHandoff,
    UnknownHook,
    UnsupportedMediaType,
    UploadError,
    UploadGone,
    fault,
    file_closed,
    from_http,
    from_store_answer,
)

LINE = re.compile(r"    (?P<branches>[├└│─ ]*)(?P<name>\w+)(?: +(?P<status>\d{3}) (?P<code>[a-z-]+))?(?:, with .*)?")


def tree_in_words() -> list[tuple[str, str | None, int | None, str | None]]:
    """Parse name, parent, status and code from the tree in the module's docstring."""
    found: list[tuple[str, str | None, int | None, str | None]] = []
    parents: dict[int, str] = {}
    assert errors.__doc__ is not None
    for text in errors.__doc__.splitlines():
        if not text.startswith("    "):
            continue
        line = LINE.fullmatch(text)
        assert line, f"no line of a tree: {text!r}"
        depth = len(line["branches"]) // 4
        parents[depth] = line["name"]
        found.append((line["name"], parents.get(depth - 1), int(line["status"] or 0) or None, line["code"]))
    return found


def tree_of(error: type[UploadError]) -> Iterator[type[UploadError]]:
    """Return an error and all its subclasses."""
    yield error
    for child in error.__subclasses__():
        yield from tree_of(child)


def test_the_tree_in_words_is_the_tree() -> None:
    """The docstring lists each error once, with its parent, status and code."""
    in_words = tree_in_words()
    in_code = {error.__name__: error for error in tree_of(UploadError)}
    assert sorted(name for name, *_ in in_words) == sorted(in_code)
    for name, parent, status, code in in_words:
        error = in_code[name]
        if error in {UploadError, FormError, TusError}:
            assert (status, code) == (None, None)  # a base class, never raised
        else:
            assert (status, code) == (error.status, error.code)
        if parent is not None:
            assert error.__base__ is in_code[parent]


def test_every_error_of_the_module_is_in_the_tree() -> None:
    """Only errors that stop the start, which no client receives, are outside the tree."""
    classes = {value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, Exception)}
    assert classes - set(tree_of(UploadError)) == {SettingsError, BucketMissing}


def test_codes_and_titles_tell_errors_apart() -> None:
    """No two errors share a code or a title, except special cases."""
    assert UploadGone().problem("")["code"] == StoreRejected.code
    told = [
        error
        for error in tree_of(UploadError)
        if error not in {UploadError, FormError, TusError, UploadGone, JsonMalformed}
    ]
    assert len({error.code for error in told}) == len(told)
    assert len({error.title for error in told}) == len(told)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        pytest.param(error, status, code, id=code)
        for error, status, code in [
            (FormMalformed, 400, "form-malformed"),
            (FileMissing, 400, "file-missing"),
            (DigestMalformed, 400, "digest-malformed"),
            (RequestTimedOut, 408, "request-timeout"),
            (BodyTooLarge, 413, "body-too-large"),
            (FileTooLarge, 413, "file-too-large"),
            (TooManyParts, 413, "too-many-parts"),
            (TooManyFields, 413, "too-many-fields"),
            (UnsupportedMediaType, 415, "unsupported-media-type"),
            (DigestMismatch, 422, "digest-mismatch"),
            (TypeMismatch, 422, "type-mismatch"),
            (NotFound, 404, "not-found"),
            (UnknownHandoff, 404, "unknown-handoff"),
            (UnknownHook, 404, "unknown-hook"),
            (ObjectMissing, 404, "object-missing"),
            (MethodNotAllowed, 405, "method-not-allowed"),
            (PreconditionFailed, 412, "precondition-failed"),
            (RangeNotSatisfiable, 416, "range-not-satisfiable"),
            (FileClosed, 500, "file-closed"),
            (Internal, 500, "internal"),
            (StoreRejected, 502, "store-rejected"),
            (StoreUnavailable, 503, "store-unavailable"),
            (Overloaded, 503, "overloaded"),
            (StorageFull, 507, "storage-full"),
        ]
    ],
)
def test_status_and_code_are_a_promise(error: type[UploadError], status: int, code: str) -> None:
    """Clients rely on these pairs of status and code: more may come, none may change."""
    assert (error.status, error.code) == (status, code)


def test_an_error_is_problem_details() -> None:
    """An error's JSON has the members of RFC 9457, its code and the request id."""
    members = FileMissing("Send a file.").problem("the-request")
    assert json.loads(json.dumps(members)) == {
        "type": "urn:problem-type:handoff:file-missing",
        "title": "The form has no file",
        "status": 400,
        "detail": "Send a file.",
        "code": "file-missing",
        "request_id": "the-request",
    }
    assert errors.PROBLEM_CONTENT_TYPE == "application/problem+json"


def test_an_error_says_its_detail_where_it_is_logged() -> None:
    """An error's text in a traceback is its detail."""
    assert str(FileMissing("Send a file.")) == "Send a file."


def test_an_error_keeps_its_own_headers() -> None:
    """Extra headers are copied, so that later changes to the argument have no effect."""
    given = {"Allow": "GET"}
    error = MethodNotAllowed("Use GET.", headers=given)
    given["Allow"] = "POST"
    assert error.headers == {"Allow": "GET"}
    assert FileMissing("Send a file.").headers == {}


@pytest.mark.parametrize(("error", "status"), [(StoreUnavailable, 503), (Overloaded, 503), (StorageFull, 507)])
def test_a_temporary_error_has_a_time_to_retry(
    error: type[StoreUnavailable | Overloaded | StorageFull], status: int
) -> None:
    """A 503 and a 507 have Retry-After, in seconds."""
    assert (error.status, error("Not now.").headers) == (status, {"Retry-After": "5"})


def test_a_wrong_setting_is_a_wrong_value() -> None:
    """A SettingsError is a ValueError of one line, and no client receives it."""
    assert str(SettingsError("UPLOAD_A", "b\n", "a c")) == r"UPLOAD_A is 'b\n'; it must be a c"
    assert issubclass(SettingsError, ValueError)
    assert not issubclass(SettingsError, UploadError)


def test_a_missing_bucket_is_named() -> None:
    """A BucketMissing names the bucket and the fix, in one line."""
    assert str(BucketMissing("photos")) == "there is no bucket 'photos'; create it or set UPLOAD_BUCKET"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        pytest.param(500, "InternalError", StoreUnavailable, id="the store's own fault"),
        pytest.param(503, "SlowDown", StoreUnavailable, id="a busy store"),
        pytest.param(400, "SlowDown", StoreUnavailable, id="a busy store with a status of its own"),
        pytest.param(400, "RequestTimeout", StoreUnavailable, id="a store that lost patience"),
        pytest.param(400, "ThrottlingException", StoreUnavailable, id="a store that throttles"),
        pytest.param(429, "TooManyRequests", StoreUnavailable, id="too many requests"),
        pytest.param(404, "NoSuchKey", ObjectMissing, id="no such key"),
        pytest.param(404, "404", ObjectMissing, id="no such key, to HEAD"),
        pytest.param(404, "NotFound", ObjectMissing, id="no such key, to HEAD elsewhere"),
        pytest.param(404, "NoSuchUpload", StoreRejected, id="no such upload"),
        pytest.param(404, "NoSuchBucket", StoreRejected, id="no such bucket"),
        pytest.param(403, "AccessDenied", StoreRejected, id="no access"),
        pytest.param(499, "Whatever", StoreRejected, id="the last of the refusals"),
    ],
)
def test_an_error_of_s3_has_its_class(status: int, code: str, expected: type[UploadError]) -> None:
    """Busy, missing and rejected are the three kinds of an error of S3."""
    assert type(from_store_answer(status, code, "why")) is expected


@pytest.mark.parametrize(
    ("status", "code", "detail"),
    [
        pytest.param(503, "SlowDown", "S3 answered 503 SlowDown. Nothing was stored; try again later.", id="busy"),
        pytest.param(403, "AccessDenied", "S3 answered 403 AccessDenied: why", id="refused"),
        pytest.param(404, "NoSuchKey", "No object has this key.", id="missing"),
    ],
)
def test_an_error_of_s3_is_quoted(status: int, code: str, detail: str) -> None:
    """The detail has S3's status and code, and its message for a rejection."""
    assert from_store_answer(status, code, "why").detail == detail


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(404, NotFound, id="no such address"),
        pytest.param(405, MethodNotAllowed, id="no such method"),
        pytest.param(413, BodyTooLarge, id="too large"),
    ],
)
def test_a_frameworks_error_becomes_ours(status: int, expected: type[UploadError]) -> None:
    """An error of the framework becomes the error class of its status."""
    error = from_http(status, "Whatever", "why", {"Allow": "GET"})
    assert type(error) is expected
    assert (error.detail, error.headers) == ("why", {"Allow": "GET"})


def test_any_other_error_of_a_framework_keeps_its_name() -> None:
    """A status without an error class gets an error of its own."""
    error = from_http(418, "I'm A Teapot", "why", {"A": "b"})
    assert error.problem("the-request") == {
        "type": "urn:problem-type:handoff:i'm-a-teapot",
        "title": "I'm A Teapot",
        "status": 418,
        "detail": "why",
        "code": "i'm-a-teapot",
        "request_id": "the-request",
    }
    assert error.headers == {"A": "b"}
    assert (UploadError.status, UploadError.code) == (500, "internal")


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        pytest.param(
            "copied",
            ["'file'", "'copied'", "pallets/flask#5399", "copy_current_request_context", "hook=bound", "read_early"],
            id="a copied context: it is named",
        ),
        pytest.param("bound", ["'file'", "'bound'", "something had closed it", "read_early"], id="something else"),
    ],
)
def test_a_closed_file_is_explained(hook: str, words: list[str]) -> None:
    """The error for a closed file names the pair and the fix."""
    error = file_closed("file", hook)
    assert type(error) is FileClosed
    assert [word for word in [*words, "Nothing was stored"] if word not in error.detail] == []
    assert ("flask#5399" in error.detail) == (hook == "copied")


def test_an_explanation_becomes_the_detail() -> None:
    """An explanation becomes the detail unchanged."""
    assert file_closed("file", "copied", "The upload was closed by a cat.").detail == "The upload was closed by a cat."


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(MemoryError(), Overloaded, id="no memory"),
        pytest.param(RuntimeError("can't start new thread"), Overloaded, id="no thread"),
        pytest.param(OSError(errno.EMFILE, "Too many open files"), Overloaded, id="no descriptor"),
        pytest.param(OSError(errno.ENFILE, "Too many open files"), Overloaded, id="no descriptor of the system"),
        pytest.param(OSError(errno.ENOMEM, "Cannot allocate memory"), Overloaded, id="no memory of the system"),
        pytest.param(RuntimeError("another"), Internal, id="another runtime error"),
        pytest.param(OSError(errno.EIO, "Input/output error"), Internal, id="another error of the system"),
        pytest.param(ZeroDivisionError(), Internal, id="a fault of the code"),
    ],
)
def test_an_unexpected_error_is_ours_or_a_lack_of_resources(error: Exception, expected: type[UploadError]) -> None:
    """A lack of memory, threads or files is a 503, other errors are a 500."""
    answer = fault(error)
    assert type(answer) is expected
    assert answer.__cause__ is error
