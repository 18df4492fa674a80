"""The sender of a request, and the scope of each route."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from quart import Quart
from unit.sansio_request import make_request

import flask_app
import quart_app
from filehandoff.errors import Forbidden, SettingsError, Unauthorized
from filehandoff.identity import ANYONE, SCOPES, Identity, RequestHead, bearer_token
from filehandoff.service import OPEN, Service
from filehandoff.settings import Settings, variable
from filehandoff.web import access


def known(_head: RequestHead) -> Identity:
    """Identify every sender as the same one."""
    return Identity("ann")


def test_an_identity_has_the_scopes_that_it_was_given() -> None:
    """A missing scope is forbidden, with the scope in the challenge."""
    reader = Identity("ann", ["read"])
    reader.require("read")
    with pytest.raises(Forbidden, match="'delete'") as caught:
        reader.require("delete")
    assert caught.value.headers == {"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="delete"'}
    for scope in SCOPES:
        ANYONE.require(scope)


@pytest.mark.parametrize("name", ["x" * 256, "a\nb", "a\x00b", "a\u202eb", "\ud800"])
def test_a_name_that_a_log_could_not_show_is_refused(name: str) -> None:
    """Names are printable, and of at most 255 characters."""
    with pytest.raises(ValueError, match="255 printable"):
        Identity(name)


@pytest.mark.parametrize("credentials", ["Bearer abc", "bearer  abc", "BEARER abc"])
def test_the_scheme_of_a_token_ignores_case(credentials: str) -> None:
    """RFC 9110, section 11.1."""
    assert bearer_token({"Authorization": credentials}) == "abc"


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        pytest.param({}, "Bearer", id="none"),
        pytest.param({"Authorization": ""}, 'Bearer error="invalid_token"', id="empty"),
        pytest.param({"Authorization": "Bearer"}, 'Bearer error="invalid_token"', id="the scheme alone"),
        pytest.param({"Authorization": "Bearer "}, 'Bearer error="invalid_token"', id="an empty token"),
        pytest.param({"Authorization": "Basic YTpi"}, 'Bearer error="invalid_token"', id="another scheme"),
        pytest.param({"Authorization": "Bearer a, Bearer b"}, 'Bearer error="invalid_token"', id="two tokens"),
        pytest.param({"Authorization": "Bearer é"}, 'Bearer error="invalid_token"', id="not ASCII"),
        pytest.param({"Authorization": "Bearer a\n"}, 'Bearer error="invalid_token"', id="a line end"),
    ],
)
def test_a_request_without_a_token_is_challenged(headers: dict[str, str], challenge: str) -> None:
    """The challenge distinguishes a missing token from a malformed one (RFC 6750, section 3.1)."""
    with pytest.raises(Unauthorized) as caught:
        bearer_token(headers)
    assert caught.value.headers == {"WWW-Authenticate": challenge}


@pytest.mark.parametrize(
    "create_app",
    [pytest.param(flask_app.create_app, id="flask"), pytest.param(quart_app.create_app, id="quart")],
)
def test_every_route_of_an_app_has_a_scope_or_is_open(create_app: Callable[[Settings], Flask | Quart]) -> None:
    """A route that is missing in the table would answer 500."""
    views = {rule.endpoint.rpartition(".")[2] for rule in create_app(Settings()).url_map.iter_rules()}
    assert views == set(access.SCOPE_OF)
    assert set(access.SCOPE_OF.values()) == {*SCOPES, None}


@pytest.mark.parametrize(
    ("method", "endpoint", "scope"),
    [
        pytest.param("POST", "uploads.upload", "upload", id="an upload"),
        pytest.param("DELETE", "uploads.delete_object", "delete", id="a deletion"),
        pytest.param("GET", "uploads.healthz", None, id="an open route"),
        pytest.param("OPTIONS", "uploads.upload", None, id="a preflight request"),
        pytest.param("GET", None, None, id="no route"),
    ],
)
def test_a_request_needs_the_scope_of_its_route(method: str, endpoint: str | None, scope: str | None) -> None:
    """Preflight requests have no credentials, and a missing route protects nothing."""
    request: Any = make_request(method)
    request.endpoint = endpoint
    assert access.needed_scope(Settings(), request) == scope


def test_an_identity_is_checked_for_the_scope() -> None:
    """None is no identity, and an identity without a name has no part of the key space."""
    service, request = Service("flask", Settings(), known), make_request()
    ann = Identity("ann", ["read"])
    for identity in (ANYONE, ann):
        access.identify(service, request, identity, "read")
        assert request.identity is identity
    with pytest.raises(Unauthorized):
        access.identify(service, request, None, "read")
    with pytest.raises(Unauthorized, match="no name"):
        access.identify(Service("flask", Settings(key_prefix="{user}/"), known), request, ANYONE, "read")


def test_a_refused_sender_is_known_to_the_log() -> None:
    """The request keeps the sender that lacks the scope."""
    request = make_request()
    with pytest.raises(Forbidden):
        access.identify(Service("flask", Settings(), known), request, Identity("ann", ["read"]), "upload")
    assert request.identity.name == "ann"


def test_a_request_has_the_values_that_identify_its_sender() -> None:
    """Headers are found in any case."""
    head = make_request("PUT", "/uploads/a?b=c", {"Authorization": "Bearer abc"}).head
    assert (head.method, head.path, head.headers.get("authorization")) == ("PUT", "/uploads/a", "Bearer abc")


@pytest.mark.parametrize(
    ("name", "value"),
    [("key_prefix", "{user}/"), ("causes", "upload"), ("strategies", "read"), ("metrics", "operate")],
)
def test_settings_about_senders_need_senders(name: str, value: str) -> None:
    """A service with `{user}` in its keys, or a scope for a route, does not start without authentication."""
    settings = Settings(**{name: value})  # type: ignore[arg-type] # texts
    Service("flask", settings, known)
    with pytest.raises(SettingsError, match=f"{variable(name)} is '{re.escape(value)}'.*UPLOAD_AUTH"):
        Service("flask", settings)


def test_only_an_open_service_warns(caplog: pytest.LogCaptureFixture) -> None:
    """The warning is one line."""
    Service("flask", Settings(), known).warn_if_open()
    assert caplog.messages == []
    Service("flask", Settings()).warn_if_open()
    assert caplog.messages == [OPEN]
    assert "\n" not in OPEN
