"""The `Content-Transfer-Encoding` of a part, undone while its bytes arrive (RFC 2045, section 6).

RFC 7578, section 4.7, deprecates the header, and clients still send it (`curl -F 'file=@x;encoder=base64'`): the
encoded text is not the file.
"""

import binascii
import re
from collections.abc import Iterator
from typing import Protocol

from filehandoff.errors import FormMalformed

_AS_IT_IS = frozenset({"", "7bit", "8bit", "binary"})
_GROUPS = re.compile(rb"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}(?:[A-Za-z0-9+/]=|==))?")

#: Bytes of white space at a line's end; a line of quoted-printable has at most 76 characters.
_MAX_WHITE_SPACE = 1024
_LINE_END = rb"[ \t]{0,%d}+\r?\n" % _MAX_WHITE_SPACE
_ESCAPE = re.compile(rb"=([0-9A-Fa-f]{2})|=%b|(?<![ \t])[ \t]++(?=\r?\n)" % _LINE_END)
_NO_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|%b)|[ \t]{%d}" % (_LINE_END, _MAX_WHITE_SPACE + 1))
_CUT_HEX = re.compile(rb"=[0-9A-Fa-f]")


class Decoder(Protocol):
    """Undoes one encoding: encoded bytes in, the decoded ones out; raises FormMalformed for any that are not of it."""

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Take the next encoded bytes; those before the first wrong one are decoded before the error is raised."""

    def finish(self) -> bytes:
        """Return the last bytes; they may be cut short."""


def decoder(name: str, part: int) -> Decoder | None:
    """The decoder for a part's `Content-Transfer-Encoding`, None for bytes that are sent as they are.

    Raises:
        FormMalformed: the encoding is another one.
    """
    known = name.strip(" \t").lower()
    if known == "base64":
        return Base64(part)
    if known == "quoted-printable":
        return QuotedPrintable(part)
    if known not in _AS_IT_IS:
        raise FormMalformed(
            f"Part {part} has the Content-Transfer-Encoding {name.strip()[:40]!r}; send the file as it is."
        )
    return None


class Base64:
    """Base64 with white space and line ends anywhere, and nothing else that is not of its alphabet."""

    def __init__(self, part: int) -> None:
        self._part = part
        self._rest = b""
        self._ended = False

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Decode all whole groups of four characters."""
        text = self._rest + chunk.translate(None, b" \t\r\n")
        if text and self._ended:
            raise self._broken()
        whole = len(text) - len(text) % 4
        self._rest = text[whole:]
        try:
            decoded = binascii.a2b_base64(text[:whole], strict_mode=True)
        except binascii.Error:
            yield binascii.a2b_base64(_GROUPS.match(text)[0])  # type: ignore[index] # it matches nothing as well
            raise self._broken() from None
        self._ended = text.endswith(b"=", 0, whole)
        yield decoded

    def finish(self) -> bytes:
        """Check that no group of four is cut."""
        if self._rest:
            raise self._broken()
        return b""

    def _broken(self) -> FormMalformed:
        return FormMalformed(f"Part {self._part} is not the base64 that its Content-Transfer-Encoding names.")


class QuotedPrintable:
    """Quoted-printable: escapes, soft line breaks, and no white space at a line's end."""

    def __init__(self, part: int) -> None:
        self._part = part
        self._rest = b""

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Decode all that the next bytes cannot change."""
        text = self._rest + chunk
        end = self._certain(text)
        self._rest = text[end:]
        wrong = _NO_ESCAPE.search(text, 0, end)
        yield _ESCAPE.sub(_unescape, text[: wrong.start() if wrong else end])
        if wrong or len(self._rest.strip(b"=\r")) > _MAX_WHITE_SPACE:
            raise self._broken()

    def _certain(self, text: bytes) -> int:
        """Where the bytes at the end begin that may be half an escape, or white space that a line end takes away."""
        if _CUT_HEX.fullmatch(text, max(0, len(text) - 2)):
            return len(text) - 2
        end = len(text.removesuffix(b"\r").rstrip(b" \t"))
        return end - 1 if text.endswith(b"=", 0, end) else end

    def finish(self) -> bytes:
        """Return the last bytes; a soft line break at the end may lack its line end, which is the delimiter's."""
        rest = self._rest.rstrip(b" \t")
        if rest not in {b"", b"\r", b"="}:
            raise self._broken()
        return rest.strip(b"=")

    def _broken(self) -> FormMalformed:
        return FormMalformed(f"Part {self._part} is not the quoted-printable that its Content-Transfer-Encoding names.")


def _unescape(found: re.Match[bytes]) -> bytes:
    return bytes.fromhex(found[1].decode("ascii")) if found[1] else b""
