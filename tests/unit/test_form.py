"""The form parser: accepted forms, rejected forms, and any split of their bytes."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.sansio.multipart import Data, Epilogue, File, MultipartDecoder, NeedData
from werkzeug.sansio.multipart import Field as TheirField

from filehandoff.digest import to_content_digest
from filehandoff.errors import BodyTooLarge, DigestMalformed, FormError, FormMalformed
from filehandoff.form import DEFAULT_CONTENT_TYPE, Field, FileChunk, FileEnd, FileStart, FormParser, file_missing
from filehandoff.settings import Limits

BOUNDARY = "XbX"
DELIMITER = b"\r\n--XbX"
OPEN = b"--XbX\r\n"
NEXT = b"\r\n--XbX\r\n"
CLOSE = b"\r\n--XbX--"
TEXT = b'Content-Disposition: form-data; name="t"\r\n\r\n'
FILE = b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
NO_FILE = b'Content-Disposition: form-data; name="file"; filename=""\r\n\r\n'
DIGEST = b'Content-Disposition: form-data; name="sha256"\r\n\r\n'
HEX = "0123456789abcdef" * 4
OTHER_HEX = "f" * 64
LIMITS = Limits()

#: More examples for the property that all others depend on.
MANY = 3 * settings().max_examples
FEW = settings().max_examples // 2


@dataclass(frozen=True)
class ParsedFile:
    """A complete file from the parser's events."""

    start: FileStart
    data: bytes


@dataclass(frozen=True)
class Outcome:
    """The outcome of a body: its fields and files, and the first error's code."""

    items: list[Field | ParsedFile]
    code: str | None


def collect(parser: FormParser, chunks: Iterable[bytes]) -> Outcome:
    """Run a parser over a body's chunks, and check the promised order of its events."""
    items: list[Field | ParsedFile] = []
    start, data = None, b""
    try:
        for chunk in chunks:
            for event in parser.receive(chunk):
                match event:
                    case Field():
                        assert start is None
                        items.append(event)
                    case FileStart():
                        assert start is None
                        start, data = event, b""
                    case FileChunk():
                        assert start is not None
                        assert event.data
                        data += event.data
                    case FileEnd():
                        assert start is not None
                        assert event.size == len(data)
                        items.append(ParsedFile(start, data))
                        start = None
        parser.finish()
    except FormError as error:
        return Outcome(items, error.code)
    assert start is None
    return Outcome(items, None)


def parse(chunks: Iterable[bytes], limits: Limits = LIMITS, boundary: str = BOUNDARY) -> Outcome:
    """Run a new parser over a body's chunks."""
    return collect(FormParser("multipart/form-data", boundary, None, limits), chunks)


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut a body at these places; some chunks may be empty."""
    return [body[begin:end] for begin, end in pairwise([0, *sorted(places), len(body)])]


def bytewise(body: bytes) -> Iterator[bytes]:
    """Split a body into single bytes."""
    return (body[index : index + 1] for index in range(len(body)))


def splits(body: bytes) -> st.SearchStrategy[list[bytes]]:
    """Draw a split of a body: anywhere, or evenly into tiny chunks."""
    anywhere = st.lists(st.integers(0, len(body)), max_size=12)
    evenly = st.integers(1, 9).map(lambda size: range(0, len(body), size))
    return st.one_of(anywhere, evenly).map(lambda places: cut(body, places))


# The inputs of a well-formed form, and the parser's expected results.


@dataclass(frozen=True)
class Input:
    """One input: a text field if `filename` is None, otherwise a file, maybe empty."""

    name: str
    data: bytes
    filename: str | None = None
    content_type: str | None = None
    digest_header: bool = False
    digest_field: bool = False

    @property
    def sha256(self) -> str:
        """The digest that a client promises for the file."""
        return hashlib.sha256(self.data).hexdigest()

    def rendered(self) -> Iterator[bytes]:
        """The input's parts in the form: headers, an empty line and the data."""
        if self.digest_field:
            yield DIGEST + self.sha256.encode()
        head = f'Content-Disposition: form-data; name="{escaped(self.name)}"'
        if self.filename is not None:
            head += f'; filename="{escaped(self.filename)}"'
        if self.content_type is not None:
            head += f"\r\nContent-Type: {self.content_type}"
        if self.digest_header:
            head += f"\r\nContent-Digest: {to_content_digest(self.sha256)}"
        yield head.encode() + b"\r\n\r\n" + self.data

    def expected(self) -> Iterator[Field | ParsedFile]:
        """The parser's expected result for the input."""
        if self.digest_field:
            yield Field("sha256", self.sha256)
        if self.filename is None:
            yield Field(self.name, self.data.decode())
        elif self.filename or self.data:
            promised = self.sha256 if self.digest_field or self.digest_header else None
            start = FileStart(self.name, self.filename, self.content_type or DEFAULT_CONTENT_TYPE, promised)
            yield ParsedFile(start, self.data)


def escaped(value: str) -> str:
    """Escape a name like browsers (the HTML standard's multipart/form-data encoding algorithm)."""
    return value.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def render(inputs: Iterable[Input], preamble: bytes = b"", epilogue: bytes = b"") -> bytes:
    """Render the body of a form."""
    parts = [part for one in inputs for part in one.rendered()]
    if not parts:
        return preamble + b"--XbX--" + epilogue
    return preamble + OPEN + NEXT.join(parts) + CLOSE + epilogue


#: Bytes that resemble a boundary, whole or at the end of a chunk.
NEAR_BOUNDARIES = [
    *(DELIMITER[:length] for length in range(1, len(DELIMITER))),
    b"\n--XbX--",
    b"\r--XbX\r\n",
    b"\r\n-XbX--",
    b"\r\n--Xb\r\n--X",
    b"\r\r\n",
    b"\n",
    b"\r\n\r\n",
    b"XbX--\r\n",
    b"--XbX--",
]
#: Bytes that end a part, or are rejected because they resemble such an end.
DELIMITERS = re.compile(rb"\r\n--XbX|\n--XbX(?:--|[ \t]*\r?\n)|--XbX[ \t]*\r?\n[Cc]ontent-")
#: Bytes that resemble a broken first boundary.
BROKEN = re.compile(rb"[\r\n][ \t]*(?:--|-?XbX)|--XbX")


