"""Heads of parts: one documented error, and names that return from every way of writing them."""

import re
from urllib.parse import quote

from fuzz.inputs import fields, texts

from filehandoff.errors import FormMalformed
from filehandoff.keys import clean_name, safe_name
from filehandoff.part_head import PartHead, charset_of, known_charset, read_filename, read_parameters

WORDS = (
    b'Content-Disposition: form-data; name="a"',
    b'; filename="a.txt"',
    b"; filename*=UTF-8''",
    b"; filename*0*=utf-8''a; filename*1=b",
    b'; filename*0="a"; filename*1="b"',
    b"=?utf-8?B?w6k=?=",
    b"=?iso-8859-1?Q?=E9?=",
    b"%22",
    b"%0D%0A",
    b'\\"',
    b"\\\\",
    b"Content-Type: text/plain; charset=shift_jis",
    b"Content-Transfer-Encoding: base64",
    b"windows-1252",
    b"iso-2022-jp",
    b"utf-16",
    b"filename==",
)
#: Names that look like the escapes of some way of writing.
_ESCAPES = re.compile(r"%22|%0[aAdD]|\\|=\?")
_LINE = re.compile(r"[\r\n]")


def check(data: bytes) -> None:
    """Read the input as a head, and write it as a name."""
    charset, *lines = fields(data, 6, b"\n")
    known = known_charset(charset.decode("latin-1"))
    if known:
        b"caf\xe9\x82\xa0\x1b$B".decode(known, "replace")
    check_head([line for line in lines if line], known)
    check_headers(lines[0].decode("latin-1"))
    check_round_trips(texts(data, 2, b"\n")[1])


def check_head(lines: list[bytes], charset: str | None) -> None:
    """Check that a head is read or rejected, and that both take the same names from it."""
    try:
        head = PartHead.of(lines, 1, charset)
    except FormMalformed as error:
        assert error.detail, "the error says nothing"
        return
    assert head.name, "a part has no name"
    assert len(head.values("content-disposition")) == 1, "a part has several names"
    assert all(name == name.lower().strip() for name, _ in head.headers), "a header's name is not in its plain form"
    if head.filename is not None:
        assert b"filename" in b"".join(lines).lower(), "a file comes from no filename"
        assert safe_name(clean_name(head.filename)), "a file has no name for its key"


def check_headers(header: str) -> None:
    """Check that the functions for single headers raise their own errors only."""
    charset_of(header)
    try:
        read_parameters(header)
    except ValueError as error:
        assert type(error) is ValueError, "the error is another one"
    try:
        read_filename(header)
    except FormMalformed as error:
        assert error.detail, "the error says nothing"


def check_round_trips(name: str) -> None:
    """Check that a name returns from the forms that clients send."""
    if not name or (not name.isascii() and not _encodable(name)):
        return
    extended = f"form-data; name=\"x\"; filename*=UTF-8''{quote(name, safe='')}"
    assert read_filename(extended) == name, "a name changes in filename*"
    middle = len(name) // 2
    continued = (
        f"form-data; filename*0*=UTF-8''{quote(name[:middle], safe='')}; filename*1*={quote(name[middle:], safe='')}"
    )
    assert read_filename(continued) == name, "a name changes in filename*0* and filename*1*"
    if _ESCAPES.search(name):
        return
    browsers = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    line = f'Content-Disposition: form-data; name="x"; filename="{browsers}"'.encode()
    assert PartHead.of([line], 1, None).filename == name, "a name changes in a browser's form"
    if not _LINE.search(name):
        escaped = name.replace('"', '\\"')
        assert read_filename(f'form-data; filename="{escaped}"') == name, "a name changes with backslashes"


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
