"""Decode the `Content-Transfer-Encoding` of a part while its bytes arrive (RFC 2045, section 6).

RFC 7578, section 4.7, deprecates the header, but clients still send it (`curl -F 'file=@x;encoder=base64'`).
Without decoding, the stored text would not be the file.
"""

import binascii
import re
from collections.abc import Iterator
from typing import Protocol

from filehandoff.errors import FormMalformed

_AS_IT_IS = frozenset({"", "7bit", "8bit", "binary"})
_GROUPS = re.compile(rb"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}(?:[A-Za-z0-9+/]=|==))?")

#: Bytes of white space at a line's end, generously: a line of quoted-printable has at most 76 characters.
_MAX_WHITE_SPACE = 1024
_LINE_END = rb"[ \t]{0,%d}+\r?\n" % _MAX_WHITE_SPACE
_ESCAPE = re.compile(rb"=([0-9A-Fa-f]{2})|=%b|(?<![ \t])[ \t]++(?=\r?\n)" % _LINE_END)
_NO_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|%b)|(?<![ \t])[ \t]{%d}" % (_LINE_END, _MAX_WHITE_SPACE + 1))
_CUT_HEX = re.compile(rb"=[0-9A-Fa-f]")


class Decoder(Protocol):
    """A decoder of one encoding; raises FormMalformed for bytes outside that encoding."""

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Take the next encoded bytes; yield those before the first wrong one, then raise."""

    def finish(self) -> bytes:
        """Return the last bytes; raise if they are cut short."""


def decoder(name: str, part: int) -> Decoder | None:
    """Return the decoder for a part's `Content-Transfer-Encoding`; None for unencoded bytes.

    Raises:
        FormMalformed: the encoding is unknown.
    """
    known = name.strip(" \t").lower()
    if known == "base64":
        return Base64(part)
    if known == "quoted-printable":
        return QuotedPrintable(part)
    if known not in _AS_IT_IS:
        raise FormMalformed(
            f"Part {part} has the Content-Transfer-Encoding {name.strip()[:40]!r}; send the file unencoded."
        )
    return None


class Base64:
    """Base64 with white space and line ends anywhere, but no other characters outside its alphabet."""

    def __init__(self, part: int) -> None:
        self._part = part
        self._rest = b""
        self._ended = False

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Decode all complete groups of four characters."""
        text = self._rest + chunk.translate(None, b" \t\r\n")
        if text and self._ended:
            raise self._broken()
        whole = len(text) - len(text) % 4
        self._rest = text[whole:]
        try:
            decoded = binascii.a2b_base64(text[:whole], strict_mode=True)
        except binascii.Error:
            yield binascii.a2b_base64(_GROUPS.match(text)[0])  # type: ignore[index] # the pattern matches an empty string too
            raise self._broken() from None
        self._ended |= text.endswith(b"=", 0, whole)
        yield decoded
        if self._ended and self._rest:
            raise self._broken()

    def finish(self) -> bytes:
        """Check that no group of four is incomplete."""
        if self._rest:
            raise self._broken()
        return b""

    def _broken(self) -> FormMalformed:
        return FormMalformed(f"Part {self._part} is not valid base64, despite its Content-Transfer-Encoding.")


class QuotedPrintable:
    """Quoted-printable: decodes escapes and soft line breaks, removes white space at a line's end."""

    def __init__(self, part: int) -> None:
        self._part = part
        self._rest = b""

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Decode all bytes whose meaning does not depend on the following ones."""
        text = self._rest + chunk
        end = self._certain(text)
        self._rest = text[end:]
        wrong = _NO_ESCAPE.search(text, 0, end)
        yield _ESCAPE.sub(_unescape, text[: wrong.start() if wrong else end])
        if wrong or len(self._rest.strip(b"=\r")) > _MAX_WHITE_SPACE:
            raise self._broken()

    def _certain(self, text: bytes) -> int:
        """Return the start of trailing bytes whose meaning depends on the following ones.

        These may be half an escape, or white space before a line end.
        """
        if _CUT_HEX.fullmatch(text, max(0, len(text) - 2)):
            return len(text) - 2
        end = len(text.removesuffix(b"\r").rstrip(b" \t"))
        return end - 1 if text.endswith(b"=", 0, end) else end

    def finish(self) -> bytes:
        """Return the last bytes.

        The line end of a final soft line break may belong to the delimiter.
        """
        rest = self._rest.rstrip(b" \t")
        if rest not in {b"", b"\r", b"="}:
            raise self._broken()
        return rest.strip(b"=")

    def _broken(self) -> FormMalformed:
        return FormMalformed(f"Part {self._part} is not valid quoted-printable, despite its Content-Transfer-Encoding.")


def _unescape(found: re.Match[bytes]) -> bytes:
    return bytes.fromhex(found[1].decode("ascii")) if found[1] else b""