def is_data(data: bytes) -> bool:
    """Whether a part may hold these bytes."""
    return not DELIMITERS.search(b"\r\n" + data + b"\r\n")


file_data = st.lists(st.sampled_from(NEAR_BOUNDARIES) | st.binary(max_size=9), max_size=9).map(b"".join).filter(is_data)
text_data = (
    st.lists(st.sampled_from([fragment.decode() for fragment in NEAR_BOUNDARIES]) | st.text(max_size=9), max_size=5)
    .map("".join)
    .map(str.encode)
    .filter(is_data)
)
#: Without '%' and '\', which old and new browsers escape differently.
names = st.text(st.characters(codec="utf-8", exclude_characters="%\\"), min_size=1, max_size=12).filter(
    lambda name: name != "sha256"
)
media_types = st.sampled_from(["text/plain", "image/svg+xml", "text/plain; charset=utf-8", 'a/b; c="d;e"'])
text_inputs = st.builds(Input, name=names, data=text_data)
file_inputs = st.builds(
    Input,
    name=names,
    data=file_data,
    filename=names,
    content_type=st.none() | media_types,
    digest_header=st.booleans(),
    digest_field=st.booleans(),
)
nameless_files = st.builds(Input, name=names, data=file_data.filter(bool), filename=st.just(""))
empty_inputs = st.builds(Input, name=names, data=st.just(b""), filename=st.just(""))
forms = st.lists(text_inputs | file_inputs | nameless_files | empty_inputs, max_size=5)
preambles = st.just(b"") | st.lists(
    st.sampled_from([*NEAR_BOUNDARIES, b"This is a message in MIME format."]), max_size=4
).map(b"".join).filter(lambda text: not BROKEN.search(b"\n" + text)).map(lambda text: text + b"\r\n")
epilogues = st.just(b"") | st.lists(st.sampled_from([*NEAR_BOUNDARIES, DELIMITER, NEXT + FILE]), max_size=4).map(
    lambda fragments: b"\r\n" + b"".join(fragments)
)


# Forms that the parser reads.


@settings(max_examples=MANY)
@given(st.data(), forms, preambles, epilogues)
def test_a_form_is_read_as_it_was_written_in_any_split(
    data: st.DataObject, inputs: list[Input], preamble: bytes, epilogue: bytes
) -> None:
    """Fields, files, bytes and promises come out unchanged in any split of the body."""
    body = render(inputs, preamble, epilogue)
    expected = Outcome([item for one in inputs for item in one.expected()], None)
    assert parse([body]) == expected
    assert parse(bytewise(body)) == expected
    assert parse(data.draw(splits(body))) == expected


# Werkzeug knows no %-escapes, and accepts any line end before a boundary.
plain_names = st.text(st.sampled_from("abc é'.-_ 漢"), min_size=1, max_size=9).filter(lambda name: name == name.strip())
plain_data = file_data.filter(lambda data: b"--XbX" not in data)
plain_forms = st.lists(
    st.builds(Input, name=plain_names, data=text_data.filter(lambda data: b"--XbX" not in data))
    | st.builds(Input, name=plain_names, data=plain_data, filename=st.just("") | plain_names),
    min_size=1,
    max_size=5,
)
plain_preambles = preambles.filter(lambda preamble: b"--XbX" not in preamble)


def werkzeug_reads(body: bytes) -> list[tuple[str, str | None, bytes]]:
    """Return the name, filename and bytes of each part by Werkzeug's decoder."""
    decoder = MultipartDecoder(BOUNDARY.encode())
    decoder.receive_data(body)
    decoder.receive_data(None)
    parts: list[tuple[str, str | None, bytes]] = []
    while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
        match event:
            case TheirField():
                parts.append((event.name, None, b""))
            case File():
                parts.append((event.name, event.filename, b""))
            case Data():
                name, filename, before = parts[-1]
                parts[-1] = (name, filename, before + event.data)
    return parts


@given(plain_forms, plain_preambles, epilogues)
def test_an_independent_parser_reads_the_same(inputs: list[Input], preamble: bytes, epilogue: bytes) -> None:
    """In a well-formed form, Werkzeug's decoder finds the same names, filenames and bytes."""
    body = render(inputs, preamble, epilogue)
    ours: list[tuple[str, str | None, bytes]] = [
        (item.name, None, item.value.encode())
        if isinstance(item, Field)
        else (item.start.name, item.start.filename, item.data)
        for item in parse([body]).items
    ]
    theirs = [part for part in werkzeug_reads(body) if part[1:] != ("", b"")]  # we skip empty inputs
    assert theirs == ours


@pytest.mark.parametrize(
    "boundary",
    [
        pytest.param("b", id="one character"),
        pytest.param("----WebKitFormBoundary7MA4YWxkTrZu0gW", id="a browser's"),
        pytest.param("x" * 70, id="seventy characters"),
        pytest.param("a b'()+_,-./:=?", id="every kind of character"),
        pytest.param("--", id="hyphens only"),
        pytest.param("*****", id="the most copied Android class: itinance/react-native-fs#1004"),
        pytest.param("dio&boundary&42", id="cfug/dio#187"),
        pytest.param("{6F9619FF-8B86-D011-B42D-00CF4FC964FF}", id="a GUID of Windows"),
        pytest.param("x" * 250, id="more than the 70 characters of RFC 2046"),
    ],
)
def test_every_boundary_that_clients_send_works(boundary: str) -> None:
    """A boundary of visible ASCII characters separates the parts in any split."""
    line = b"--" + boundary.encode()
    body = line + b"\r\n" + FILE + b"one" + b"\r\n" + line + b"\r\n" + TEXT + b"two\r\n" + line + b"--"
    start = FileStart("file", "a.txt", DEFAULT_CONTENT_TYPE, None)
    expected = Outcome([ParsedFile(start, b"one"), Field("t", "two")], None)
    assert parse([body], boundary=boundary) == expected
    assert parse(bytewise(body), boundary=boundary) == expected


