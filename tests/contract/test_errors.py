"""A refused form gets its code from every app, and leaves nothing behind."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from contract.api import BOUNDARY, CONTENT_TYPE, Api, check_problem, chunked, form, part

MIB = 1024**2
FILE = part("file", b"data", "name")
LIMIT_FILE = 32 * MIB
LIMIT_BODY = 33 * MIB
HEX = b"0" * 64
BAD_DIGEST_HEADER = form(part("file", b"x", "n", Content_Digest="md5"))
MANY_FIELD_BYTES = form(part("a", b"x" * 65_536), part("b", b"x"), FILE)
LARGE_BODY = form(FILE, part("other", bytes(LIMIT_FILE), "o"), part("other", bytes(MIB), "o"))

MALFORMED = (CONTENT_TYPE, 400, "form-malformed")
CHUNKED = (CONTENT_TYPE, 400, "chunked-form")

#: name, body, content type, status, code
FORMS: list[tuple[str, bytes, str, int, str]] = [
    ("no file", form(part("other", b"x")), CONTENT_TYPE, 400, "file-missing"),
    ("a file under another name", form(part("other", b"x", "name")), CONTENT_TYPE, 400, "file-missing"),
    ("a field named file", form(part("file", b"text")), CONTENT_TYPE, 400, "file-missing"),
    ("an empty file input", form(part("file", b"", "")), CONTENT_TYPE, 400, "file-missing"),
    ("no parts", form(), CONTENT_TYPE, 400, "file-missing"),
    ("no boundary", form(FILE), "multipart/form-data", 400, "form-malformed"),
    ("an empty boundary", form(FILE), 'multipart/form-data; boundary=""', 400, "form-malformed"),
    ("a boundary too long", form(FILE), f"multipart/form-data; boundary={'x' * 251}", 400, "form-malformed"),
    ("another boundary", form(FILE), "multipart/form-data; boundary=other", 400, "form-malformed"),
    ("no last boundary", FILE, CONTENT_TYPE, 400, "form-malformed"),
    ("cut in a file", FILE[:-4], CONTENT_TYPE, 400, "form-malformed"),
    ("cut in a header", FILE[:40], CONTENT_TYPE, 400, "form-malformed"),
    ("empty body", b"", CONTENT_TYPE, 400, "form-malformed"),
    ("a part without a name", form(part(None, b"x", "name")), CONTENT_TYPE, 400, "form-malformed"),
    ("a part with an empty name", form(part("", b"x", "name")), CONTENT_TYPE, 400, "form-malformed"),
    (
        "a part without headers",
        form(b"--" + BOUNDARY.encode() + b"\r\n\r\nx\r\n"),
        CONTENT_TYPE,
        400,
        "form-malformed",
    ),
    ("a header that never ends", form(part("file", b"x", "n" * 5000)), CONTENT_TYPE, 400, "form-malformed"),
    ("a large file without a filename", form(part("file", bytes(70_000))), CONTENT_TYPE, 400, "file-missing"),
    ("a broken first boundary", b"-" + form(FILE, FILE)[2:], CONTENT_TYPE, 400, "form-malformed"),
    ("an unknown encoding", form(part("file", b"x", "n", Content_Transfer_Encoding="uu")), *MALFORMED),
    ("broken base64", form(part("file", b"x", "n", Content_Transfer_Encoding="base64")), *MALFORMED),
    ("a chunk", form(part("dzchunkindex", b"0"), part("dztotalchunkcount", b"3"), FILE), *CHUNKED),
    ("a chunk, declared behind it", form(FILE, part("chunk", b"0"), part("chunks", b"3")), *CHUNKED),
    ("a digest that is none", form(part("sha256", b"abc"), FILE), CONTENT_TYPE, 400, "digest-malformed"),
    ("a digest in capitals", form(part("sha256", b"A" * 64), FILE), CONTENT_TYPE, 400, "digest-malformed"),
    ("a digest after its file", form(FILE, part("sha256", HEX)), CONTENT_TYPE, 400, "digest-malformed"),
    ("a digest header that is none", BAD_DIGEST_HEADER, CONTENT_TYPE, 400, "digest-malformed"),
    ("a wrong digest", form(part("sha256", HEX), FILE), CONTENT_TYPE, 422, "digest-mismatch"),
    ("101 parts", form(*[part("field", b"")] * 100, FILE), CONTENT_TYPE, 413, "too-many-parts"),
    ("64 KiB and a byte of fields", MANY_FIELD_BYTES, CONTENT_TYPE, 413, "too-many-fields"),
    ("a file over the limit", form(part("file", bytes(LIMIT_FILE + 1), "name")), CONTENT_TYPE, 413, "file-too-large"),
    ("a body over the limit", LARGE_BODY, CONTENT_TYPE, 413, "body-too-large"),
    ("JSON", b"{}", "application/json", 415, "unsupported-media-type"),
    ("a URL-encoded form", b"file=x", "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
    ("another multipart", form(FILE), CONTENT_TYPE.replace("form-data", "mixed"), 415, "unsupported-media-type"),
]  # fmt: skip


def declared(body: bytes) -> bytes:
    """A body as bytes; httpx declares its length."""
    return body


@pytest.mark.parametrize("framing", [pytest.param(declared, id="declared"), pytest.param(chunked, id="chunked")])
@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"), [pytest.param(*case, id=name) for name, *case in FORMS]
)
def test_a_bad_form_gets_the_same_answer_from_every_app(
    apps: list[Api], body: bytes, content_type: str, status: int, code: str, framing: Callable[[bytes], Any]
) -> None:
    """Each bad form gets the same problem from every app, declared or chunked."""
    answers = [app.upload(framing(body), headers={"Content-Type": content_type}) for app in apps]
    problems = [check_problem(answer, status, code) for answer in answers]
    for problem in problems:
        del problem["request_id"]
    assert all(problem == problems[0] for problem in problems)


def test_at_the_limits_a_form_is_taken(app: Api) -> None:
    """A form with exactly 100 parts and 64 KiB of fields is stored."""
    answer = app.upload(form(*[part("f", b"")] * 98, part("g", b"x" * 65_536), FILE))
    assert answer.status_code == 201, answer.text


def test_no_content_type_is_an_unsupported_one(app: Api) -> None:
    """A body without a Content-Type gets 415, like one of another type."""
    answer = app.send("POST", "/uploads/file", content=b"data")
    check_problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("POST", "/uploads/carrier_pigeon", 404, "unknown-handoff", id="hand-off"),
        pytest.param("POST", "/uploads/file?hook=fishing", 404, "unknown-hook", id="hook"),
        pytest.param("GET", "/nothing/here", 404, "not-found", id="path"),
        pytest.param("POST", "/", 405, "method-not-allowed", id="POST the page"),
        pytest.param("GET", "/uploads/file", 405, "method-not-allowed", id="GET an upload"),
        pytest.param("PATCH", "/uploads", 405, "method-not-allowed", id="PATCH an upload"),
        pytest.param("POST", "/healthz", 405, "method-not-allowed", id="POST health"),
        pytest.param("POST", "/objects/x", 405, "method-not-allowed", id="POST an object"),
    ],
)
def test_an_unknown_resource_is_a_problem(apps: list[Api], method: str, path: str, status: int, code: str) -> None:
    """Unknown names, paths and methods get the same problem from every app."""
    options: dict[str, Any] = {"content": form(FILE), "headers": {"Content-Type": CONTENT_TYPE}}
    answers = [app.send(method, path, **(options if method != "GET" else {})) for app in apps]
    problems = [check_problem(answer, status, code) for answer in answers]
    for problem in problems:
        del problem["request_id"]
    assert all(problem == problems[0] for problem in problems)
    assert len({frozenset(answer.headers.get("Allow", "").split(", ")) for answer in answers}) == 1
    assert bool(answers[0].headers.get("Allow")) == (status == httpx.codes.METHOD_NOT_ALLOWED)


def test_an_error_carries_the_clients_request_id(app: Api) -> None:
    """A refused request carries the client's request id."""
    answer = app.send("GET", "/nothing", headers={"X-Request-Id": "mine-1"})
    assert check_problem(answer, 404, "not-found")["request_id"] == "mine-1"


