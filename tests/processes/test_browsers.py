"""Both apps behind their servers, for pages of other origins, foreign pages, and operators."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from contract.api import KEPT_SHORT, TLS, check_problem
from patience import PATIENCE

from demo import stack
from filehandoff import tokens

PAGE, FOREIGN = "https://page.example", "https://evil.example"
#: The owners of the tokens, and their scopes.
OWNERS = {"ann": "upload,read", "deleter": "delete", "prometheus": "operate"}
CLIENT = "192.0.2.1"


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[str, str]]:
    """A token and its line for each owner."""
    return {name: tokens.make(name, scopes) for name, scopes in OWNERS.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tokens and of the log."""
    path: Path = tmp_path_factory.mktemp("browsers")
    return path


@pytest.fixture(scope="module")
def running(made: dict[str, tuple[str, str]], folder: Path) -> Iterator[stack.Stack]:
    """The store and both apps, behind one proxy."""
    path = folder / "tokens"
    path.write_text("\n".join(line for _, line in made.values()))
    environ = {"UPLOAD_S3": "moto", "UPLOAD_AUTH": "bearer", "UPLOAD_TOKENS_FILE": str(path), "UPLOAD_LOG": "json"}
    environ |= {"UPLOAD_CORS_ORIGINS": PAGE, "UPLOAD_HOSTS": "127.0.0.1", "UPLOAD_TRUSTED_PROXIES": "1"}
    environ |= {"UPLOAD_METRICS": "operate", "UPLOAD_CAUSES": "off", "UPLOAD_MAX_FILE_BYTES": "1 MiB"}
    with stack.running(environ | {"UPLOAD_DRAIN_SECONDS": "1"}, log_path=folder / "servers.log") as started:
        yield started


@pytest.fixture(params=stack.COMMANDS)
def url(request: pytest.FixtureRequest, running: stack.Stack) -> str:
    """The URL of each app in turn."""
    return running.apps[request.param].url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    """A client of the app."""
    headers = {"X-Forwarded-For": CLIENT}
    with httpx.Client(base_url=url, timeout=PATIENCE, verify=TLS, headers=headers, limits=KEPT_SHORT) as opened:
        yield opened


@pytest.fixture
def bearer(made: dict[str, tuple[str, str]]) -> dict[str, dict[str, str]]:
    """The credentials of each owner."""
    return {name: {"Authorization": f"Bearer {token}"} for name, (token, _) in made.items()}


def test_a_page_of_a_listed_origin_uploads(client: httpx.Client, bearer: dict[str, dict[str, str]]) -> None:
    """The preflight request has no token; the page may read the location of its file."""
    asks = {"Origin": PAGE, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}
    preflight = client.options("/uploads/a", headers=asks)
    assert (preflight.status_code, preflight.content) == (204, b"")
    assert {"Content-Length", "Content-Type", "Transfer-Encoding"}.isdisjoint(
        name.title() for name in preflight.headers
    )
    assert preflight.headers["Access-Control-Allow-Methods"] == "OPTIONS, POST, PUT"
    assert preflight.headers["Access-Control-Allow-Headers"] == "authorization"
    answer = client.put("/uploads/a", content=b"hello", headers={"Origin": PAGE, **bearer["ann"]})
    assert answer.status_code == 201
    assert "Location" in answer.headers["Access-Control-Expose-Headers"].split(", ")
    got = client.get(answer.headers["Location"], headers={"Origin": PAGE, **bearer["ann"]})
    assert got.content == b"hello"
    for one in (preflight, answer, got):
        assert one.headers["Access-Control-Allow-Origin"] == PAGE
        assert one.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in one.headers["Vary"].split(", ")


