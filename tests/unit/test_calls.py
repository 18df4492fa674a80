"""What botocore need not do anew for each call: that it does not, and that nothing else changes."""

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

from handoff.calls import parse_timestamp, resolve_endpoint_once


@pytest.fixture
def session() -> botocore.session.Session:
    """A session that needs no account."""
    session = botocore.session.get_session()
    session.set_credentials("key", "secret")
    return session


def urls(client: Any, keys: list[str]) -> list[str]:
    """Where a client sends an object of each key, without what signs it."""
    signed = [client.generate_presigned_url("put_object", Params={"Bucket": "a-bucket", "Key": key}) for key in keys]
    return [url.partition("?")[0] for url in signed]


def test_no_rule_of_s3_asks_for_the_key(session: botocore.session.Session) -> None:
    """So an address does not depend on it, in the botocore that is installed."""
    rules = session.get_component("data_loader").load_service_model("s3", "endpoint-rule-set-1")
    assert "Key" in rules["parameters"]
    assert '"ref": "Bucket"' in json.dumps(rules["rules"])
    assert '"ref": "Key"' not in json.dumps(rules["rules"])


@pytest.mark.parametrize("style", ["virtual", "path"])
def test_the_addresses_are_the_same_and_found_once(
    session: botocore.session.Session, style: Literal["virtual", "path"]
) -> None:
    """Each key has the URL that it would have, and the rules are gone through for the first alone."""
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
    """How often botocore went through the rules so far: for what its cache did not have."""
    cached: Any = EndpointProvider.resolve_endpoint
    return int(cached.cache_info().misses)


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9999, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis wants them so
def test_a_time_is_read_as_headers_and_xml_have_it(time: datetime) -> None:
    """To the second in a header, with fractions in XML, always with its zone."""
    assert parse_timestamp(format_datetime(time, usegmt=True)) == time.replace(microsecond=0)
    assert parse_timestamp(time.isoformat().replace("+00:00", "Z")) == time


@pytest.mark.parametrize("text", ["", "soon", "Wed, 99 Nov 2026 08:00:00 GMT"])
def test_what_is_no_time_is_an_error(text: str) -> None:
    """A ValueError, as botocore expects of its own."""
    with pytest.raises(ValueError, match=r"."):
        parse_timestamp(text)