def test_the_connection_works_after_an_early_answer(app: Api) -> None:
    """An early error does not break the client's next request on the connection."""
    for _ in range(3):
        answer = app.upload(form(part("file", bytes(8 * MIB), "name")), "/uploads/unknown")
        check_problem(answer, 404, "unknown-handoff")
        assert app.send("GET", "/healthz").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        *("SCRIPT_NAME", "Script-Name", "PATH_INFO", "Path-Info", "REMOTE_USER", "Remote-User"),
        *("X-Forwarded-Prefix", "X-Forwarded-Path", "X-Original-Url", "X-Rewrite-Url", "X-Script-Name"),
    ],
)
def test_no_header_changes_the_path(app: Api, header: str) -> None:
    """A header for proxies does not change the route; only the request line decides it."""
    for value in ("/anything", "/healthz", "/uploads", "", "anything"):
        assert app.send("GET", "/healthz", headers={header: value}).status_code == 200
        check_problem(app.send("GET", "/anything/healthz", headers={header: value}), 404, "not-found")
        check_problem(app.send("GET", "/anythinghealthz", headers={header: value}), 404, "not-found")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off", "X-Forwarded-Protocol": "http"},
        {"X-Forwarded-Host": "elsewhere.example", "X-Forwarded-Port": "1", "Forwarded": "host=elsewhere.example"},
        {"X_Forwarded_Host": "elsewhere.example", "Transfer_Encoding": "chunked", "Content_Length": "1"},
    ],
    ids=["scheme", "host", "underscores"],
)
def test_no_forwarded_header_changes_an_answer(app: Api, headers: dict[str, str]) -> None:
    """Forwarded headers change neither scheme nor host in an answer."""
    answer = app.upload(form(FILE), headers=headers)
    assert answer.status_code == 201
    assert answer.headers["Location"].startswith("/objects/")
    assert "elsewhere" not in answer.text
