"""The shortcuts for botocore: they save work per call, and change no result."""

import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal

import botocore.session
import pytest
from botocore.config import Config
from botocore.endpoint_provider import EndpointProvider
from hypothesis import given
from hypothesis import strategies as st

from filehandoff.s3.botocore_tuning import parse_timestamp, resolve_endpoint_once


@pytest.fixture
def session() -> botocore.session.Session:
    """Make a session with invented credentials."""
    session = botocore.session.get_session()
    session.set_credentials("key", "secret")
    return session


def urls(client: Any, keys: list[str]) -> list[str]:
    """Return a client's URL for an object of each key, without the signature."""
    signed = [client.generate_presigned_url("put_object", Params={"Bucket": "a-bucket", "Key": key}) for key in keys]
    return [url.partition("?")[0] for url in signed]


def test_no_rule_of_s3_reads_the_key(session: botocore.session.Session) -> None:
    """In the installed botocore, an endpoint does not depend on the object's key."""
    rules = session.get_component("data_loader").load_service_model("s3", "endpoint-rule-set-1")
    assert "Key" in rules["parameters"]
    assert '"ref": "Bucket"' in json.dumps(rules["rules"])
    assert '"ref": "Key"' not in json.dumps(rules["rules"])


@pytest.mark.parametrize("style", ["virtual", "path"])
def test_the_urls_are_the_same_and_resolved_once(
    session: botocore.session.Session, style: Literal["virtual", "path"]
) -> None:
    """Each key has botocore's URL, and botocore evaluates its rules only for the first."""
    config = Config(s3={"addressing_style": style})
    keys = ["a/key", "another/key", "a third"]
    plain = session.create_client("s3", region_name="eu-central-1", config=config)
    ours = session.create_client("s3", region_name="eu-central-1", config=config)
    resolve_endpoint_once(ours)
    before = looked_up()
    expected = urls(plain, keys)
    between = looked_up()
    assert urls(ours, keys) == expected
    assert (between - before, looked_up() - between) == (len(keys), 1)


def looked_up() -> int:
    """Return the number of botocore's cache misses, each of which evaluates the rules."""
    cached: Any = EndpointProvider.resolve_endpoint
    return int(cached.cache_info().misses)


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9999, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis takes naive bounds
def test_a_time_is_parsed_from_a_header_and_from_xml(time: datetime) -> None:
    """The header's time is to the second, XML's has fractions, and both have the zone."""
    assert parse_timestamp(format_datetime(time, usegmt=True)) == time.replace(microsecond=0)
    assert parse_timestamp(time.isoformat().replace("+00:00", "Z")) == time


THEN = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Sun, 06 Nov 1994 08:49:37 GMT", id="IMF-fixdate"),
        pytest.param("Sunday, 06-Nov-94 08:49:37 GMT", id="RFC 850"),
        pytest.param("Sun Nov  6 08:49:37 1994", id="asctime"),
        pytest.param("Sun, 06 Nov 1994 04:49:37 EDT", id="another zone"),
        pytest.param("06 Nov 1994 08:49:37 +0000", id="no day"),
        pytest.param("1994-11-06T08:49:37Z", id="ISO 8601"),
        pytest.param("1994-11-06T10:49:37.000+02:00", id="ISO 8601 with a zone"),
        pytest.param("1994-11-06 08:49:37", id="ISO 8601 without a zone"),
        pytest.param("784111777", id="seconds"),
        pytest.param(" 784111777.0 ", id="seconds with a fraction"),
    ],
)
def test_a_time_is_parsed_in_each_form(text: str) -> None:
    """RFC 9110's forms, ISO 8601 and seconds since 1970 give the same time."""
    assert parse_timestamp(text) == THEN


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", datetime(1970, 1, 1, tzinfo=UTC)), ("-1", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC))],
)
def test_an_expired_time_is_a_time(text: str, expected: datetime) -> None:
    """`Expires: 0` and `-1`, which disable caches, are times in the past."""
    assert parse_timestamp(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "never", "Wed, 99 Nov 2026 08:00:00 GMT", "2026-13-01T00:00:00Z", "9" * 20, "nan", "1e400", ","),
        *("Fri, 31 Dec 9999 23:59:59 -0500", "0001-01-01T00:00:00+01:00", "\u0663", "Thu, 01 Jan 99999 00:00:00 GMT"),
        "Thu, 01 Jan 1970 00:00:00 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_a_value_that_is_no_time_gives_none(text: str) -> None:
    """An invalid date, or one outside the calendar in UTC, gives None."""
    assert parse_timestamp(text) is None


@given(st.text(max_size=60) | st.text("0123456789+-:., GMTJanSu", max_size=40) | st.floats() | st.integers())
def test_no_date_makes_a_call_fail(value: str | float) -> None:
    """Any value gives a time in UTC or None."""
    time = parse_timestamp(value)
    assert time is None or time.tzinfo is UTC
