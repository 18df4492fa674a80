"""Read the head of a form's part: its headers, and the names in its Content-Disposition.

RFC 7578, section 4.2, requires names in UTF-8 between quotes. Clients also send them without quotes, with quotes
inside, escaped by the HTML standard or by RFC 2616, in `filename*` (RFC 8187), as encoded words (RFC 2047) and in a
Windows code page. This module reads a name completely or rejects it; it never cuts one.
"""

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Self
from urllib.parse import quote, unquote, unquote_to_bytes

from filehandoff.errors import FormMalformed

#: Charsets that a client may name. Python's other codecs are no charsets, or cost more than they are worth.
_CHARSET = re.compile(
    r"utf-?8|utf-?16(?:[lb]e)?|(?:us-)?ascii|iso[-_]8859[-_]1?\d|latin-?\d|(?:windows-|cp)12\d\d|koi8-[ru]"
    r"|shift[-_]jis|euc-(?:jp|kr)|iso-2022-jp|gb(?:2312|k|18030)|big5"
)
DEFAULT_CHARSET = "utf-8"

#: Headers allowed once per part: of two, a proxy in front may read the other one.
ONLY_ONCE = ("content-disposition", "content-type", "content-transfer-encoding")

_NAME = re.compile(r"[ \t;]*([^\s;=\"]+)[ \t]*=[ \t]*")
_FOLLOWED = r'(?=[ \t]*(?:;[ \t;]*(?:[^\s;="]+[ \t]*=|$)|$))'
#: A quoted value: it ends at the first unescaped quote before another parameter or the end of the header.
_QUOTED = re.compile(r'"((?:\\["\\]|[^\\]|\\(?!["\\]))*?)"' + _FOLLOWED)
#: A quoted value with a backslash at its end, which browsers do not escape.
_QUOTED_BARELY = re.compile(r'"(.*?)"' + _FOLLOWED)
_ESCAPED = re.compile(r'\\(["\\])|%(22|0[AaDd])')
_EXTENDED = re.compile(r"([\w.:+-]*)'[\w-]*'(.*)", re.ASCII)
_ENCODED_WORDS = re.compile(r"(?:=\?[\w.*+-]+\?[BbQq]\?[^?\s]*\?=\s*)+", re.ASCII)


@dataclass(slots=True)
class PartHead:
    """A part's headers and names; `filename` is None for a part without a file.

    `headers` are pairs of a name in lower case and a decoded value.
    """

    name: str
    filename: str | None
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, lines: Iterable[bytes], part: int, charset: str | None) -> Self:
        """Read the head of part number `part`; `charset` is for names outside UTF-8.

        Raises:
            FormMalformed: the part has no name, or an ambiguous one.
        """
        try:
            headers = tuple(_headers([_text(line, charset) for line in lines]))
            once = {name: _only(headers, name) for name in ONLY_ONCE}
            kind, parameters = read_parameters(once["content-disposition"])
            if kind.lower() not in {"form-data", ""}:
                raise ValueError("is no 'form-data'")  # noqa: TRY301 - the handler below names the part
            name, filename = _named(parameters, "name"), _named(parameters, "filename")
        except ValueError as error:
            raise FormMalformed(f"The head of part {part} {error}.") from None
        if not name:
            raise FormMalformed(f"Part {part} has no name (RFC 7578, section 4.2).")
        return cls(name, filename, headers)

    def values(self, name: str) -> list[str]:
        """Return all values of a header; `name` is in lower case."""
        return [value for header, value in self.headers if header == name]

    def value(self, name: str) -> str:
        """Return the header's first value; empty if the part has no such header."""
        return next(iter(self.values(name)), "")


def _only(headers: Iterable[tuple[str, str]], name: str) -> str:
    values = [value for header, value in headers if header == name]
    if len(values) > 1:
        raise ValueError(f"has several {name.title()} headers")
    return values[0] if values else ""


def _headers(lines: list[str]) -> Iterator[tuple[str, str]]:
    unfolded: list[str] = []
    for line in lines:
        if line[0] not in " \t":
            unfolded.append(line)
        elif unfolded:
            unfolded[-1] += line
        else:
            raise ValueError("begins with white space")
    for line in unfolded:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ValueError("has a line that is no header")
        yield name.strip().lower(), value.strip(" \t")


