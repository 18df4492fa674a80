"""An upload that SIGTERM interrupts goes on in the next process."""

import os
from contextlib import closing

import httpx
import pytest
from contract.api import Api
from contract.bucket import Bucket
from contract.tus import Tus
from patience import wait_until
from resuming.services import Services

from filehandoff.settings import MIB, Settings

PART = 5 * MIB
VERSION = {"Tus-Resumable": "1.0.0"}


@pytest.mark.every_other
@pytest.mark.parametrize(("sent", "kept"), [(1000, 1000), (7 * MIB, PART)], ids=["less than a part", "a part"])
def test_sigterm_keeps_the_bytes_that_arrived(services: Services, framework: str, sent: int, kept: int) -> None:
    """After UPLOAD_DRAIN_SECONDS, the request ends, and another process has its bytes, at least all full parts."""
    data = os.urandom(8 * MIB)
    server = services.start(framework)
    with closing(services.store.client()) as s3, closing(Api(server.url)) as api:
        bucket = Bucket(s3, Settings().bucket, None)
        upload = Tus(api, bucket).create(len(data))
        with upload.begin(0, len(data), data[:sent]):
            wait_until(lambda: "uploads_in_flight 1.0" in api.send("GET", "/metrics").text, lambda: "no upload runs")
            wait_until(lambda: sent < PART or bucket.unfinished(), lambda: "no part begins")
            server.terminate()
            server.wait()
            assert server.returncode == 0
    other = services.start(framework)
    with closing(services.store.client()) as s3, closing(Api(other.url)) as api:
        path = upload.url.removeprefix(server.url)
        assert kept <= int(api.send("HEAD", path, headers=VERSION).headers["Upload-Offset"]) <= sent
        assert api.send("DELETE", path, headers=VERSION).status_code == httpx.codes.NO_CONTENT
    other.terminate()
    other.wait()
