"""Both apps with senders: tokens of a file, JSON Web Tokens, and a function of one's own."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import flask
import httpx
import jwt
import pytest
from contract.api import KEPT_SHORT, TLS, Api, check_bytes, check_problem
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from patience import PATIENCE, wait_until
from processes.serving import served

import flask_app
import quart_app
from demo import stack
from filehandoff import Forbidden, Identity, RequestHead, Settings, tokens

#: The owners of the tokens, and their scopes.
OWNERS = {"ann": "upload,read,delete", "bob": "upload,read,delete", "reader": "read"}
ISSUER, AUDIENCE = "https://issuer.example", "uploads"
DATA = b"hello world"


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[str, str]]:
    """A token and its line for each owner."""
    return {name: tokens.make(name, scopes) for name, scopes in OWNERS.items()}


@pytest.fixture(scope="module")
def tokens_file(made: dict[str, tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of all tokens."""
    path: Path = tmp_path_factory.mktemp("identity") / "tokens"
    path.write_text("\n".join(line for _, line in made.values()))
    return path


@pytest.fixture(scope="module")
def running(tokens_file: Path) -> Iterator[stack.Stack]:
    """The store and both apps, each sender with a part of the bucket."""
    environ = {"UPLOAD_S3": "moto", "UPLOAD_AUTH": "bearer", "UPLOAD_TOKENS_FILE": str(tokens_file)}
    environ |= {"UPLOAD_KEY_PREFIX": "in/{user}/", "UPLOAD_PART_BYTES": "5 MiB", "UPLOAD_DRAIN_SECONDS": "1"}
    with stack.running(environ, log_path=tokens_file.with_name("servers.log")) as started:
        yield started


class Sender(Api):
    """An app, with the token of one owner on each request."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(url)
        self._http.headers["Authorization"] = f"Bearer {token}"


@pytest.fixture(params=stack.COMMANDS)
def url(request: pytest.FixtureRequest, running: stack.Stack) -> str:
    """The URL of each app in turn."""
    return running.apps[request.param].url


@pytest.fixture
def senders(url: str, made: dict[str, tuple[str, str]]) -> Iterator[dict[str, Sender]]:
    """The app as each owner sees it."""
    found = {name: Sender(url, token) for name, (token, _) in made.items()}
    yield found
    for sender in found.values():
        sender.close()


def test_a_sender_reaches_its_own_objects_alone(senders: dict[str, Sender], running: stack.Stack) -> None:
    """Another sender's objects are 404, by every route."""
    ann, bob = senders["ann"], senders["bob"]
    receipt = ann.upload_file(DATA, "stream").json()["receipts"][0]
    key = receipt["key"]
    assert key.startswith("in/ann/")
    check_bytes(ann.send("GET", f"/objects/{key}"), 200, DATA)
    for method, path in (
        ("GET", f"/objects/{key}"),
        ("DELETE", f"/objects/{key}"),
        ("GET", f"/receipts?key={key}"),
        ("POST", f"/uploads/presigned/{key}/complete"),
    ):
        check_problem(bob.send(method, path), 404, "object-missing")
    with closing(running.store.client()) as s3:
        head = s3.head_object(Bucket=running.settings.bucket, Key=key)
    assert head["Metadata"]["user"] == "ann"
    assert ann.send("DELETE", f"/objects/{key}").status_code == 204


@pytest.mark.parametrize("size", [100, 6 * 1024 * 1024])
def test_a_presigned_upload_belongs_to_its_sender(senders: dict[str, Sender], size: int) -> None:
    """Only the sender that began it can complete or abort it."""
    data = bytes(size)
    given = senders["ann"].presign(data).json()
    assert given["key"].startswith("in/ann/")
    check_problem(senders["bob"].send("POST", given["complete"]), 404, "object-missing")
    if "abort" in given:
        check_problem(senders["bob"].send("DELETE", given["abort"]), 404, "object-missing")
    senders["ann"].send_to_s3(given, data)
    assert senders["ann"].send("POST", given["complete"]).status_code == 201


def test_a_sender_needs_the_scope_of_a_route(senders: dict[str, Sender]) -> None:
    """A reader reads, but stores and deletes nothing."""
    reader = senders["reader"]
    key = "in/reader/2026/01/31/019c1234-5678-7abc-89de-f0123456789a/a"
    check_problem(reader.send("GET", f"/objects/{key}"), 404, "object-missing")
    for method, path, scope in (("POST", "/uploads", "upload"), ("DELETE", f"/objects/{key}", "delete")):
        answer = reader.send(method, path)
        check_problem(answer, 403, "forbidden")
        assert answer.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{scope}"'


@pytest.mark.parametrize(
    ("credentials", "challenge"),
    [
        pytest.param(None, "Bearer", id="none"),
        pytest.param("Bearer not-a-token", 'Bearer error="invalid_token"', id="unknown"),
        pytest.param("Bearer " + "x" * 4000, 'Bearer error="invalid_token"', id="long"),
        pytest.param("Bearer é", 'Bearer error="invalid_token"', id="not ASCII"),
    ],
)
def test_a_request_without_a_valid_token_is_refused(url: str, credentials: str | None, challenge: str) -> None:
    """Only the open routes answer."""
    headers = {} if credentials is None else {b"Authorization": credentials.encode("latin-1")}
    with httpx.Client(base_url=url, timeout=PATIENCE, verify=TLS, headers=headers, limits=KEPT_SHORT) as client:
        for method, path in (("POST", "/uploads"), ("PUT", "/uploads/a"), ("GET", "/objects/a"), ("GET", "/receipts")):
            answer = client.request(method, path)
            check_problem(answer, 401, "unauthorized")
            assert answer.headers["WWW-Authenticate"] == challenge
        for path in ("/healthz", "/readyz", "/metrics", "/strategies", "/openapi.json"):
            assert client.get(path).status_code == 200


