"""`sweep-uploads` of both apps lists unfinished uploads, and aborts only the right ones.

moto dates every upload to 2010 and lists all on one page; rclone knows their age. Pages, chosen ages and refusals come
from a small S3 server in this file.
"""

import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias
from xml.sax.saxutils import escape

import pytest
from click.testing import Result
from patience import PATIENCE
from processes.serving import served
from werkzeug.wrappers import Request, Response

import flask_app
import quart_app
from demo import stores
from demo.processes import ROOT, ending, python
from demo.stack import Stack, wait_until_ready
from filehandoff.keys import new_key
from filehandoff.settings import Settings
from filehandoff.web.request import EXTENSION
from flask_app.service import Service

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

FRAMEWORKS = ("flask", "quart")
PREFIX = "incoming/"

Invoke: TypeAlias = Callable[..., Result]


@contextmanager
def started(name: str) -> Iterator[stores.Store]:
    """An S3 server that answers."""
    store = stores.start(name, {}, None)
    assert store.server is not None
    with ending([store.server]):
        wait_until_ready(Stack(store, Settings(), {}, [store.server]), store.endpoint_url, None)
        yield store


@pytest.fixture(scope="module")
def moto() -> Iterator[stores.Store]:
    """A moto for all tests; each has its own bucket."""
    with started("moto") as store:
        yield store


@pytest.fixture(scope="module")
def rclone() -> Iterator[stores.Store]:
    """An rclone for all tests; each has its own bucket."""
    with started("rclone") as store:
        yield store


def new_bucket(s3: "S3Client") -> str:
    """An empty bucket."""
    name = f"sweep-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


def begin(s3: "S3Client", bucket: str, *keys: str) -> set[tuple[str, str]]:
    """Create unfinished uploads, as a killed process leaves them; return their keys and ids."""
    return {(key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]) for key in keys}


def unfinished(s3: "S3Client", bucket: str) -> set[tuple[str, str]]:
    """The keys and ids of the unfinished uploads."""
    try:
        return {(each["Key"], each["UploadId"]) for each in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])}
    except s3.exceptions.NoSuchUpload:  # rclone reports "none" with this error
        return set()


