"""Both apps behind nginx, as `deploy/nginx.conf` puts it there."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from contract.api import Api, check_bytes, check_problem, form, part
from contract.bucket import Bucket
from contract.nginx import behind_nginx, needs_nginx
from contract.numbers import half_sent
from patience import wait_until

from demo import stack
from filehandoff.settings import MIB

pytestmark = needs_nginx


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[stack.Stack, dict[str, str]]]:
    """Both apps behind nginx, and their URLs there."""
    folder: Path = tmp_path_factory.mktemp("nginx")
    environ = {"UPLOAD_S3": "moto", "UPLOAD_PART_BYTES": "5 MiB", "UPLOAD_MAX_FILE_BYTES": "20 MiB"}
    with behind_nginx(environ | {"UPLOAD_DRAIN_SECONDS": "1"}, folder) as found:
        yield found


@pytest.fixture(params=stack.COMMANDS)
def app(request: pytest.FixtureRequest, behind: tuple[stack.Stack, dict[str, str]]) -> Iterator[Api]:
    """Each of the apps in turn."""
    with closing(Api(behind[1][request.param])) as api:
        yield api


def test_a_file_of_several_parts_arrives_whole(app: Api) -> None:
    """Its links are those of clients, by https."""
    data = os.urandom(12 * MIB)
    receipt = app.upload_file(data, "stream").json()["receipts"][0]
    assert receipt["url"].startswith(f"{app.url}/objects/")
    check_bytes(app.send("GET", receipt["url"]), 200, data)


def test_the_app_gets_a_body_while_it_arrives(app: Api) -> None:
    """Nginx holds no part of the request back: the upload is in progress with half of its bytes."""
    with half_sent(app):
        wait_until(
            lambda: "handoff_uploads_in_flight 1.0" in app.send("GET", "/metrics").text,
            lambda: "nginx buffers the body",
        )


def test_a_refusal_reaches_a_client_that_still_sends(app: Api) -> None:
    """A body over the limit gets the app's explanation, not nginx's page."""
    check_problem(app.upload(form(part("file", bytes(20 * MIB + 100), "a"))), 413, "file-too-large")
    assert app.send("GET", "/healthz").status_code == 200


def test_a_client_that_leaves_ends_its_upload(app: Api, behind: tuple[stack.Stack, dict[str, str]]) -> None:
    """Nginx closes the connection to the app, and S3 has nothing of the upload."""
    started, _ = behind
    with closing(started.store.client()) as client:
        bucket = Bucket(client, started.settings.bucket, None)
        before = bucket.stored_keys()
        with half_sent(app):
            pass
        wait_until(
            lambda: "handoff_uploads_in_flight 0.0" in app.send("GET", "/metrics").text, lambda: "the upload goes on"
        )
        assert (bucket.stored_keys(), bucket.unfinished()) == (before, [])
