"""Both apps behind a proxy that strips a path prefix."""

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from contract.api import KEPT_SHORT, TLS, Api, check_bytes

from demo import stack
from filehandoff.settings import MIB
from filehandoff.typing_backports import override

ROOT_PATH = "/files"


class StrippingProxy(httpx.HTTPTransport):
    """Forwards like nginx with `location /files/ { proxy_pass http://app/; }` as its only location."""

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.startswith(f"{ROOT_PATH}/"):
            return httpx.Response(404, text="the proxy has no such location")
        path = request.url.raw_path.removeprefix(ROOT_PATH.encode())
        request.url = request.url.copy_with(raw_path=path)
        return super().handle_request(request)


class ProxiedApi(Api):
    """An app, addressed through the proxy only."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._http = httpx.Client(base_url=url, timeout=60, transport=StrippingProxy(verify=TLS, limits=KEPT_SHORT))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """The store and both apps."""
    environ = {"UPLOAD_S3": "moto", "UPLOAD_ROOT_PATH": ROOT_PATH, "UPLOAD_PART_BYTES": "5 MiB"}
    log: Path = tmp_path_factory.mktemp("root-path") / "servers.log"
    with stack.running(environ | {"UPLOAD_DRAIN_SECONDS": "1"}, log_path=log) as started:
        yield started


@pytest.fixture(params=stack.COMMANDS)
def app(request: pytest.FixtureRequest, running: stack.Stack) -> Iterator[Api]:
    """Each of the apps in turn."""
    with closing(ProxiedApi(running.apps[request.param].url)) as api:
        yield api


def test_the_location_of_an_upload_leads_through_the_proxy(app: Api) -> None:
    """A client can read and delete its upload through the `Location` it received."""
    data = os.urandom(100)
    location = app.send("POST", f"{ROOT_PATH}/uploads", files={"file": data}).headers["Location"]
    assert location.startswith(f"{ROOT_PATH}/objects/")
    check_bytes(app.send("GET", location), 200, data)
    assert app.send("DELETE", location).status_code == 204


@pytest.mark.parametrize("size", [100, 101 * 5 * MIB], ids=["one put", "two pages of parts"])
def test_the_links_of_a_presigned_upload_lead_through_the_proxy(app: Api, size: int) -> None:
    """`Location`, `complete` and `next` of a presigned upload are URLs on the proxy."""
    wanted = {"filename": "a", "size": size, "sha256": "0" * 64}
    given = app.send("POST", f"{ROOT_PATH}/uploads/presigned", json=wanted)
    location, answer = given.headers["Location"], given.json()
    assert location.startswith(f"{ROOT_PATH}/objects/")
    if answer.get("next"):
        page = app.send("GET", answer["next"]).json()
        assert [part["number"] for part in page["parts"]] == [101]
        assert page["complete"] == answer["complete"]
    completed = app.send("POST", answer["complete"])
    assert (completed.status_code, completed.json()["code"]) in {(404, "object-missing"), (422, "size-mismatch")}


def test_the_document_leads_through_the_proxy(app: Api) -> None:
    """The server URL in the API description leads through the proxy to the app."""
    document = app.send("GET", f"{ROOT_PATH}/openapi.json").json()
    assert app.send("GET", document["servers"][0]["url"] + "/healthz").status_code == 200


def test_the_page_loads_its_files_through_the_proxy(app: Api) -> None:
    """Each file that the pages name leads through the proxy."""
    for path in ("/", "/docs"):
        page = app.send("GET", f"{ROOT_PATH}{path}").text
        assert f'<base href="{ROOT_PATH}/">' in page
        files = re.findall(r'(?:src|href)="((?:page|docs)/[^"]+)"', page)
        assert len(files) >= 3
        for file in files:
            assert app.send("GET", f"{ROOT_PATH}/{file}").status_code == 200