def test_a_whole_plain_form_compiles_no_expression(monkeypatch: pytest.MonkeyPatch) -> None:
    """A form that arrives whole needs no regular expression of its boundary, which differs from form to form."""
    monkeypatch.setattr(re, "compile", None)
    outcome = parse([OPEN + TEXT + b"v" + NEXT + FILE + b"12\r\n--Xb" + CLOSE], boundary=BOUNDARY)
    assert [type(item) for item in outcome.items] == [Field, ParsedFile]


@pytest.mark.parametrize(
    "boundary",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("x" * 251, id="one character too many"),
        pytest.param("a ", id="a space at its end"),
        pytest.param("a\nb", id="a line end"),
        pytest.param("ä", id="not ASCII"),
        pytest.param("a\x7f", id="a control character"),
    ],
)
def test_a_boundary_that_cannot_be_is_refused(boundary: str | None) -> None:
    """A form without a boundary of visible ASCII characters is malformed, not empty."""
    with pytest.raises(FormMalformed, match="boundary"):
        FormParser("multipart/form-data", boundary, None, LIMITS)


@pytest.mark.parametrize(
    ("mimetype", "named"),
    [
        pytest.param("application/x-www-form-urlencoded", "application/x-www-form-urlencoded", id="the other form"),
        pytest.param("multipart/mixed", "multipart/mixed", id="another multipart type"),
        pytest.param("", "of no type", id="no type"),
    ],
)
def test_another_media_type_is_refused(mimetype: str, named: str) -> None:
    """The error for another media type names it and the right one."""
    with pytest.raises(FormError, match=named) as caught:
        FormParser(mimetype, BOUNDARY, None, LIMITS)
    assert caught.value.code == "unsupported-media-type"


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, identity", "x" * 1000])
def test_a_compressed_body_is_refused(coding: str) -> None:
    """A compressed body is a 415, with the only accepted coding in Accept-Encoding."""
    with pytest.raises(FormError, match="Content-Encoding") as caught:
        FormParser("multipart/form-data", BOUNDARY, None, LIMITS, coding)
    assert (caught.value.code, caught.value.headers) == ("unsupported-media-type", {"Accept-Encoding": "identity"})
    assert len(caught.value.detail) < 100


@pytest.mark.parametrize("coding", ["", "identity", " Identity "])
def test_a_body_that_is_as_it_is_may_say_so(coding: str) -> None:
    """`identity` means no coding (RFC 9110, section 8.4.1)."""
    parser = FormParser("multipart/form-data", BOUNDARY, None, LIMITS, coding)
    assert collect(parser, [OPEN + TEXT + b"a" + CLOSE]).items == [Field("t", "a")]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("text/plain", "text/plain", id="plain"),
        pytest.param("text/plain; charset=utf-8", "text/plain; charset=utf-8", id="with a parameter"),
        pytest.param("text/plain \t; charset=utf-8", "text/plain \t; charset=utf-8", id="white space"),
        pytest.param(" text/plain ", "text/plain", id="white space around it"),
        pytest.param("", DEFAULT_CONTENT_TYPE, id="empty"),
        pytest.param("text", DEFAULT_CONTENT_TYPE, id="no subtype"),
        pytest.param("text/plain\x0b; a=b", DEFAULT_CONTENT_TYPE, id="a vertical tab, which no header may hold"),
        pytest.param("text/plain; a=\x00", DEFAULT_CONTENT_TYPE, id="a NUL"),
        pytest.param("text/plain; a=ä", DEFAULT_CONTENT_TYPE, id="not ASCII"),
        pytest.param(f"text/{'x' * 128}", DEFAULT_CONTENT_TYPE, id="a subtype one character too long"),
    ],
)
def test_a_content_type_is_kept_only_if_it_is_one(header: str, expected: str) -> None:
    """A file's media type is kept only if S3 and a browser accept it."""
    part = FILE.replace(b"\r\n\r\n", f"\r\nContent-Type: {header}\r\n\r\n".encode())
    (upload,) = parse([OPEN + part + CLOSE]).items
    assert isinstance(upload, ParsedFile)
    assert upload.start.content_type == expected


@pytest.mark.parametrize(
    ("charset", "data", "expected"),
    [
        pytest.param(None, "é".encode(), "é", id="none is UTF-8"),
        pytest.param("utf-8", "é".encode(), "é", id="UTF-8"),
        pytest.param("ISO-8859-1", b"\xe9", "é", id="Latin-1, in any case"),
        pytest.param("latin-1", b"\xe9", "é", id="Latin-1 by its short name"),
        pytest.param("latin1", b"\xe9", "é", id="Latin-1 by its shortest name"),
        pytest.param("us-ascii", b"e", "e", id="ASCII"),
        pytest.param("utf-16le", "é".encode("utf-16le"), "é", id="UTF-16"),
        pytest.param("windows-1252", b"\x80 5", "€ 5", id="danialfarid/ng-file-upload#1652"),
        pytest.param("windows-1299", "é".encode(), "é", id="a charset that does not exist is taken for UTF-8"),
        pytest.param('"utf-8"; x', b"e", "e", id="parameters that cannot be read"),
        pytest.param(None, b"caf\xe9", "caf\ufffd", id="bytes of another charset, as SendGrid sends them"),
        pytest.param("us-ascii", b"\xff", "\ufffd", id="bytes that the charset does not have"),
        pytest.param("rot13", b"e", "e", id="a codec that is no charset is taken for UTF-8"),
    ],
)
def test_a_text_field_is_decoded_by_its_charset(charset: str | None, data: bytes, expected: str) -> None:
    """A text field's charset is used if it is a common one."""
    kind = b"" if charset is None else f"Content-Type: text/plain; charset={charset}\r\n".encode()
    assert parse([OPEN + kind + TEXT + data + CLOSE]) == Outcome([Field("t", expected)], None)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"--XbX--", id="no part"),
        pytest.param(b"--XbX--\r\n", id="no part and a line end"),
        pytest.param(b"preamble\r\n--XbX--", id="a preamble and no part"),
        pytest.param(OPEN + NO_FILE + CLOSE, id="one empty file input"),
    ],
)
def test_an_empty_form_has_no_events(body: bytes) -> None:
    """A form without parts, or with only an empty file input, has no events."""
    assert parse([body]) == Outcome([], None)
    assert parse(bytewise(body)) == Outcome([], None)


