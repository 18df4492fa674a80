"""The command `sweep-uploads` of both apps: it lists what was left in S3, and aborts only what it should.

moto says of every upload that it began in 2010, and gives all on one page; rclone knows when one began. Pages, ages of
one's choice and a refusal come from a small S3 of our own.
"""

import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
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

type Invoke = Callable[..., Result]


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
    """One for all tests: each has a bucket of its own."""
    with started("moto") as store:
        yield store


@pytest.fixture(scope="module")
def rclone() -> Iterator[stores.Store]:
    """Likewise."""
    with started("rclone") as store:
        yield store


def new_bucket(s3: "S3Client") -> str:
    """An empty bucket."""
    name = f"sweep-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


def begin(s3: "S3Client", bucket: str, *keys: str) -> set[tuple[str, str]]:
    """Begin a multipart upload for each key, as a process does that is killed then; gives keys and upload ids."""
    return {(key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]) for key in keys}


def unfinished(s3: "S3Client", bucket: str) -> set[tuple[str, str]]:
    """The keys and upload ids of what is unfinished."""
    try:
        return {(each["Key"], each["UploadId"]) for each in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])}
    except s3.exceptions.NoSuchUpload:  # how rclone says that there are none
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
    """Runs the command in this process, on an S3 server and a bucket: a process for each would take minutes."""
    for name, value in stores.EMBEDDED_CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    opened: list[Service] = []

    def invoke(endpoint_url: str, bucket: str, *arguments: str) -> Result:
        settings = Settings(s3_endpoint_url=endpoint_url, bucket=bucket, key_prefix=PREFIX, s3_attempts=1)
        if request.param == "quart":  # whose command opens the store itself, and closes it
            ended: Result = quart_app.create_app(settings).test_cli_runner().invoke(args=["sweep-uploads", *arguments])
            return ended
        app = flask_app.create_app(settings)
        opened.append(app.extensions[EXTENSION])
        return app.test_cli_runner().invoke(args=["sweep-uploads", *arguments])

    yield invoke
    for service in opened:
        service.close()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_left_is_listed_and_aborted_only_on_demand(moto: stores.Store, framework: str) -> None:
    """Without --abort nothing is changed; with it ours are aborted, and neither foreign keys nor other prefixes."""
    with closing(moto.client()) as s3:
        bucket = new_bucket(s3)
        environ = {"UPLOAD_S3_ENDPOINT_URL": moto.endpoint_url, "UPLOAD_BUCKET": bucket}
        ours = begin(s3, bucket, new_key(PREFIX, "a.bin"), new_key(PREFIX, "b.bin"))
        others = begin(s3, bucket, new_key("", "a.bin"), new_key("other/", "a.bin"), f"{PREFIX}backup.tar")

        listed = run(framework, environ=environ)
        assert (listed.returncode, listed.stderr) == (0, "")
        *lines, summary = listed.stdout.splitlines()
        pattern = r"2010-11-10 20:48:33 UTC, \d+d ago  (\S+)  (\S+)"
        assert {re.fullmatch(pattern, line).groups() for line in lines} == ours  # type: ignore[union-attr] # fails all the same
        assert summary == (
            f"2 unfinished uploads of this app older than 24h in the bucket '{bucket}' under 'incoming/'. "
            "Nothing was changed: run this again with --abort to abort what is listed."
        )
        assert unfinished(s3, bucket) == ours | others

        aborted = run(framework, "--older-than", "0s", "--abort", environ=environ)
        assert (aborted.returncode, aborted.stderr) == (0, "")
        *lines, summary = aborted.stdout.splitlines()
        assert {re.fullmatch(f"aborted  {pattern}", line).groups() for line in lines} == ours  # type: ignore[union-attr] # likewise
        assert summary.endswith(f" older than 0s in the bucket '{bucket}' under 'incoming/'. 2 aborted.")
        assert unfinished(s3, bucket) == others


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_wrong_setting_is_one_line(framework: str) -> None:
    """The app cannot be made then, which the command line says without a traceback."""
    ended = run(framework, environ={"UPLOAD_PART_BYTES": "1"})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "Error: UPLOAD_PART_BYTES is '1'; it must be 5 MiB to 5 GiB, the limits of S3\n"