def test_a_request_is_refused_before_its_body_is_sent(url: str) -> None:
    """A client that waits for the answer sends no byte of its GiB."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(b"PUT /uploads/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 401"


def test_a_removed_token_is_refused_and_an_added_one_accepted(url: str, tokens_file: Path) -> None:
    """The service looks at the file each second."""
    token, line = tokens.make("eve", "read")
    before = tokens_file.read_text()
    with closing(Sender(url, token)) as eve:
        for content, status in ((f"{before}\n{line}", 404), (before, 401)):
            tokens_file.write_text(content)
            wait_until(lambda: eve.send("GET", "/objects/a").status_code == status, lambda: f"no {status}")  # noqa: B023 - it runs in this loop


def test_the_log_names_the_sender_and_shows_no_token(
    senders: dict[str, Sender], made: dict[str, tuple[str, str]], tokens_file: Path
) -> None:
    """Not even a wrong token is logged."""
    assert senders["ann"].upload_file(DATA, "stream").status_code == 201
    secret = "a-wrong-token-that-must-not-appear"
    with closing(Sender(senders["ann"].url, secret)) as wrong:
        check_problem(wrong.send("GET", "/objects/a"), 401, "unauthorized")
    log = tokens_file.with_name("servers.log").read_text()
    assert "user=ann" in log
    assert [token for token in (secret, *(token for token, _ in made.values())) if token in log] == []


@pytest.fixture(scope="module")
def issuer() -> Iterator[tuple[str, Callable[..., str]]]:
    """The URL of a key server, and a function that signs tokens."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": "a"}
    app = flask.Flask(__name__)
    # larger than one read of a socket
    app.add_url_rule("/keys", "keys", lambda: {"keys": [public], "a-padding": "x" * 900_000})
    app.add_url_rule("/moved", "moved", lambda: flask.redirect("/keys"))

    def sign(**changed: object) -> str:
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "scope": "read", "exp": time.time() + 600, **changed}
        return jwt.encode(claims, key, "ES256", headers={"kid": "a"})

    with served(app) as address:
        yield address, sign


def statuses(framework: str, app: Any, *headers: dict[str, str]) -> list[int]:
    """Send a request for an object with each of these headers to an app without a server; return the statuses."""
    if framework == "flask":
        client = app.test_client()
        return [client.get("/objects/a", headers=one).status_code for one in headers]

    async def ask() -> list[int]:
        client = app.test_client()
        return [(await client.get("/objects/a", headers=one)).status_code for one in headers]

    return asyncio.run(ask())


CREATE = {"flask": flask_app.create_app, "quart": quart_app.create_app}
both = pytest.mark.parametrize("framework", CREATE)


@both
def test_a_token_of_the_issuer_is_accepted(framework: str, issuer: tuple[str, Callable[..., str]]) -> None:
    """The keys come from the key server; 404 is the answer to a reader without an object."""
    address, sign = issuer
    settings = Settings(auth="jwt", jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_url=f"{address}/keys")
    sent = [sign(), sign(scope="upload"), sign(aud="another"), sign(exp=1), "a.b.c"]
    headers = [{"Authorization": f"Bearer {token}"} for token in sent]
    assert statuses(framework, CREATE[framework](settings), *headers) == [404, 403, 401, 401, 401]


@both
@pytest.mark.parametrize("path", ["/moved", "/missing"])
def test_without_keys_the_answer_is_503(framework: str, path: str, issuer: tuple[str, Callable[..., str]]) -> None:
    """A redirect is not followed, and a page is no key set."""
    address, sign = issuer
    settings = Settings(auth="jwt", jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_url=address + path)
    assert statuses(framework, CREATE[framework](settings), {"Authorization": f"Bearer {sign()}"}) == [503]


def authenticate(head: RequestHead) -> Identity | None:
    """Identify the sender by a header of our own."""
    match head.headers.get("X-Sender"):
        case "ann":
            return Identity("ann", ["read"])
        case "bob":
            raise Forbidden("read")
        case "nobody":
            raise ZeroDivisionError
    return None


async def authenticate_async(head: RequestHead) -> Identity | None:
    """Do the same as a coroutine."""
    await asyncio.sleep(0)
    return authenticate(head)


@pytest.mark.parametrize(
    ("framework", "function"), [("flask", authenticate), ("quart", authenticate), ("quart", authenticate_async)]
)
def test_a_function_of_ones_own_identifies_the_sender(framework: str, function: Any) -> None:
    """It gets the head, and refuses by None or an error; its faults are 500."""
    app = CREATE[framework](Settings(key_prefix="{user}/"), authenticate=function)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    headers = [{"X-Sender": name} for name in ("ann", "bob", "eve", "nobody")]
    assert statuses(framework, app, *headers) == [404, 403, 401, 500]
