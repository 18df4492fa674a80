"""The contract suite passes for a third app and fails for each faulty one."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from io import BytesIO
from typing import IO, Any

import pytest
from flask import Flask, Response
from patience import PATIENCE
from processes.serving import served

import filehandoff.http
import flask_app.hooks
from demo import stores
from demo.processes import ROOT, ending, python
from demo.stack import Stack, wait_until_ready
from filehandoff.http import ConditionalRequest
from filehandoff.parts import Part
from filehandoff.receipt import Incoming
from filehandoff.s3 import calls
from filehandoff.settings import MIB, Settings
from filehandoff.web.request import EXTENSION
from flask_app import create_app
from flask_app.uploads import FormUpload

#: Selected parts of the suite: a file, and an expression for test names.
CELLS = "test_grid", "test_each_cell and (read_early-bound-memory or file-copied-memory)"
PROMISES = "test_uploads", "test_a_broken_promise and read_early-put"
FORMS = "test_errors", "test_a_bad_form and declared and boundary"
RANGES = "test_objects", "test_a_range_gives_that_part"
KNOWN = "test_objects", "test_an_object_the_client_has and its"
OTHERS = "test_objects", "test_an_object_in_another_state and DELETE"
PAGES = "test_objects", "test_an_uploaded_page"
IDS = "test_uploads", "test_a_safe_request_id"
ALL = (CELLS, PROMISES, FORMS, RANGES, KNOWN, OTHERS, PAGES, IDS)


@pytest.fixture(scope="module")
def store() -> Iterator[stores.Store]:
    """An S3 server with the suite's bucket."""
    started = stores.start("moto", {}, None)
    assert started.server is not None
    with ending([started.server]):
        wait_until_ready(Stack(started, Settings(), {}, [started.server]), started.endpoint_url, None)
        with closing(started.client()) as client:
            client.create_bucket(Bucket="contract")
        yield started