# Forms that the parser rejects.


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", "form-malformed", id="nothing"),
        pytest.param(b"--XbX", "form-malformed", id="half a boundary"),
        pytest.param(b"only a preamble\r\n", "form-malformed", id="only a preamble"),
        pytest.param(b"--XbX\n" + TEXT + CLOSE, "form-malformed", id="a bare LF after the first boundary"),
        pytest.param(b"--XbXX\r\n" + TEXT + CLOSE, "form-malformed", id="a longer boundary first"),
        pytest.param(b"x--XbX\r\n" + FILE + CLOSE, "form-malformed", id="a first boundary that begins no line"),
        *(
            pytest.param(first + FILE + b"1" + NEXT + FILE + b"2" + CLOSE, "form-malformed", id=f"{first!r} first")
            for first in (b"-XbX\r\n", b"XbX\r\n", b"--Xb\r\n", b"\r\n --XbX\r\n", b"x\r\n--other\r\n", b"")
        ),
        pytest.param(OPEN + FILE + b"a" + CLOSE + b"X", "form-malformed", id="text behind the last boundary"),
        pytest.param(OPEN + FILE + b"a" + CLOSE + b"-", "form-malformed", id="a hyphen behind the last boundary"),
        *(
            pytest.param(
                OPEN + FILE + b"1" + end + b"--XbX\r\n" + FILE + b"2" + CLOSE,
                "form-malformed",
                id=f"{end!r} before a boundary",
            )
            for end in (b"", b"\r", b" ")
        ),
        pytest.param(OPEN + FILE + b"1\n--XbX\n" + FILE + b"2" + CLOSE, "form-malformed", id="bare LFs at a boundary"),
        pytest.param(OPEN + TEXT + b"a" + DELIMITER + b"X\r\n", "form-malformed", id="a longer boundary later"),
        pytest.param(OPEN + TEXT + b"a", "form-malformed", id="cut short in a field"),
        pytest.param(OPEN + FILE + b"a" + DELIMITER + b"-", "form-malformed", id="cut short in the last boundary"),
        pytest.param(OPEN + TEXT + b"a" + NEXT, "form-malformed", id="cut short before a part"),
        pytest.param(OPEN + b"\r\n" + CLOSE, "form-malformed", id="a part without headers"),
        pytest.param(OPEN + TEXT.replace(b'; name="t"', b"") + CLOSE, "form-malformed", id="a part without a name"),
        pytest.param(OPEN + TEXT.replace(b'"t"', b'""') + CLOSE, "form-malformed", id="an empty name"),
        pytest.param(
            OPEN + TEXT.replace(b"form-data", b"attachment") + CLOSE, "form-malformed", id="another disposition"
        ),
        pytest.param(OPEN + TEXT[:-2] + TEXT + CLOSE, "form-malformed", id="two names"),
        pytest.param(OPEN + FILE[:-2] + TEXT + CLOSE, "form-malformed", id="a file or a field"),
        pytest.param(
            OPEN + b"Content-Type: text/plain\r\ncontent-type: image/png\r\n" + FILE + CLOSE,
            "form-malformed",
            id="two types",
        ),
        pytest.param(OPEN + b"no colon\r\n" + TEXT + CLOSE, "form-malformed", id="a header without a colon"),
        pytest.param(OPEN + b": a\r\n" + TEXT + CLOSE, "form-malformed", id="a header without a name"),
        pytest.param(OPEN + b"A: a\nB: b\r\n" + TEXT + CLOSE, "form-malformed", id="a bare LF in a value"),
        pytest.param(OPEN + b"\nA: a\r\n" + TEXT + CLOSE, "form-malformed", id="a bare LF before a name"),
        pytest.param(OPEN + b"A\n: a\r\n" + TEXT + CLOSE, "form-malformed", id="a bare LF after a name"),
        pytest.param(OPEN + b"A: a\rb\r\n" + TEXT + CLOSE, "form-malformed", id="a bare CR in a value"),
        pytest.param(OPEN + b"\rA: a\r\n" + TEXT + CLOSE, "form-malformed", id="a bare CR before a name"),
        pytest.param(OPEN + b"A: a\r\n" * 16 + TEXT + CLOSE, "form-malformed", id="one header too many"),
        pytest.param(
            OPEN + DIGEST + b"\xff" * 64 + NEXT + FILE + CLOSE, "digest-malformed", id="a digest not in UTF-8"
        ),
        pytest.param(OPEN + DIGEST + b"abc" + NEXT + FILE + CLOSE, "digest-malformed", id="a field that is no digest"),
        pytest.param(
            OPEN + DIGEST + HEX.upper().encode() + NEXT + FILE + CLOSE, "digest-malformed", id="upper case hex"
        ),
        pytest.param(OPEN + DIGEST + HEX.encode() + CLOSE, "digest-malformed", id="a promise and no file"),
        pytest.param(
            OPEN + DIGEST + HEX.encode() + NEXT + NO_FILE + CLOSE,
            "digest-malformed",
            id="a promise and only an empty file input",
        ),
        pytest.param(
            OPEN + DIGEST + HEX.encode() + NEXT + DIGEST + HEX.encode() + NEXT + FILE + CLOSE,
            "digest-malformed",
            id="two promises for one file",
        ),
        pytest.param(
            OPEN + FILE + NEXT + DIGEST + HEX.encode() + CLOSE, "digest-malformed", id="a promise after its file"
        ),
        pytest.param(OPEN + b"Content-Digest: abc\r\n" + FILE + CLOSE, "digest-malformed", id="a header that is none"),
        pytest.param(
            OPEN + f"Content-Digest: {to_content_digest(HEX)}\r\n".encode() * 2 + FILE + CLOSE,
            "digest-malformed",
            id="two digest headers",
        ),
        pytest.param(
            OPEN
            + DIGEST
            + OTHER_HEX.encode()
            + NEXT
            + f"Content-Digest: {to_content_digest(HEX)}\r\n".encode()
            + FILE
            + CLOSE,
            "digest-malformed",
            id="a field and a header that promise different digests",
        ),
    ],
)
def test_a_broken_form_has_its_code(body: bytes, code: str) -> None:
    """A broken form has the same error code whole and byte by byte."""
    assert parse([body]).code == code
    assert parse(bytewise(body)).code == code


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(OPEN + b"A: a\nb\r\n", id="in the line"),
        pytest.param(OPEN + TEXT.replace(b'"t"', b'""'), id="in the name"),
    ],
)
def test_after_an_error_the_same_error_is_raised(body: bytes) -> None:
    """A parser that has failed raises the same error again."""
    parser = FormParser("multipart/form-data", BOUNDARY, None, LIMITS)
    with pytest.raises(FormMalformed) as first:
        list(parser.receive(body))
    with pytest.raises(FormMalformed) as second:
        list(parser.receive(TEXT))
    with pytest.raises(FormMalformed) as third:
        parser.finish()
    assert first.value is second.value is third.value


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(OPEN + TEXT, FormMalformed, id="cut short"),
        pytest.param(b"x", FormMalformed, id="no boundary"),
    ],
)
def test_after_a_failed_end_the_same_error_is_raised(body: bytes, error: type[FormError]) -> None:
    """A second `finish` raises the error of the first."""
    parser = FormParser("multipart/form-data", BOUNDARY, None, LIMITS)
    list(parser.receive(body))
    with pytest.raises(error) as first:
        parser.finish()
    with pytest.raises(error) as second:
        parser.finish()
    assert first.value is second.value


