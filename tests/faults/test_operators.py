"""While S3 breaks, metrics match the proxy's calls, and logs hold no secrets.

Both apps log at `debug`, where botocore logs the signing of each request, from hooks, tasks and worker threads.
"""

import itertools
import json
import os
import re
import socket
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from contract.api import CONTENT_TYPE, Api, form, part
from contract.numbers import ended, grown, numbers, stored, wait_for
from faults.behind import Behind, proxied
from faults.proxy import Proxy
from faults.script import Answer, CutAnswer, Hold, When
from patience import wait_until

from filehandoff.causes import CAUSES
from filehandoff.settings import MIB
from filehandoff.strategies import HANDOFFS, HOOKS

FRAMEWORKS = ("flask", "quart")
#: Size of a file of three parts.
SIZE = 10 * MIB + 1
TOKEN = "a-session-token-that-nobody-may-read"
SECRETS = ("embedded-secret", TOKEN)
#: A visible signature or credential in any of botocore's formats.
SIGNATURE = re.compile(r"(?i)(?:signature|credential)\\?['\"]?\s*[=:](?:\s|\\n)*(?!\[hidden\])[\w/]{16,}")
#: A filename with an attempt to forge a log line and to colour a terminal.
FORGED = "name\x1b[31m\u2028{'event': 'forged'}"
#: Loggers of the servers, whose lines belong to no request.
SERVERS = ("gunicorn.error", "hypercorn.error", "uvicorn.error")

