"""A request body that is one file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filehandoff.digest import to_content_digest
from filehandoff.errors import (
    ChunkedForm,
    DigestMalformed,
    FileMissing,
    FileTooLarge,
    FormError,
    FormMalformed,
    UnsupportedMediaType,
)
from filehandoff.raw_body import RawBody
from filehandoff.settings import Limits

LIMITS = Limits(file_bytes=10, body_bytes=20)
SHA256 = "ab" * 32
OTHER = "cd" * 32


def raw(*headers: tuple[str, str], name: str = "", length: int | None = 3) -> RawBody:
    """Return a body of three bytes."""
    return RawBody(name, headers, length, LIMITS)


@given(st.lists(st.binary(min_size=1, max_size=5), max_size=2))
def test_every_byte_comes_out_as_it_went_in(chunks: list[bytes]) -> None:
    """Each chunk is returned unchanged, in any split of the body."""
    body = raw(("Content-Type", "image/png"), length=None)
    assert [body.receive(chunk) for chunk in chunks] == chunks
    body.finish()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param("image/png", "image/png", id="a type"),
        pytest.param("text/plain; charset=utf-8", "text/plain; charset=utf-8", id="with a parameter"),
        pytest.param("application/x-www-form-urlencoded", "application/octet-stream", id="curl's default"),
        pytest.param("multipart/form-data; boundary=b", "application/octet-stream", id="a form"),
        pytest.param("nonsense", "application/octet-stream", id="no type"),
        pytest.param("", "application/octet-stream", id="none"),
    ],
)
def test_the_type_is_the_one_that_was_chosen(sent: str, kept: str) -> None:
    """The Content-Type is kept, except a missing one and curl's default."""
    assert raw(("Content-Type", sent)).start.content_type == kept


@pytest.mark.parametrize(
    ("path", "disposition", "name"),
    [
        pytest.param("a.txt", "attachment; filename=b.txt", "a.txt", id="by the path"),
        pytest.param("", "attachment; filename=b.txt", "b.txt", id="by the header"),
        pytest.param("", 'attachment; filename="b c.txt"', "b c.txt", id="in quotes"),
        pytest.param("", "attachment; filename=b; filename*=UTF-8''%E2%82%AC", "€", id="extended (RFC 8187)"),
        pytest.param("", 'inline; filename="é"'.encode().decode("latin-1"), "é", id="raw UTF-8"),
        pytest.param("", 'inline; filename="\xe9"', "é", id="raw Latin-1"),
        pytest.param("", "attachment", "", id="no name"),
        pytest.param("", "", "", id="nothing"),
    ],
)
def test_the_name_is_by_the_path_or_by_the_header(path: str, disposition: str, name: str) -> None:
    """The name in the path has precedence over that in Content-Disposition."""
    assert raw(("content-disposition", disposition), name=path).start.filename == name


@pytest.mark.parametrize("header", ["Content-Digest", "repr-digest"])
def test_either_digest_header_is_a_promise(header: str) -> None:
    """A SHA-256 in Content-Digest or Repr-Digest is the promised digest (RFC 9530)."""
    assert raw((header, to_content_digest(SHA256))).start.promised == SHA256


def test_without_a_digest_nothing_is_promised() -> None:
    """A body without a digest, or with one of another algorithm, has no promised digest."""
    assert raw().start.promised is None
    assert raw(("Content-Digest", "md5=:AAAA:")).start.promised is None


@pytest.mark.parametrize(
    ("headers", "length", "error"),
    [
        pytest.param([], None, FileMissing, id="no body and no type"),
        pytest.param([], 0, FileMissing, id="an empty body without a type"),
        pytest.param([], 11, FileTooLarge, id="declared too large"),
        pytest.param([("Content-Encoding", "gzip")], 3, UnsupportedMediaType, id="compressed"),
        pytest.param([("Content-Disposition", "a; filename=b; filename=c")], 3, FormMalformed, id="a broken name"),
        pytest.param([("Repr-Digest", "nonsense")], 3, DigestMalformed, id="a broken digest"),
        pytest.param(
            [("Repr-Digest", to_content_digest(SHA256)), ("Content-Digest", to_content_digest(OTHER))],
            3,
            DigestMalformed,
            id="two digests",
        ),
    ],
)
def test_the_head_alone_may_refuse_it(
    headers: list[tuple[str, str]], length: int | None, error: type[FormError]
) -> None:
    """A wrong head is rejected before the body's first byte is read."""
    with pytest.raises(error):
        raw(*headers, length=length)


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        pytest.param([("Transfer-Encoding", "chunked")], None, id="chunked"),
        pytest.param([("Content-Type", "text/plain")], 0, id="of a type"),
    ],
)
def test_an_empty_file_is_a_file(headers: list[tuple[str, str]], length: int | None) -> None:
    """An empty body is a file if the request declares it."""
    raw(*headers, length=length).finish()


def test_a_body_that_grows_too_large_is_refused() -> None:
    """The bytes are counted with and without a declared length."""
    body = raw(("Transfer-Encoding", "chunked"), length=None)
    body.receive(b"0123456789")
    with pytest.raises(FileTooLarge):
        body.receive(b"0")


def test_a_body_that_was_cut_short_is_refused() -> None:
    """A body with fewer bytes than declared is an error."""
    body = raw()
    body.receive(b"ab")
    with pytest.raises(FormMalformed) as caught:
        body.finish()
    assert caught.value.cut_short


def test_a_chunk_of_a_file_is_refused() -> None:
    """A `Content-Range` of less than the whole file marks a chunk."""
    RawBody("a", [("Content-Range", "bytes 0-3/4")], 4, Limits())
    with pytest.raises(ChunkedForm):
        RawBody("a", [("Content-Range", "bytes 0-3/8")], 4, Limits())