def run(framework: str, *arguments: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command as the documentation says."""
    return subprocess.run(  # noqa: S603 - our own command
        python(framework, "--app", f"{framework}_app", "sweep-uploads", *arguments),
        cwd=ROOT,
        env={**stores.EMBEDDED_CREDENTIALS, "UPLOAD_KEY_PREFIX": PREFIX, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(params=FRAMEWORKS)
def invoke(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    """Run the command in this process: one process per call would take minutes."""
    for name, value in stores.EMBEDDED_CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    opened: list[Service] = []

    def invoke(endpoint_url: str, bucket: str, *arguments: str) -> Result:
        settings = Settings(s3_endpoint_url=endpoint_url, bucket=bucket, key_prefix=PREFIX, s3_attempts=1)
        if request.param == "quart":  # Quart's command opens and closes the store itself
            ended: Result = quart_app.create_app(settings).test_cli_runner().invoke(args=["sweep-uploads", *arguments])
            return ended
        app = flask_app.create_app(settings)
        opened.append(app.extensions[EXTENSION])
        return app.test_cli_runner().invoke(args=["sweep-uploads", *arguments])

    yield invoke
    for service in opened:
        service.close()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_unfinished_uploads_are_aborted_only_on_demand(moto: stores.Store, framework: str) -> None:
    """Without --abort nothing changes; with it, only our uploads under the prefix are aborted."""
    with closing(moto.client()) as s3:
        bucket = new_bucket(s3)
        environ = {"UPLOAD_S3_ENDPOINT_URL": moto.endpoint_url, "UPLOAD_BUCKET": bucket}
        ours = begin(s3, bucket, new_key(PREFIX, "a.bin"), new_key(PREFIX, "b.bin"))
        others = begin(s3, bucket, new_key("", "a.bin"), new_key("other/", "a.bin"), f"{PREFIX}backup.tar")

        listed = run(framework, environ=environ)
        assert (listed.returncode, listed.stderr) == (0, "")
        *lines, summary = listed.stdout.splitlines()
        pattern = r"2010-11-10 20:48:33 UTC, \d+d ago  (\S+)  (\S+)"
        assert {re.fullmatch(pattern, line).groups() for line in lines} == ours  # type: ignore[union-attr] # a mismatch fails the test anyway
        assert summary == (
            f"2 unfinished uploads of this app older than 24h in the bucket '{bucket}' under 'incoming/'. "
            "Nothing was changed; run the command with --abort to abort the listed uploads."
        )
        assert unfinished(s3, bucket) == ours | others

        aborted = run(framework, "--older-than", "0s", "--abort", environ=environ)
        assert (aborted.returncode, aborted.stderr) == (0, "")
        *lines, summary = aborted.stdout.splitlines()
        assert {re.fullmatch(f"aborted  {pattern}", line).groups() for line in lines} == ours  # type: ignore[union-attr] # a mismatch fails the test anyway
        assert summary.endswith(f" older than 0s in the bucket '{bucket}' under 'incoming/'. 2 aborted.")
        assert unfinished(s3, bucket) == others


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_wrong_setting_is_one_line(framework: str) -> None:
    """A wrong setting ends the command with one line and no traceback."""
    ended = run(framework, environ={"UPLOAD_PART_BYTES": "1"})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "Error: UPLOAD_PART_BYTES is '1'; it must be 5 MiB to 5 GiB, the limits of S3\n"


def test_a_younger_upload_is_left_alone(rclone: stores.Store, invoke: Invoke) -> None:
    """A new upload is kept until the age is 0s; then it is aborted."""
    with closing(rclone.client()) as s3:
        bucket = new_bucket(s3)
        none = invoke(rclone.endpoint_url, bucket, "--abort")
        where = f"in the bucket '{bucket}' under 'incoming/'"
        assert (none.exit_code, none.output) == (0, f"No unfinished upload of this app older than 24h {where}.\n")

        begun = begin(s3, bucket, new_key(PREFIX, "a.bin"))
        younger = invoke(rclone.endpoint_url, bucket, "--abort")
        assert younger.exit_code == 0
        assert younger.output == f"No unfinished upload of this app older than 24h {where}; 1 younger one ignored.\n"
        assert unfinished(s3, bucket) == begun

        swept = invoke(rclone.endpoint_url, bucket, "--abort", "--older-than", "0s")
        assert swept.exit_code == 0
        assert swept.stdout.endswith(". 1 aborted.\n")
        assert unfinished(s3, bucket) == set()


@dataclass
class PagedS3:
    """An S3 server with two unfinished uploads per page that refuses to abort some."""

    uploads: dict[str, datetime]
    refused: set[str] = field(default_factory=set)
    pages: int = 0

    def __call__(self, environ: dict[str, object], start_response: Callable[..., object]) -> object:
        """Answer the two supported calls."""
        request = Request(environ)
        return (self.abort if request.method == "DELETE" else self.list)(request)(environ, start_response)  # type: ignore[arg-type] # WSGI's own types

    def list(self, request: Request) -> Response:
        """ListMultipartUploads; an upload's id is the last part of its key. There are no objects."""
        if "list-type" in request.args:
            return Response("<ListBucketResult></ListBucketResult>")
        self.pages += 1
        keys = sorted(key for key in self.uploads if key > request.args.get("key-marker", ""))
        entries = "".join(
            f"<Upload><Key>{escape(key)}</Key><UploadId>{key.rpartition('/')[2]}</UploadId>"
            f"<Initiated>{self.uploads[key]:%Y-%m-%dT%H:%M:%S.000Z}</Initiated></Upload>"
            for key in keys[:2]
        )
        more = (
            f"<IsTruncated>true</IsTruncated><NextKeyMarker>{keys[1]}</NextKeyMarker><NextUploadIdMarker>x</NextUploadIdMarker>"
            if len(keys) > 2
            else "<IsTruncated>false</IsTruncated>"
        )
        return Response(f"<ListMultipartUploadsResult>{entries}{more}</ListMultipartUploadsResult>")

    def abort(self, request: Request) -> Response:
        """AbortMultipartUpload."""
        key = request.path.split("/", 2)[2]
        if key in self.refused:
            return Response("<Error><Code>AccessDenied</Code><Message>Not yours</Message></Error>", 403)
        del self.uploads[key]
        return Response(status=204)


def test_every_page_is_swept_and_a_refusal_keeps_none_of_the_others(invoke: Invoke) -> None:
    """All pages are swept.

    An upload that S3 refuses to abort is reported, with status 1.
    """
    now = datetime.now(UTC)
    ages = [timedelta(hours=hours) for hours in (1, 2, 23, 25, 26, 30, 49, 100, 240, 5000)]
    uploads = {new_key(PREFIX, f"{index}.bin"): now - age for index, age in enumerate(ages)}
    keys = list(uploads)
    s3 = PagedS3(uploads, refused={keys[5]})
    with served(s3) as url:
        ended = invoke(url, "uploads", "--abort")
    assert s3.pages == 5
    assert ended.exit_code == 1
    *lines, summary = ended.stdout.splitlines()
    aborted = [keys[index] for index in (9, 8, 7, 6, 4, 3)]
    assert [line.split("  ")[::2] for line in lines] == [["aborted", key] for key in aborted]
    assert summary.endswith("; 3 younger ones ignored. 6 aborted, 1 failed.")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        f"not aborted  {uploads[keys[5]]:%Y-%m-%d %H:%M:%S} UTC, 30h ago  {keys[5]}  5.bin: "
        "An error occurred (AccessDenied) when calling the AbortMultipartUpload operation"
    )
    assert line.endswith(": Not yours")
    assert set(uploads) == {*keys[:3], keys[5]}


def test_a_missing_bucket_is_reported_after_a_misspelt_setting(
    moto: stores.Store, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing bucket has a line, after the warning about a misspelt setting."""
    monkeypatch.setenv("UPLOAD_BUCKETS", "mine")
    ended = invoke(moto.endpoint_url, "nowhere")
    assert (ended.exit_code, ended.stdout) == (1, "")
    misspelt, missing = ended.stderr.splitlines()
    assert re.fullmatch(r"(flask|quart)_app: UPLOAD_BUCKETS is no setting; was UPLOAD_BUCKET meant\?", misspelt)
    assert missing == "Error: there is no bucket 'nowhere'; create it or set UPLOAD_BUCKET"


def test_a_store_that_is_down_is_one_line(invoke: Invoke) -> None:
    """A store that does not answer is named in one line."""
    ended = invoke("http://127.0.0.1:1", "uploads")
    assert (ended.exit_code, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith('Error: Could not connect to the endpoint URL: "http://127.0.0.1:1/uploads?uploads')


def test_a_wrong_age_is_an_error_of_usage(invoke: Invoke) -> None:
    """A malformed age exits with 2 before any S3 call."""
    ended = invoke("http://127.0.0.1:1", "uploads", "--older-than", "1 month")
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[-1] == (
        "Error: Invalid value for '--older-than': '1 month' is no age; "
        "write a whole number and its unit, such as 90s, 30m, 24h or 7d"
    )
