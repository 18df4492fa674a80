"""If the store breaks, a file is stored whole, or reported and not stored.

The proxy causes each fault between the apps and a real S3 server.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest
from contract.api import Api, check_problem, form, part
from contract.bucket import Bucket
from faults.behind import Behind
from faults.broken_uploads import SIZE, Case, Seen, SeenByApp, at_once, complete_twice, upload
from faults.proxy import Proxy
from faults.script import (
    Answer,
    CutAnswer,
    Drip,
    Fault,
    FlipAnswerByte,
    FlipAnswerHeader,
    Hold,
    LostAnswer,
    Reset,
    When,
)
from faults.store_faults import FRAMEWORKS
from patience import wait_until

from filehandoff.keys import new_key
from filehandoff.settings import MIB


@pytest.fixture(params=FRAMEWORKS)
def app(request: pytest.FixtureRequest, behind: Behind) -> Iterator[Api]:
    """Each of the apps."""
    with closing(Api(behind.started.apps[request.param].url)) as api:
        yield api


#: Faults that strike once; a second attempt succeeds.
ONCE = {
    "a part is refused: too busy": Case("upload_part", Answer(503, "SlowDown"), SIZE),
    "a part's connection is reset": Case("upload_part", Reset(after=MIB), SIZE),
    "a part's answer is lost": Case("upload_part", LostAnswer(), SIZE),
    "a part is slow": Case("upload_part", Drip(up=16 * MIB, down=1000), SIZE),
    "the upload is begun twice": Case("create_multipart_upload", LostAnswer(), SIZE),
    "a put fails": Case("put_object", Answer(500, "InternalError", When.AFTER_BODY), 100),
    "a put's answer is lost": Case("put_object", LostAnswer(), 100),
}
#: Faults that strike at every attempt.
ALWAYS = {
    "a part: too busy": Case("upload_part", Answer(503, "SlowDown", When.AFTER_BODY), SIZE),
    "a part: reset": Case("upload_part", Reset(after=MIB), SIZE),
    "create: done, the answer lost": Case("create_multipart_upload", LostAnswer(), SIZE),
    "create: fails": Case("create_multipart_upload", Answer(500, "InternalError"), SIZE),
    "complete: fails": Case("complete_multipart_upload", Answer(500, "InternalError"), SIZE),
    "complete: done, the answer lost": Case("complete_multipart_upload", LostAnswer(), SIZE),
    "put: done, the answer lost": Case("put_object", LostAnswer(), 100),
}
#: Faults during the completion of a presigned upload.
COMPLETING = {
    "a get is refused: too busy": Case("get_object", Answer(503, "SlowDown"), 100),
    "a get is reset": Case("get_object", Reset(), 100),
    "the object is cut short": Case("get_object", CutAnswer(after=MIB), SIZE),
    "the object is cut off": Case("get_object", CutAnswer(after=MIB, reset=True), SIZE),
    "the parts are not listed": Case("list_parts", Answer(500, "InternalError"), SIZE),
    "the parts are not joined": Case("complete_multipart_upload", Answer(500, "InternalError"), SIZE),
    "they are, and the answer is lost": Case("complete_multipart_upload", LostAnswer(), SIZE),
}


@pytest.fixture(scope="module")
def once(behind: Behind, module_bucket: Bucket) -> SeenByApp:
    """The uploads with a fault that strikes once."""
    return at_once(ONCE, partial(upload, behind, module_bucket, every=False))


@pytest.fixture(scope="module")
def always(behind: Behind, module_bucket: Bucket) -> SeenByApp:
    """The uploads with a fault that strikes at every attempt."""
    return at_once(ALWAYS, partial(upload, behind, module_bucket, every=True))


@pytest.fixture(scope="module")
def completed(behind: Behind, module_bucket: Bucket) -> SeenByApp:
    """The presigned uploads with a fault during completion."""
    return at_once(COMPLETING, partial(complete_twice, behind, module_bucket))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("case", ONCE)
def test_a_fault_that_strikes_once_is_retried(once: SeenByApp, case: str, framework: str) -> None:
    """After one failure the call is retried, and the file is stored once."""
    assert once[framework, case] == Seen(201, "", (ONCE[case].fault,), stored=True, left=())


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("case", ALWAYS)
def test_a_fault_at_every_attempt_fails_the_upload(always: SeenByApp, case: str, framework: str) -> None:
    """After repeated failures the answer is 503 store-unavailable, and no object or upload is left."""
    seen = always[framework, case]
    assert set(seen.faults) == {ALWAYS[case].fault}
    assert replace(seen, faults=()) == Seen(503, "store-unavailable", (), stored=False, left=())


def test_a_refused_part_is_an_error(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """A part that S3 refuses is 502 store-rejected, and nothing is left."""
    proxy.on("upload_part", Answer(403, "AccessDenied"), every=True, part_number=2)
    check_problem(app.upload(form(part("file", os.urandom(SIZE), "name")), "/uploads/stream"), 502, "store-rejected")
    bucket.check_and_empty(set())


@pytest.mark.parametrize("size", [pytest.param(100, id="put"), pytest.param(SIZE, id="multipart")])
def test_an_object_that_is_not_there_is_no_upload(app: Api, bucket: Bucket, proxy: Proxy, size: int) -> None:
    """A file that S3 accepts but then lacks is 502 store-rejected and removed.

    The response to a put proves its bytes, unless the ETag is no MD5.
    """
    proxy.on("put_object", FlipAnswerHeader("etag", 5), every=True)
    proxy.on("head_object", Answer(404, "NoSuchKey"), every=True)
    check_problem(app.upload(form(part("file", os.urandom(size), "name")), "/uploads/stream"), 502, "store-rejected")
    bucket.check_and_empty(set())


def test_an_object_of_other_parts_is_no_upload(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """A completion with another ETag than the parts' is 502, and is removed."""
    body = form(part("file", os.urandom(SIZE), "name"))
    (receipt,) = app.upload(body, "/uploads/stream").json()["receipts"]
    bucket.check_and_empty({receipt["key"]})
    digit = next(at for at, one in enumerate(receipt["etag"]) if one.isdecimal())  # flipped, it is another digit
    proxy.on("complete_multipart_upload", FlipAnswerByte(digit, after=b'<ETag>"'))
    answer = app.upload(body, "/uploads/stream")
    assert "ETag" in check_problem(answer, 502, "store-rejected")["detail"]
    bucket.check_and_empty(set())


