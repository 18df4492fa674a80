"""tus 1.0.0: partial uploads that become one file."""

import os
from urllib.parse import urlsplit

import httpx
import pytest
from contract.api import check_problem
from contract.tus import FILES, GONE, Tus, Upload, metadata, offset_of

MIB = 1024 * 1024
PART = 5 * MIB


def concatenation(*uploads: Upload, absolute: bool = True) -> dict[str, str]:
    """The header Upload-Concat of a final upload."""
    addresses = [upload.url if absolute else urlsplit(upload.url).path for upload in uploads]
    return {"Upload-Concat": f"final;{' '.join(addresses)}"}


def test_head_of_a_partial_upload(tus: Tus) -> None:
    """HEAD has the offset, the length and Upload-Concat: partial, before and after the last byte."""
    upload = tus.create(3, {"Upload-Concat": "partial"})
    for sent in (0, 3):
        headers = upload.head().headers
        assert (headers["Upload-Offset"], headers["Upload-Length"]) == (str(sent), "3")
        assert headers["Upload-Concat"] == "partial"
        assert upload.send_rest(b"abc").is_success


def test_a_complete_partial_upload_is_no_file(tus: Tus) -> None:
    """A partial upload has no object and no receipt by itself."""
    upload = tus.partial(b"abc")
    assert "Content-Location" not in upload.head().headers
    assert tus.app.send("GET", upload.url).is_client_error


@pytest.mark.every_other
@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param((3,), id="one"),
        pytest.param((3, 4, 5), id="small"),
        pytest.param((0, 3, 0), id="with empty ones"),
        pytest.param((0,), id="an empty one"),
        pytest.param((PART, PART), id="whole parts"),
        pytest.param((PART, 3), id="a part and a small one"),
        pytest.param((3, PART), id="a small one and a part"),
        pytest.param((PART - 1, PART + 1, 1), id="around a part"),
        pytest.param((6 * MIB, 2 * PART + 7, 1, 6 * MIB), id="parts with remainders"),
    ],
)
def test_partial_uploads_become_one_file(tus: Tus, sizes: tuple[int, ...], absolute: bool) -> None:  # noqa: FBT001 - a case
    """A final upload has the bytes of its partial ones in their order, by absolute and relative addresses."""
    files = [os.urandom(size) for size in sizes]
    header = concatenation(*(tus.partial(data) for data in files), absolute=absolute)
    answer = tus.send("POST", headers={**header, **metadata(filename="whole.bin")})
    assert answer.status_code == 201, answer.text[:300]
    final = Upload(tus, tus.address(answer))
    receipt = tus.check_stored(final, b"".join(files))
    assert answer.headers["Content-Location"] == f"/objects/{receipt['key']}"
    assert receipt["filename"] == "whole.bin"
    assert final.head().headers["Upload-Concat"] == header["Upload-Concat"]


def test_partial_uploads_may_grow_side_by_side(tus: Tus) -> None:
    """Several partial uploads take their chunks in turn."""
    files = [os.urandom(6 * MIB) for _ in range(3)]
    uploads = [tus.create(6 * MIB, {"Upload-Concat": "partial"}) for _ in files]
    for start in range(0, 6 * MIB, 2 * MIB):
        for upload, data in zip(uploads, files, strict=True):
            assert upload.patch(start, data[start : start + 2 * MIB]).is_success
    tus.check_stored(tus.create(None, concatenation(*uploads)), b"".join(files))


def test_a_partial_upload_may_come_twice(tus: Tus) -> None:
    """One partial upload may stand twice in a final one."""
    once, other = tus.partial(b"ab"), tus.partial(b"c")
    tus.check_stored(tus.create(None, concatenation(once, other, once)), b"abcab")


def test_a_partial_upload_of_an_earlier_final_one(tus: Tus) -> None:
    """A partial upload is used again, or is gone because the first final upload has consumed it."""
    first = tus.partial(b"ab")
    tus.check_stored(tus.create(None, concatenation(first)), b"ab")
    again = tus.send("POST", headers=concatenation(first))
    if first.head().is_success:
        tus.check_stored(Upload(tus, tus.address(again)), b"ab")
    else:
        assert (first.head().status_code in GONE, again.is_client_error) == (True, True)


