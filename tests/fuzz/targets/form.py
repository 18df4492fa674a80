"""Forms: the events do not depend on the split, and the bytes are those of an independent reading."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from fuzz.inputs import expanded, fields, pieces

from filehandoff.errors import UploadError
from filehandoff.form import Field, FileChunk, FileEnd, FileStart, FormParser
from filehandoff.settings import Limits

WORDS = (
    b"--XbX\r\n",
    b"\r\n--XbX\r\n",
    b"\r\n--XbX--",
    b"\n--XbX\n",
    b"--XbX--\r\n",
    b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n',
    b'Content-Disposition: form-data; name="file"; filename=""\r\n\r\n',
    b'Content-Disposition: form-data; name="t"\r\n\r\n',
    b'Content-Disposition: form-data; name="sha256"\r\n\r\n',
    b'Content-Disposition: form-data; name="_charset_"\r\n\r\n',
    b'Content-Disposition: form-data; name="dztotalchunkcount"\r\n\r\n',
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"Content-Type: text/plain; charset=utf-16\r\n",
    b"Content-Digest: sha-256=:",
    b"\xff\xffa",
    b"\xff\x2d ",
    b"0123456789abcdef" * 4,
    b"filename*=utf-8''",
    b"iso-8859-1",
)

DELIMITER = b"--XbX"
_PADDING = re.compile(rb"[ \t]{0,1024}\r?\n")
LARGE = Limits()
SMALL = Limits(file_bytes=60, body_bytes=2000, form_parts=3, field_bytes=50)


@dataclass
class Outcome:
    """The fields, the files with their bytes, the first error, and the bytes of a file that it ended."""

    items: list[Field | tuple[FileStart, bytes]] = field(default_factory=list)
    error: tuple[type[UploadError], str] | None = None
    cut: bytes = field(default=b"", compare=False)


def check(data: bytes) -> None:
    """Parse a form whole and in pieces."""
    options, body = fields(data, 2)
    flags, sizes = ord(options[:1] or b"0"), options[1:]
    body = expanded(body)
    limits = SMALL if flags & 1 else LARGE
    declared = None if flags & 2 else len(body) + (flags >> 2 & 1)
    whole = parse([body], declared, limits)
    split = parse(pieces(body, sizes), declared, limits)
    assert split == whole, "another split causes other events"
    assert split.cut.startswith(whole.cut) or whole.cut.startswith(split.cut), "another split causes other bytes"
    held = [item[1] for item in whole.items if isinstance(item, tuple)]
    assert all(len(content) <= limits.file_bytes for content in (*held, whole.cut)), "a file is larger than its limit"
    if whole.error is None:
        assert len(body) <= limits.body_bytes, "the body is larger than its limit"
        check_bytes(body, whole, limits)


def parse(body: Iterable[bytes], declared: int | None, limits: Limits) -> Outcome:
    """Parse one split of a body; check the order of the events, and that an error is final."""
    outcome, start, content = Outcome(), None, bytearray()
    parser = None
    try:
        parser = FormParser.of("multipart/form-data; boundary=XbX", declared, limits)
        for piece in body:
            for event in parser.receive(piece):
                match event:
                    case Field():
                        assert start is None, "a field comes inside a file"
                        outcome.items.append(event)
                    case FileStart():
                        assert start is None, "a file comes inside a file"
                        start, content = event, bytearray()
                    case FileChunk():
                        assert start, "a chunk comes outside a file"
                        assert event.data, "a chunk is empty"
                        content += event.data
                    case FileEnd():
                        assert start, "an end comes outside a file"
                        assert event.size == len(content), "the size is not that of the chunks"
                        outcome.items.append((start, bytes(content)))
                        start = None
        parser.finish()
        assert start is None, "the form is complete, but a file is not"
    except UploadError as error:
        outcome.error = type(error), error.detail
        if parser:
            assert_dead(parser, error)
    outcome.cut = bytes(content) if start else b""
    return outcome


def assert_dead(parser: FormParser, error: UploadError) -> None:
    """Check that the parser raises its error again."""
    try:
        list(parser.receive(b"x"))
    except UploadError as again:
        assert again is error, "the second error is another one"
    else:
        raise AssertionError("the parser works after an error")


def check_bytes(body: bytes, outcome: Outcome, limits: Limits) -> None:
    """Compare the bytes of an accepted form with an independent reading."""
    parts = read_whole(body)
    assert len(parts) <= limits.form_parts, "the form has more parts than its limit"
    text_bytes = sum(len(item.value) for item in outcome.items if isinstance(item, Field))
    assert text_bytes <= limits.field_bytes, "the fields are larger than their limit"
    if b"content-transfer-encoding" in body.lower() or b"charset" in body.lower():
        return  # the targets of encodings and of heads read those
    items = [item for item in outcome.items if (item.value if isinstance(item, Field) else item[1])]
    contents = [content for _, content in parts if content]
    for item, content in zip(items, contents, strict=True):
        expected = content.decode("utf-8", "replace") if isinstance(item, Field) else content
        assert (item.value if isinstance(item, Field) else item[1]) == expected, "the bytes are not those of the body"


def read_whole(body: bytes) -> list[tuple[bytes, bytes]]:
    """Return head and bytes of each part of an accepted form, line by line."""
    parts: list[list[list[bytes]]] = []
    section: list[bytes] = []
    before = b"\r\n"
    for line in re.findall(rb"[^\n]*\n|[^\n]+", body):
        in_head = bool(parts) and section is parts[-1][0]
        if in_head and line == b"\r\n":
            section, before = parts[-1][1], b"\r\n"
            continue
        if not in_head and is_delimiter(line, before):
            if line.startswith(DELIMITER + b"--"):
                break
            section = []
            parts.append([section, []])
            continue
        section.append(line)
        before = line
    return [(b"".join(head), without_last_line_end(b"".join(content))) for head, content in parts]


def is_delimiter(line: bytes, before: bytes) -> bool:
    """Return whether a line ends a part; after a bare LF it must be one from its beginning to its end."""
    rest = line.removeprefix(DELIMITER)
    whole = before.endswith(b"\r\n") or rest.startswith(b"--") or _PADDING.fullmatch(rest)
    return len(rest) < len(line) and bool(whole)


def without_last_line_end(content: bytes) -> bytes:
    """Remove the line end that belongs to the next delimiter."""
    return content.removesuffix(b"\n").removesuffix(b"\r")
