"""The settings, from `UPLOAD_*` environment variables; the AWS chain provides S3's credentials and region."""

import binascii
import difflib
import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, NoReturn, Self, get_type_hints

from filehandoff import file_types
from filehandoff.errors import SettingsError
from filehandoff.identity import ALL_SCOPES
from filehandoff.keys import USER, common_prefix, prefix_of
from filehandoff.origins import ANY_ORIGIN, parse_host, parse_origin
from filehandoff.parts import MAX_PART_BYTES, MIN_PART_BYTES, PartSizes
from filehandoff.s3 import options

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

#: The log's formats and levels; see `filehandoff.logs`.
LOG_FORMATS = ("console", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")
#: The ways to identify a request's sender without code.
AUTH = ("none", "bearer", "jwt")
#: The ways to treat uploads while the store of the limits does not respond.
LIMITS_FAIL = ("open", "closed")
#: The settings that close routes or ask a scope for them, and their values.
ROUTE_SETTINGS = ("causes", "strategies", "metrics")
ROUTE_VALUES = ("on", "off", *ALL_SCOPES)

#: Bounds of the life of a resumable upload, and of its lock, which a store's clock shows in whole seconds.
MIN_RESUME_SECONDS, MAX_RESUME_LOCK = 60, 60
#: Longest life of a presigned URL (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html).
MAX_PRESIGN_SECONDS = 604_800
MIN_SECRET_LENGTH = 16
#: The prefix of a webhook's secret, and the lengths of the secret in bytes, by Standard Webhooks.
SECRET_PREFIX = "whsec_"  # noqa: S105 - no secret, but the prefix of each
WEBHOOK_SECRET_BYTES = range(24, 65)

#: Form fields whose files are stored: the usual one, and those of libraries such as Uppy, Dropzone and FilePond.
FIELD_NAMES = ("file", "files", "filepond")
_FIELD_NAME = re.compile(r"[^\s,\[\]\"]{1,100}")
_INDEX = re.compile(r"\[\d{0,9}\]\Z", re.ASCII)

_UNITS = {"": 1, "B": 1, "KIB": KIB, "MIB": MIB, "GIB": GIB, "TIB": 1024 * GIB}
_SIZE = re.compile(r"(\d{1,18})\s*(B|[KMGT]iB)?", re.IGNORECASE | re.ASCII)
_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*s?", re.ASCII)
_SWITCH = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
_COUNT = re.compile(r"\d{1,9}", re.ASCII)
_PREFIX = re.compile(r"(?:[A-Za-z0-9._-]+/)*[A-Za-z0-9._-]*")
_ROOT_PATH = re.compile(r"(?:(?:/[A-Za-z0-9._~-]+)+)?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
#: A label of a host as botocore accepts it; botocore itself checks late, when a client is made, with a long traceback.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_URL = re.compile(rf"https?://(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::\d{{1,5}})?(?:/[^\s?#]*)?", re.ASCII)
#: The URL of a webhook may also have a query.
_WEBHOOK_URL = re.compile(rf"{_URL.pattern}(?:\?[^\s#]*)?", re.ASCII)
_LIMITS_STORE = re.compile(r"(?:(?:redis|rediss|valkey|valkeys)://|(?:redis|valkey)\+unix:///)\S+")


@dataclass(frozen=True, slots=True)
class Kind:
    """Reads one kind of setting from the environment.

    Attributes:
        read: makes the value of a text; returns None for a malformed one.
        wanted: describes the texts that it can read.
    """

    read: Callable[[str], object]
    wanted: str = ""


def size_in_bytes(text: str) -> int | None:
    """Return the bytes of a size such as `8 MiB`; None for a malformed one."""
    match = _SIZE.fullmatch(text)
    return int(match[1]) * _UNITS[(match[2] or "").upper()] if match else None


def _seconds(text: str) -> float | None:
    match = _SECONDS.fullmatch(text)
    return float(match[1]) if match else None


def _count(text: str) -> int | None:
    return int(text) if _COUNT.fullmatch(text) else None


def _route_value(text: str) -> str:
    switch = _SWITCH.get(text.lower())
    return text.lower() if switch is None else ("off", "on")[switch]


def _words(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


#: The annotations of settings; each field has one, so none can arrive as a string by mistake.
Size = Annotated[int, Kind(size_in_bytes, "a size in bytes, such as 8388608 or '8 MiB'")]
Seconds = Annotated[float, Kind(_seconds, "a number of seconds, such as 30 or 0.5")]
Count = Annotated[int, Kind(_count, "a whole number")]
Switch = Annotated[bool, Kind(lambda text: _SWITCH.get(text.lower()), "on or off")]
Words = Annotated[tuple[str, ...], Kind(_words)]
Types = Annotated[tuple[str, ...], Kind(lambda text: _words(text) or None, "types such as 'image/*, application/pdf'")]
Text = Annotated[str, Kind(str)]
OptionalText = Annotated[str | None, Kind(str)]
LowerCase = Annotated[str, Kind(str.lower)]
S3Options = Annotated[
    options.Options,
    Kind(options.read, """a JSON object of S3's parameters, such as {"ServerSideEncryption": "aws:kms"}"""),
]
RouteValue = Annotated[str, Kind(_route_value)]  #: whether clients may use a route, or the scope that it needs


@dataclass(frozen=True, slots=True)
class Limits:
    """A form's limits, each counted while reading, with or without a declared length.

    All are in bytes but `form_parts`, a count, and `file_fields`, the names of the fields for files. `field_bytes`
    limits all text fields of one form together, since they share memory.
    """

    file_bytes: int = 5 * GIB
    body_bytes: int = 5 * GIB + MIB
    form_parts: int = 100
    field_bytes: int = 64 * KIB
    file_fields: tuple[str, ...] = FIELD_NAMES

    def is_file_field(self, name: str) -> bool:
        """Whether files in a field of this name are stored; `file[0]` counts as `file`."""
        return _INDEX.sub("", name) in self.file_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One process's settings: sizes in bytes, times in seconds, all checked on creation.

    Raises:
        SettingsError: a value is invalid; the message names the variable, the value and the valid values.
    """

    s3_endpoint_url: OptionalText = None
    s3_public_endpoint_url: OptionalText = None  #: S3's URL for clients, if it differs from the app's
    bucket: Text = "uploads"
    key_prefix: Text = ""  #: may hold `{user}`, the sender's part of the key space
    auth: LowerCase = "none"
    tokens_file: OptionalText = None  #: for `bearer`
    jwt_issuer: OptionalText = None
    jwt_audience: OptionalText = None
    jwt_key_file: OptionalText = None  #: for `jwt`: this, or `jwt_jwks_url`
    jwt_jwks_url: OptionalText = None
    public_url: OptionalText = None  #: the app's URL for clients, if it differs from their `Host`
    causes: RouteValue = "on"
    strategies: RouteValue = "on"
    metrics: RouteValue = "on"
    cors_origins: Words = ()  #: the other origins whose pages may use the service, or `*`
    hosts: Words = ()  #: the allowed values of `Host`; without any, all are
    trusted_proxies: Count = 0  #: the number of proxies in front whose `X-Forwarded-For` counts
    other_app_url: OptionalText = None  #: the other app's URL for browsers, which the page at `/` shows beside this one
    root_path: Text = ""  #: the path under which a proxy serves the app, such as /files
    root_path_stripped: Switch = True  #: whether the proxy removes `root_path` before it forwards a request
    max_file_bytes: Size = 5 * GIB
    max_body_bytes: Size = 0  #: 0 means `max_file_bytes` plus 1 MiB
    max_form_parts: Count = 100
    max_field_bytes: Size = 64 * KIB
    field_names: Words = FIELD_NAMES
    allowed_types: Types = ()  #: empty for all types
    store_found_type: Switch = False
    part_bytes: Size = 8 * MIB
    parts_in_flight: Count = 4
    max_concurrent: Count = 32
    rate: Text = ""  #: uploads in a time, such as 100/minute
    quota: Text = ""  #: bytes in a time, such as 10 GiB/day
    limits_store: OptionalText = field(default=None, repr=False)  #: the counters' Redis; None: the process's memory
    limits_fail: LowerCase = "open"
    idle_timeout: Seconds = 30.0
    drain_seconds: Seconds = 30.0
    presign_seconds: Seconds = 900.0
    resume_seconds: Seconds = 86_400.0  #: the life of a resumable upload after its last byte
    resume_lock: Seconds = 6.0
    promise_secret: OptionalText = field(default=None, repr=False)
    s3_connect_timeout: Seconds = 2.0
    s3_read_timeout: Seconds = 20.0
    s3_attempts: Count = 3
    handler_timeout: Seconds = 20.0
    webhook_url: OptionalText = field(default=None, repr=False)  #: its path or query may hold a token
    webhook_secret: OptionalText = field(default=None, repr=False)
    webhook_timeout: Seconds = 5.0
    s3_options: S3Options = field(default_factory=dict, hash=False)
    explain_closed_files: Switch = True
    traces: Switch = False
    log: LowerCase = "console"
    log_level: LowerCase = "info"

    def __post_init__(self) -> None:
        if not self.max_body_bytes:
            object.__setattr__(self, "max_body_bytes", self.max_file_bytes + MIB)
        self._check_names()
        self._check_key_prefix()
        self._check_auth()
        if wanted := file_types.objection(self.allowed_types):
            _refuse("allowed_types", ", ".join(self.allowed_types), wanted)
        if wanted := options.objection(self.s3_options):
            _refuse("s3_options", json.dumps(self.s3_options), wanted)
        self._check_browsers()
        self._check_numbers()
        self._check_times()
        self._check_webhook()

    def _check_names(self) -> None:
        for name in ("s3_endpoint_url", "s3_public_endpoint_url", "public_url", "other_app_url"):
            if (url := getattr(self, name)) is not None and not _URL.fullmatch(url):
                _refuse(name, url, "an http:// or https:// URL")
        if self.promise_secret is not None and len(self.promise_secret) < MIN_SECRET_LENGTH:
            _refuse("promise_secret", "", f"at least {MIN_SECRET_LENGTH} characters, the same for all processes")
        if not _BUCKET.fullmatch(self.bucket):
            _refuse("bucket", self.bucket, "a bucket name: 3 to 63 of a-z, 0-9, '.' and '-'")
        if self.limits_store is not None and not _LIMITS_STORE.fullmatch(self.limits_store):
            _refuse("limits_store", "", "a URL of redis://, rediss://, redis+unix://, or the same with valkey")
        words_of = {"log": LOG_FORMATS, "log_level": LOG_LEVELS, "auth": AUTH, "limits_fail": LIMITS_FAIL}
        for name, words in (words_of | dict.fromkeys(ROUTE_SETTINGS, ROUTE_VALUES)).items():
            if getattr(self, name) not in words:
                _refuse(name, getattr(self, name), f"one of {', '.join(words)}")
        if not _ROOT_PATH.fullmatch(self.root_path) or {".", ".."} & set(self.root_path.split("/")):
            _refuse(
                "root_path",
                self.root_path,
                "empty, or segments of A-Z, a-z, 0-9, '.', '_', '~' and '-', each after a '/', such as /files",
            )
        if not self.field_names or not all(_FIELD_NAME.fullmatch(name) for name in self.field_names):
            _refuse("field_names", ", ".join(self.field_names), "names of form fields, such as 'file, photo'")

    def _check_key_prefix(self) -> None:
        *folders, last = self.key_prefix.split("/")
        plain = "/".join([*("user" if folder == USER else folder for folder in folders), last])
        if (
            not _PREFIX.fullmatch(plain)
            or {".", ".."} & {*folders, last}
            or folders.count(USER) > 1
            or len(self.key_prefix) > 256  # noqa: PLR2004 - a key has 1,024 bytes in S3
        ):
            _refuse(
                "key_prefix",
                self.key_prefix,
                "at most 256 of A-Z, a-z, 0-9, '.', '_', '-' and '/', no leading '/', and at most one segment {user}/",
            )

    def _check_auth(self) -> None:
        if self.auth == "bearer" and not self.tokens_file:
            _refuse("tokens_file", "", "the file of the tokens for UPLOAD_AUTH=bearer")
        if self.auth == "jwt":
            for name in ("jwt_issuer", "jwt_audience"):
                if not getattr(self, name):
                    _refuse(name, "", f"the claim '{name[4:7]}' of the tokens for UPLOAD_AUTH=jwt")
            url = self.jwt_jwks_url
            if url is not None and not _URL.fullmatch(url.partition("?")[0]):
                _refuse("jwt_jwks_url", url, "an http:// or https:// URL")
            if (self.jwt_key_file is None) == (self.jwt_jwks_url is None):
                _refuse("jwt_key_file", self.jwt_key_file or "", "set for UPLOAD_AUTH=jwt, or else UPLOAD_JWT_JWKS_URL")

    def _check_browsers(self) -> None:
        if not self.allows_any_origin:
            wanted = "origins such as 'https://example.org, http://localhost:3000', or '*' alone"
            self._parse_words("cors_origins", parse_origin, wanted)
        self._parse_words("hosts", parse_host, "hosts such as 'example.org, *.example.org, 10.0.0.1:8001'")

    def _parse_words(self, name: str, parse: Callable[[str], str | None], wanted: str) -> None:
        words = getattr(self, name)
        parsed = tuple(parse(word) for word in words)
        if None in parsed:
            _refuse(name, ", ".join(words), wanted)
        object.__setattr__(self, name, parsed)

    def _check_numbers(self) -> None:
        for name in (
            "max_file_bytes",
            "max_form_parts",
            "max_field_bytes",
            "parts_in_flight",
            "max_concurrent",
        ):
            if getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "at least 1")
        if not 1 <= self.s3_attempts <= 10:  # noqa: PLR2004 - no client waits for more
            _refuse("s3_attempts", self.s3_attempts, "1 to 10")
        if not MIN_PART_BYTES <= self.part_bytes <= MAX_PART_BYTES:
            _refuse("part_bytes", self.part_bytes, "5 MiB to 5 GiB, the limits of S3")
        reach = PartSizes.reach(self.part_bytes)
        if self.max_file_bytes > reach:
            _refuse("max_file_bytes", self.max_file_bytes, f"at most {reach}, the largest object of S3")
        if self.max_body_bytes < self.max_file_bytes:
            _refuse(
                "max_body_bytes", self.max_body_bytes, f"at least UPLOAD_MAX_FILE_BYTES, which is {self.max_file_bytes}"
            )

    def _check_times(self) -> None:
        for name in (
            *("idle_timeout", "drain_seconds", "s3_connect_timeout", "s3_read_timeout"),
            *("handler_timeout", "webhook_timeout"),
        ):
            if getattr(self, name) <= 0:
                _refuse(name, getattr(self, name), "more than 0 seconds")
        if not 1 <= self.presign_seconds <= MAX_PRESIGN_SECONDS:
            _refuse("presign_seconds", self.presign_seconds, f"1 to {MAX_PRESIGN_SECONDS} seconds, a week")
        if self.resume_seconds < MIN_RESUME_SECONDS:
            _refuse("resume_seconds", self.resume_seconds, f"at least {MIN_RESUME_SECONDS} seconds")
        if not 1 <= self.resume_lock <= MAX_RESUME_LOCK:
            _refuse("resume_lock", self.resume_lock, f"1 to {MAX_RESUME_LOCK} seconds")

    def _check_webhook(self) -> None:
        if self.webhook_url is not None and not _WEBHOOK_URL.fullmatch(self.webhook_url):
            _refuse("webhook_url", self.webhook_url, "an http:// or https:// URL")
        if self.webhook_secret is not None and not _is_webhook_secret(self.webhook_secret):
            length = f"{WEBHOOK_SECRET_BYTES[0]} to {WEBHOOK_SECRET_BYTES[-1]}"
            _refuse("webhook_secret", "", f"'{SECRET_PREFIX}' and the base64 of {length} bytes")
        one, other = ("webhook_url", "webhook_secret") if self.webhook_url else ("webhook_secret", "webhook_url")
        if getattr(self, one) is not None and getattr(self, other) is None:
            _refuse(one, "", f"together with {variable(other)}, which is not set")

    @property
    def limits(self) -> Limits:
        """The settings of the form parser."""
        return Limits(
            self.max_file_bytes, self.max_body_bytes, self.max_form_parts, self.max_field_bytes, self.field_names
        )

    @property
    def allows_any_origin(self) -> bool:
        """Whether pages of all origins may use the service."""
        return self.cors_origins == (ANY_ORIGIN,)

    def base_url(self, origin: str) -> str:
        """Return the app's URL for clients: `public_url`, or the request's scheme and host with `root_path`."""
        return self.public_url.rstrip("/") if self.public_url else origin + self.root_path

    @property
    def routes_path(self) -> str:
        """The path under which the app itself registers its routes.

        There is only one: of two, a client could choose the path that no rule of the proxy covers.
        """
        return "" if self.root_path_stripped else self.root_path

    def prefix_of(self, user: str) -> str:
        """Return the beginning of the keys of the sender of this name."""
        return prefix_of(self.key_prefix, user)

    @property
    def common_prefix(self) -> str:
        """The beginning of the keys of all senders."""
        return common_prefix(self.key_prefix)

    @property
    def part_sizes(self) -> PartSizes:
        """The sizes of the parts of a multipart upload."""
        return PartSizes(self.part_bytes, self.max_file_bytes)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from an environment; an empty value means the default.

        Sizes may have a unit (`8 MiB`), seconds an `s`.

        Raises:
            SettingsError: a value is malformed or invalid; the message is one line.
        """
        values: dict[str, object] = {}
        for name, kind in kinds(cls).items():
            if text := environ.get(variable(name), "").strip():
                values[name] = value = kind.read(text)
                if value is None:
                    _refuse(name, text, kind.wanted)
        try:
            return cls(**values)  # type: ignore[arg-type] # each kind makes its own type
        except SettingsError as error:
            raise SettingsError(error.variable, environ.get(error.variable, "").strip(), error.wanted) from None


def _is_webhook_secret(text: str) -> bool:
    try:
        secret = b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):  # no base64; no ASCII
        return False
    return text.startswith(SECRET_PREFIX) and len(secret) in WEBHOOK_SECRET_BYTES


def variable(name: str) -> str:
    """Return the environment variable of a field: `UPLOAD_PART_BYTES` for `part_bytes`."""
    return f"UPLOAD_{name.upper()}"


def misspelt(environ: Mapping[str, str]) -> dict[str, str]:
    """Find variables that are almost a setting's name; return each with that setting."""
    known = {variable(one.name) for one in fields(Settings)}
    near = {
        name: difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        for name in environ
        if name.startswith("UPLOAD_") and name not in known
    }
    return {name: match[0] for name, match in sorted(near.items()) if match}


def kinds(settings: type) -> dict[str, Kind]:
    """Return how each field of a class is read from the environment, by its annotation.

    Raises:
        TypeError: a field's annotation does not have a kind.
    """
    found: dict[str, Kind] = {}
    for name, hint in get_type_hints(settings, include_extras=True).items():
        (found[name],) = getattr(hint, "__metadata__", None) or _no_kind(name)
    return found


def _no_kind(name: str) -> NoReturn:
    raise TypeError(f"the setting {name} must have one of the annotations for settings, such as Size")


def _refuse(name: str, value: object, wanted: str) -> None:
    raise SettingsError(variable(name), value, wanted)
