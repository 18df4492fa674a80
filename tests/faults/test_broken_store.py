"""A store that breaks in the middle of a `stream` upload: the file is stored whole, or the client is told and none is.

Each case is made to happen between the apps and a real S3 server by the proxy.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from contract.api import Api, check_problem, form, part
from contract.bucket import Bucket
from faults.behind import Behind, proxied
from faults.conftest import SETTINGS
from faults.proxy import Proxy
from faults.script import Answer, Drip, Fault, FlipAnswerByte, Latency, LostAnswer, Reset, Stall, When

from handoff.settings import MIB

FRAMEWORKS = ("flask", "quart")
#: Two parts and a byte.
SIZE = 10 * MIB + 1


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """A proxy in front of a real store, and both apps behind it."""
    with proxied("moto", tmp_path_factory.mktemp("broken")) as behind:
        yield behind


@pytest.fixture
def bucket(behind: Behind) -> Iterator[Bucket]:
    """The bucket, asked past the proxy."""
    with closing(behind.store.client()) as client:
        yield Bucket(client, SETTINGS["UPLOAD_BUCKET"], behind.started)


@pytest.fixture
def proxy(behind: Behind) -> Iterator[Proxy]:
    """The proxy, which has seen no call before the test, and has nothing scripted after it."""
    behind.proxy.calls.clear()
    yield behind.proxy
    behind.proxy.clear()


@pytest.fixture(params=FRAMEWORKS)
def app(request: pytest.FixtureRequest, behind: Behind) -> Iterator[Api]:
    """Each of the apps."""
    with closing(Api(behind.started.apps[request.param].url)) as api:
        yield api


@pytest.mark.parametrize(
    ("operation", "fault", "size"),
    [
        pytest.param("upload_part", Answer(503, "SlowDown"), SIZE, id="a part is refused: too busy"),
        pytest.param("upload_part", Reset(after=MIB), SIZE, id="a part's connection is reset"),
        pytest.param("upload_part", Stall(after=MIB), SIZE, id="a part is not taken on"),
        pytest.param("upload_part", LostAnswer(), SIZE, id="a part's answer is lost"),
        pytest.param("upload_part", Drip(up=16 * MIB, down=1000), SIZE, id="every part is slow"),
        pytest.param("create_multipart_upload", LostAnswer(), SIZE, id="the upload is begun twice"),
        pytest.param("put_object", Answer(500, "InternalError", When.AFTER_BODY), 100, id="a put fails"),
        pytest.param("put_object", Stall(), 100, id="a put is not answered"),
        pytest.param("put_object", LostAnswer(), 100, id="a put's answer is lost"),
    ],
)
def test_what_goes_wrong_once_is_mended(
    app: Api, bucket: Bucket, proxy: Proxy, operation: str, fault: Fault, size: int
) -> None:
    """The call is tried again, and the file is stored once, whole, with nothing beside it."""
    proxy.on(operation, fault, part_number=2 if operation == "upload_part" else None)
    data = os.urandom(size)
    answer = app.upload(form(part("file", data, "name")), "/uploads/stream")
    assert answer.status_code == 201, answer.text
    assert [call.fault for call in proxy.calls if call.fault] == [fault]
    (receipt,) = answer.json()["receipts"]
    bucket.check_receipt(receipt, data)
    bucket.check_and_empty({receipt["key"]})


@pytest.mark.parametrize(
    ("operation", "fault", "size"),
    [
        pytest.param("upload_part", Answer(503, "SlowDown", When.AFTER_BODY), SIZE, id="a part: too busy"),
        pytest.param("upload_part", Stall(after=MIB), SIZE, id="a part: not taken on"),
        pytest.param("upload_part", Stall(), SIZE, id="a part: not taken at all"),
        pytest.param("upload_part", Latency(60), SIZE, id="a part: taken and not answered"),
        pytest.param("upload_part", Reset(after=MIB), SIZE, id="a part: reset"),
        pytest.param("create_multipart_upload", LostAnswer(), SIZE, id="create: done, the answer lost"),
        pytest.param("create_multipart_upload", Answer(500, "InternalError"), SIZE, id="create: fails"),
        pytest.param("complete_multipart_upload", Answer(500, "InternalError"), SIZE, id="complete: fails"),
        pytest.param("complete_multipart_upload", LostAnswer(), SIZE, id="complete: done, the answer lost"),
        pytest.param("put_object", LostAnswer(), 100, id="put: done, the answer lost"),
        pytest.param("put_object", Stall(), 100, id="put: not answered"),
    ],
)
def test_what_goes_wrong_every_time_is_told_and_undone(
    app: Api, bucket: Bucket, proxy: Proxy, operation: str, fault: Fault, size: int
) -> None:
    """The answer is 503 store-unavailable, and nothing is left: no object, no unfinished upload."""
    proxy.on(operation, fault, every=True, part_number=2 if operation == "upload_part" else None)
    answer = app.upload(form(part("file", os.urandom(size), "name")), "/uploads/stream")
    check_problem(answer, 503, "store-unavailable")
    assert [call for call in proxy.calls if call.fault]
    bucket.check_and_empty(set())


def test_a_part_that_is_refused_is_told(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """What S3 says no to is not tried again: 502 store-rejected, and nothing is left."""
    proxy.on("upload_part", Answer(403, "AccessDenied"), part_number=2)
    check_problem(app.upload(form(part("file", os.urandom(SIZE), "name")), "/uploads/stream"), 502, "store-rejected")
    bucket.check_and_empty(set())


@pytest.mark.parametrize("size", [pytest.param(100, id="put"), pytest.param(SIZE, id="multipart")])
def test_an_object_that_is_not_there_is_no_upload(app: Api, bucket: Bucket, proxy: Proxy, size: int) -> None:
    """A store that took a file and does not have it afterwards is 502 store-rejected, and what is there is removed."""
    proxy.on("head_object", Answer(404, "NoSuchKey"), every=True)
    check_problem(app.upload(form(part("file", os.urandom(size), "name")), "/uploads/stream"), 502, "store-rejected")
    bucket.check_and_empty(set())


def test_an_object_of_other_parts_is_no_upload(app: Api, bucket: Bucket, proxy: Proxy, behind: Behind) -> None:
    """A completion whose ETag is not made of the parts' is 502 store-rejected, and the object is removed."""
    body = form(part("file", os.urandom(SIZE), "name"))
    (receipt,) = app.upload(body, "/uploads/stream").json()["receipts"]
    bucket.check_and_empty({receipt["key"]})
    proxy.on("complete_multipart_upload", FlipAnswerByte(etag_offset(behind, receipt["key"])))
    answer = app.upload(body, "/uploads/stream")
    assert "ETag" in check_problem(answer, 502, "store-rejected")["detail"]
    bucket.check_and_empty(set())


