"""Compare the form parser with those of Werkzeug (Flask, Quart), Django, and python-multipart (Starlette)."""

import io
import logging
from collections.abc import Iterator
from typing import TypeAlias

import django.conf
from django.http.multipartparser import FILE, ChunkIter, LazyStream, MultiPartParserError, Parser
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, File, MultipartDecoder, NeedData
from werkzeug.sansio.multipart import Field as TheirField

from filehandoff.errors import FormError
from filehandoff.form import Field, FileChunk, FileStart, FormParser
from filehandoff.settings import Limits

BOUNDARY = "XbX"
#: python-multipart logs every form that it rejects.
logging.getLogger("python_multipart.multipart").disabled = True

Part: TypeAlias = tuple[str | None, str | None, bytes]
ParsedForm: TypeAlias = list[Part] | None


def ours(body: bytes) -> ParsedForm:
    """Return the name, filename and bytes of each part; None for a rejected form."""
    parser = FormParser("multipart/form-data", BOUNDARY, None, Limits())
    parts: list[Part] = []
    try:
        for event in parser.receive(body):
            match event:
                case Field(name, value):
                    parts.append((name, None, value.encode()))
                case FileStart(name, filename):
                    parts.append((name, filename, b""))
                case FileChunk(data):
                    parts[-1] = (*parts[-1][:2], parts[-1][2] + data)
        parser.finish()
    except FormError:
        return None
    return parts


def werkzeugs(body: bytes) -> ParsedForm:
    """Return the same by Werkzeug's decoder."""
    decoder = MultipartDecoder(BOUNDARY.encode())
    decoder.receive_data(body)
    decoder.receive_data(None)
    parts: list[Part] = []
    try:
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            match event:
                case TheirField():
                    parts.append((event.name, None, b""))
                case File():
                    parts.append((event.name, event.filename, b""))
                case Data():
                    parts[-1] = (*parts[-1][:2], parts[-1][2] + event.data)
    except ValueError:
        return None
    return parts


def djangos(body: bytes) -> ParsedForm:
    """Return the same by Django's parser, below its handlers."""
    if not django.conf.settings.configured:
        django.conf.settings.configure()
    try:
        stream = LazyStream(ChunkIter(io.BytesIO(body), 64 * 1024))
        return list(_of_django(Parser(stream, BOUNDARY.encode())))
    except MultiPartParserError:
        return None


def _of_django(parser: Parser) -> Iterator[Part]:
    for kind, meta, stream in parser:
        data = b"".join(stream)
        if "content-disposition" in meta:
            parameters = meta["content-disposition"][1]
            names = (parameters[name].decode() if name in parameters else None for name in ("name", "filename"))
            name, filename = names
            yield name, filename if kind == FILE or filename == "" else None, data


def starlettes(body: bytes) -> ParsedForm:
    """Return the same by python-multipart."""
    parts: list[Part] = []
    names: dict[bytes, bytes] = {}
    field = bytearray()

    def begin() -> None:
        parts.append((None, None, b""))
        names.clear()

    def name(data: bytes, start: int, end: int) -> None:
        field.extend(data[start:end])

    def value(data: bytes, start: int, end: int) -> None:
        names[bytes(field).lower()] = names.get(bytes(field).lower(), b"") + data[start:end]

    def data(chunk: bytes, start: int, end: int) -> None:
        parts[-1] = (*parts[-1][:2], parts[-1][2] + chunk[start:end])

    def head() -> None:
        _, options = parse_options_header(names.get(b"content-disposition"))
        name, filename = (options[key].decode() if key in options else None for key in (b"name", b"filename"))
        parts[-1] = (name, filename, b"")

    ended = []
    parser = MultipartParser(
        BOUNDARY,
        {
            "on_part_begin": begin,
            "on_header_begin": field.clear,
            "on_header_field": name,
            "on_header_value": value,
            "on_headers_finished": head,
            "on_part_data": data,
            "on_end": lambda: ended.append(True),
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError:
        return None
    return parts if ended else None


HEADS = [
    b'Content-Disposition: form-data; name="t"\r\n\r\n',
    b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n',
    b'content-disposition: form-data;name=file;filename="b b.txt"\r\nContent-Type: text/plain\r\n\r\n',
    b'Content-Disposition: form-data; name="file"; filename=c\r\nContent-Length: 1\r\n\r\n',
]
#: No line of the data begins with the delimiter, which RFC 2046, section 5.1.1, forbids.
DATA = (
    st.lists(st.sampled_from([b"\r\n", b"\n", b"--", b"XbX", b"--XbX", b"\r\n--Xb", b"-", b" ", b"ab"]), max_size=6)
    .map(b"".join)
    .filter(lambda data: b"\n--XbX" not in b"\n" + data)
)
LINES = st.sampled_from([b"\r\n--XbX\r\n", b"\r\n--XbX\r\n", b"\r\n--XbX \r\n", b"\n--XbX\r\n"])
ENDS = st.sampled_from([b"\r\n--XbX--", b"\r\n--XbX--\r\n", b"\n--XbX--\r\n", b"\r\n--XbX-- \r\n"])


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    """Draw a form like clients' forms, whose data is full of near delimiters."""
    body = b"--XbX\r\n"
    for number in range(draw(st.integers(1, 3))):
        if number:
            body += draw(LINES)
        body += draw(st.sampled_from(HEADS)) + draw(DATA)
    return body + draw(ENDS)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a form and remove, double or replace some of its bytes."""
    body = draw(forms())
    for _ in range(draw(st.integers(1, 2))):
        begin = draw(st.integers(0, len(body)))
        end = min(len(body), begin + draw(st.integers(0, 5)))
        body = body[:begin] + draw(st.sampled_from([b"", b"\r\n", b"\n", b"-", b" ", body[begin:end] * 2])) + body[end:]
    return body


PEERS = (werkzeugs, djangos, starlettes)


def files(reading: ParsedForm) -> list[Part]:
    """Return the parts that are files, in order; an empty file input is no file."""
    return [part for part in reading or [] if part[1] is not None and part[1:] != ("", b"")]


@given(forms() | mutated())
def test_no_file_is_read_as_no_peer_reads_it(body: bytes) -> None:
    """At least one peer finds the same files in an accepted form."""
    if (reading := ours(body)) is not None:
        assert files(reading) in [files(peer(body)) for peer in PEERS]


@given(forms())
def test_a_form_that_all_peers_read_alike_is_taken(body: bytes) -> None:
    """If all peers agree on a form's files, this parser finds the same files."""
    first, *others = [peer(body) for peer in PEERS]
    if files(first) and all(files(other) == files(first) for other in others):
        assert files(ours(body)) == files(first)
