"""Settings: how each is read, its valid values, and its error."""

import re
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filehandoff.errors import SettingsError
from filehandoff.parts import PartSizes
from filehandoff.settings import GIB, KIB, MIB, Limits, Settings, kinds, misspelt, variable

VARIABLES = [variable(field.name) for field in fields(Settings)]
DEFAULTS = Settings()
WEBHOOK_SECRET = f"whsec_{'A' * 32}"


def test_the_defaults_are_those_of_the_design() -> None:
    """An empty environment gives these defaults."""
    assert Settings.from_env({}) == DEFAULTS
    assert {field.name: getattr(DEFAULTS, field.name) for field in fields(Settings)} == {
        "s3_endpoint_url": None,
        "s3_public_endpoint_url": None,
        "bucket": "uploads",
        "key_prefix": "",
        "auth": "none",
        "tokens_file": None,
        "jwt_issuer": None,
        "jwt_audience": None,
        "jwt_key_file": None,
        "jwt_jwks_url": None,
        "public_url": None,
        "causes": "on",
        "strategies": "on",
        "metrics": "on",
        "cors_origins": (),
        "hosts": (),
        "trusted_proxies": 0,
        "rate": "",
        "quota": "",
        "limits_store": None,
        "limits_fail": "open",
        "other_app_url": None,
        "root_path": "",
        "root_path_stripped": True,
        "max_file_bytes": 5 * GIB,
        "max_body_bytes": 5 * GIB + MIB,
        "max_form_parts": 100,
        "max_field_bytes": 64 * KIB,
        "field_names": ("file", "files", "filepond"),
        "allowed_types": (),
        "store_found_type": False,
        "part_bytes": 8 * MIB,
        "parts_in_flight": 4,
        "max_concurrent": 32,
        "idle_timeout": 30.0,
        "drain_seconds": 30.0,
        "presign_seconds": 900.0,
        "resume_seconds": 86_400.0,
        "resume_lock": 6.0,
        "promise_secret": None,
        "s3_connect_timeout": 2.0,
        "s3_read_timeout": 20.0,
        "s3_attempts": 3,
        "handler_timeout": 20.0,
        "webhook_url": None,
        "webhook_secret": None,
        "webhook_timeout": 5.0,
        "s3_options": {},
        "explain_closed_files": True,
        "traces": False,
        "log": "console",
        "log_level": "info",
    }


def test_the_units_are_binary() -> None:
    """A KiB is 1,024 bytes, and each larger unit is 1,024 of the one before."""
    assert (KIB, MIB, GIB) == (2**10, 2**20, 2**30)