@pytest.mark.parametrize(
    ("declared", "cut_short"),
    [
        pytest.param(len(OPEN + TEXT) + 1, True, id="a byte less than was declared"),
        pytest.param(len(OPEN + TEXT), False, id="as much as was declared"),
        pytest.param(None, False, id="nothing was declared"),
    ],
)
def test_a_body_shorter_than_declared_is_marked(declared: int | None, cut_short: bool) -> None:  # noqa: FBT001 - parametrised
    """The same error has `cut_short` if the client has most likely disconnected."""
    parser = FormParser("multipart/form-data", BOUNDARY, declared, LIMITS)
    list(parser.receive(OPEN + TEXT))
    with pytest.raises(FormMalformed) as error:
        parser.finish()
    assert error.value.cut_short is cut_short


# Promised digests.


def header(sha256: str) -> bytes:
    """Return a part header that promises this digest."""
    return f"Content-Digest: {to_content_digest(sha256)}\r\n".encode()


@pytest.mark.parametrize(
    ("parts", "promises"),
    [
        pytest.param([FILE], [None], id="none"),
        pytest.param([DIGEST + HEX.encode(), FILE], [HEX], id="a field"),
        pytest.param([header(HEX) + FILE], [HEX], id="a header"),
        pytest.param([DIGEST + HEX.encode(), header(HEX) + FILE], [HEX], id="both alike"),
        pytest.param([DIGEST + HEX.encode(), FILE, FILE], [HEX, None], id="a field counts for one file only"),
        pytest.param([FILE, DIGEST + HEX.encode(), FILE], [None, HEX], id="a field counts for the next file"),
        pytest.param([DIGEST + HEX.encode(), TEXT, FILE], [HEX], id="another field may stand between"),
        pytest.param([DIGEST + HEX.encode(), NO_FILE, FILE], [HEX], id="an empty file input is no file"),
        pytest.param([DIGEST + HEX.encode(), NO_FILE + b"x"], [HEX], id="a file without a name is one"),
        pytest.param([header(HEX) + NO_FILE + b"x"], [HEX], id="a header of a file without a name"),
        pytest.param([b"Content-Digest: sha-512=:AAAA:\r\n" + FILE], [None], id="another algorithm promises nothing"),
        pytest.param([header(HEX) + TEXT, FILE], [None], id="a text field's header is ignored"),
        pytest.param([b"Content-Digest: x\r\n" + TEXT, FILE], [None], id="likewise a broken one"),
    ],
)
def test_a_promise_goes_to_its_file(parts: list[bytes], promises: list[str | None]) -> None:
    """A field `sha256` applies to the next file, a part header to its own."""
    body = OPEN + NEXT.join(parts) + CLOSE
    for chunks in ([body], bytewise(body)):
        outcome = parse(chunks)
        assert outcome.code is None
        assert [item.start.promised for item in outcome.items if isinstance(item, ParsedFile)] == promises


# Limits.