#: The loggers of the lines about requests.
ROUTES = {"filehandoff.web.routes", "filehandoff.audit"}


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """A proxy in front of a real store, and both apps logging at `debug`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPLOAD_LOG", "json")
        patch.setenv("UPLOAD_LOG_LEVEL", "debug")
        patch.setenv("AWS_SESSION_TOKEN", TOKEN)
        with proxied("moto", tmp_path_factory.mktemp("operators")) as behind:
            yield behind


@pytest.fixture
def proxy(behind: Behind) -> Iterator[Proxy]:
    """The proxy, without calls before the test and without a script after it."""
    behind.proxy.calls.clear()
    yield behind.proxy
    behind.proxy.clear()


@pytest.fixture(params=FRAMEWORKS)
def app(request: pytest.FixtureRequest, behind: Behind) -> Iterator[Api]:
    """Each of the apps."""
    with closing(Api(behind.started.apps[request.param].url)) as api:
        yield api


class Log:
    """The apps' log since the test began."""

    def __init__(self, behind: Behind) -> None:
        self._path = Path(behind.started.environ["TMPDIR"]) / "servers.log"
        self._begin = self._path.stat().st_size

    def rewind(self) -> None:
        """Include the lines from before the test."""
        self._begin = 0

    def ids_before(self) -> set[str]:
        """The ids of requests with lines before the test."""
        lines = self._path.read_bytes()[: self._begin].splitlines()
        return {line["request_id"] for line in map(json.loads, lines) if "request_id" in line}

    def forget(self) -> None:
        """Drop the lines so far."""
        self._begin = self._path.stat().st_size

    def wait_for(self, event: str) -> list[dict[str, Any]]:
        """Wait for a line of this event; return all of them."""
        wait_until(lambda: self._beginning(event), lambda: f"no line begins with '{event}'")
        return self._beginning(event)

    def _beginning(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"].startswith(event)]

    def of_views(self) -> list[dict[str, Any]]:
        """The app's own lines about requests."""
        return [line for line in self.lines() if line["logger"] in ROUTES]

    def text(self) -> str:
        """The complete lines as text."""
        whole, newline, _ = self._path.read_bytes()[self._begin :].rpartition(b"\n")
        return (whole + newline).decode()

    def lines(self) -> list[dict[str, Any]]:
        """The lines as objects."""
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def log(behind: Behind) -> Log:
    """The log of this test."""
    return Log(behind)


# Metrics


@pytest.mark.parametrize(
    ("fault", "operation", "size", "tries"),
    [
        pytest.param(Answer(503, "SlowDown"), "put_object", 100, 1, id="a put is tried again"),
        pytest.param(Answer(500, "InternalError", When.AFTER_BODY), "upload_part", SIZE, 3, id="a part is tried again"),
    ],
)
def test_a_retry_is_counted_where_it_happened(
    app: Api, proxy: Proxy, fault: Answer, operation: str, size: int, tries: int
) -> None:
    """A retried call is counted once as a retry, in agreement with the proxy's calls."""
    proxy.on(operation, fault)
    before = numbers(app)
    assert app.upload(form(part("file", bytes(size), "name")), "/uploads/stream").status_code == 201
    made = Counter(call.operation for call in proxy.calls)[operation]
    name = {"put_object": "PutObject", "upload_part": "UploadPart"}[operation]
    assert made == tries + 1
    assert grown(app, before) == stored("stream", size) | {f"s3_retries_total{{operation={name}}}": made - tries}


def test_a_store_that_says_no_is_a_failure_and_an_abort(app: Api, proxy: Proxy) -> None:
    """A refused part counts as a failed upload and an abort; botocore sent it again, to explain the refusal."""
    proxy.on("upload_part", Answer(403, "AccessDenied", When.AFTER_BODY), part_number=2, every=True)
    before = numbers(app)
    answer = app.upload(form(part("file", bytes(SIZE), "name")), "/uploads/stream")
    assert answer.json()["code"] == "store-rejected"
    assert Counter(call.operation for call in proxy.calls)["abort_multipart_upload"] == 1
    assert grown(app, before) == ended("stream", "failed") | {
        "failures_total{reason=store-rejected}": 1,
        "aborts_total": 1,
        "s3_retries_total{operation=UploadPart}": 1,
    }


def test_a_failed_cleanup_is_counted(app: Api, proxy: Proxy) -> None:
    """A multipart upload that S3 refuses to abort counts as a failed cleanup."""
    proxy.on("upload_part", Answer(403, "AccessDenied", When.AFTER_BODY), part_number=2, every=True)
    proxy.on("abort_multipart_upload", Answer(403, "AccessDenied"), every=True)
    before = numbers(app)
    assert app.upload(form(part("file", bytes(SIZE), "name")), "/uploads/stream").status_code == 502
    assert grown(app, before) == ended("stream", "failed") | {
        "failures_total{reason=store-rejected}": 1,
        "undo_failures_total": 1,
        "s3_retries_total{operation=UploadPart}": 1,
    }


def test_parts_are_in_flight_until_s3_has_answered(app: Api, proxy: Proxy) -> None:
    """A part counts as in flight until S3 has answered it."""
    proxy.on("upload_part", Hold(), part_number=1)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(app.upload, form(part("file", bytes(SIZE), "name")), "/uploads/stream")
        with closing(Api(app.url)) as other:
            wait_for(other, "parts_in_flight", 1)
            assert numbers(other)["uploads_in_flight"] == 1
        proxy.clear()
        assert answer.result().status_code == 201
    assert {numbers(app)[name] for name in ("parts_in_flight", "uploads_in_flight")} == {0}


# Log


@dataclass(frozen=True)
class UploadLog:
    """An app's log while files went through every hand-off with every hook at once."""

    framework: str
    marker: str  #: the first bytes of each file
    signatures: list[str]  #: of the presigned URLs
    results: dict[str, str]  #: each upload's key or error code, by request id
    text: str
    earlier: set[str]  #: the ids of earlier requests, which may still have late lines

    @cached_property
    def all_lines(self) -> list[dict[str, Any]]:
        """The lines as objects, without the server's own."""
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if line["logger"] not in SERVERS]

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of these uploads."""
        return [line for line in self.all_lines if line["request_id"] in self.results]

    @property
    def keys(self) -> dict[str, str]:
        """The request id of each stored file, by key."""
        return {key: request_id for request_id, key in self.results.items() if "/" in key}

    @property
    def sent_parts(self) -> set[str]:
        """The ids of requests whose files the app itself sent to S3."""
        return {request_id for request_id in self.keys.values() if not request_id.startswith("presigned.")}


@pytest.fixture(scope="module", params=FRAMEWORKS)
def upload_log(request: pytest.FixtureRequest, behind: Behind) -> UploadLog:
    """Upload a file of three parts in every cell of the grid; return the log."""
    log = Log(behind)
    earlier = log.ids_before()
    marker = f"this-is-in-the-file-{uuid.uuid4().hex}"

    signatures: list[str] = []

    def upload(cell: tuple[str, str]) -> tuple[str, str]:
        handoff, hook = cell
        data = marker.encode() + os.urandom(SIZE - len(marker))
        request_id = f"{handoff}.{hook}.{uuid.uuid4().hex}"
        headers = {"X-Request-Id": request_id}
        if handoff == "presigned":
            given = api.presign(data, FORGED, headers=headers, hook=hook).json()
            signatures.extend(parse_qs(urlsplit(one["url"]).query)["X-Amz-Signature"][0] for one in given["parts"])
            api.send_to_s3(given, data)
            answer = api.send("POST", given["complete"], headers=headers).json()
        else:
            answer = api.upload(form(part("file", data, FORGED)), f"/uploads/{handoff}", headers, hook=hook).json()
        return request_id, answer["receipts"][0]["key"] if "receipts" in answer else answer["code"]

    with closing(Api(behind.started.apps[request.param].url)) as api, ThreadPoolExecutor(4) as pool:
        result = dict(pool.map(upload, itertools.product(HANDOFFS, HOOKS)))
    return UploadLog(request.param, marker, signatures, result, log.text(), earlier)


def test_every_line_is_json_and_has_its_own_requests_id(upload_log: UploadLog) -> None:
    """Each line has a request id.

    A line that names an object has the id of its upload.
    """
    assert {line.get("request_id") for line in upload_log.all_lines} - upload_log.earlier == set(upload_log.results)
    assert (
        len(upload_log.keys) == len(upload_log.results) - 2
    )  # `file` and `byte_queue` with the hook that closes their files
    named = {
        (key, line["request_id"]) for line in upload_log.all_lines for key in upload_log.keys if key in line["event"]
    }
    assert named == set(upload_log.keys.items())


def test_lines_from_hooks_and_for_parts_have_the_id(upload_log: UploadLog) -> None:
    """Each upload has lines with its id from its hook and its parts."""
    hooks = [line for line in upload_log.lines if "calling handler" in line["event"] and "_run_hook" in line["event"]]
    assert {line["request_id"] for line in hooks} == set(upload_log.results)
    parts = [line for line in upload_log.lines if line["event"] == "S3 responded 200 to a direct put"]
    assert {line["request_id"] for line in parts} >= upload_log.sent_parts


@pytest.mark.parametrize("upload_log", ["flask"], indirect=True)
def test_lines_from_worker_threads_have_the_id(upload_log: UploadLog) -> None:
    """Each upload has lines from the threads of its S3 calls, with its id."""
    threads: dict[str, set[str]] = {request_id: set() for request_id in upload_log.results}
    for line in upload_log.lines:
        threads[line["request_id"]].add(line["thread"].partition("-")[0])
    assert {request_id for request_id, names in threads.items() if "s3" in names} >= upload_log.sent_parts


def test_each_upload_has_one_line_of_ours(upload_log: UploadLog) -> None:
    """Each upload has one line of ours: keys and bytes if stored, otherwise the code."""
    ours = [line for line in upload_log.lines if line["logger"] in ROUTES]
    assert Counter(line["request_id"] for line in ours) == Counter(dict.fromkeys(upload_log.results, 1))
    for line in ours:
        result = upload_log.results[line["request_id"]]
        if line["event"] == "stored":
            assert (line["level"], line["keys"], line["bytes"]) == ("info", [result], SIZE)
        else:
            assert (line["level"], line["code"], line["status"]) == ("error", result, 500)


def test_no_secret_is_in_the_log(upload_log: UploadLog) -> None:
    """The log has no credential, signature or file bytes, although the SDK logs its signing."""
    assert upload_log.text.count("StringToSign") > 0  # a plain `in` would print the whole log on failure
    assert upload_log.text.count("[hidden]") > 0
    assert len(upload_log.signatures) == len(HOOKS) * 3
    assert [
        secret for secret in (*SECRETS, *upload_log.signatures, upload_log.marker) if secret in upload_log.text
    ] == []
    assert SIGNATURE.findall(upload_log.text) == []


@pytest.mark.parametrize("reset", [True, False])
def test_a_broken_download_is_logged_once(app: Api, proxy: Proxy, log: Log, reset: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A broken download has one line of ours, and none of the server's."""
    key = app.upload(form(part("file", bytes(3 * MIB), "name")), "/uploads/stream").json()["receipts"][0]["key"]
    log.forget()
    proxy.on("get_object", CutAnswer(MIB, reset=reset))
    with pytest.raises(httpx.RemoteProtocolError):
        app.send("GET", f"/objects/{key}", headers={"X-Request-Id": "broken-off"})
    (line,) = log.wait_for("a download was aborted")
    assert (line["request_id"], line["level"]) == ("broken-off", "error")
    assert [one for one in log.lines() if one["level"] not in {"debug", "info"} and one != line] == []
    assert log.text().count("Traceback") == 0