def test_a_setting_is_named_after_its_field() -> None:
    """A field's variable is its name in upper case after UPLOAD_."""
    assert variable("part_bytes") == "UPLOAD_PART_BYTES"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        pytest.param("part_bytes", "8388608", 8 * MIB, id="bytes"),
        pytest.param("part_bytes", "8388608B", 8 * MIB, id="bytes with a unit"),
        pytest.param("part_bytes", "8192 KiB", 8 * MIB, id="KiB"),
        pytest.param("part_bytes", "8 MiB", 8 * MIB, id="MiB"),
        pytest.param("part_bytes", "8mib", 8 * MIB, id="a unit in any case, without a space"),
        pytest.param("part_bytes", "  8 MiB\n", 8 * MIB, id="white space around it"),
        pytest.param("part_bytes", "", 8 * MIB, id="empty is the default"),
        pytest.param("part_bytes", " ", 8 * MIB, id="blank is the default"),
        pytest.param("part_bytes", "5 MiB", 5 * MIB, id="the smallest part"),
        pytest.param("part_bytes", "5 GiB", 5 * GIB, id="the largest part"),
        pytest.param("max_file_bytes", "1", 1, id="the smallest largest file"),
        pytest.param("max_file_bytes", "5 TiB", 5 * 1024 * GIB, id="TiB"),
        pytest.param(
            "max_file_bytes", str(PartSizes.reach(8 * MIB)), PartSizes.reach(8 * MIB), id="the largest object"
        ),
        pytest.param("max_body_bytes", "5 GiB", 5 * GIB, id="a body no larger than its file"),
        pytest.param("max_body_bytes", "0", 5 * GIB + MIB, id="0 is the default body"),
        pytest.param("max_field_bytes", "1", 1, id="one byte of fields"),
        pytest.param("max_form_parts", "1", 1, id="one part"),
        pytest.param("field_names", "photo", ("photo",), id="one field for files"),
        pytest.param("field_names", " a.b , ä,", ("a.b", "ä"), id="two fields for files"),
        pytest.param("allowed_types", "image/*, application/pdf", ("image/*", "application/pdf"), id="two types"),
        pytest.param("parts_in_flight", "1", 1, id="one part in flight"),
        pytest.param("max_concurrent", "1000", 1000, id="a count"),
        pytest.param("s3_attempts", "1", 1, id="the fewest attempts"),
        pytest.param("s3_attempts", "10", 10, id="the most attempts"),
        pytest.param("idle_timeout", "0.5", 0.5, id="half a second"),
        pytest.param("drain_seconds", "10 s", 10.0, id="seconds with a unit"),
        pytest.param("presign_seconds", "604800", 604_800.0, id="a week for a URL"),
        pytest.param("promise_secret", "x" * 16, "x" * 16, id="the shortest secret"),
        pytest.param("s3_connect_timeout", "1s", 1.0, id="a unit without a space"),
        pytest.param("s3_read_timeout", "60", 60.0, id="seconds"),
        pytest.param("log", "JSON", "json", id="a log in any case"),
        pytest.param("log_level", "warning", "warning", id="a level"),
        pytest.param("bucket", "abc", "abc", id="the shortest bucket"),
        pytest.param("bucket", "a.b-c" * 12 + "abc", "a.b-c" * 12 + "abc", id="the longest bucket"),
        pytest.param("key_prefix", "a/b.c/_-/", "a/b.c/_-/", id="a prefix of folders"),
        pytest.param("key_prefix", "a...", "a...", id="dots among others"),
        pytest.param("key_prefix", "x" * 256, "x" * 256, id="the longest prefix"),
        pytest.param("key_prefix", "in/{user}/a", "in/{user}/a", id="a sender's part"),
        pytest.param("auth", "NONE", "none", id="no authentication"),
        pytest.param("causes", "False", "off", id="a closed route"),
        pytest.param("strategies", "1", "on", id="an open route"),
        pytest.param("metrics", "Operate", "operate", id="a scope for a route"),
        pytest.param("hosts", "A.b, *.c.d:1, [::1]", ("a.b", "*.c.d:1", "[::1]"), id="hosts"),
        pytest.param("cors_origins", "*", ("*",), id="any origin"),
        pytest.param("cors_origins", "https://A.b:443,http://c:1", ("https://a.b", "http://c:1"), id="origins"),
        pytest.param("root_path", "/files", "/files", id="a root path"),
        pytest.param("root_path", "/a.b/c_-~9", "/a.b/c_-~9", id="a root path of two segments"),
        pytest.param("root_path_stripped", "off", False, id="a proxy that keeps the root path"),
        pytest.param("s3_endpoint_url", "http://localhost:9000", "http://localhost:9000", id="a URL with a port"),
        pytest.param("s3_endpoint_url", "https://s3.example.com", "https://s3.example.com", id="a URL"),
        pytest.param("s3_endpoint_url", "http://127.0.0.1:1/s3", "http://127.0.0.1:1/s3", id="a URL with a path"),
        pytest.param("s3_endpoint_url", "http://[::1]:9000", "http://[::1]:9000", id="a URL by IPv6"),
    ],
)
def test_a_setting_is_read_from_its_variable(name: str, text: str, expected: object) -> None:
    """Sizes may have a unit, seconds an `s`, and each value gets its field's type."""
    settings = Settings.from_env({variable(name): text})
    assert getattr(settings, name) == expected
    assert type(getattr(settings, name)) is type(expected)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("part_bytes", "8 MB", id="a decimal unit"),
        pytest.param("part_bytes", "8.5 MiB", id="a broken size"),
        pytest.param("part_bytes", "-1", id="a size below nothing"),
        pytest.param("part_bytes", "MiB", id="a unit alone"),
        pytest.param("part_bytes", "8 \u212aiB", id="a Kelvin sign for a K"),
        pytest.param("part_bytes", "8 M\u0130B", id="a dotted capital I for an i"),
        pytest.param("part_bytes", "\u0668 MiB", id="a digit of another script"),
        pytest.param("part_bytes", str(5 * MIB - 1), id="a byte under S3's smallest part"),
        pytest.param("part_bytes", str(5 * GIB + 1), id="a byte over S3's largest part"),
        pytest.param("max_file_bytes", "0", id="no file at all"),
        pytest.param("max_file_bytes", str(PartSizes.reach(8 * MIB) + 1), id="a byte over S3's largest object"),
        pytest.param("max_file_bytes", "9" * 18 + " TiB", id="more than there is"),
        pytest.param("max_body_bytes", str(5 * GIB - 1), id="a body smaller than its file"),
        pytest.param("max_field_bytes", "0", id="no bytes of fields"),
        pytest.param("max_form_parts", "0", id="no parts"),
        pytest.param("max_form_parts", "1.5", id="a broken count"),
        pytest.param("max_form_parts", "many", id="a word for a count"),
        pytest.param("field_names", ",", id="no field for files"),
        pytest.param("field_names", "file[]", id="a field that has its brackets"),
        pytest.param("field_names", "x" * 101, id="a long field name"),
        pytest.param("parts_in_flight", "0", id="no parts in flight"),
        pytest.param("max_concurrent", "0", id="no uploads at once"),
        pytest.param("max_concurrent", "1" * 10, id="ten digits of uploads at once"),
        pytest.param("s3_attempts", "0", id="no attempt"),
        pytest.param("s3_attempts", "11", id="one attempt too many"),
        pytest.param("idle_timeout", "0", id="no time at all"),
        pytest.param("idle_timeout", "nan", id="not a number"),
        pytest.param("idle_timeout", "-1", id="time before it began"),
        pytest.param("drain_seconds", "0", id="no time to drain"),
        pytest.param("log", "xml", id="a log of another form"),
        pytest.param("log_level", "loud", id="no level"),
        pytest.param("drain_seconds", "1 min", id="minutes"),
        pytest.param("s3_connect_timeout", "0.0", id="no time to connect"),
        pytest.param("s3_read_timeout", "0 s", id="no time to read"),
        pytest.param("bucket", "ab", id="a bucket of two characters"),
        pytest.param("bucket", "x" * 64, id="a bucket of 64 characters"),
        pytest.param("bucket", "Uploads", id="an upper case bucket"),
        pytest.param("bucket", "-ab", id="a bucket that begins with a hyphen"),
        pytest.param("bucket", "a/b", id="a bucket with a slash"),
        pytest.param("key_prefix", "/a", id="a prefix that begins with a slash"),
        pytest.param("key_prefix", "a-{user}/", id="a sender in a part of a segment"),
        pytest.param("key_prefix", "{user}", id="a sender without a slash"),
        pytest.param("key_prefix", "{user}/{user}/", id="a sender twice"),
        pytest.param("key_prefix", "{name}/", id="another template"),
        pytest.param("auth", "basic", id="no such authentication"),
        pytest.param("metrics", "admin", id="no such scope"),
        pytest.param("hosts", "*", id="a wildcard alone"),
        pytest.param("hosts", "https://a.b", id="an origin for a host"),
        pytest.param("cors_origins", "null", id="the origin null"),
        pytest.param("cors_origins", "*, https://a.b", id="any origin and another"),
        pytest.param("cors_origins", "https://a.b, https://c.d/", id="an origin with a path"),
        pytest.param("trusted_proxies", "-1", id="fewer than no proxies"),
        pytest.param("key_prefix", "a//b", id="an empty folder"),
        pytest.param("key_prefix", "a/../b", id="a way up"),
        pytest.param("key_prefix", "./a", id="here"),
        pytest.param("key_prefix", "a b", id="a space"),
        pytest.param("key_prefix", "a\nb", id="a line end"),
        pytest.param("key_prefix", "é", id="not ASCII"),
        pytest.param("key_prefix", "x" * 257, id="a prefix one byte too long"),
        pytest.param("root_path", "/", id="a root path of a slash alone"),
        pytest.param("root_path", "files", id="a root path without a slash"),
        pytest.param("root_path", "/files/", id="a root path that ends with a slash"),
        pytest.param("root_path", "//files", id="a root path that is another host's URL"),
        pytest.param("root_path", "/a/../b", id="a root path with a way up"),
        pytest.param("root_path", "/a b", id="a space in a root path"),
        pytest.param("root_path", "/%41", id="a root path with an escape"),
        pytest.param("root_path", "/a?b", id="a query in a root path"),
        pytest.param("root_path", "http://a/files", id="a URL for a root path"),
        pytest.param("root_path", "/é", id="a root path outside of ASCII"),
        pytest.param("root_path", "/a\nb", id="a line end in a root path"),
        pytest.param("root_path_stripped", "half", id="a proxy that strips by half"),
        pytest.param("presign_seconds", "0.5", id="less than a second for a URL"),
        pytest.param("presign_seconds", "604801", id="a URL for more than a week"),
        pytest.param("resume_seconds", "59", id="less than a minute for a resumable upload"),
        pytest.param("resume_lock", "0.5", id="a lock shorter than the stores' seconds"),
        pytest.param("resume_lock", "61", id="a lock for more than a minute"),
        pytest.param("promise_secret", "x" * 15, id="a secret that is too short"),
        pytest.param("handler_timeout", "0", id="no time for the handler"),
        pytest.param("webhook_timeout", "0", id="no time for the webhook"),
        pytest.param("webhook_url", "example.org", id="a webhook without a scheme"),
        pytest.param("webhook_url", "https://user@example.org/", id="a webhook with a user"),
        pytest.param("webhook_url", "https://example.org/#a", id="a webhook with a fragment"),
        pytest.param("webhook_url", "https://example.org/", id="a webhook without a secret"),
        pytest.param("webhook_secret", WEBHOOK_SECRET, id="the secret of no webhook"),
        pytest.param("webhook_secret", WEBHOOK_SECRET.removeprefix("whsec_"), id="a secret without its prefix"),
        pytest.param("webhook_secret", "whsec_ä", id="a secret that is not ASCII"),
        pytest.param("webhook_secret", f"whsec_{'A' * 33}", id="a secret that is not base64"),
        pytest.param("webhook_secret", f"whsec_{'A' * 28}", id="a secret of 21 bytes"),
        pytest.param("webhook_secret", f"whsec_{'A' * 88}", id="a secret of 66 bytes"),
        pytest.param("s3_public_endpoint_url", "s3.example.com", id="a public URL without a scheme"),
        pytest.param("s3_endpoint_url", "localhost:9000", id="a URL without a scheme"),
        pytest.param("s3_endpoint_url", "ftp://localhost", id="another scheme"),
        pytest.param("s3_endpoint_url", "http://", id="no host"),
        pytest.param("s3_endpoint_url", "http://a b", id="a space in a URL"),
        pytest.param("s3_endpoint_url", "http://a?b", id="a query in a URL"),
        pytest.param("s3_endpoint_url", "http://a:port", id="a port that is no number"),
        pytest.param("s3_endpoint_url", "http://a:", id="a colon and no port"),
        pytest.param("s3_endpoint_url", "http://a_b:9000", id="a host that botocore refuses"),
        pytest.param("s3_endpoint_url", "http://-a", id="a host that begins with a hyphen"),
        pytest.param("s3_endpoint_url", "http://[::1", id="half an IPv6 address"),
        pytest.param("s3_endpoint_url", "http://a\nb", id="a line end in a URL"),
    ],
)
def test_an_invalid_setting_is_an_error_of_one_line(name: str, text: str) -> None:
    """The error for an invalid value has the variable, its text and the valid values."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({variable(name): text})
    (line,) = str(caught.value).splitlines()
    assert re.fullmatch(rf"{variable(name)} is .+; it must be .+", line)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("cors_origins", "https://a.b, https://user:a-secret@c.d", id="an origin"),
        pytest.param("s3_endpoint_url", "http://a-secret@c.d", id="a URL"),
        pytest.param("promise_secret", "a-secret", id="a secret"),
    ],
)
def test_the_error_for_a_setting_shows_no_secret(name: str, text: str) -> None:
    """The line goes to the log."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({variable(name): text})
    assert "a-secret" not in str(caught.value)


