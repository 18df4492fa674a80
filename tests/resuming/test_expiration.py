"""An upload that its client has left expires."""

from contextlib import closing
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path

from contract.api import Api
from contract.bucket import Bucket
from contract.tus import GONE, Tus
from faults.proxy import Proxy
from faults.script import RewriteAnswerHeader
from resuming.services import Services

from filehandoff.settings import Settings


def two_days_later(date: str) -> str:
    """A date of HTTP, moved by more than the life of an upload."""
    return format_datetime(parsedate_to_datetime(date) + timedelta(days=2), usegmt=True)


def test_an_expired_upload_is_gone(services: Services, framework: str, tmp_path: Path) -> None:
    """After the time of Upload-Expires, by the store's clock, an upload is 404 or 410 for every method."""
    with Proxy(services.store.endpoint_url) as proxy:
        server = services.start(framework, environ={"UPLOAD_S3_ENDPOINT_URL": proxy.url, "TMPDIR": str(tmp_path)})
        with closing(services.store.client()) as s3, closing(Api(server.url)) as api:
            tus = Tus(api, Bucket(s3, Settings().bucket, None))
            upload = tus.create(3, content=b"a")
            assert upload.offset == 1
            proxy.on("list_objects_v2", RewriteAnswerHeader("date", two_days_later), every=True)
            answers = [upload.head(), upload.patch(1, b"bc"), upload.terminate(), api.send("GET", upload.url)]
            assert [answer.status_code in GONE for answer in answers] == [True] * 4
            assert "Upload-Offset" not in answers[0].headers
        server.terminate()
        server.wait()