def test_a_client_that_left_is_logged_once(app: Api, proxy: Proxy, log: Log) -> None:
    """An upload whose client left has one line of ours and none of the server's."""
    proxy.on("put_object", Hold(When.DONE))
    url = urlsplit(app.url)
    body = form(part("file", b"data", "name"))
    head = f"POST /uploads/stream HTTP/1.1\r\nHost: here\r\nX-Request-Id: left\r\nContent-Type: {CONTENT_TYPE}\r\n"
    with socket.create_connection((url.hostname or "", url.port or 80), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: proxy.calls, lambda: "S3 is not asked")
    proxy.clear()
    wait_for(app, "uploads_in_flight", 0)
    wait_until(log.of_views, lambda: "no line is about the upload")
    (line,) = log.of_views()
    assert line["request_id"] == "left"
    assert [one for one in log.lines() if one["level"] not in {"debug", "info"}] == []


@pytest.mark.parametrize("cause", CAUSES)
def test_lines_of_a_cause_have_the_id(app: Api, log: Log, cause: str) -> None:
    """Lines during a cause have its id, except those of boto3's transfer threads."""
    request_id = f"{cause}.{app.framework}"
    answer = app.upload(form(part("file", bytes(MIB), "name")), f"/causes/{cause}", {"X-Request-Id": request_id})
    assert answer.status_code == 200
    lines = [line for line in log.lines() if not re.match(r"ThreadPoolExecutor-[1-9]", line["thread"])]
    assert len(lines) > 50
    assert {line.get("request_id") for line in lines} - log.ids_before() == {request_id}


def test_a_failure_is_logged_with_its_cause(app: Api, proxy: Proxy, log: Log) -> None:
    """S3's error is in the log under the request id that the client received."""
    proxy.on("put_object", Answer(403, "AccessDenied"), every=True)
    answer = app.upload(form(part("file", b"data", "name")), "/uploads/stream", {"X-Request-Id": "find-me"})
    assert answer.status_code == 502
    (line,) = log.of_views()
    assert (line["request_id"], line["code"], line["level"]) == ("find-me", "store-rejected", "error")
    assert "AccessDenied" in line["event"]


@pytest.mark.parametrize("app", ["flask"], indirect=True)
def test_a_thread_that_is_free_again_has_no_id(app: Api, log: Log) -> None:
    """A reused gunicorn thread puts no earlier request's id on lines about the next connection."""
    app.upload(form(part("file", b"data", "name")), "/uploads/stream", {"X-Request-Id": "the-one-before"})
    url = urlsplit(app.url)
    with socket.create_connection((url.hostname or "", url.port or 80), timeout=30) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")
    (line,) = [line for line in log.lines() if "Invalid request" in line["event"]]
    log.rewind()
    assert line["thread"] in {before["thread"] for before in log.lines() if "request_id" in before}
    assert "request_id" not in line
