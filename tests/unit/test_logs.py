"""Log lines: one line each, with the request's id, without secrets and control codes."""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from filehandoff import logs
from filehandoff.errors import FileMissing, Internal, Overloaded, StoreUnavailable, UploadError
from filehandoff.logs import AnswerLog
from filehandoff.receipt import Incoming, Stored, UploadContext
from filehandoff.settings import Settings

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SIGNATURE = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
STYLES = ("json", "console")


def written(style: str, message: object, *values: object, **more: Any) -> str:
    """Return the handler's output for one message."""
    record = logging.getLogger("flask_app.views").makeRecord(
        "flask_app.views", logging.INFO, "views.py", 1, message, values, more.pop("exc_info", None), extra=more or None
    )
    return logs.formatter(style, [SECRET, "short"]).format(record)


def parsed(message: object, *values: object, **more: Any) -> dict[str, Any]:
    """Return the object of the handler's JSON line for one message."""
    line: dict[str, Any] = json.loads(written("json", message, *values, **more))
    return line


@pytest.fixture(autouse=True)
def _no_request() -> Iterator[None]:
    """Remove the id before and after each test."""
    logs.unbind()
    yield
    logs.unbind()


def test_a_line_of_json_has_time_logger_and_message() -> None:
    """A JSON line has the UTC time, level, logger, process, thread, message and values."""
    line = parsed("stored %d", 2, bytes=11, keys=["a", "b"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    assert isinstance(line.pop("process"), int)
    assert line == {
        "level": "info",
        "event": "stored 2",
        "logger": "flask_app.views",
        "thread": "MainThread",
        "bytes": 11,
        "keys": ["a", "b"],
    }


def test_a_console_line_looks_like_the_servers() -> None:
    """A console line has time, process, level, message and the other values."""
    line = written("console", "stored", bytes=11, told="a b", code="left out", ok=None)
    assert re.fullmatch(
        r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000\] \[\d+\] \[INFO\] stored "
        r"bytes=11 logger=flask_app\.views ok=None told='a b'",
        line,
    )


def test_a_line_has_its_requests_id() -> None:
    """A bound id is on each line until the next `bind` or `unbind`."""
    assert "request_id" not in parsed("…")
    assert logs.bound_id() == ""
    logs.bind("one")
    assert parsed("…")["request_id"] == logs.bound_id() == "one"
    assert "[INFO] request one: …" in written("console", "…")
    with logs.bound("two"):
        assert parsed("…")["request_id"] == "two"
    assert parsed("…")["request_id"] == "one"
    logs.unbind()
    assert "request_id" not in parsed("…")


HOSTILE = 'a"\r\n[2026-01-01 00:00:00 +0000] [1] [INFO] forged\x1b[2J\x00\x85\u2028\u202e'


@pytest.mark.parametrize("style", STYLES)
def test_no_name_of_a_clients_makes_a_line_or_steers_a_terminal(style: str) -> None:
    """Line breaks, escape sequences and marks of direction are escaped in every place."""
    line = written(style, "no file %s", HOSTILE, told=HOSTILE, keys=[HOSTILE])
    assert line.isprintable()
    assert line.count("forged") == 3


def fail(message: str) -> None:
    """Raise an error whose message a client has chosen."""
    raise ValueError(message)


def failure(message: str) -> Any:
    """Return the error as a log handler gets it."""
    try:
        fail(message)
    except ValueError:
        return sys.exc_info()


def test_a_traceback_is_one_line_of_json() -> None:
    """In JSON, a traceback is a member of its own."""
    line = parsed("internal", exc_info=failure(HOSTILE))
    assert line["event"] == "internal"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert HOSTILE in line["exception"]


def test_no_line_of_a_traceback_looks_like_one_of_the_log() -> None:
    """A traceback is indented in console lines, unlike any line of the log."""
    first, *more = written("console", "internal", exc_info=failure(HOSTILE)).split("\n")
    assert "[INFO] internal" in first
    assert more[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") and line.isprintable() for line in more)
    assert any("forged" in line for line in more)


SECRETS = [
    pytest.param(f"a key {SECRET}", SECRET, id="a credential of the environment's"),
    pytest.param(
        f"{{'Authorization': b'AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20261124/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={SIGNATURE}'}}",
        SIGNATURE,
        id="a signed header",
    ),
    pytest.param("Authorization: Bearer mF_9.B5f-4.1JqM", "mF_9", id="a bearer's token"),
    pytest.param("{'Authorization': 'Basic QWxhZGRpbjpvcGVu'}", "QWxh", id="a password"),
    pytest.param(f"Signature:\n{SIGNATURE}", SIGNATURE, id="a signature, as botocore tells it"),
    pytest.param(f"GET /b/k?X-Amz-Signature={SIGNATURE}&X-Amz-Expires=60", SIGNATURE, id="a presigned URL"),
    pytest.param(f"/?next=%2Fk%3FX-Amz-Signature%3D{SIGNATURE}", SIGNATURE, id="a presigned URL in a URL"),
    pytest.param("/k?AWSAccessKeyId=AKIAEXAMPLE&Signature=bWq2s1WEIj%3D&Expires=1", "bWq2", id="one of version 2"),
    pytest.param("x-amz-security-token:FwoGZXIvYXdzEBYaD", "FwoGZX", id="a session's token in a canonical request"),
    pytest.param("{'X-Amz-Security-Token': b'FwoGZXIvYXdzEBYaD'}", "FwoGZX", id="a session's token in a header"),
    pytest.param("<SecretAccessKey>a/b+c</SecretAccessKey>", "a/b+c", id="a response of STS"),
    pytest.param('{"SessionToken": "FwoGZXIvYXdzEBYaD"}', "FwoGZX", id="a response of a metadata service"),
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_no_secret_is_written(style: str, text: str, secret: str) -> None:
    """Messages, values and tracebacks contain no secret, and keep the text around it."""
    more = {"in": [text], "of": OSError(text)}
    line = written(style, "before %s", text, value=text, more=more, exc_info=failure(text))
    assert secret not in line
    assert "AKIAEXAMPLE" not in line
    assert line.count(logs.HIDDEN) >= 5
    assert "before " in line


def test_other_text_is_not_hidden() -> None:
    """Short values and ordinary words are not hidden."""
    text = "a short signature was refused: credentials are missing, the token of UPLOAD_BUCKET 'uploads'"
    assert parsed(text)["event"] == text


@pytest.mark.parametrize(
    ("handoff", "more"),
    [pytest.param("stream", {}, id="of a form"), pytest.param("presigned", {"begun_by": "an-id"}, id="presigned")],
)
def test_a_stored_upload_is_logged_without_its_filename(handoff: str, more: dict[str, str]) -> None:
    """The summary has hand-off, keys and sizes, but no filename."""
    way = UploadContext("flask", handoff, "bound", "an-id")
    stored = [
        Stored(Incoming(key, "private.txt", "text/plain"), size, "…", "…", 1) for key, size in (("a", 11), ("b", 4))
    ]
    assert way.summary(stored, 0.01234) == more | {
        "handoff": handoff,
        "hook": "bound",
        "bytes": 15,
        "parts": 2,
        "keys": ["a", "b"],
        "elapsed_ms": 12.3,
    }


@pytest.fixture
def configure() -> Iterator[Callable[..., None]]:
    """Configure the process's log by settings, and restore it afterwards."""
    loggers = [logging.getLogger(name) for name in (None, *logs.OWN_LOGGERS, *logs.SERVER_LOGGERS)]
    before = [(one, one.level, one.handlers, one.filters.copy(), one.propagate) for one in loggers]
    yield lambda **settings: logs.configure(Settings(**settings), {"AWS_SECRET_ACCESS_KEY": SECRET})
    logging.captureWarnings(capture=False)
    for logger, level, handlers, filters, propagate in before:
        logger.setLevel(level)
        logger.handlers, logger.filters, logger.propagate = handlers, filters, propagate


def events(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the messages of stderr's JSON lines; check that they are all."""
    output = capsys.readouterr()
    assert output.out == ""
    return [json.loads(line)["event"] for line in output.err.splitlines()]


def test_a_library_is_heard_when_it_warns(configure: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    """Libraries log only warnings, or everything at debug."""
    for level in ("debug", "info", "warning"):
        configure(log="json", log_level=level)
        for name in ("flask_app.views", "botocore.credentials"):
            logging.getLogger(name).info("%s at %s", name, level)
            logging.getLogger(name).warning("warned at %s", level)
    assert events(capsys) == [
        *("flask_app.views at debug", "warned at debug", "botocore.credentials at debug", "warned at debug"),
        *("flask_app.views at info", "warned at info", "warned at info"),
        *("warned at warning", "warned at warning"),
    ]


def test_the_credentials_of_the_environment_are_known(
    configure: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The values of the SDK's secret variables are hidden in every line."""
    configure(log="json")
    logging.getLogger("somebody").error("it is %s", SECRET)
    assert events(capsys) == [f"it is {logs.HIDDEN}"]


@pytest.mark.parametrize("server", logs.SERVER_LOGGERS)
def test_a_servers_lines_are_written_once_and_like_ours(
    configure: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path, server: str
) -> None:
    """A server's terminal handlers are removed, and its handlers for files stay."""
    logger = logging.getLogger(server)
    configure(log="json")
    logger.setLevel(logging.INFO)
    logger.handlers = [logging.StreamHandler(sys.stdout), logging.FileHandler(tmp_path / "log")]
    logger.propagate = False
    configure(log="json")
    logger.info("Listening")
    logger.handlers[-1].close()
    assert events(capsys) == ["Listening"]
    assert (tmp_path / "log").read_text() == "Listening\n"


def test_a_misspelt_setting_is_pointed_out_in_the_logs_own_form(
    configure: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The warning is JSON if the log is JSON, and otherwise a plain line."""
    for style in STYLES:
        configure(log=style)
        logs.warn_misspelt("flask_app", {"UPLOAD_LOGS": "UPLOAD_LOG"}, Settings(log=style))
    first, second = capsys.readouterr().err.splitlines()
    assert second == "flask_app: UPLOAD_LOGS is no setting; was UPLOAD_LOG meant?"
    assert json.loads(first)["event"] == second


def test_missing_descriptors_are_logged_once_a_minute(
    configure: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hundred reports of asyncio per second become one line a minute."""
    configure(log="json")
    monkeypatch.setattr(logs._ACCEPT_ERROR_LIMIT, "silent_until", 0.0)  # noqa: SLF001 - another test may have logged the line
    logger = logging.getLogger("asyncio")
    for now in (1000.0, 1001.0, 1059.0, 1061.0):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        error = OSError(24, "Too many open files")
        logger.error("socket.accept() out of system resource\nsocket: …", exc_info=error)
        logger.error("at %g", now)
    logger.error("socket.accept() out of system resource")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = "no connection can be accepted for now: [Errno 24] Too many open files"
    assert [line["event"] for line in lines] == [told, "at 1000", "at 1001", "at 1059", told, "at 1061"]
    assert not any("exception" in line for line in lines)


def answered(log: AnswerLog, error: UploadError, *times: float) -> list[tuple[int, object]]:
    """Return the level and the count of a response's line at each of these times."""
    lines = [log.line(error, now) for now in times]
    return [(level, values.get("count")) for level, values in lines]


def test_one_503_a_second_is_an_error_line() -> None:
    """One response of status 503 per second is an error line, with a count."""
    log = AnswerLog()
    assert answered(log, Overloaded("…"), 10.0, 10.1, 10.9, 11.0, 11.5, 13.0, 20.0) == [
        (logging.ERROR, None),
        (logging.DEBUG, None),
        (logging.DEBUG, None),
        (logging.ERROR, 3),
        (logging.DEBUG, None),
        (logging.ERROR, 2),
        (logging.ERROR, None),
    ]


def test_each_code_has_its_own_second() -> None:
    """Each code has its own second, so that no code hides another."""
    log = AnswerLog()
    assert answered(log, Overloaded("…"), 10.0, 10.1) == [(logging.ERROR, None), (logging.DEBUG, None)]
    assert answered(log, StoreUnavailable("…"), 10.2) == [(logging.ERROR, None)]


@pytest.mark.parametrize(("error", "level"), [(Internal("…"), logging.ERROR), (FileMissing("…"), logging.INFO)])
def test_any_other_answer_has_a_line(error: UploadError, level: int) -> None:
    """Every other response has its line: service errors as errors, request errors as information."""
    log = AnswerLog()
    assert answered(log, error, 10.0, 10.0, 10.0) == [(level, None)] * 3
    assert log.line(error, 10.0)[1] == {"code": error.code, "status": error.status}
