"""The state that all requests of one app share, and the secret of its promises."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.config import Config

from filehandoff.errors import Overloaded, SettingsError
from filehandoff.presigned import Seal
from filehandoff.s3.botocore_tuning import client_config, lasting_secret
from filehandoff.service import Service
from filehandoff.settings import Settings

SECRET = "a secret of sixteen and more"


def test_the_settings_limit_the_places_of_a_service() -> None:
    """Uploads have a queue, and reads have twice as many places."""
    service = Service("flask", Settings(max_concurrent=1))
    admitted = [service.uploads.ask().admitted for _ in range(2)]
    assert admitted == [True, False]
    assert [service.reads.ask().admitted for _ in range(2)] == [True, True]
    for places in (service.uploads, service.reads):
        with pytest.raises(Overloaded):
            places.ask()


def test_a_service_for_threads_has_a_lock_for_each_state() -> None:
    """A wait for one lock does not block another state."""
    made: list[object] = []

    class Lock(nullcontext[None]):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    Service("flask", Settings(), lock=Lock)
    assert len(made) == 3


def test_two_services_share_nothing() -> None:
    """Each app has its own metrics and its own shutdown."""
    one, other = Service("flask", Settings()), Service("quart", Settings())
    one.drain.refuse()
    one.metrics.aborts.inc()
    assert not other.drain.ends
    assert (one.framework, other.framework) == ("flask", "quart")


def test_a_service_has_one_handler() -> None:
    """A webhook and an `on_stored` are refused, because one could fail after the other has returned."""
    settings = Settings(webhook_url="https://example.org/token", webhook_secret=f"whsec_{'A' * 32}")
    with pytest.raises(SettingsError, match=r"^UPLOAD_WEBHOOK_URL is not shown; it must be empty, because"):
        Service("flask", settings, on_stored=print)
    assert Service("flask", Settings(), on_stored=print).on_stored is print


@pytest.mark.parametrize(
    ("setting", "credentials", "used"),
    [
        pytest.param(None, None, None, id="no secret"),
        pytest.param(None, "of AWS", "of AWS", id="the credentials'"),
        pytest.param(SECRET, "of AWS", SECRET, id="the setting comes first"),
        pytest.param(SECRET, None, SECRET, id="the setting alone"),
    ],
)
def test_promises_are_signed_with_a_secret_that_all_processes_share(
    setting: str | None, credentials: str | None, used: str | None
) -> None:
    """Without such a secret, marks are empty."""
    service = Service("flask", Settings(promise_secret=setting))
    assert service.seal.sign("a") == Seal(setting).sign("a")
    service.use_secret(credentials)
    assert service.seal.sign("a") == Seal(used).sign("a")


@pytest.mark.parametrize(
    ("credentials", "secret"),
    [
        pytest.param(None, None, id="none"),
        pytest.param(SimpleNamespace(secret_key="s", token=None), "s", id="a user's"),
        pytest.param(SimpleNamespace(secret_key="s", token="t"), None, id="a role's, which change"),
    ],
)
def test_only_a_users_secret_lasts(credentials: object, secret: str | None) -> None:
    """A promise signed with a role's secret could not be checked an hour later."""
    assert lasting_secret(credentials) == secret


def test_botocore_accepts_the_configuration() -> None:
    """Botocore knows each option, and the pool has a connection for each part in flight."""
    settings = Settings(max_concurrent=3, parts_in_flight=5)
    config: Any = Config(**client_config(settings, (2.0, 20.0), 4, "virtual"))
    assert (config.connect_timeout, config.read_timeout) == (2.0, 20.0)
    assert config.retries == {"mode": "standard", "total_max_attempts": 4}
    assert config.max_pool_connections == 15
    assert config.s3 == {"payload_signing_enabled": False, "addressing_style": "virtual"}
    assert config.signature_version == "s3v4"
