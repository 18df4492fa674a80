"""Who may use which route: hosts, origins, and the routes for operators alone."""

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from unit.both_apps import CREATE, both, send
from unit.sansio_request import make_request

from filehandoff import Identity, RequestHead
from filehandoff.errors import HostNotAllowed, NotFound, OriginNotAllowed
from filehandoff.settings import Settings
from filehandoff.web import access

PAGE, OWN, FOREIGN = "https://page.example", "http://host:8080", "https://evil.example"
KEY = "2026/01/31/019c1234-5678-7abc-89de-f0123456789a/a"


@pytest.mark.parametrize(
    ("view", "setting", "scope"),
    [("show_cause", "causes", "upload"), ("get_strategies", "strategies", None), ("get_metrics", "metrics", None)],
)
def test_a_setting_closes_a_route_or_asks_a_scope(view: str, setting: str, scope: str | None) -> None:
    """By default, each route is as open as it would be without its setting."""
    request: Any = make_request()
    request.endpoint = f"uploads.{view}"
    for value, expected in (("on", scope), ("operate", "operate"), ("delete", "delete")):
        settings = Settings(**{setting: value})  # type: ignore[arg-type] # texts
        assert access.needed_scope(settings, request) == expected
    with pytest.raises(NotFound):
        access.needed_scope(Settings(**{setting: "off"}), request)  # type: ignore[arg-type]


def identify(head: RequestHead) -> Identity:
    """Identify an operator by a header, and all others as clients."""
    return Identity("op", ["operate"]) if "X-Operator" in head.headers else Identity("ann")


@both
def test_operators_alone_see_their_routes(create_app: Any) -> None:
    """Clients with every ordinary scope get 403."""
    settings = Settings(causes="operate", strategies="operate", metrics="operate")
    app = create_app(settings, authenticate=identify)
    for method, path, status in (("GET", "/metrics", 200), ("GET", "/strategies", 200), ("POST", "/causes/none", 404)):
        answer = send(app, method, path)
        assert (answer.status, json.loads(answer.body)["code"]) == (403, "forbidden")
        assert send(app, method, path, {"X-Operator": "1"}).status == status
    assert send(app, "GET", "/objects/a", {"X-Operator": "1"}).status == 403


@both
def test_a_closed_route_is_not_found(create_app: Any) -> None:
    """By no method, also not for a preflight request; all other routes stay open."""
    settings = Settings(causes="off", strategies="off", metrics="off", cors_origins=(PAGE,))
    app = create_app(replace(settings, root_path="/app", root_path_stripped=False))
    asks = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    for path in ("/app/metrics", "/app/metrics/", "/app/strategies", "/app/causes/copied_context"):
        for method in ("GET", "HEAD", "POST", "PATCH", "OPTIONS"):
            answer = send(app, method, path, asks)
            assert answer.status == 404
            assert method == "HEAD" or json.loads(answer.body)["code"] == "not-found"
    for path, status in (("/app/openapi.json", 200), ("/app/causes/a/b", 404), ("/app", 200), ("/", 404), ("/ap", 404)):
        assert send(app, "GET", path).status == status
    assert send(app, "PATCH", "/app/openapi.json").status == 405


def host_is_checked(settings: Settings, host: str | None, view: str | None = "upload") -> bool:
    """Return whether a request with this `Host` is refused."""
    request: Any = make_request()
    request.headers.pop("Host")
    request.headers.update({} if host is None else {"Host": host})
    request.endpoint = view and f"uploads.{view}"
    try:
        access.check_host(settings, request)
    except HostNotAllowed:
        return True
    return False


def test_a_request_by_another_name_is_refused() -> None:
    """Without the setting, each name is allowed."""
    settings = Settings(hosts=("example.org", "*.example.org"))
    for host in ("evil.example", "10.0.0.1", "example.org.evil.example", "", None):
        assert host_is_checked(settings, host)
        assert host_is_checked(settings, host, None)
        assert not host_is_checked(Settings(), host)
    for host in ("example.org", "a.example.org:443"):
        assert not host_is_checked(settings, host)


@pytest.mark.parametrize("view", ["healthz", "readyz"])
def test_a_load_balancer_may_ask_by_address(view: str) -> None:
    """The health of a process is no secret."""
    assert not host_is_checked(Settings(hosts=("example.org",)), "10.0.0.1", view)


def test_a_refusal_shows_a_bounded_part_of_a_name() -> None:
    """The client chooses it."""
    assert "'evil\\n'" in HostNotAllowed("evil\n").detail
    assert len(HostNotAllowed("x" * 8000).detail) < 200
    assert len(OriginNotAllowed("x" * 8000).detail) < 200
    assert "a-secret" not in OriginNotAllowed("https://user:a-secret@page.example").detail


def is_refused(settings: Settings, method: str = "POST", **sent: str) -> bool:
    """Return whether a request to `http://host:8080` with these headers is refused."""
    request = make_request(method, headers={name.replace("_", "-"): value for name, value in sent.items()})
    try:
        access.check_origin(settings, request)
    except OriginNotAllowed:
        return True
    return False


