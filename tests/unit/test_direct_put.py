"""A direct put in both shells: sent once, then left to botocore."""

import asyncio
import io
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from unit.s3.test_options import VALID

import flask_app.store
import quart_app.store
from filehandoff.errors import StoreRejected, StoreUnavailable
from filehandoff.metrics import Metrics
from filehandoff.parts import Part
from filehandoff.receipt import Incoming
from filehandoff.s3 import calls, options
from filehandoff.s3.calls import Call
from filehandoff.s3.direct_put import DirectPuts
from filehandoff.settings import Settings

INCOMING = Incoming("2026/a file (1).txt", "name", "text/plain")
BYTES = b"some bytes"
STORED = 200, {"ETag": '"e"', "x-amz-checksum-crc32": "AAAAAQ=="}
BUSY, DENIED = (503, dict[str, str]()), (403, dict[str, str]())
#: No response: the connection ends.
CUT = 0, dict[str, str]()

Answer: TypeAlias = tuple[int, dict[str, str]]
Put: TypeAlias = Callable[[dict[str, Any]], Any]


class S3(ThreadingHTTPServer):
    """Gives each PUT the next answer, then the last one for ever, and records the requests."""

    def __init__(self, *answers: Answer) -> None:
        requests = self.requests = list[dict[str, str]]()
        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                sent = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(sent["content-length"]))
                requests.append({**sent, "path": self.path, "body": body.decode()})
                status, headers = left.pop(0) if len(left) > 1 else left[0]
                if status:
                    self.send_response(status)
                    for name, value in {"Content-Length": "0", **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def senders(self) -> list[str]:
        """For each request, its sender; only botocore numbers its attempts."""
        return ["botocore" if "amz-sdk-request" in request else "direct" for request in self.requests]


@contextmanager
def answering(*answers: Answer) -> Iterator[S3]:
    """Run such a server for the block."""
    with S3(*answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class ByFlask:
    """Puts by the Flask app's store."""

    def __init__(self, settings: Settings) -> None:
        self.metrics = Metrics()
        self.settings = settings

    def put(self, times: int = 1, body: Any = None, **changed: Any) -> list[Any]:
        """Put the file so many times, with a hook that changes parameters."""
        hook = self.hook(changed)
        return self.call(*(calls.put_object(INCOMING, body or Part(1, (BYTES,)), 1, hook) for _ in range(times)))

    def call(self, *made: Call[Any]) -> list[Any]:
        """Make these calls in order, and return their results."""
        store = flask_app.store.Store(self.settings, self.metrics)
        store.open()
        try:
            return [store.perform(call) for call in made]
        finally:
            store.close()

    @staticmethod
    def hook(changed: dict[str, Any]) -> Any:
        """Return a hook that makes these changes, and counts itself."""

        def hook(params: dict[str, Any], **_event: Any) -> None:
            metadata = params["Metadata"]
            metadata["runs"] = str(int(metadata.get("runs", 0)) + 1)
            params.update(changed)

        return hook


class ByQuart(ByFlask):
    """Puts by the Quart app's store."""

    def call(self, *made: Call[Any]) -> list[Any]:
        """Make these calls in order, and return their results."""

        async def run() -> list[Any]:
            store = quart_app.store.Store(self.settings, self.metrics)
            await store.open()
            try:
                return [await store.perform(call) for call in made]
            finally:
                await store.close()

        return asyncio.run(run())

    @staticmethod
    def hook(changed: dict[str, Any]) -> Any:
        """Return an async hook that makes these changes, and counts itself."""
        change = ByFlask.hook(changed)

        async def hook(**event: Any) -> None:
            change(**event)

        return hook


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Replace each wait before botocore's attempt, and return the statuses that caused one."""
    seen: list[int | None] = []

    def pause(_puts: DirectPuts, status: int | None) -> float:
        seen.append(status)
        return 0

    monkeypatch.setattr(DirectPuts, "pause", pause)
    return seen


@pytest.fixture(params=[pytest.param(ByFlask, id="flask"), pytest.param(ByQuart, id="quart")])
def shell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ByFlask]:
    """Return a function that makes either app's store for a server."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "some")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")

    def make(server: S3, attempts: int = 3) -> ByFlask:
        url = "http://127.0.0.1:{1}".format(*server.server_address)
        return request.param(Settings(s3_endpoint_url=url, bucket="bucket", s3_attempts=attempts))  # type: ignore[no-any-return] # a class of this file

    return make


def retries(shell: ByFlask, operation: str = "PutObject") -> str | None:
    """Return the number of calls that were sent again, as /metrics shows it."""
    lines = shell.metrics.render("text/plain")[0].decode().splitlines()
    return next(
        (line.split()[1] for line in lines if line.startswith(f'handoff_s3_retries_total{{operation="{operation}"')),
        None,
    )


@pytest.mark.parametrize("body", [Part(1, (b"some ", b"bytes")), io.BytesIO(BYTES)], ids=["part", "file"])
def test_a_stored_put_is_one_request(shell: Callable[..., ByFlask], body: Any) -> None:
    """It has the file, its type, its CRC-32 and the hook's changes, and counts as no retry."""
    with answering(STORED) as s3:
        app = shell(s3)
        assert app.put(body=body) == [calls.Put("e", checked=True)]
    (sent,) = s3.requests
    assert s3.senders == ["direct"]
    assert (sent["path"], sent["body"]) == ("/bucket/2026/a%20file%20%281%29.txt", "some bytes")
    assert (sent["content-type"], sent["x-amz-checksum-crc32"]) == ("text/plain", "AAAAAQ==")
    assert sent["x-amz-meta-runs"] == "1"
    assert retries(app) is None


@pytest.mark.parametrize("first", [BUSY, (200, {})], ids=["busy", "no ETag"])
def test_botocore_sends_a_failed_put_again(
    shell: Callable[..., ByFlask], pauses: list[int | None], first: Answer
) -> None:
    """The hook runs once, the whole file is sent after a wait, and the next put is direct again."""
    with answering(first, STORED) as s3:
        app = shell(s3)
        assert app.put(2) == [calls.Put("e", checked=True)] * 2
    assert s3.senders == ["direct", "botocore", "direct"]
    assert {(sent["x-amz-meta-runs"], sent["body"]) for sent in s3.requests} == {("1", "some bytes")}
    assert pauses == [first[0]]
    assert retries(app) == "1.0"


def test_botocore_sends_a_put_again_whose_connection_ends(shell: Callable[..., ByFlask]) -> None:
    """Before botocore, aiohttp itself sends the put once more."""
    with answering(CUT, CUT, STORED) as s3:
        app = shell(s3)
        assert app.put(2) == [calls.Put("e", checked=True)] * 2
    assert (s3.senders[0], s3.senders[2:]) == ("direct", ["botocore", "direct"])
    assert retries(app) is not None


def test_a_part_is_sent_without_botocore_too(shell: Callable[..., ByFlask]) -> None:
    """A failed part is botocore's, and counts as a retry of parts."""
    with answering(STORED, BUSY, STORED) as s3:
        app = shell(s3)
        sent = app.call(*(calls.upload_part("a key", "an id", Part(number, (BYTES,)), 1) for number in (1, 2)))
    assert sent == [{"PartNumber": number, "ETag": '"e"', "ChecksumCRC32": "AAAAAQ=="} for number in (1, 2)]
    assert s3.senders == ["direct", "direct", "botocore"]
    assert {request["path"].partition("?")[0] for request in s3.requests} == {"/bucket/a%20key"}
    assert {request["body"] for request in s3.requests} == {"some bytes"}
    assert retries(app, "UploadPart") == "1.0"


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_a_direct_put_is_one_of_the_attempts(shell: Callable[..., ByFlask], attempts: int) -> None:
    """UPLOAD_S3_ATTEMPTS bounds all requests together; a single attempt is botocore's."""
    with answering(BUSY) as s3, pytest.raises(StoreUnavailable):
        shell(s3, attempts).put()
    assert s3.senders == [*["direct"] * (attempts > 1), *["botocore"] * max(1, attempts - 1)]


def test_botocore_explains_a_refusal(shell: Callable[..., ByFlask]) -> None:
    """A put that botocore cannot send either says nothing about the next one."""
    with answering(DENIED) as s3:
        app = shell(s3)
        for _ in range(2):
            with pytest.raises(StoreRejected, match="403"):
                app.put()
    assert s3.senders == ["direct", "botocore"] * 2


def test_direct_puts_end_where_only_botocore_is_accepted(
    shell: Callable[..., ByFlask], caplog: pytest.LogCaptureFixture
) -> None:
    """After some refused puts that botocore could send, botocore sends all, and the log says so."""
    caplog.set_level("INFO", "filehandoff")
    with answering(*[(301, {}), STORED] * 3, STORED) as s3:
        shell(s3).put(5)
    assert s3.senders == ["direct", "botocore"] * 3 + ["botocore"] * 2
    assert {sent["x-amz-meta-runs"] for sent in s3.requests} == {"1"}
    assert [record.message for record in caplog.records] == [
        "S3 responded 301 to 3 direct puts; botocore sends all from now on"
    ]


@pytest.mark.parametrize("changed", [{"WebsiteRedirectLocation": "/"}, {"Body": b"other"}], ids=["parameter", "body"])
def test_botocore_sends_what_a_hook_has_changed(shell: Callable[..., ByFlask], changed: dict[str, Any]) -> None:
    """A hook may change every parameter; only botocore knows all."""
    with answering(STORED) as s3:
        app = shell(s3)
        app.put(**changed)
    (sent,) = s3.requests
    assert (sent.get("x-amz-website-redirect-location"), sent["body"]) == (
        changed.get("WebsiteRedirectLocation"),
        changed.get("Body", BYTES).decode(),
    )
    assert (s3.senders, sent["x-amz-meta-runs"], retries(app)) == (["botocore"], "1", None)


def test_the_options_are_the_same_headers_in_a_direct_put(shell: Callable[..., ByFlask]) -> None:
    """Botocore's put, which is the only attempt of the first app, has the same headers of S3."""
    with answering(STORED) as s3:
        for attempts in 1, 2:
            app = shell(s3, attempts)
            app.settings = replace(app.settings, s3_options=VALID)
            app.put()
    assert s3.senders == ["botocore", "direct"]
    by_botocore, direct = s3.requests
    headers = options.headers(VALID)
    assert len(headers) == len(VALID)
    assert {name: direct[name] for name in headers} == {name: by_botocore[name] for name in headers}
    assert [name for name in headers if name not in direct["authorization"]] == []


def test_a_part_names_the_bucket_owner(shell: Callable[..., ByFlask]) -> None:
    """A direct part has the header too, and no other option."""
    with answering(STORED) as s3:
        app = shell(s3)
        app.settings = replace(app.settings, s3_options=VALID)
        app.call(calls.upload_part("a key", "an id", Part(1, (BYTES,)), 1))
    (sent,) = s3.requests
    assert s3.senders == ["direct"]
    assert {name: sent[name] for name in options.headers(VALID) if name in sent} == {
        "x-amz-expected-bucket-owner": "123456789012"
    }


def test_a_client_without_credentials_leaves_puts_to_botocore(
    shell: Callable[..., ByFlask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the missing credentials."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with answering(STORED) as s3, pytest.raises(StoreUnavailable) as raised:
        shell(s3).put()
    assert "Unable to locate credentials" in str(raised.value.__cause__)
    assert s3.requests == []


def test_a_proxy_gets_a_direct_put(shell: Callable[..., ByFlask], monkeypatch: pytest.MonkeyPatch) -> None:
    """The put uses the proxy of the environment, as botocore does."""
    with answering(STORED) as proxy:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:{1}".format(*proxy.server_address))
        app = shell(proxy)
        app.settings = replace(app.settings, s3_endpoint_url="http://store.invalid:9000")
        assert app.put() == [calls.Put("e", checked=True)]
    (sent,) = proxy.requests
    assert (proxy.senders, sent["host"]) == (["direct"], "store.invalid:9000")
    assert sent["path"] == "http://store.invalid:9000/bucket/2026/a%20file%20%281%29.txt"


def test_a_store_with_tls_gets_a_direct_put_if_its_certificate_is_trusted(
    shell: Callable[..., ByFlask], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """AWS_CA_BUNDLE names the authority; without it, no put is sent."""
    certificate, key = self_signed(tmp_path)
    with answering(STORED) as s3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        s3.socket = context.wrap_socket(s3.socket, server_side=True)
        app = shell(s3)
        app.settings = replace(app.settings, s3_endpoint_url="https://localhost:{1}".format(*s3.server_address))
        with pytest.raises(StoreUnavailable):
            app.put()
        assert s3.requests == []
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        assert app.put() == [calls.Put("e", checked=True)]
    assert s3.senders == ["direct"]


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    made = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(made.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    certificate.write_bytes(builder.sign(made, SHA256()).public_bytes(Encoding.PEM))
    key.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


def test_credentials_that_rotate_sign_each_put_anew(
    shell: Callable[..., ByFlask], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Temporary credentials of a program are replaced before they expire."""
    program, config = tmp_path / "program", tmp_path / "config"
    program.write_text(ROTATING.format(python=sys.executable, count=tmp_path / "count"))
    program.chmod(0o700)
    config.write_text(f"[default]\ncredential_process = {program}\n")
    with answering(STORED) as s3:
        app = shell(s3)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        app.put(2)
    keys = [sent["authorization"].partition("Credential=")[2].partition("/")[0] for sent in s3.requests]
    tokens = [sent["x-amz-security-token"] for sent in s3.requests]
    assert (s3.senders, len(set(keys)), keys) == (["direct", "direct"], 2, tokens)


#: A program that prints other credentials each time. botocore replaces those that expire within a quarter of an hour.
ROTATING = """\
#!{python}
import datetime, json, pathlib
count = pathlib.Path("{count}")
name = f"key{{len(count.read_text()) if count.exists() else 0}}"
with count.open("a") as file:
    file.write(".")
keys = {{"AccessKeyId": name, "SecretAccessKey": "secret", "SessionToken": name}}
soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=12)
print(json.dumps({{"Version": 1, **keys, "Expiration": soon.isoformat()}}))
"""
