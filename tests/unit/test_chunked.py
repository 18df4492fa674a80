"""Forms with one chunk of a file are recognized by their upload library's fields."""

from contextlib import nullcontext

import pytest

from filehandoff.chunked import check_whole
from filehandoff.errors import ChunkedForm

ONE_OF_SEVERAL = [
    pytest.param({"dzchunkindex": "0", "dztotalchunkcount": "3"}, id="Dropzone, the first"),
    pytest.param({"dzuuid": "x", "dzchunkindex": "2", "dztotalchunkcount": "3"}, id="Dropzone, the last"),
    pytest.param({"resumableChunkNumber": "1", "resumableTotalChunks": "2"}, id="Resumable.js"),
    pytest.param({"flowTotalChunks": "2", "flowChunkNumber": "1"}, id="Flow.js, in another order"),
    pytest.param({"chunkNumber": "1", "totalChunks": "2"}, id="simple-uploader.js"),
    pytest.param({"qqpartindex": "0", "qqtotalparts": "2"}, id="Fine Uploader"),
    pytest.param({"chunk": "0", "chunks": "2"}, id="Plupload"),
    pytest.param({"chunk-index": "0", "total-chunk": "2"}, id="Syncfusion"),
    pytest.param({"dzchunkindex": "1"}, id="an index alone"),
    pytest.param({"flowtotalchunks": "2"}, id="a total alone"),
]
WHOLE = [
    pytest.param({"dzchunkindex": "0", "dztotalchunkcount": "1"}, id="one chunk of one"),
    pytest.param({"resumableChunkNumber": "1", "resumableTotalChunks": "1"}, id="one chunk of one, counted from 1"),
    pytest.param({"chunk": "0", "chunks": "1"}, id="Plupload's only chunk"),
    pytest.param({"chunks": "5"}, id="a field of the app's own"),
    pytest.param({"chunk": "5"}, id="another field of the app's own"),
    pytest.param({"chunk": "all", "chunks": "five"}, id="no numbers"),
    pytest.param({"dztotalchunkcount": "9" * 5000}, id="a number that is none"),
    pytest.param({"note": "2"}, id="another field"),
]


@pytest.mark.parametrize("fields", ONE_OF_SEVERAL)
def test_a_chunk_is_refused(fields: dict[str, str]) -> None:
    """The error names the field and the hand-off for large files."""
    with pytest.raises(ChunkedForm, match=r"The field '[a-z-]+' describes .* 'presigned'") as caught:
        check_whole(None, fields.items())
    assert (caught.value.status, caught.value.code) == (400, "chunked-form")


@pytest.mark.parametrize("fields", WHOLE)
def test_a_whole_file_is_no_chunk(fields: dict[str, str]) -> None:
    """The same fields with a file of one chunk are accepted."""
    check_whole(None, fields.items())


@pytest.mark.parametrize(
    ("content_range", "whole"),
    [
        pytest.param(None, True, id="none"),
        pytest.param("", True, id="empty"),
        pytest.param("bytes 0-4/5", True, id="all of it"),
        pytest.param(" BYTES  0-9/5", True, id="more than all of it"),
        pytest.param("bytes 0-3/5", False, id="blueimp/jQuery-File-Upload, the first chunk"),
        pytest.param("bytes 3-4/5", False, id="the last chunk"),
        pytest.param("bytes 0-4/*", False, id="an unknown length"),
        pytest.param("bytes */5", False, id="no range"),
        pytest.param("lines 0-4/5", False, id="another unit"),
    ],
)
def test_a_content_range_must_be_the_whole_file(content_range: str | None, whole: bool) -> None:  # noqa: FBT001 - parametrised
    """A Content-Range (RFC 9110, section 14.4) is a chunk unless it covers the whole file."""
    with nullcontext() if whole else pytest.raises(ChunkedForm, match="The Content-Range describes"):
        check_whole(content_range, [])