def test_a_younger_upload_is_left_alone(rclone: stores.Store, invoke: Invoke) -> None:
    """On a store that says when an upload began: what began just now stays until 0s is asked for; then none is left."""
    with closing(rclone.client()) as s3:
        bucket = new_bucket(s3)
        none = invoke(rclone.endpoint_url, bucket, "--abort")
        where = f"in the bucket '{bucket}' under 'incoming/'"
        assert (none.exit_code, none.output) == (0, f"No unfinished upload of this app older than 24h {where}.\n")

        begun = begin(s3, bucket, new_key(PREFIX, "a.bin"))
        younger = invoke(rclone.endpoint_url, bucket, "--abort")
        assert younger.exit_code == 0
        assert younger.output == f"No unfinished upload of this app older than 24h {where}; 1 younger one left alone.\n"
        assert unfinished(s3, bucket) == begun

        swept = invoke(rclone.endpoint_url, bucket, "--abort", "--older-than", "0s")
        assert swept.exit_code == 0
        assert swept.stdout.endswith(". 1 aborted.\n")
        assert unfinished(s3, bucket) == set()


@dataclass
class PagedS3:
    """An S3 server that gives its unfinished uploads two a page, and refuses to abort some."""

    uploads: dict[str, datetime]
    refused: set[str] = field(default_factory=set)
    pages: int = 0

    def __call__(self, environ: dict[str, object], start_response: Callable[..., object]) -> object:
        """The two calls it knows."""
        request = Request(environ)
        return (self.abort if request.method == "DELETE" else self.list)(request)(environ, start_response)  # type: ignore[arg-type] # WSGI's own types

    def list(self, request: Request) -> Response:
        """ListMultipartUploads; an upload's id is its key's last part."""
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
    """Ten uploads on five pages: the old ones are aborted but for one that S3 refuses, which is told, with status 1."""
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
    assert summary.endswith("; 3 younger ones left alone. 6 aborted, 1 could not be.")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        f"not aborted  {uploads[keys[5]]:%Y-%m-%d %H:%M:%S} UTC, 30h ago  {keys[5]}  5.bin: "
        "An error occurred (AccessDenied) when calling the AbortMultipartUpload operation"
    )
    assert line.endswith(": Not yours")
    assert set(uploads) == {*keys[:3], keys[5]}


def test_a_missing_bucket_is_told_after_what_may_be_its_cause(
    moto: stores.Store, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at an app's start: a misspelt setting has its line, and the bucket that is missing has one."""
    monkeypatch.setenv("UPLOAD_BUCKETS", "mine")
    ended = invoke(moto.endpoint_url, "nowhere")
    assert (ended.exit_code, ended.stdout) == (1, "")
    misspelt, missing = ended.stderr.splitlines()
    assert re.fullmatch(r"(flask|quart)_app: UPLOAD_BUCKETS is no setting; was UPLOAD_BUCKET meant\?", misspelt)
    assert missing == "Error: there is no bucket 'nowhere'; create it or set UPLOAD_BUCKET"


def test_a_store_that_is_down_is_one_line(invoke: Invoke) -> None:
    """What did not answer is named."""
    ended = invoke("http://127.0.0.1:1", "uploads")
    assert (ended.exit_code, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith('Error: Could not connect to the endpoint URL: "http://127.0.0.1:1/uploads?uploads')


def test_a_wrong_age_is_an_error_of_usage(invoke: Invoke) -> None:
    """It is told before S3 is asked for anything, with status 2 as click has it."""
    ended = invoke("http://127.0.0.1:1", "uploads", "--older-than", "1 month")
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[-1] == (
        "Error: Invalid value for '--older-than': '1 month' is no age; "
        "give a whole number and its unit, such as 90s, 30m, 24h or 7d"
    )