def etag_offset(behind: Behind, key: str) -> int:
    """Where in the answer to a completion the ETag's first digit stands, for keys of this length."""
    answers: list[bytes] = []
    names: dict[str, Any] = {"Bucket": SETTINGS["UPLOAD_BUCKET"], "Key": key}
    with closing(replace(behind.store, endpoint_url=behind.proxy.url).client()) as client:
        client.meta.events.register(
            "before-parse.s3.CompleteMultipartUpload", lambda response_dict, **_: answers.append(response_dict["body"])
        )
        upload_id = client.create_multipart_upload(**names)["UploadId"]
        etag = client.upload_part(**names, UploadId=upload_id, PartNumber=1, Body=b"data")["ETag"]
        client.complete_multipart_upload(
            **names, UploadId=upload_id, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
        )
        client.delete_object(**names)
    return answers[0].index(b"<ETag>") + len(b'<ETag>"')


def test_a_store_that_is_gone_in_the_middle_is_told(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """If S3 cannot even be asked to undo it, the client has its answer, and a sweep would find what is left."""
    proxy.on("upload_part", Reset(), every=True)
    proxy.on("abort_multipart_upload", Reset(), every=True)
    check_problem(app.upload(form(part("file", os.urandom(SIZE), "name")), "/uploads/stream"), 503, "store-unavailable")
    ((key, upload_id),) = bucket.unfinished()
    assert key.endswith("/name")
    bucket.abort(key, upload_id)
    bucket.check_and_empty(set())


def test_a_broken_promise_is_undone_after_the_last_part(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """A file that is not the promised one was sent when that is known: 422, and nothing is left of its parts."""
    body = form(part("sha256", b"0" * 64), part("file", os.urandom(SIZE), "name"))
    check_problem(app.upload(body, "/uploads/stream"), 422, "digest-mismatch")
    assert "complete_multipart_upload" not in {call.operation for call in proxy.calls}
    bucket.check_and_empty(set())


def test_nothing_is_asked_of_s3_for_a_form_without_a_file(app: Api, proxy: Proxy) -> None:
    """A form that has only fields costs S3 nothing."""
    check_problem(app.upload(form(part("note", b"text")), "/uploads/stream"), 400, "file-missing")
    assert proxy.calls == []