@pytest.mark.every_other
@pytest.mark.parametrize("size", [pytest.param(100, id="put"), pytest.param(SIZE, id="multipart")])
def test_a_failed_cleanup_is_repeated_later(app: Api, bucket: Bucket, proxy: Proxy, size: int) -> None:
    """If the cleanup fails, the client gets its answer.

    The cleanup succeeds when S3 works again.
    """
    proxy.on("complete_multipart_upload" if size == SIZE else "put_object", LostAnswer(), every=True)
    for undoing in ("abort_multipart_upload", "delete_object"):
        proxy.on(undoing, Reset(), every=True)
    answer = app.upload(form(part("file", os.urandom(size), "name")), "/uploads/stream")
    check_problem(answer, 503, "store-unavailable")
    (key,) = bucket.stored_keys()
    assert key.endswith("/name")
    proxy.clear()
    bucket.check_and_empty(set())


@pytest.mark.every_other
@pytest.mark.parametrize("fault", [Answer(503, "SlowDown"), Answer(404, "NoSuchBucket")], ids=["busy", "no bucket"])
def test_an_upload_that_was_begun_twice_and_not_found_is_aborted_later(
    app: Api, bucket: Bucket, proxy: Proxy, fault: Fault
) -> None:
    """The file is stored.

    The upload that a first attempt left is counted, and aborted once S3 lists it.
    """
    before = undo_failures(app)
    proxy.on("create_multipart_upload", LostAnswer())
    proxy.on("list_multipart_uploads", fault, every=True)
    data = os.urandom(SIZE)
    (receipt,) = app.upload(form(part("file", data, "name")), "/uploads/stream").json()["receipts"]
    assert len(bucket.unfinished()) == 1
    assert undo_failures(app) == before + 1
    proxy.clear()
    bucket.check_receipt(receipt, data)
    bucket.check_and_empty({receipt["key"]})


