"""The state that all requests of one app share, without the shell's clients of S3."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import ModuleType

from filehandoff.admission import read_places, upload_places
from filehandoff.drain import Drain
from filehandoff.errors import SettingsError
from filehandoff.identity import Authenticate, TokenSource
from filehandoff.keys import USER
from filehandoff.logs import AnswerLog
from filehandoff.s3.context import Context
from filehandoff.settings import ROUTE_SETTINGS, Settings, variable
from filehandoff.stored import Handler
from filehandoff.tokens import TokensFile

logger = logging.getLogger(__name__)

#: The warning of a service without authentication.
OPEN = (
    "there is no authentication: every client that reaches this service can upload, read and delete; UPLOAD_AUTH "
    "changes that"
)


class Service(Context):
    """The settings and the shared state of one app.

    Args:
        framework: the framework's name, for receipts.
        settings: the app's settings.
        authenticate: identifies the sender of each request; None: every sender may do everything.
        lock: makes a lock, if several threads serve requests.
        on_stored: the handler of stored files; None if there is none, or the settings have a webhook.

    Raises:
        SettingsError: there are an `on_stored` and a webhook; after one has returned, the other could fail.

    Attributes:
        uploads: the places for uploads.
        reads: the places for requests for objects.

        trace_context: returns the headers that continue the current trace in another service.

    Raises:
        SettingsError: no sender is identified, and the keys hold its name, or a route needs its scope; or packages for
            traces are missing.
    """

    def __init__(
        self,
        framework: str,
        settings: Settings,
        authenticate: Authenticate | None = None,
        lock: "type[AbstractContextManager[object]] | None" = None,
        on_stored: Handler | None = None,
    ) -> None:
        if on_stored is not None and settings.webhook_url is not None:
            raise SettingsError(
                variable("webhook_url"), settings.webhook_url, "empty, because the app has an on_stored"
            )
        super().__init__(settings, lock)
        if authenticate is None:
            check_senders_are_unneeded(settings)
        self.framework = framework
        self.authenticate = authenticate
        self.uploads = upload_places(settings.max_concurrent, lock() if lock else None)
        self.reads = read_places(settings.max_concurrent, lock() if lock else None)
        self.drain = Drain()
        self.answer_log = AnswerLog()
        self.on_stored = on_stored
        self.trace_context: Callable[[], dict[str, str]] = tracing().trace_context if settings.traces else dict

    def warn_if_open(self) -> None:
        """Log a warning if no sender is identified; a server calls this once, at its start."""
        if self.authenticate is None:
            logger.warning(OPEN)


def check_senders_are_unneeded(settings: Settings) -> None:
    """Check the settings of a service that identifies no sender.

    Raises:
        SettingsError: the keys hold the sender's name, or a route needs its scope.
    """
    reason = "because the service identifies no sender; see UPLOAD_AUTH"
    if USER in settings.key_prefix:
        raise SettingsError(variable("key_prefix"), settings.key_prefix, f"without {USER}, {reason}")
    for name in ROUTE_SETTINGS:
        if (value := getattr(settings, name)) not in {"on", "off"}:
            raise SettingsError(variable(name), value, f"on or off, {reason}")


def tracing() -> ModuleType:
    """Return the module of the traces.

    Raises:
        SettingsError: its packages are missing.
    """
    try:
        from filehandoff import tracing as module  # noqa: PLC0415 - needs OpenTelemetry, which is optional
    except ModuleNotFoundError:
        wanted = "off, because OpenTelemetry is missing: pip install 'filehandoff[otel]'"
        raise SettingsError(variable("traces"), "on", wanted) from None
    return module


def token_source(settings: Settings) -> TokenSource | None:
    """Return the source of the tokens that `UPLOAD_AUTH` selects, with its file's content; None without one.

    Raises:
        SettingsError: a file cannot be used, or a package is missing.
    """
    match settings.auth:
        case "bearer":
            assert settings.tokens_file is not None
            return _with_file(TokensFile(settings.tokens_file), "tokens_file")
        case "jwt":
            return _jwt_source(settings)
    return None


def _jwt_source(settings: Settings) -> TokenSource:
    try:
        from filehandoff import jwt_tokens  # noqa: PLC0415 - needs PyJWT, which is optional
    except ModuleNotFoundError:
        wanted = "'none' or 'bearer', because PyJWT is missing: pip install 'filehandoff[jwt]'"
        raise SettingsError(variable("auth"), settings.auth, wanted) from None
    assert settings.jwt_issuer is not None
    assert settings.jwt_audience is not None
    of_issuer = partial(jwt_tokens.JwtTokens, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
    if settings.jwt_jwks_url is not None:
        return of_issuer(settings.jwt_jwks_url, parse=jwt_tokens.keys_of_set, every=jwt_tokens.SERVER_SECONDS)
    assert settings.jwt_key_file is not None
    source = of_issuer(settings.jwt_key_file, parse=jwt_tokens.key_of_file, every=jwt_tokens.FILE_SECONDS)
    return _with_file(source, "jwt_key_file")


def _with_file(source: TokenSource, setting: str) -> TokenSource:
    try:
        source.take(Path(source.address).read_bytes(), time.monotonic())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(variable(setting), source.address, f"a file that can be used ({reason})") from None
    return source