@pytest.fixture
def app(store: stores.Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """A third app with the suite's settings: our Flask app, until a test breaks it."""
    for name, value in store.environ.items():
        monkeypatch.setenv(name, value)
    settings = Settings(
        s3_endpoint_url=store.endpoint_url,
        bucket="contract",
        key_prefix="some/prefix/",
        part_bytes=5 * MIB,
        max_file_bytes=64 * MIB,
    )
    made = create_app(settings)
    yield made
    made.extensions[EXTENSION].close()


def suite(
    url: str, store: stores.Store, *tests: tuple[str, str], settle: str = "60"
) -> subprocess.CompletedProcess[str]:
    """Run the suite against a URL, as its README describes."""
    files = sorted({f"tests/contract/{file}.py" for file, _ in tests})
    words = " or ".join(f"({words})" for _, words in tests)
    options = ["--base-url", url, "--s3-endpoint", store.endpoint_url, "--settle-seconds", settle, "-k", words]
    return subprocess.run(  # noqa: S603 - our own command
        python("pytest", *files, "-p", "no:schemathesis", "-p", "no:cacheprovider", *options, "-q"),
        cwd=ROOT,
        env={**os.environ, **store.environ, "CI": "true"},  # in CI pytest explains most; this must not take minutes
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def drops_the_last_byte(_app: Flask, patch: pytest.MonkeyPatch) -> None:
    """It stores a file that is a byte short."""
    put = calls.put_object

    def put_less(incoming: Incoming, body: Part | IO[bytes], crc32: int, hook: Any) -> calls.Call[calls.Put]:
        data = b"".join(body.chunks) if isinstance(body, Part) else body.read()
        return put(incoming, BytesIO(data[:-1]), crc32, hook)

    patch.setattr(calls, "put_object", put_less)


def stamps_one_id_on_all(_app: Flask, patch: pytest.MonkeyPatch) -> None:
    """Write the same request id on every object."""
    patch.setitem(flask_app.hooks.HOOKS, "bound", lambda: lambda params, **_: params["Metadata"].update(
        {"request-id": "somebody"}
    ))  # fmt: skip


def forgets_to_undo(_app: Flask, patch: pytest.MonkeyPatch) -> None:
    """Leave the stored files of a rejected form in S3."""
    patch.setattr(FormUpload, "__exit__", lambda *_: None)


def keeps_the_file_open(_app: Flask, patch: pytest.MonkeyPatch) -> None:
    """Fix the known failure, contrary to the grid."""
    patch.setitem(flask_app.hooks.HOOKS, "copied", flask_app.hooks.bound)


def calls_a_broken_form_a_missing_file(app: Flask, _patch: pytest.MonkeyPatch) -> None:
    """Return the right status with a wrong code."""

    @app.after_request
    def rename(response: Response) -> Response:
        response.set_data(response.get_data().replace(b"form-malformed", b"file-missing"))
        return response


def ignores_ranges(_app: Flask, patch: pytest.MonkeyPatch) -> None:
    """Send the whole object for a range."""
    patch.setattr(filehandoff.http, "single_range", lambda _: None)


def ignores_conditions(_app: Flask, patch: pytest.MonkeyPatch) -> None:
    """Send and delete an object without checking the client's conditions."""
    patch.setattr(ConditionalRequest, "check", lambda *_: True)


def shows_a_page(app: Flask, _patch: pytest.MonkeyPatch) -> None:
    """Let an uploaded page run on the app's origin."""

    @app.after_request
    def show(response: Response) -> Response:
        response.headers.pop("Content-Security-Policy", None)
        return response


def loses_the_request_id(app: Flask, _patch: pytest.MonkeyPatch) -> None:
    """Omit the request id from responses."""

    @app.after_request
    def remove(response: Response) -> Response:
        response.call_on_close(lambda: None)
        return response

    wsgi_app = app.wsgi_app

    def without(environ: Any, start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [header for header in headers if header[0] != "X-Request-Id"], *rest)

        return wsgi_app(environ, start)

    app.wsgi_app = without  # type: ignore[method-assign] # Flask's way to add middleware


WRONG: list[tuple[Callable[[Flask, pytest.MonkeyPatch], None], tuple[str, str]]] = [
    (drops_the_last_byte, CELLS),
    (stamps_one_id_on_all, CELLS),
    (forgets_to_undo, PROMISES),
    (keeps_the_file_open, CELLS),
    (calls_a_broken_form_a_missing_file, FORMS),
    (ignores_ranges, RANGES),
    (ignores_conditions, KNOWN),
    (ignores_conditions, OTHERS),
    (shows_a_page, PAGES),
    (loses_the_request_id, IDS),
]
#: Those of `make test`: one of what is stored, of an error, of an object, and of a header.
CHOSEN = (drops_the_last_byte, forgets_to_undo, ignores_ranges, loses_the_request_id)


def test_a_third_app_passes_by_its_address(app: Flask, store: stores.Store) -> None:
    """An app known only by its URL passes if it keeps the contract."""
    with served(app) as url:
        ended = suite(url, store, *ALL)
    assert ended.returncode == 0, ended.stdout
    assert " passed" in ended.stdout


@pytest.mark.parametrize(
    ("break_it", "tests"),
    [
        pytest.param(
            break_it,
            tests,
            id=f"{break_it.__name__}, {tests[1].split()[0]}",
            marks=() if break_it in CHOSEN else pytest.mark.thorough,
        )
        for break_it, tests in WRONG
    ],
)
def test_a_wrong_app_fails(
    app: Flask,
    store: stores.Store,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[..., None],
    tests: tuple[str, str],
) -> None:
    """Each faulty app fails the tests for its fault."""
    break_it(app, monkeypatch)
    with served(app) as url:
        ended = suite(url, store, tests, settle="1")
    assert ended.returncode == 1, ended.stdout
    name = tests[1].split(maxsplit=1)[0]
    assert any(f"::{name}" in line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR")))


def test_the_suite_asks_for_a_store() -> None:
    """URLs without an S3 server to read from are rejected in one line."""
    ended = subprocess.run(  # noqa: S603 - our own command
        python(
            "pytest", "tests/contract/test_grid.py", "-p", "no:schemathesis", "--base-url", "http://127.0.0.1:1", "-x"
        ),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode != 0
    assert "--base-url needs --s3-endpoint" in ended.stdout + ended.stderr