texts = (
    st.text(max_size=30)
    | st.text("0123456789", max_size=20)
    | st.from_regex(r"(?i)\d{1,3} ?[kmgt]?i?b?s?")
    | st.from_regex(r"https?://[a-z0-9.:\[\]/-]*", fullmatch=True)
)
#: Texts that are valid for most settings, so that the checks of settings against each other run.
sizes = st.builds("{} {}iB".format, st.integers(0, 60), st.sampled_from("KMGT"))


@given(
    st.dictionaries(st.sampled_from(VARIABLES), texts, min_size=1, max_size=1)
    | st.dictionaries(st.sampled_from(VARIABLES), texts | sizes)
    | st.dictionaries(st.sampled_from([name for name in VARIABLES if name.endswith("_BYTES")]), sizes)
)
def test_any_environment_is_settings_or_one_line(environ: dict[str, str]) -> None:
    """Any environment gives valid settings, or an error of one line that names a variable."""
    told = ""
    try:
        Settings.from_env(environ)
    except SettingsError as error:
        told = str(error)
    assert not told or (told.partition(" is ")[0] in environ and len(told.splitlines()) == 1)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        pytest.param({"UPLOAD_MAX_FILE_BYTES": "2 MiB", "UPLOAD_MAX_BODY_BYTES": "1 MiB"}, "MAX_BODY", id="the body"),
        pytest.param({"UPLOAD_PART_BYTES": "5 MiB", "UPLOAD_MAX_FILE_BYTES": "48.8"}, "MAX_FILE", id="the file"),
        pytest.param(
            {"UPLOAD_PART_BYTES": "5 MiB", "UPLOAD_MAX_FILE_BYTES": str(PartSizes.reach(8 * MIB))},
            "MAX_FILE",
            id="a file beyond the reach of smaller parts",
        ),
    ],
)
def test_settings_are_checked_together(environ: dict[str, str], named: str) -> None:
    """A value that is invalid only together with another one is rejected."""
    with pytest.raises(SettingsError, match=f"UPLOAD_{named}_BYTES is "):
        Settings.from_env(environ)


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        pytest.param(
            {"UPLOAD_PART_BYTES": " 1 MiB "},
            "UPLOAD_PART_BYTES is '1 MiB'; it must be 5 MiB to 5 GiB, the limits of S3",
            id="as it was written",
        ),
        pytest.param(
            {"UPLOAD_MAX_BODY_BYTES": "1 KiB", "UPLOAD_MAX_FILE_BYTES": "2 KiB"},
            "UPLOAD_MAX_BODY_BYTES is '1 KiB'; it must be at least UPLOAD_MAX_FILE_BYTES, which is 2048",
            id="the smaller of two",
        ),
        pytest.param(
            {"UPLOAD_MAX_FILE_BYTES": "1 KiB", "UPLOAD_MAX_BODY_BYTES": "512"},
            "UPLOAD_MAX_BODY_BYTES is '512'; it must be at least UPLOAD_MAX_FILE_BYTES, which is 1024",
            id="bytes",
        ),
    ],
)
def test_an_invalid_setting_is_shown_as_it_was_written(environ: dict[str, str], line: str) -> None:
    """The error has the variable's text, not the parsed number."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ)
    assert str(caught.value) == line


@pytest.mark.parametrize("url", ["http://10.0.0.1:8000", "https://example.org/a/b?c=d&e=f"])
def test_a_webhook_has_a_secret_of_24_to_64_bytes(url: str) -> None:
    """Neither the URL, which may hold a token, nor the secret is shown by an error or by the settings."""
    for secret in (WEBHOOK_SECRET, f"whsec_{'A' * 86}=="):
        settings = Settings.from_env({"UPLOAD_WEBHOOK_URL": url, "UPLOAD_WEBHOOK_SECRET": secret})
        assert (settings.webhook_url, settings.webhook_secret) == (url, secret)
        assert url not in repr(settings)
        assert secret not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"UPLOAD_WEBHOOK_URL": url})
    wanted = "together with UPLOAD_WEBHOOK_SECRET, which is not set"
    assert str(caught.value) == f"UPLOAD_WEBHOOK_URL is not shown; it must be {wanted}"


def test_settings_are_checked_however_they_are_made() -> None:
    """Settings made in code are checked by the same rules."""
    with pytest.raises(SettingsError, match="UPLOAD_MAX_BODY_BYTES is '-1'"):
        Settings(max_body_bytes=-1)


def test_the_body_has_room_for_the_largest_file() -> None:
    """The default for the body is the largest file plus 1 MiB."""
    assert Settings(max_file_bytes=7).max_body_bytes == 7 + MIB
    assert Settings(max_file_bytes=7, max_body_bytes=9).max_body_bytes == 9


def test_the_form_parser_gets_its_limits() -> None:
    """Each limit of a form comes from the setting of its name."""
    settings = Settings(max_file_bytes=1, max_body_bytes=2, max_form_parts=3, max_field_bytes=4, field_names=("a",))
    assert settings.limits == Limits(file_bytes=1, body_bytes=2, form_parts=3, field_bytes=4, file_fields=("a",))
    assert DEFAULTS.limits == Limits()


def test_the_parts_get_their_sizes() -> None:
    """Parts begin at the configured size, and grow for the largest file."""
    assert Settings(part_bytes=5 * MIB, max_file_bytes=6 * MIB).part_sizes == PartSizes(5 * MIB, 6 * MIB)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({"UPLOAD_PART_BYTES": "1"}, {}, id="a setting"),
        pytest.param({"UPLOAD_PART_BYTE": "1"}, {"UPLOAD_PART_BYTE": "UPLOAD_PART_BYTES"}, id="a letter lost"),
        pytest.param({"UPLOAD_BUKCET": "1"}, {"UPLOAD_BUKCET": "UPLOAD_BUCKET"}, id="two letters swapped"),
        pytest.param({"UPLOAD_S3": "moto"}, {}, id="a variable of the Makefile"),
        pytest.param({"UPLOAD_SOMETHING_ELSE": "1"}, {}, id="something else"),
        pytest.param({"PART_BYTES": "1"}, {}, id="no UPLOAD_ before it"),
        pytest.param(
            {"UPLOAD_PARTBYTES": "1", "UPLOAD_BUCKETS": "1"},
            {"UPLOAD_BUCKETS": "UPLOAD_BUCKET", "UPLOAD_PARTBYTES": "UPLOAD_PART_BYTES"},
            id="two",
        ),
    ],
)
def test_a_misspelt_setting_is_found(environ: dict[str, str], expected: dict[str, str]) -> None:
    """A variable that is almost a setting's name is returned with that name."""
    assert list(misspelt(environ).items()) == list(expected.items())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(pytest.param(text, True, id=text) for text in ("on", "true", "Yes", "1")),
        *(pytest.param(text, False, id=text) for text in ("off", "FALSE", "no", "0")),
    ],
)
def test_a_switch_is_read_in_the_usual_words(text: str, value: bool) -> None:  # noqa: FBT001 - parametrised
    """A switch accepts on, true, yes and 1, and their opposites."""
    assert Settings.from_env({"UPLOAD_EXPLAIN_CLOSED_FILES": text}).explain_closed_files is value


