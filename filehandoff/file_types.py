"""The type of a file by its first bytes: which types are stored, and under which name.

`FirstBytes` collects them, `FileTypes` decides. The signatures are those of the library puremagic. Its names of types
are many for one format, so `NAMES` and `PREFIXES` choose one for each, and all other signatures count as unknown.
Markup and text have no signature: the rules for them follow https://mimesniff.spec.whatwg.org/, on the safe side.
"""

import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from dataclasses import dataclass

from filehandoff.errors import SettingsError, TypeNotAllowed

#: Bytes that decide a type; more than each signature needs, and enough to find the root of most SVG images.
HEAD_BYTES = 4096
UNKNOWN = "application/octet-stream"
TEXT = "text/plain"
HTML, SVG, XML = "text/html", "image/svg+xml", "application/xml"
#: Types that a wildcard such as `image/*` does not admit: a browser may run their scripts, or they may be programs.
ONLY_BY_NAME = frozenset({HTML, SVG, XML, UNKNOWN})

#: Signatures at the start for which the library has several names, another name, or no name.
PREFIXES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"PK\x03\x04": "application/zip",
    b"PK\x05\x06": "application/zip",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "application/x-ole-storage",
    b"OggS": "application/ogg",
    b"\xff\xf1": "audio/aac",
    b"\xff\xf9": "audio/aac",
    b"wOFF": "font/woff",
    b"MZ": UNKNOWN,  # programs, even with another signature behind the first bytes
    b"\x7fELF": UNKNOWN,
}
#: Types by the four bytes that name a format within RIFF.
RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
#: Types by the major brand of an ISO media file; the library knows few of them. All other brands are videos.
BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "image/heif"),
    **dict.fromkeys((b"3gp4", b"3gp5", b"3gp6", b"3g2a"), "video/3gpp"),
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"crx ": UNKNOWN,  # raw pictures of a camera
}
MP4, MATROSKA, WEBM = "video/mp4", "video/x-matroska", "video/webm"
#: Names in the library and of clients, and the name that is found.
NAMES = {
    **{f"image/{name}": f"image/{name}" for name in ("png", "gif", "tiff", "bmp", "jxl", "jp2")},
    "image/x-ms-bmp": "image/bmp",
    "image/x-icon": "image/vnd.microsoft.icon",
    "image/vnd.microsoft.icon": "image/vnd.microsoft.icon",
    "image/vnd.adobe.photoshop": "image/vnd.adobe.photoshop",
    "video/mpeg": "video/mpeg",
    **{f"audio/{name}": f"audio/{name}" for name in ("mpeg", "flac", "aiff", "midi")},
    "audio/x-aiff": "audio/aiff",
    "audio/x-midi": "audio/midi",
    "audio/mid": "audio/midi",
    **{f"application/{name}": f"application/{name}" for name in ("pdf", "rtf", "postscript", "gzip", "zstd", "x-tar")},
    "application/x-gzip": "application/gzip",
    "application/x-7z-compressed": "application/x-7z-compressed",
    "application/x-rar-compressed": "application/vnd.rar",
    "application/vnd.rar": "application/vnd.rar",
    "application/x-bzip2": "application/x-bzip2",
    "application/x-xz": "application/x-xz",
    "application/x-sqlite3": "application/x-sqlite3",
    "font/woff2": "font/woff2",
}
#: More names that only clients use.
ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/heic": "image/heif",
    "video/avi": "video/x-msvideo",
    "video/x-m4v": MP4,
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/x-m4a": "audio/mp4",
    "audio/x-flac": "audio/flac",
    "application/x-rar": "application/vnd.rar",
    "text/xml": XML,
    "application/x-zip-compressed": "application/zip",
    "audio/mp3": "audio/mpeg",
}
#: All types that can be found.
FINDABLE = frozenset(
    {name for table in (NAMES, PREFIXES, RIFF, BRANDS) for name in table.values()}
    | {MP4, MATROSKA, WEBM, TEXT, *ONLY_BY_NAME}
)
#: Formats whose files may consist of text alone.
_TEXTUAL = frozenset({"application/pdf", "application/rtf", "application/postscript"})
#: Types of which other types are special cases, such as Office's of ZIP: the client's name for those is kept.
_GENERAL = frozenset({UNKNOWN, TEXT, XML, "application/zip", "application/x-ole-storage", "application/ogg"})

_BINARY = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_TAG = re.compile(r"\s*<[a-z!?/]", re.IGNORECASE)
_HTML = re.compile(
    r"\s*<(?:!doctype\s+html|(?:html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p)(?=[\s>/]))",
    re.IGNORECASE,
)
_SVG = re.compile(r"<(?:[\w.-]+:)?svg[\s>/]", re.IGNORECASE)
_PATTERN = re.compile(r"[a-z]+/(?:\*|[a-z0-9][a-z0-9.+-]*)")


@dataclass(frozen=True, slots=True)
class Signature:
    """Bytes at an offset in a file that show its type."""

    offset: int
    expected: bytes
    name: str


class FirstBytes:
    """The first bytes of a file, at most `HEAD_BYTES`, while its chunks arrive."""

    def __init__(self) -> None:
        self._head = bytearray()

    def receive(self, chunk: bytes) -> bytes:
        """Copy the missing bytes of the next chunk, and return the chunk."""
        self._head += chunk[: HEAD_BYTES - len(self._head)]
        return chunk

    @property
    def are_complete(self) -> bool:
        """Whether no more bytes are needed; the end of a smaller file completes them too."""
        return len(self._head) == HEAD_BYTES

    def __bytes__(self) -> bytes:
        return bytes(self._head)