@pytest.mark.parametrize(
    ("header_line", "code"),
    [
        pytest.param(b"A: " + b"x" * 4093, None, id="a line of 4,096 bytes"),
        pytest.param(b"A: " + b"x" * 4094, "form-malformed", id="one byte more"),
        pytest.param(b"A: " + b" " * 4093, None, id="a line of 4,096 bytes, mostly white space"),
        pytest.param(b"A: " + b" " * 4094, "form-malformed", id="one space more"),
        pytest.param(b"A: " + b" " * 4095, "form-malformed", id="two spaces more"),
        pytest.param(b"A: " + b" " * 4096, "form-malformed", id="three spaces more"),
        pytest.param(b" " * 4092 + b"A: x", "form-malformed", id="a fold of no line"),
        pytest.param(b"A: x\r\n " + b"x" * 4090, None, id="a folded line"),
        pytest.param(b"A: x\r\n " + b"x" * 5000, "form-malformed", id="a folded line that is too long"),
    ],
)
def test_a_header_line_may_have_4096_bytes(header_line: bytes, code: str | None) -> None:
    """The limit on a header line counts its bytes in any split."""
    body = OPEN + header_line + b"\r\n" + FILE + CLOSE
    end = len(OPEN) + len(header_line)
    for chunks in ([body], bytewise(body), *(cut(body, [end + ahead]) for ahead in range(-3, 4))):
        assert parse(chunks).code == code


@settings(max_examples=FEW)
@given(st.data(), forms.filter(bool), epilogues)
def test_each_limit_holds_to_the_byte(data: st.DataObject, inputs: list[Input], epilogue: bytes) -> None:
    """A form exactly at every limit is accepted, and one unit more is an error."""
    body = render(inputs, epilogue=epilogue)
    whole = parse([body])
    texts = sum(len(one.data) for one in inputs if one.filename is None)
    texts += sum(len(one.sha256) for one in inputs if one.digest_field)
    largest = max((len(one.data) for one in inputs if one.filename is not None), default=0)
    parts = sum(len(list(one.rendered())) for one in inputs)
    exact = Limits(file_bytes=largest, body_bytes=len(body), form_parts=parts, field_bytes=texts)
    over = {
        "body-too-large": replace(exact, body_bytes=len(body) - 1),
        "too-many-parts": replace(exact, form_parts=parts - 1),
    }
    if largest:
        over["file-too-large"] = replace(exact, file_bytes=largest - 1)
    if texts:
        over["too-many-fields"] = replace(exact, field_bytes=texts - 1)
    for chunks in ([body], data.draw(splits(body)), list(bytewise(body))):
        assert parse(chunks, exact) == whole
        assert {code: parse(chunks, limits).code for code, limits in over.items()} == {code: code for code in over}


@pytest.mark.parametrize(
    ("declared", "refused"),
    [
        pytest.param(None, False, id="a chunked body"),
        pytest.param(100, False, id="the limit"),
        pytest.param(101, True, id="one byte over"),
    ],
)
def test_a_declared_length_over_the_limit_is_refused_at_once(*, declared: int | None, refused: bool) -> None:
    """A Content-Length over the limit is rejected before the first read."""
    with pytest.raises(BodyTooLarge) if refused else nullcontext():
        FormParser("multipart/form-data", BOUNDARY, declared, Limits(body_bytes=100))


def test_a_body_that_ends_before_its_declared_length_is_cut_short() -> None:
    """A complete form is rejected if the body is shorter than declared."""
    body = OPEN + TEXT + b"a" + CLOSE
    parser = FormParser("multipart/form-data", BOUNDARY, len(body) + 1, LIMITS)
    assert collect(parser, [body]).code == "form-malformed"
    assert collect(FormParser("multipart/form-data", BOUNDARY, len(body), LIMITS), [body]).code is None


def uploads(*files: tuple[str, bytes]) -> Outcome:
    """Return the outcome of a form with these files, all in the field `file`."""
    starts = [(FileStart("file", name, DEFAULT_CONTENT_TYPE, None), data) for name, data in files]
    return Outcome([ParsedFile(start, data) for start, data in starts], None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            OPEN + TEXT + OPEN + FILE + b"1" + NEXT + FILE + b"2" + CLOSE,
            Outcome([Field("t", ""), *uploads(("a.txt", b"1"), ("a.txt", b"2")).items], None),
            id="a field without a body, whose CRLF is the delimiter's: pallets/werkzeug#2632",
        ),
        pytest.param(
            OPEN + FILE + OPEN + FILE + b"2" + CLOSE,
            uploads(("a.txt", b""), ("a.txt", b"2")),
            id="a file without a body",
        ),
        pytest.param(OPEN + FILE + b"--XbX--", uploads(("a.txt", b"")), id="the last file without a body"),
        pytest.param(
            OPEN + FILE + b"1\n--XbX\r\n" + FILE + b"2" + CLOSE,
            uploads(("a.txt", b"1"), ("a.txt", b"2")),
            id="a bare LF before a delimiter: encode/starlette#1059 (KNIME)",
        ),
        pytest.param(OPEN + FILE + b"1\n--XbX--", uploads(("a.txt", b"1")), id="a bare LF before the last delimiter"),
        pytest.param(
            b"--XbX \t\r\n" + FILE + b"1\r\n--XbX \r\n" + FILE + b"2" + CLOSE + b" \t\r\nx",
            uploads(("a.txt", b"1"), ("a.txt", b"2")),
            id="white space behind delimiters: rwf2/multer#25",
        ),
        pytest.param(OPEN + FILE + b"1" + CLOSE + b"\n", uploads(("a.txt", b"1")), id="a bare LF at the end"),
        pytest.param(b"\r\n" + OPEN + FILE + b"1" + CLOSE, uploads(("a.txt", b"1")), id="an empty line first"),
        pytest.param(b"\n" + OPEN + FILE + b"1" + CLOSE, uploads(("a.txt", b"1")), id="a bare LF first"),
        pytest.param(
            OPEN + FILE + b"1\n--XbXX\r\n2\n--XbX x" + CLOSE,
            uploads(("a.txt", b"1\n--XbXX\r\n2\n--XbX x")),
            id="bytes behind a bare LF that go on as no delimiter does",
        ),
    ],
)
def test_delimiters_are_read_as_they_were_meant(body: bytes, expected: Outcome) -> None:
    """The delimiters of RFC 2046, section 5.1.1, and of clients separate the parts."""
    assert parse([body]) == expected
    assert parse(bytewise(body)) == expected


