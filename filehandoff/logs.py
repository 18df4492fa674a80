"""The log as operators read it: JSON or text, the request's id on every line, and a secret on none; by structlog.

Whoever logs uses the standard library's `logging`, as the SDK and the servers do, so that all lines look alike. Who
starts a process calls `configure`; `create_app` does not, for the log belongs to the process and not to an app in it.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any, override

from structlog.contextvars import (
    bind_contextvars,
    bound_contextvars,
    clear_contextvars,
    get_contextvars,
    merge_contextvars,
)
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter
from structlog.processors import JSONRenderer, TimeStamper, format_exc_info
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

from filehandoff.errors import Internal, Overloaded, UploadError
from filehandoff.settings import Settings

type Line = MutableMapping[str, Any]

#: What a line begins with.
_FIRST = {name: place for place, name in enumerate(("timestamp", "level", "event", "request_id"))}

#: Whose lines are told from UPLOAD_LOG_LEVEL on. Of anybody else only warnings are, or at `debug` everything.
OURS = ("filehandoff", "flask_app", "quart_app")
#: Servers that print their own lines in their own form, by handlers that they may make after the app was loaded.
SERVERS = (
    *("gunicorn.error", "gunicorn.access"),
    *("hypercorn.error", "hypercorn.access"),
    *("uvicorn.error", "uvicorn.access", "uvicorn.asgi"),
)

#: What of the environment nobody is to read: where the SDK takes its credentials from, and ours.
SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "UPLOAD_PROMISE_SECRET")
HIDDEN = "[hidden]"

#: What follows one of these names is a secret: in signed headers, in presigned URLs of either version, in what STS
#: answers, and in the lines that botocore writes at `debug` of how it signed a request.
_SECRET = re.compile(
    r"""
    ( (?: signature | credential | awsaccesskeyid | security[-_]?token | session[-_]?token | secret[-_]?access[-_]?key )
      ['"]? \s* (?: = | : | %3D | > ) \s* b? ['"]? )
    [^\s,;&'"<>)}\]]+
    | ( authorization ['"]? \s* [=:] \s* b? ['"]? ) [^'"\r\n]+
    """,
    re.IGNORECASE | re.VERBOSE,
)


def configure(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Write this process's log to stderr as the settings say, the server's own lines included; again, if called again.

    A server's log that was sent to a file or to syslog goes there as well, as the server formats it.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(settings.log, [environ.get(name, "") for name in SECRET_VARIABLES]))
    handler.setLevel(settings.log_level.upper())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if settings.log_level == "debug" else logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(settings.log_level.upper())
    for name in SERVERS:
        logging.getLogger(name).addFilter(_take_over)
    logging.getLogger("asyncio").addFilter(_SPARING)
    logging.captureWarnings(capture=True)


def point_out(app: str, misspelt: Mapping[str, str], settings: Settings) -> None:
    """Tell whoever starts the app of settings that are none: in plain words, or as JSON like all the rest."""
    for name, meant in misspelt.items():
        line = f"{app}: {name} is no setting; was {meant} meant?"
        if settings.log == "json":
            logging.getLogger(app).warning(line)
        else:
            sys.stderr.write(f"{line}\n")


def bind(request_id: str) -> None:
    """Put this request's id, and no other's, on every line from here on, in this thread or task and its tasks."""
    unbind()
    bind_contextvars(request_id=request_id)


def unbind() -> None:
    """The request is over: put no id on what this thread has to say next."""
    clear_contextvars()


def bound(request_id: str) -> AbstractContextManager[None]:
    """The same for a block, in a thread that was begun for the request, and so knows nothing of it."""
    return bound_contextvars(request_id=request_id)


def bound_id() -> str:
    """The id that stands on the lines of this thread or task; empty if there is none."""
    return str(get_contextvars().get("request_id", ""))


def formatter(style: str, secrets: list[str]) -> logging.Formatter:
    """The lines of `json` or `console`, without these secrets and without what looks like one."""
    if style == "json":
        # In ASCII: no byte of a filename is one of the terminal's, or a line's end.
        render: list[Any] = [JSONRenderer()]
        time = TimeStamper("iso", utc=True)
    else:
        render = [_for_the_eye, _console()]
        time = TimeStamper("%Y-%m-%d %H:%M:%S +0000", utc=True)
    return ProcessorFormatter(
        foreign_pre_chain=[merge_contextvars, add_log_level, add_logger_name, ExtraAdder(), _add_place],
        processors=[ProcessorFormatter.remove_processors_meta, time, format_exc_info, _hide(secrets), *render],
    )


def _add_place(_logger: object, _method: str, line: Line) -> Line:
    record: logging.LogRecord = line["_record"]
    line.update(process=record.process, thread=record.threadName)
    line.pop("color_message", None)  # uvicorn's message once more, for a terminal
    return line


def _hide(secrets: list[str]) -> Callable[[Any, str, Line], Line]:
    """Take secrets out of every value: these, and whatever stands where one stands."""
    known = [secret for secret in secrets if len(secret) >= 8]  # noqa: PLR2004 - a shorter one is a word like any other

    def hidden(value: Any) -> Any:
        if isinstance(value, str):
            for secret in known:
                value = value.replace(secret, HIDDEN)
            return _SECRET.sub(rf"\g<1>\g<2>{HIDDEN}", value)
        if isinstance(value, dict):
            return {name: hidden(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [hidden(one) for one in value]
        return value if isinstance(value, int | float | None) else hidden(str(value))

    def hide(_logger: object, _method: str, line: Line) -> Line:
        return {name: hidden(line[name]) for name in sorted(line, key=lambda name: _FIRST.get(name, len(_FIRST)))}

    return hide


def _for_the_eye(_logger: object, _method: str, line: Line) -> Line:
    """Put the request's id before the message; let nothing in either begin a line or steer the terminal."""
    request_id = line.pop("request_id", None)
    for name in ("thread", "code"):  # of use to a search only: an error's message begins with its code
        line.pop(name, None)
    event = str(line["event"])
    line["event"] = printable(f"request {request_id}: {event}" if request_id else event)
    if "exception" in line:
        # Indented, so that no line of it can be taken for one of the log's own.
        line["exception"] = "\n".join(f"    {printable(one)}" for one in line["exception"].splitlines())
    return line


def printable(text: str) -> str:
    r"""The text with escapes for what is not printed: line ends, control characters, directions; `\n`, `\u202e`."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def _console() -> ConsoleRenderer:
    """Lines as the servers write them: `[time] [process] [LEVEL] message`, and then what else is known."""

    def bracketed(show: Callable[[object], str]) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(None, "", "", show, prefix="[", postfix="]")

    return ConsoleRenderer(
        columns=[
            Column("timestamp", bracketed(str)),
            Column("process", bracketed(str)),
            Column("level", bracketed(lambda level: str(level).upper())),
            Column("event", KeyValueColumnFormatter(None, "", "", str)),
            Column("", KeyValueColumnFormatter("", "", "", _brief)),
        ]
    )


def _brief(value: object) -> str:
    """A word as it is, anything else with quotes and escapes."""
    text = str(value)
    return text if text and text.isprintable() and " " not in text and "'" not in text else repr(value)


def _take_over(record: logging.LogRecord) -> bool:
    """Have a server's line written by our handler, not by one that the server has made for its terminal."""
    logger = logging.getLogger(record.name)
    while logger.parent is not None:  # up to the root, which has our handler
        logger.handlers = [handler for handler in logger.handlers if type(handler) is not logging.StreamHandler]
        logger.propagate = True
        logger = logger.parent
    return True


class AnswerLog:
    """Decides which answers are worth a line: all, but of those with status 503 one a second for each code.

    Under attack, or while S3 is away, a process gives thousands of them. The others are lines at `debug`.
    """

    SECONDS = 1.0

    def __init__(self) -> None:
        self._lock = Lock()
        self._silent_until: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def line(self, error: UploadError, now: float) -> tuple[int, dict[str, object]]:
        """The level of an answer's line, and its values beside the message; `now` is in seconds, of any clock.

        `count` is how many answers of this code the line stands for, where it stands for more than one.
        """
        values: dict[str, object] = {"code": error.code, "status": error.status}
        if error.status != Overloaded.status:
            return logging.ERROR if error.status >= Internal.status else logging.INFO, values
        with self._lock:
            self._counts[error.code] = count = self._counts.get(error.code, 0) + 1
            if now < self._silent_until.get(error.code, now):
                return logging.DEBUG, values
            self._silent_until[error.code] = now + self.SECONDS
            del self._counts[error.code]
        return logging.ERROR, values | ({"count": count} if count > 1 else {})


class _Sparing(logging.Filter):
    """Has it told once a minute, in one line, that no connection can be accepted for want of file descriptors.

    asyncio tells it a hundred times in a row, once for each connection that may wait, with a traceback, and then again
    every second.
    """

    SECONDS = 60.0

    def __init__(self) -> None:
        super().__init__()
        self.silent_until = 0.0

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if not record.getMessage().startswith("socket.accept() out of system resource"):
            return True
        if (now := time.monotonic()) < self.silent_until:
            return False
        self.silent_until = now + self.SECONDS
        reason = record.exc_info[1] if record.exc_info else None
        record.msg, record.args, record.exc_info = "no connection can be accepted for now: %s", (reason,), None
        return True


_SPARING = _Sparing()
