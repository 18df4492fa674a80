"""Transfer encodings: the bytes do not depend on the split, and are those of the standard library."""

import base64
import re
from collections.abc import Iterable

from fuzz.inputs import expanded, fields, pieces

from filehandoff.errors import FormMalformed
from filehandoff.transfer import decoder

WORDS = (b"=\r\n", b"=\n", b"=3D", b"= \t\r\n", b" \r\n", b"aGVs", b"bG8=", b"bA==", b"\xff\x2d ", b"\xff\xff\t", b"\r")
_LINE = re.compile(rb"[^\n]+\n?|\n")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")


def check(data: bytes) -> None:
    """Decode a body whole and in pieces."""
    options, body = fields(data, 2)
    name = "base64" if options[:1] == b"b" else "quoted-printable"
    body = expanded(body)
    whole = decode(name, [body])
    assert decode(name, pieces(body, options[1:])) == whole, "another split causes other bytes"
    if name == "base64":
        check_base64(body, whole)
    elif whole is not None:
        check_quoted(body, whole)


def decode(name: str, body: Iterable[bytes]) -> bytes | None:
    """Return the decoded bytes; None for malformed ones."""
    reader = decoder(name, 1)
    assert reader
    content = b""
    try:
        for piece in body:
            content += b"".join(reader.decode(piece))
        return content + reader.finish()
    except FormMalformed:
        return None


def check_base64(body: bytes, found: bytes | None) -> None:
    """Compare with a strict reading without white space."""
    try:
        expected = base64.b64decode(body.translate(None, b" \t\r\n"), validate=True)
    except ValueError:
        expected = None
    assert found == expected, "the bytes are not those of base64"


def check_quoted(body: bytes, found: bytes) -> None:
    """Compare with a reading line by line."""
    expected = b"".join(quoted_line(line) for line in _LINE.findall(body))
    assert found == expected, "the bytes are not those of quoted-printable"


def quoted_line(line: bytes) -> bytes:
    """Decode one line of quoted-printable."""
    text = line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line
    end = line[len(text) :]
    text = text.rstrip(b" \t")
    if text.endswith(b"="):
        text, end = text[:-1], b""
    return _HEX.sub(lambda found: bytes([int(found[1], 16)]), text) + end