@pytest.mark.parametrize(
    ("encoding", "encoded", "code"),
    [
        pytest.param("base64", b"c29tZSBieXRlcw==", None, id="base64: curl's encoder"),
        pytest.param("Quoted-Printable", b"some=20byt=\r\nes", None, id="quoted-printable"),
        pytest.param("quoted-printable", b"some bytes=", None, id="its last soft line break"),
        pytest.param("binary", b"some bytes", None, id="binary"),
        pytest.param("base64", b"c29tZSBieXRlcw=", "form-malformed", id="base64 that is cut"),
        pytest.param("base64", b"c29tZSBieXRlcw==" * 2, "form-malformed", id="base64 that goes on"),
        pytest.param("x-gzip", b"some bytes", "form-malformed", id="another encoding"),
    ],
)
def test_a_transfer_encoding_is_undone(encoding: str, encoded: bytes, code: str | None) -> None:
    """Limits and digests count the decoded bytes (RFC 7578, section 4.7)."""
    head = f"Content-Transfer-Encoding: {encoding}\r\n".encode()
    field = Field("t", "some bytes")
    start = FileStart("file", "a.txt", DEFAULT_CONTENT_TYPE, None)
    for part, item in ((FILE, ParsedFile(start, b"some bytes")), (TEXT, field)):
        body = OPEN + head + part + encoded + CLOSE
        expected = Outcome([item] if code is None else [], code)
        assert parse([body], Limits(file_bytes=10, field_bytes=10)) == expected
        assert parse(bytewise(body), Limits(file_bytes=10, field_bytes=10)) == expected
    if code is None:
        assert parse([OPEN + head + FILE + encoded + CLOSE], Limits(file_bytes=9)).code == "file-too-large"


def test_the_form_may_name_its_charset() -> None:
    """The field `_charset_` applies to the following text and names (RFC 7578, section 4.6)."""
    charset = TEXT.replace(b'"t"', b'"_charset_"') + b"iso-8859-1"
    name = 'Content-Disposition: form-data; name="file"; filename="ü"\r\n\r\n'.encode("latin-1")
    outcome = parse([OPEN + NEXT.join([charset, TEXT + b"caf\xe9", name]) + CLOSE])
    file = ParsedFile(FileStart("file", "ü", DEFAULT_CONTENT_TYPE, None), b"")
    assert outcome == Outcome([Field("_charset_", "iso-8859-1"), Field("t", "café"), file], None)


@pytest.mark.parametrize(
    ("name", "content_type", "code"),
    [
        pytest.param("file", "image/jpeg", "file-missing", id="Retrofit's @Part"),
        pytest.param("files[]", "text/plain", "file-missing", id="another field for files"),
        pytest.param("file[12]", None, "file-missing", id="a field of several"),
        pytest.param("photo", "image/jpeg", "file-missing", id="a type that no field has"),
        pytest.param("note", "text/plain; charset=utf-8", "too-many-fields", id="text"),
        pytest.param("note", None, "too-many-fields", id="a field without a type"),
        pytest.param("file[x]", None, "too-many-fields", id="a name that is not a field's"),
    ],
)
def test_a_large_file_without_a_filename_is_called_one(name: str, content_type: str | None, code: str) -> None:
    """The error for a large file without a filename reports the missing filename."""
    kind = "" if content_type is None else f"Content-Type: {content_type}\r\n"
    body = OPEN + kind.encode() + TEXT.replace(b'"t"', f'"{name}"'.encode()) + b"\xff" * 99 + CLOSE
    assert parse([body], Limits(field_bytes=98)).code == code
    assert parse([body]).code is None


def test_a_promise_without_a_file_is_refused_at_the_last_delimiter() -> None:
    """A digest after its file is rejected before the end of the body."""
    body = OPEN + FILE + b"data" + NEXT + DIGEST + HEX.encode() + CLOSE
    parser = FormParser("multipart/form-data", BOUNDARY, len(body) + 1000, LIMITS)
    with pytest.raises(DigestMalformed, match="must come before its file"):
        list(parser.receive(body))


def test_a_chunk_of_a_file_is_refused_wherever_its_fields_stand() -> None:
    """Dropzone sends `dzchunkindex` before the file, other libraries after it."""
    index = TEXT.replace(b'"t"', b'"dzchunkindex"') + b"1"
    for parts in ([index, FILE + b"data"], [FILE + b"data", index]):
        assert parse([OPEN + NEXT.join(parts) + CLOSE]).code == "chunked-form"


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        pytest.param("multipart/form-data; boundary=XbX", None, id="plain"),
        pytest.param('Multipart/Form-Data;charset=utf-8;Boundary="XbX"', None, id="quoted, behind another parameter"),
        pytest.param("multipart/form-data", "form-malformed", id="no boundary"),
        pytest.param("multipart/form-data; boundary=XbX; boundary=Y", "form-malformed", id="two boundaries"),
        pytest.param("multipart/mixed; boundary=XbX; boundary=Y", "unsupported-media-type", id="another type, broken"),
        pytest.param("", "unsupported-media-type", id="no type"),
    ],
)
def test_a_parser_is_made_by_the_content_type(content_type: str, code: str | None) -> None:
    """The parser reads the boundary itself, since frameworks cut an unquoted one at a `/`."""
    if code is None:
        parser = FormParser.of(content_type, None, LIMITS)
        assert collect(parser, [OPEN + TEXT + b"a" + CLOSE]) == Outcome([Field("t", "a")], None)
    else:
        with pytest.raises(FormError) as caught:
            FormParser.of(content_type, None, LIMITS)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("fields", "named"),
    [(("file",), "'file',"), (("a", "b"), "'a' or 'b',"), (("a", "b", "c"), "'a', 'b' or 'c',")],
)
def test_the_error_for_a_missing_file_names_the_fields(fields: tuple[str, ...], named: str) -> None:
    """The error lists every form field for files."""
    assert f"a form field named {named}" in file_missing(Limits(file_fields=fields)).detail