def undo_failures(app: Api) -> float:
    """The number of files whose first cleanup failed, from /metrics."""
    text = app.send("GET", "/metrics").text
    return float(next(line for line in text.splitlines() if line.startswith("handoff_undo_failures_total")).split()[1])


def test_a_completion_that_was_done_is_no_error(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """A completed upload counts as stored, although its answer was lost."""
    proxy.on("complete_multipart_upload", LostAnswer())
    proxy.on("complete_multipart_upload", Answer(404, "NoSuchUpload"), nth=2)
    data = os.urandom(SIZE)
    (receipt,) = app.upload(form(part("file", data, "name")), "/uploads/stream").json()["receipts"]
    bucket.check_receipt(receipt, data)
    bucket.check_and_empty({receipt["key"]})


def test_an_upload_that_is_gone_is_an_error(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """If S3 has neither the upload nor the object, the answer is 502 store-rejected."""
    proxy.on("complete_multipart_upload", Reset())
    proxy.on("complete_multipart_upload", Answer(404, "NoSuchUpload"), nth=2)
    answer = app.upload(form(part("file", os.urandom(SIZE), "name")), "/uploads/stream")
    check_problem(answer, 502, "store-rejected")
    bucket.check_and_empty(set())


def test_a_broken_promise_is_undone_after_the_last_part(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """A wrong digest is known after the last part: 422, and the parts are removed."""
    body = form(part("sha256", b"0" * 64), part("file", os.urandom(SIZE), "name"))
    check_problem(app.upload(body, "/uploads/stream"), 422, "digest-mismatch")
    assert "complete_multipart_upload" not in {call.operation for call in proxy.calls}
    bucket.check_and_empty(set())


def test_nothing_is_asked_of_s3_for_a_form_without_a_file(app: Api, proxy: Proxy) -> None:
    """A form without a file causes no S3 call."""
    check_problem(app.upload(form(part("note", b"text")), "/uploads/stream"), 400, "file-missing")
    assert proxy.calls == []


def sent(app: Api, proxy: Proxy, size: int) -> tuple[bytes, str]:
    """A file sent to S3 by presigned URLs, and the URL of its completion.

    The proxy has no calls yet.
    """
    data = os.urandom(size)
    given = app.presign(data).json()
    app.send_to_s3(given, data)
    proxy.calls.clear()
    return data, given["complete"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("case", COMPLETING)
def test_a_presigned_upload_can_be_completed_again(completed: SeenByApp, case: str, framework: str) -> None:
    """While S3 is broken, `complete` gets 503 and removes nothing.

    Afterwards the same call stores the file.
    """
    seen = completed[framework, case]
    assert set(seen.faults) == {COMPLETING[case].fault}
    assert replace(seen, faults=()) == Seen(503, "store-unavailable", (), stored=True, left=())


@pytest.mark.parametrize("fault", [LostAnswer(), Answer(500, "InternalError")], ids=["lost", "fails"])
def test_a_presigned_upload_that_cannot_begin_leaves_nothing(
    app: Api, bucket: Bucket, proxy: Proxy, fault: Fault
) -> None:
    """If the creation is not answered, there are no URLs, and it is aborted."""
    proxy.on("create_multipart_upload", fault, every=True)
    wanted = {"filename": "name", "size": SIZE, "sha256": "0" * 64}
    check_problem(app.send("POST", "/uploads/presigned", json=wanted), 503, "store-unavailable")
    bucket.check_and_empty(set())


def test_a_presigned_upload_that_could_not_be_undone_is_when_s3_is_back(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """An upload whose creation was not answered is aborted when S3 works again."""
    proxy.on("create_multipart_upload", LostAnswer(), every=True)
    proxy.on("list_multipart_uploads", Reset(), every=True)
    wanted = {"filename": "name", "size": SIZE, "sha256": "0" * 64}
    check_problem(app.send("POST", "/uploads/presigned", json=wanted), 503, "store-unavailable")
    assert bucket.unfinished()
    proxy.clear()
    bucket.check_and_empty(set())


@pytest.mark.parametrize("operation", ["list_parts", "complete_multipart_upload"])
def test_a_presigned_upload_may_be_completed_twice_at_once(
    app: Api, bucket: Bucket, proxy: Proxy, operation: str
) -> None:
    """Of two concurrent completions, the later one finds the object and verifies it too."""
    data, complete = sent(app, proxy, SIZE)
    proxy.on(operation, Hold())
    with ThreadPoolExecutor(1) as pool:
        overtaken = pool.submit(app.send, "POST", complete)
        wait_until(
            lambda: operation in {call.operation for call in list(proxy.calls)},
            lambda: f"S3 is not asked to {operation}",
        )
        with closing(Api(app.url)) as another:
            assert another.send("POST", complete).status_code == 201
        proxy.clear()
    (receipt,) = overtaken.result().json()["receipts"]
    bucket.check_receipt(receipt, data)
    bucket.check_and_empty({receipt["key"]})


def test_a_completed_presigned_upload_is_no_refusal(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """A second completion finds the object after S3 reports the upload gone."""
    data, complete = sent(app, proxy, SIZE)
    proxy.on("complete_multipart_upload", Answer(404, "NoSuchUpload", When.DONE))
    (receipt,) = app.send("POST", complete).json()["receipts"]
    bucket.check_receipt(receipt, data)
    bucket.check_and_empty({receipt["key"]})


#: Damages of S3's answers, by operation, that make a good file look wrong; each in two ways.
DAMAGES: dict[str, list[Fault]] = {
    "get_object": [FlipAnswerByte(50), FlipAnswerHeader("content-type", 0)],
    "list_parts": [FlipAnswerByte(at, after=b"<Size>") for at in (0, 1)],
}
LOOKS = [pytest.param("get_object", 100, id="its bytes"), pytest.param("list_parts", SIZE, id="its parts")]


@pytest.mark.parametrize(("operation", "size"), LOOKS)
def test_a_damaged_answer_is_requested_again(app: Api, bucket: Bucket, proxy: Proxy, operation: str, size: int) -> None:
    """A file whose check was damaged on the way passes the second check."""
    data, complete = sent(app, proxy, size)
    proxy.on(operation, DAMAGES[operation][0])
    (receipt,) = app.send("POST", complete).json()["receipts"]
    bucket.check_receipt(receipt, data)
    bucket.check_and_empty({receipt["key"]})


@pytest.mark.parametrize(("operation", "size"), LOOKS)
def test_two_different_damages_remove_nothing(
    app: Api, bucket: Bucket, proxy: Proxy, operation: str, size: int
) -> None:
    """Two different damages condemn no file: 503, and the file can be completed later."""
    data, complete = sent(app, proxy, size)
    if operation == "get_object":
        assert app.send("POST", complete).status_code == 201
    for nth, fault in enumerate(DAMAGES[operation], 1):
        proxy.on(operation, fault, nth=nth)
    check_problem(app.send("POST", complete), 503, "store-unavailable")
    (receipt,) = app.send("POST", complete).json()["receipts"]
    bucket.check_receipt(receipt, data)
    bucket.check_and_empty({receipt["key"]})


def test_a_presigned_upload_by_a_damaged_id_leaves_nothing(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """A damaged upload id stores nothing, and `complete` aborts S3's upload."""
    proxy.on("create_multipart_upload", FlipAnswerByte(0, after=b"<UploadId>"))
    given = app.presign(bytes(SIZE)).json()
    assert bucket.unfinished()
    check_problem(app.send("POST", given["complete"]), 404, "object-missing")
    bucket.check_and_empty(set())


def test_a_presigned_file_that_cannot_be_removed_is_later(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """A wrong file whose removal fails is reported now and removed later."""
    given = app.presign(b"what was promised").json()
    app.send_to_s3(given, b"WHAT WAS PROMISED")
    proxy.on("delete_object", Reset(), every=True)
    check_problem(app.send("POST", given["complete"]), 422, "digest-mismatch")
    assert bucket.stored_keys() == {given["key"]}
    proxy.clear()
    bucket.check_and_empty(set())


def test_a_presigned_upload_that_cannot_be_aborted_is_later(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """An upload with a missing part whose abort fails is aborted when S3 works again."""
    given = app.presign(bytes(SIZE)).json()
    proxy.on("abort_multipart_upload", Reset(), every=True)
    check_problem(app.send("POST", given["complete"]), 422, "size-mismatch")
    assert bucket.unfinished()
    proxy.clear()
    bucket.check_and_empty(set())


def test_an_error_of_s3_that_is_cut_short_is_no_fault_of_ours(app: Api, proxy: Proxy) -> None:
    """A truncated error of S3 is 503 store-unavailable, because its meaning is unknown."""
    proxy.on("get_object", CutAnswer(20), every=True)
    check_problem(app.send("GET", f"/objects/{new_key('', 'missing')}"), 503, "store-unavailable")


@pytest.mark.every_other
@pytest.mark.parametrize(
    ("faults", "status"),
    [
        pytest.param({"delete_object": Reset()}, 200, id="the object is not removed"),
        pytest.param({"list_multipart_uploads": Reset()}, 200, id="nor looked for"),
        pytest.param({"upload_part": Answer(403, "AccessDenied")}, 502, id="a part is refused"),
        pytest.param(
            {"upload_part": Reset(), "abort_multipart_upload": Reset()}, 503, id="a part fails, and cannot be undone"
        ),
        pytest.param({"complete_multipart_upload": LostAnswer()}, 503, id="it is completed, the answer lost"),
    ],
)
def test_a_cause_leaves_nothing(app: Api, bucket: Bucket, proxy: Proxy, faults: dict[str, Fault], status: int) -> None:
    """The leftovers of a cause's view are removed, at the latest with S3 back."""
    for operation, fault in faults.items():
        proxy.on(operation, fault, every=True)
    answer = app.upload(form(part("file", os.urandom(SIZE), "name")), "/causes/transfer_closes")
    assert answer.status_code == status, answer.text
    assert [call for call in proxy.calls if call.fault]
    proxy.clear()
    bucket.check_and_empty(set())


def test_a_cause_that_begins_an_upload_twice_leaves_neither(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """If a lost answer makes a cause begin two uploads, both are removed.

    The first is found by its key.
    """
    proxy.on("create_multipart_upload", LostAnswer())
    answer = app.upload(form(part("file", os.urandom(SIZE), "name")), "/causes/transfer_closes")
    assert answer.status_code == 200, answer.text
    bucket.check_and_empty(set())


def test_slow_causes_do_not_hold_up_uploads(app: Api, bucket: Bucket, proxy: Proxy) -> None:
    """While many causes wait for S3, a file on disk is still stored."""
    proxy.on("put_object", Hold(), every=True, key_end="held")
    slow = form(part("file", b"x", "held"))
    waiting = 2 + min(32, (os.cpu_count() or 1) + 4)
    with ThreadPoolExecutor(waiting) as pool:
        causes = [pool.submit(app.upload, slow, "/causes/transfer_closes") for _ in range(waiting)]
        wait_until(
            lambda: sum(call.fault is not None for call in list(proxy.calls)) >= 4, lambda: "no causes wait for S3"
        )
        answer = app.upload(form(part("file", os.urandom(MIB), "name")), "/uploads/file")
        assert not any(cause.done() for cause in causes)
        proxy.clear()
        assert {cause.result().status_code for cause in causes} == {200}
    assert answer.status_code == 201
    bucket.check_and_empty({answer.json()["receipts"][0]["key"]})