LISTED = Settings(cors_origins=(PAGE,), public_url="https://files.example/app")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
def test_an_unsafe_request_of_a_foreign_page_is_refused(method: str) -> None:
    """A safe one has no effect, and CORS lets no foreign page read its response."""
    assert is_refused(LISTED, method, Origin=FOREIGN)
    assert is_refused(LISTED, method, Origin="null")
    assert is_refused(LISTED, method, Sec_Fetch_Site="cross-site")
    assert not is_refused(LISTED, "GET", Origin=FOREIGN)
    assert not is_refused(LISTED, "OPTIONS", Origin=FOREIGN)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param({}, id="a program"),
        pytest.param({"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}, id="a listed origin"),
        pytest.param({"Origin": OWN}, id="the own origin"),
        pytest.param({"Origin": "https://host:8080"}, id="behind a TLS proxy"),
        pytest.param({"Origin": "https://files.example"}, id="the public URL"),
        pytest.param({"Origin": "https://other.example", "Sec-Fetch-Site": "same-origin"}, id="by the browser's word"),
    ],
)
def test_all_other_requests_are_allowed(sent: dict[str, str]) -> None:
    """The service's own origin is never foreign."""
    assert not is_refused(LISTED, **sent)


def test_without_a_list_no_origin_is_refused() -> None:
    """`*` allows all origins."""
    assert not is_refused(Settings(), Origin=FOREIGN)
    assert not is_refused(Settings(cors_origins=("*",)), Origin=FOREIGN)


@both
def test_an_app_refuses_by_host_and_origin(create_app: Any) -> None:
    """The refusal of a listed origin can be read by its page."""
    app = create_app(Settings(hosts=("files.example",), cors_origins=(PAGE,)))
    for method, path, sent, status, code in (
        ("GET", "/objects/a", {"Host": "evil.example", "Origin": PAGE}, 421, "host-not-allowed"),
        ("GET", "/missing", {"Host": "10.0.0.1"}, 421, "host-not-allowed"),
        ("GET", "/objects/a", {"Host": "files.example:8080"}, 404, "object-missing"),
        ("DELETE", "/objects/a", {"Host": "files.example", "Origin": FOREIGN}, 403, "origin-not-allowed"),
        ("DELETE", "/objects/a", {"Host": "files.example", "Origin": PAGE}, 404, "object-missing"),
        ("DELETE", "/objects/a", {"Host": "files.example", "Origin": "https://files.example"}, 404, "object-missing"),
    ):
        answer = send(app, method, path, sent)
        assert (answer.status, json.loads(answer.body)["code"]) == (status, code)
        assert answer.headers.get("Access-Control-Allow-Origin") == (PAGE if sent.get("Origin") == PAGE else None)
    assert send(app, "GET", "/healthz", {"Host": "10.0.0.1"}).status == 200


@pytest.fixture(scope="module", params=CREATE)
def app(request: pytest.FixtureRequest) -> Any:
    """Each app behind one proxy, for clients without the scope to delete."""

    def client(head: RequestHead) -> Identity | None:
        return Identity("ann", ["read", "upload"]) if "X-Sender" in head.headers else None

    settings = Settings(cors_origins=(PAGE,), hosts=("localhost",), trusted_proxies=1)
    return CREATE[request.param](settings, authenticate=client)


@pytest.mark.parametrize(
    ("method", "path", "sent", "expected"),
    [
        pytest.param("GET", "/receipts", {}, {"outcome": "unauthorized"}, id="no sender"),
        pytest.param(
            "DELETE",
            f"/objects/{KEY}",
            {"X-Sender": "1"},
            {"outcome": "forbidden", "user": "ann", "keys": [KEY]},
            id="no scope",
        ),
        pytest.param(
            "GET",
            "/objects/another",
            {"X-Sender": "1"},
            {"outcome": "object-missing", "user": "ann", "keys": ["another"]},
            id="another's object",
        ),
        pytest.param("PUT", "/uploads/a", {"Origin": FOREIGN}, {"outcome": "origin-not-allowed"}, id="a foreign page"),
        pytest.param("GET", "/metrics", {"Host": "evil.example"}, {"outcome": "host-not-allowed"}, id="another name"),
        pytest.param(
            "POST", "/uploads/none", {"X-Sender": "1"}, {"outcome": "unknown-handoff", "user": "ann"}, id="an upload"
        ),
    ],
)
def test_a_refusal_is_one_line_of_the_audit_log(
    app: Any,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    sent: dict[str, str],
    expected: dict[str, Any],
) -> None:
    """The line has the sender's name and address, the key and the outcome, and no credentials."""
    headers = {"X-Forwarded-For": "192.0.2.1", "Authorization": "Bearer a-secret-token", **sent}
    with caplog.at_level(logging.INFO):
        assert send(app, method, path, headers).status >= 400
    (line,) = caplog.records
    assert line.name == "filehandoff.audit"
    values = vars(line)
    names = ("outcome", "user", "keys", "address", "method")
    assert {name: values[name] for name in names if name in values} == expected | {
        "address": "192.0.2.1",
        "method": method,
    }
    assert "a-secret-token" not in str(values)


def test_an_ordinary_error_is_no_line_of_the_audit_log(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A missing page concerns no sender."""
    with caplog.at_level(logging.INFO):
        assert send(app, "GET", "/missing").status == 404
    assert [line.name for line in caplog.records] == ["filehandoff.web.routes"]