def read_parameters(header: str) -> tuple[str, dict[str, str]]:
    """Split a header into its value before the first semicolon and its parameters.

    Raises:
        ValueError: a parameter is malformed, or occurs twice with different values.
    """
    value, _, rest = header.partition(";")
    parameters: dict[str, str] = {}
    quotings = [_QUOTED, _QUOTED_BARELY]
    at = 0
    while rest[at:].strip(" \t;"):
        name = _NAME.match(rest, at)
        if name is None:
            raise ValueError(f"has {rest[at:].strip(' ;')[:40]!r} in place of a parameter; put names in quotes")
        parameter, at = _value(rest, name.end(), quotings)
        if parameters.setdefault(name[1].lower(), parameter) != parameter:
            raise ValueError(f"has two parameters {name[1][:40]!r}")
    return value.strip(" \t"), parameters


def read_filename(disposition: str) -> str:
    """Read the filename from a request's own Content-Disposition; empty if it has none.

    Raises:
        FormMalformed: the header is malformed or ambiguous.
    """
    try:
        return _named(read_parameters(disposition)[1], "filename") or ""
    except ValueError as error:
        raise FormMalformed(f"The Content-Disposition {error}.") from None


def _value(text: str, at: int, quotings: list[re.Pattern[str]]) -> tuple[str, int]:
    """Read the parameter's value that begins at `at`; return it and its end.

    Removes a quoting that reaches the end of the text: it would do so for each later value, in quadratic time.
    """
    while quotings and text.startswith('"', at):
        if quoted := quotings[0].match(text, at):
            return quoted[1], quoted.end()
        del quotings[0]
    end = text.find(";", at)
    end = end if end >= 0 else len(text)
    value = text[at:end].strip(" \t")
    if value.endswith('"'):
        raise ValueError("has a quote out of place")
    return value, end


def _named(parameters: Mapping[str, str], name: str) -> str | None:
    """Return a name, preferably by its extended form (RFC 6266, section 4.3)."""
    plain, extended = parameters.get(name), parameters.get(f"{name}*") or _continued(parameters, name)
    if extended is None:
        return None if plain is None else _unescaped(plain)
    match = _EXTENDED.fullmatch(extended)
    if match and (charset := known_charset(match[1])):
        return unquote_to_bytes(match[2]).decode(charset, "replace")
    if plain is not None:
        return _unescaped(plain)
    return unquote_to_bytes(match[2] if match else extended).decode("utf-8", "replace")


def _continued(parameters: Mapping[str, str], name: str) -> str | None:
    """Join a name in several parameters, as mail clients send it (RFC 2231, section 3)."""
    pieces: list[str] = []
    while True:
        number = len(pieces)
        if (encoded := parameters.get(f"{name}*{number}*")) is not None:
            pieces.append(encoded)
        elif (plain := parameters.get(f"{name}*{number}")) is not None:
            pieces.append(quote(_unescaped(plain)))
        else:
            break
    if not pieces:
        return None
    return "".join(pieces) if f"{name}*0*" in parameters else f"utf-8''{''.join(pieces)}"


def _unescaped(value: str) -> str:
    """Decode the escapes of quoted strings and of the HTML standard, or .NET's encoded words."""
    value = _ESCAPED.sub(lambda found: found[1] or unquote(found[0]), value)
    if not _ENCODED_WORDS.fullmatch(value):
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeError):
        return value


def _text(line: bytes, charset: str | None) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode(charset or DEFAULT_CHARSET, "replace")


def known_charset(name: str) -> str | None:
    """Return the codec of this charset; None for an unsupported one."""
    name = name.strip().lower()
    try:
        return codecs.lookup(name).name if _CHARSET.fullmatch(name) else None
    except LookupError:
        return None


def charset_of(content_type: str) -> str | None:
    """Return the codec of a media type's charset; None without a supported one."""
    try:
        return known_charset(read_parameters(content_type)[1].get("charset", ""))
    except ValueError:
        return None