def test_a_boundary_without_quotes_is_read_whole() -> None:
    """Boundaries may contain characters that a token forbids (spring-framework#26698, js-compute-runtime#1492)."""
    for boundary in ("===1732618800123===", "----Form/Ab+9/Zz", "----=_Part_0_123.456", "{6F96-FF}", "a@b[c]"):
        parser = FormParser.of(f"multipart/form-data; boundary={boundary}", None, LIMITS)
        body = (OPEN + FILE + b"1" + CLOSE).replace(b"XbX", boundary.encode())
        assert collect(parser, [body]) == uploads(("a.txt", b"1"))


@pytest.mark.parametrize("length", ["0", "3", "99999999999999", "-1", "", "four"])
def test_the_length_in_a_part_is_ignored(length: str) -> None:
    """Other header fields of a part are ignored (RFC 7578, section 4.8; square/okhttp#2138)."""
    body = OPEN + b"Content-Length: " + length.encode() + b"\r\n" + FILE + b"abcd" + CLOSE
    expected = Outcome([ParsedFile(FileStart("file", "a.txt", DEFAULT_CONTENT_TYPE, None), b"abcd")], None)
    assert parse([body]) == parse(bytewise(body)) == expected


def test_the_part_over_the_limit_is_not_read() -> None:
    """One part too many is rejected as such, even if its headers are broken."""
    body = OPEN + TEXT + NEXT + b"A: a\nb\r\n" + TEXT + CLOSE
    assert parse([body], Limits(form_parts=1)).code == "too-many-parts"
    assert parse(bytewise(body), Limits(form_parts=1)).code == "too-many-parts"


# Arbitrary bytes.

#: Pieces of forms, and bytes that break them.
FRAGMENTS = [
    *NEAR_BOUNDARIES,
    OPEN,
    NEXT,
    NEXT,
    CLOSE,
    DELIMITER,
    TEXT,
    TEXT,
    FILE,
    FILE,
    NO_FILE,
    TEXT.removesuffix(b"\r\n"),
    FILE.removesuffix(b"\r\n"),
    DIGEST + HEX.encode(),
    DIGEST + OTHER_HEX.encode() + NEXT,
    DIGEST,
    header(HEX),
    b"Content-Digest: x\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 12\r\n",
    b"Content-Type: text/plain; charset=ascii\r\n",
    b"A: a\r\n",
    b"A",
    b":",
    b" ",
    b"\t",
    b"\r",
    b'"',
    b"\xc3\xa9",
    b"\xff",
    b"\x00",
]
tiny_limits = st.builds(
    Limits,
    file_bytes=st.integers(1, 20),
    body_bytes=st.integers(1, 500),
    form_parts=st.integers(1, 4),
    field_bytes=st.integers(1, 100),
)
any_limits = st.just(LIMITS) | tiny_limits
hostile = st.builds(
    lambda begin, fragments: begin + b"".join(fragments),
    st.sampled_from([b"", OPEN, OPEN, OPEN + TEXT, OPEN + FILE]),
    st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=5), max_size=20),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a well-formed form, then remove, double, replace or insert a few bytes."""
    body = render(draw(forms), draw(preambles), draw(epilogues))
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(body)))
        end = min(len(body), begin + draw(st.integers(0, 9)))
        put_in = draw(st.sampled_from([b"", body[begin:end] * 2, *FRAGMENTS]))
        body = body[:begin] + put_in + body[end:]
    return body


@settings(max_examples=MANY)
@given(st.data(), hostile | mutated() | st.binary(max_size=200), any_limits)
def test_any_bytes_have_one_outcome_in_any_split(data: st.DataObject, body: bytes, limits: Limits) -> None:
    """Any body has the same fields, files and error code in every split."""
    whole = parse([body], limits)
    assert parse(bytewise(body), limits) == whole
    assert parse(data.draw(splits(body)), limits) == whole


@st.composite
def long_headers(draw: st.DrawFn) -> bytes:
    """Draw a form with one header line near the size limit."""
    length = draw(st.integers(4094, 4101))
    begin = draw(st.sampled_from([b"A:", b"A: ", b" A:", b"A :", b"A: a\r\n ", b"A: a\r\n\t", b"", b"\n"]))
    filler = draw(st.sampled_from([b"x", b" ", "é".encode(), b"\t", b'"', b";"]))
    end = draw(st.sampled_from([b"", b"x", b"\r", b"\n", b" ", b"\nA: a"]))
    line = begin + filler * ((length - len(begin) - len(end)) // len(filler)) + end
    place = draw(st.sampled_from([OPEN, OPEN + TEXT + NEXT]))
    after = draw(st.sampled_from([b"\r\n", b"\r\n", b"\n", b""]))
    return place + line + after + FILE + b"data" + CLOSE


@settings(max_examples=FEW)
@given(st.data(), long_headers())
def test_a_long_header_has_one_outcome_in_any_split(data: st.DataObject, body: bytes) -> None:
    """A header line near the size limit has the same outcome in every split."""
    limits = Limits(
        body_bytes=data.draw(st.sampled_from([4090, 4100, 4110, 10_000])),
        form_parts=data.draw(st.sampled_from([1, 9])),
    )
    whole = parse([body], limits)
    near = st.lists(st.integers(4080, len(body)), max_size=6)
    assert parse(cut(body, data.draw(near)), limits) == whole
    assert parse(bytewise(body), limits) == whole


@given(st.data(), forms)
def test_a_chunk_may_be_empty(data: st.DataObject, inputs: list[Input]) -> None:
    """An empty chunk has no meaning, and is not the end."""
    body = render(inputs)
    chunks = data.draw(splits(body))
    assert parse([chunk for one in chunks for chunk in (b"", one, b"")]) == parse([body])