class FileTypes:
    """The types that one app stores.

    Args:
        allowed: the types and wildcards that `objection` accepts; all types if empty.
        store_found: whether the found type replaces a declared one that contradicts it.

    Raises:
        SettingsError: the library is not installed.
    """

    def __init__(self, allowed: Sequence[str], *, store_found: bool) -> None:
        self._allowed = tuple(map(_canonical, allowed))
        self._store_found = store_found
        try:
            self._signatures = signatures()
        except ImportError:
            setting = ("UPLOAD_ALLOWED_TYPES", ", ".join(allowed)) if allowed else ("UPLOAD_STORE_FOUND_TYPE", "on")
            wanted = "empty without the library puremagic, which the extra 'types' of this package installs"
            raise SettingsError(*setting, wanted) from None

    def check(self, declared: str, head: bytes) -> str:
        """Return the content type to store a file with, by its declared type and its first bytes.

        Raises:
            TypeNotAllowed: the found type is not allowed, or the file is empty.
        """
        found = find(head, self._signatures)
        if self._allowed and not any(_admits(one, found) for one in self._allowed):
            what = f"The file is {found} by its first bytes" if found else "The file is empty, so it has no type"
            by_name = ", which no wildcard includes" if found in ONLY_BY_NAME else ""
            raise TypeNotAllowed(f"{what}{by_name}; allowed are {', '.join(self._allowed)}.")
        return found if self._store_found and contradicts(declared, found) else declared

    def check_stored(self, declared: str, head: bytes) -> None:
        """Check an object that its client has stored with the declared type, which the app cannot change.

        Raises:
            TypeNotAllowed: the found type is not allowed, or differs from a declared type that says anything.
        """
        stored = self.check(declared, head)
        if stored != declared and media_type(declared) != UNKNOWN:
            raise TypeNotAllowed(f"The object is {stored} by its first bytes, but {declared} was declared.")


def find(head: bytes, known: Sequence[Signature]) -> str:
    """Return the type of a file with these first bytes; an empty string for an empty file."""
    if not head:
        return ""
    text = _decoded(head)
    if _TAG.match(text):
        return _markup(text)
    is_text = not _BINARY.search(text)
    if not is_text and (name := _container(head) or _prefix(head)):
        return name
    for one in known:
        if head.startswith(one.expected, one.offset) and (not is_text or (one.name in _TEXTUAL and not one.offset)):
            return one.name
    return TEXT if is_text else UNKNOWN


def _prefix(head: bytes) -> str | None:
    return next((name for start, name in PREFIXES.items() if head.startswith(start)), None)


def _container(head: bytes) -> str | None:
    """Return the type that a file's container names; None for a file without one."""
    if head.startswith(b"RIFF"):
        return RIFF.get(head[8:12], UNKNOWN)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return WEBM if b"webm" in head[:64] else MATROSKA
    if head[4:8] == b"ftyp" and head.startswith(b"\0\0"):  # a box of less than 64 KiB
        brand = head[8:12]
        return "image/avif" if brand == b"mif1" and b"avif" in head[16:64] else BRANDS.get(brand, MP4)
    return None


def _decoded(head: bytes) -> str:
    """Decode bytes as the text that they may be; any single-byte encoding does for tags and controls."""
    if head.startswith((BOM_UTF16_BE, BOM_UTF16_LE)):
        return head.decode("utf-16", "ignore")
    return head.removeprefix(BOM_UTF8).decode("latin-1")


def _markup(text: str) -> str:
    """Return the type of markup; a comment may hide any root, so it counts as HTML without an SVG image."""
    if _HTML.match(text):
        return HTML
    if _SVG.search(text):
        return SVG
    return HTML if text.lstrip().startswith("<!--") else XML


def contradicts(declared: str, found: str) -> bool:
    """Return whether a file of the found type cannot be of the declared one.

    A declared type that the first bytes cannot show contradicts no general one: a CSV file is text, and a DOCX file is
    a ZIP archive. Sound in a container for video, and unknown bytes that are not declared as text, are no
    contradiction either.
    """
    name = _canonical(media_type(declared))
    if name == found or not found:
        return False
    if found in _GENERAL:
        return name in FINDABLE or (found == UNKNOWN and name.startswith("text/"))
    return name.replace("audio/", "video/") != found


def media_type(content_type: str) -> str:
    """Return a content type without parameters, in lower case: proxies change both."""
    return content_type.partition(";")[0].strip().lower()


def objection(allowed: Sequence[str]) -> str:
    """Describe the valid list if an entry can admit no file; otherwise return an empty string."""
    for one in map(_canonical, allowed):
        if not _PATTERN.fullmatch(one):
            return "types such as image/png and wildcards such as image/*, with commas between them"
        if not any(_admits(one, found) for found in FINDABLE):
            return (
                f"without {one}, which no file's first bytes show (text such as CSV is {TEXT}, Office's formats are "
                f"application/zip); they show {', '.join(sorted(FINDABLE))}"
            )
    return ""


def _canonical(name: str) -> str:
    name = name.lower()
    return NAMES.get(name) or ALIASES.get(name, name)


def _admits(allowed: str, found: str) -> bool:
    if allowed.endswith("/*"):
        return found.startswith(allowed[:-1]) and found not in ONLY_BY_NAME
    return found == allowed


def signatures() -> "tuple[Signature, ...]":
    """Return the library's signatures of the types in `NAMES`, the longest first.

    Raises:
        ImportError: the library is not installed.
    """
    from puremagic.main import magic_header_array  # noqa: PLC0415 - only with a setting

    known = [(row.offset, row.byte_match, NAMES[row.mime_type]) for row in magic_header_array if row.mime_type in NAMES]
    return tuple(Signature(*one) for one in sorted(known, key=lambda one: len(one[1]), reverse=True))
