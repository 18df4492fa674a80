"""Both apps with a bucket whose policy demands encryption with one key of KMS."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from contract.api import Api, check_bytes, check_problem
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from processes.serving import served

from demo import stack
from demo.stores import EMBEDDED_CREDENTIALS, Store
from filehandoff.settings import MIB
from filehandoff.strategies import HANDOFFS

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET = "uploads"
OWNER = "123456789012"
OPTIONS = (
    '{"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "a-key", "BucketKeyEnabled": true, "Tagging": "team=web&a=b",'
    f' "CacheControl": "private, max-age=60", "StorageClass": "STANDARD_IA", "ExpectedBucketOwner": "{OWNER}"}}'
)
REQUIRED = {"HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION": "aws:kms", "HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION_AWS_KMS_KEY_ID": "a-key"}
DENIED = b"<Error><Code>AccessDenied</Code><Message>The policy demands encryption.</Message></Error>"
SIZES = [pytest.param(100, id="one put"), pytest.param(10 * MIB + 1, id="three parts")]

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Strict:
    """moto with such a policy; as under KMS, an ETag is no MD5, and no response has a checksum."""

    def __init__(self) -> None:
        self._moto: WSGI = DomainDispatcherApplication(create_backend_app)
        self.without_owner: list[str] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
        method, of_an_object = environ["REQUEST_METHOD"], environ["PATH_INFO"].count("/") > 1
        if environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER") != OWNER and "X-Amz-Signature" not in query:
            self.without_owner.append(f"{method} {environ['PATH_INFO']}")
        stores = of_an_object and ((method == "PUT" and "partNumber" not in query) or "uploads" in query)
        if stores and method != "GET" and any(environ.get(name) != value for name, value in REQUIRED.items()):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(DENIED)))])
            return [DENIED]

        def start_encrypted(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            kept = [(name, value) for name, value in headers if not name.lower().startswith("x-amz-checksum")]
            single = not {"partNumber", "uploadId"} & query.keys()
            changed = [(name, no_md5(value) if single and name.lower() == "etag" else value) for name, value in kept]
            return start(status, changed, *more)

        return self._moto(environ, start_encrypted)


def no_md5(etag: str) -> str:
    """Return another ETag of the same form; that of several parts is unchanged."""
    return etag if "-" in etag else f'"{etag.strip(chr(34))[::-1]}"'


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[Strict, Store]]:
    """The store, and its address and credentials."""
    strict = Strict()
    with served(strict) as url:
        given = Store("strict", url, EMBEDDED_CREDENTIALS)
        with closing(given.client()) as client:
            client.create_bucket(Bucket=BUCKET)
        yield strict, given


@pytest.fixture(scope="module")
def s3(store: tuple[Strict, Store]) -> Iterator["S3Client"]:
    """A client of the store."""
    with closing(store[1].client()) as client:
        yield client


def environ(store: Store) -> dict[str, str]:
    """Return the settings of both apps, without options."""
    return {
        **EMBEDDED_CREDENTIALS,
        "UPLOAD_S3": store.endpoint_url,
        "UPLOAD_BUCKET": BUCKET,
        "UPLOAD_PART_BYTES": "5 MiB",
        "UPLOAD_DRAIN_SECONDS": "1",
    }


@pytest.fixture(scope="module")
def running(store: tuple[Strict, Store], tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """Both apps with the options."""
    log: Path = tmp_path_factory.mktemp("options") / "servers.log"
    with stack.running(environ(store[1]) | {"UPLOAD_S3_OPTIONS": OPTIONS}, log_path=log) as started:
        yield started


@pytest.fixture(params=stack.COMMANDS)
def app(request: pytest.FixtureRequest, running: stack.Stack) -> Iterator[Api]:
    """Each of the apps in turn."""
    with closing(Api(running.apps[request.param].url)) as api:
        yield api


@pytest.mark.every_other
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("handoff", HANDOFFS)
def test_every_handoff_stores_with_the_options(
    app: Api, handoff: str, size: int, store: tuple[Strict, Store], s3: "S3Client"
) -> None:
    """The object is encrypted with the key, tagged and of the class, and every call names the bucket's owner."""
    strict, _ = store
    strict.without_owner.clear()
    data = os.urandom(size)
    answer = app.upload_file(data, handoff)
    assert answer.status_code == 201, answer.text
    assert strict.without_owner == []
    (receipt,) = answer.json()["receipts"]
    head = s3.head_object(Bucket=BUCKET, Key=receipt["key"])
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "a-key")
    assert (head["CacheControl"], head["StorageClass"]) == ("private, max-age=60", "STANDARD_IA")
    tags = s3.get_object_tagging(Bucket=BUCKET, Key=receipt["key"])["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "web", "a": "b"}
    assert head["ETag"].strip('"') == receipt["etag"]
    check_bytes(app.send("GET", f"/objects/{receipt['key']}"), 200, data)
    assert app.send("DELETE", f"/objects/{receipt['key']}").status_code == 204


def test_a_cause_is_shown_with_the_options(app: Api) -> None:
    """The inner app's own client sends them too."""
    answer = app.send("POST", "/causes/copied_context", files={"file": b"some bytes"})
    assert (answer.status_code, answer.json().get("closed")) == (200, True), answer.text


def test_without_the_options_the_store_rejects_an_upload(
    store: tuple[Strict, Store], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Both apps respond 502 with the store's reason, so the store of these tests does demand the options."""
    log: Path = tmp_path_factory.mktemp("no-options") / "servers.log"
    with stack.running(environ(store[1]), log_path=log) as started:
        for server in started.apps.values():
            with closing(Api(server.url)) as api:
                problem = check_problem(api.upload_file(b"some bytes"), 502, "store-rejected")
                assert "The policy demands encryption." in problem["detail"]