def head(url: str, *lines: str) -> str:
    """Send a request without its body, and return the head of the response in lower case."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536) or pytest.fail(f"the connection has ended after {received!r}")
    return received.partition(b"\r\n\r\n")[0].decode("latin-1").lower()


@pytest.mark.parametrize(
    ("origin", "owner", "status"),
    [
        pytest.param(PAGE, None, 401, id="no token"),
        pytest.param(PAGE, "deleter", 403, id="no scope"),
        pytest.param(PAGE, "ann", 413, id="too large"),
        pytest.param(FOREIGN, "ann", 403, id="a foreign page"),
        pytest.param("null", "ann", 403, id="a sandboxed frame"),
    ],
)
def test_a_refusal_comes_before_the_body(
    url: str, bearer: dict[str, dict[str, str]], origin: str, owner: str | None, status: int
) -> None:
    """A page of a listed origin can read it."""
    credentials = [f"Authorization: {bearer[owner]['Authorization']}"] if owner else []
    answer = head(
        url,
        "PUT /uploads/a HTTP/1.1",
        "Host: 127.0.0.1",
        f"Origin: {origin}",
        "Content-Length: 1073741824",
        *credentials,
    )
    assert answer.startswith(f"http/1.1 {status} ")
    assert (f"\r\naccess-control-allow-origin: {PAGE}" in answer) is (origin == PAGE)
    assert answer.count("access-control-allow-origin") == (origin == PAGE)
    assert "\r\nvary: origin" in answer


def test_a_request_by_another_name_is_refused(url: str) -> None:
    """Only the health is shown by every name."""
    for path, host, status in (("/objects/a", "evil.example", 421), ("/healthz", "10.0.0.1", 200)):
        assert head(url, f"GET {path} HTTP/1.1", f"Host: {host}").startswith(f"http/1.1 {status} ")


def test_the_own_origin_is_not_foreign(client: httpx.Client, url: str, bearer: dict[str, dict[str, str]]) -> None:
    """Also behind a proxy that ends TLS, and for curl, which sends no origin."""
    for origin in ({"Origin": url}, {"Origin": url.replace("http:", "https:")}, {}):
        answer = client.put("/uploads/a", content=b"hello", headers=origin | bearer["ann"])
        assert answer.status_code == 201
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_numbers_are_for_operators(client: httpx.Client, bearer: dict[str, dict[str, str]]) -> None:
    """A closed route does not exist, not even for them."""
    check_problem(client.get("/metrics"), 401, "unauthorized")
    check_problem(client.get("/metrics", headers=bearer["ann"]), 403, "forbidden")
    assert client.get("/metrics", headers=bearer["prometheus"]).status_code == 200
    check_problem(client.post("/causes/copied_context", headers=bearer["prometheus"]), 404, "not-found")


def test_the_audit_log_names_sender_address_key_and_outcome(
    client: httpx.Client, bearer: dict[str, dict[str, str]], made: dict[str, tuple[str, str]], folder: Path
) -> None:
    """Each upload, deletion and refusal has one line, and no line has a token."""
    stored = client.put("/uploads/a", content=b"hello", headers={"X-Request-Id": "audit-1", **bearer["ann"]})
    path = stored.headers["Location"]
    for number, (owner, status) in enumerate((("ann", 403), ("deleter", 204)), 2):
        answer = client.delete(path, headers={"X-Request-Id": f"audit-{number}", **bearer[owner]})
        assert answer.status_code == status
    wrong = {"Authorization": "Bearer a-wrong-token", "X-Request-Id": "audit-4", "X-Forwarded-For": "203.0.113.9, ::1"}
    assert client.get(path, headers=wrong).status_code == 401
    text = (folder / "servers.log").read_text()
    assert [token for token in ("a-wrong-token", *(token for token, _ in made.values())) if token in text] == []
    lines = [json.loads(line) for line in text.splitlines() if '"filehandoff.audit"' in line]
    names = ("outcome", "user", "address", "keys")
    seen: dict[str, list[Any]] = {}
    for line in lines[-4:]:
        seen.setdefault(line["request_id"], []).append(tuple(line.get(name) for name in names))
    keys = [path.removeprefix("/objects/")]
    assert seen == {
        "audit-1": [("stored", "ann", CLIENT, keys)],
        "audit-2": [("forbidden", "ann", CLIENT, keys)],
        "audit-3": [("deleted", "deleter", CLIENT, keys)],
        "audit-4": [("unauthorized", None, "::1", keys)],
    }