def test_metadata_of_a_partial_upload_stays_with_it(tus: Tus) -> None:
    """A final upload has its own metadata only."""
    part = tus.create(3, {"Upload-Concat": "partial", **metadata(filename="part.bin", filetype="image/png")})
    assert part.patch(0, b"abc").is_success
    final = tus.create(None, concatenation(part))
    assert "Upload-Metadata" not in final.head().headers
    receipt = tus.check_stored(final, b"abc")
    assert (receipt["filename"], receipt["content_type"]) == ("", "application/octet-stream")


def test_a_patch_of_a_final_upload_is_forbidden(tus: Tus) -> None:
    """PATCH of a final upload is 403, and changes neither it nor its partial uploads."""
    part = tus.partial(b"abc")
    final = tus.create(None, concatenation(part))
    check_problem(final.patch(0, b"x"), 403, "final-upload")
    check_problem(final.patch(3, b"x"), 403, "final-upload")
    tus.check_stored(final, b"abc")
    if part.head().is_success:
        assert part.offset == 3


def refused(tus: Tus, headers: dict[str, str]) -> httpx.Response:
    """Send a creation that must create nothing."""
    before = tus.state()
    answer = tus.send("POST", headers=headers)
    assert tus.state() == before
    return answer


def test_unfinished_partial_uploads_are_refused(tus: Tus) -> None:
    """A final upload of unfinished ones is a refusal, and becomes possible when they are complete."""
    done, pending = tus.partial(b"abc"), tus.create(3, {"Upload-Concat": "partial"})
    assert refused(tus, concatenation(done, pending)).is_client_error
    assert pending.patch(0, b"def").is_success
    tus.check_stored(tus.create(None, concatenation(done, pending)), b"abcdef")


def test_only_partial_uploads_may_be_joined(tus: Tus) -> None:
    """An ordinary upload, and a final one, are no partial uploads."""
    ordinary = tus.create(3, content=b"abc")
    final = tus.create(None, concatenation(tus.partial(b"abc")))
    for upload in (ordinary, final):
        assert refused(tus, concatenation(upload)).is_client_error
    tus.check_stored(ordinary, b"abc")


def test_a_terminated_partial_upload_is_refused(tus: Tus) -> None:
    """A final upload of a terminated one creates nothing."""
    part = tus.partial(b"abc")
    part.terminate()
    assert refused(tus, concatenation(part)).is_client_error


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("whole", id="another word"),
        pytest.param("Partial", id="an uppercase letter"),
        pytest.param("partial;", id="partial with a list"),
        pytest.param("final", id="no list"),
        pytest.param("final;", id="an empty list"),
        pytest.param(f"final;{FILES}", id="no upload"),
        pytest.param("final;/other/a", id="another route"),
        pytest.param(f"final;{FILES}/unknown", id="an unknown upload"),
        pytest.param(f"final;{FILES}/../files/a", id="dots"),
        pytest.param("final;https://elsewhere.invalid/a", id="another host"),
    ],
)
def test_malformed_concatenations_are_refused(tus: Tus, value: str) -> None:
    """An Upload-Concat that names no complete partial uploads creates nothing."""
    headers = {"Upload-Concat": value} | ({} if value.startswith("final") else {"Upload-Length": "3"})
    assert refused(tus, headers).status_code in {400, 404, 410}


def test_a_final_upload_has_no_length_of_its_own(tus: Tus) -> None:
    """A final upload with Upload-Length is refused."""
    header = concatenation(tus.partial(b"abc"))
    check_problem(refused(tus, {**header, "Upload-Length": "3"}), 400, "tus-header-malformed")


def test_a_concatenation_over_the_limit_is_refused(tus: Tus) -> None:
    """Partial uploads whose sum is above Tus-Max-Size are 413."""
    part = tus.partial(bytes(17 * MIB))
    check_problem(refused(tus, concatenation(part, part)), 413, "file-too-large")


def test_a_partial_upload_takes_chunks_after_a_cut(tus: Tus) -> None:
    """A partial upload resumes as any other."""
    data = os.urandom(2 * PART)
    upload = tus.create(len(data), {"Upload-Concat": "partial"})
    with upload.begin(0, len(data), data[: PART + 1]):
        pass
    upload.wait_for_offset(PART + 1)
    upload.wait_until_unlocked()
    assert offset_of(upload.send_rest(data)) == len(data)
    tus.check_stored(tus.create(None, concatenation(upload)), data)