def test_a_switch_is_nothing_else() -> None:
    """Any other word stops the start."""
    with pytest.raises(SettingsError, match="UPLOAD_EXPLAIN_CLOSED_FILES is 'maybe'; it must be on or off"):
        Settings.from_env({"UPLOAD_EXPLAIN_CLOSED_FILES": "maybe"})


@pytest.mark.parametrize(
    ("public_url", "root_path", "base"),
    [
        pytest.param(None, "", "http://here.example:8001", id="the host that the client names"),
        pytest.param(None, "/files", "http://here.example:8001/files", id="below the root path"),
        pytest.param("https://up.example/files/", "/files", "https://up.example/files", id="the public URL"),
    ],
)
def test_links_begin_where_clients_reach_the_app(public_url: str | None, root_path: str, base: str) -> None:
    """A link begins with the public URL, or the client's host and root path."""
    settings = Settings(public_url=public_url, root_path=root_path)
    assert settings.base_url("http://here.example:8001") == base


def test_a_setting_needs_an_annotation_that_reads_it() -> None:
    """A field of a plain type could arrive as a string, so it is an error of the class."""

    class Plain:
        max_files: int = 1

    with pytest.raises(TypeError, match="the setting max_files must have"):
        kinds(Plain)


JWT = {"UPLOAD_AUTH": "jwt", "UPLOAD_JWT_ISSUER": "i", "UPLOAD_JWT_AUDIENCE": "a"}


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        pytest.param({"UPLOAD_AUTH": "bearer"}, "UPLOAD_TOKENS_FILE is ''; it must be the file", id="no tokens"),
        pytest.param(JWT, "UPLOAD_JWT_KEY_FILE is ''; it must be set", id="no key"),
        pytest.param(
            JWT | {"UPLOAD_JWT_KEY_FILE": "k", "UPLOAD_JWT_JWKS_URL": "https://a/k"},
            "UPLOAD_JWT_KEY_FILE is 'k'; it must be set",
            id="two places for keys",
        ),
        pytest.param(
            JWT | {"UPLOAD_JWT_ISSUER": ""}, "UPLOAD_JWT_ISSUER is ''; it must be the claim 'iss'", id="no iss"
        ),
        pytest.param(JWT | {"UPLOAD_JWT_AUDIENCE": ""}, "UPLOAD_JWT_AUDIENCE is ''; it must be the claim", id="no aud"),
        pytest.param(
            JWT | {"UPLOAD_JWT_JWKS_URL": "file:///etc/keys"}, "UPLOAD_JWT_JWKS_URL is 'file:///etc/keys'", id="a file"
        ),
    ],
)
def test_authentication_needs_its_settings(environ: dict[str, str], line: str) -> None:
    """The error names the missing setting, in one line."""
    with pytest.raises(SettingsError, match=f"^{re.escape(line)}") as caught:
        Settings.from_env(environ)
    assert len(str(caught.value).splitlines()) == 1


def test_the_address_of_keys_may_have_a_query() -> None:
    """Some issuers select the keys by it."""
    url = "https://issuer.example/keys?p=policy"
    assert Settings.from_env(JWT | {"UPLOAD_JWT_JWKS_URL": url}).jwt_jwks_url == url
