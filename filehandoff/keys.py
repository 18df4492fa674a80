"""Object keys that no filename can steer: `<prefix><yyyy>/<mm>/<dd>/<uuid7>/<safe name>`."""

import os
import re
import time
from datetime import UTC, datetime
from urllib.parse import quote, unquote
from uuid import UUID

_MAX_NAME_BYTES = 100
_SEPARATORS = re.compile(r"[/\\]")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
#: A key without its prefix.
KEY_PATTERN = rf"\d{{4}}/\d{{2}}/\d{{2}}/{_UUID7}/(?![._]+$)[A-Za-z0-9._-]{{1,100}}"
_KEY = re.compile(KEY_PATTERN, re.ASCII)

#: Characters that make a name read as another, or act on the terminal or the page that shows it: controls (Cc), marks
#: and embeddings of text direction (Unicode's Bidi_Control), the deprecated format controls beside them, line and
#: paragraph separators, and surrogates without a partner, which no encoding has. The joiners U+200C and U+200D stay:
#: Persian words and composed emoji need them, and they change the order of nothing.
_DECEPTIVE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")

#: What needs no percent sign in an extended value (`attr-char` of RFC 8187, section 3.2.1).
_ATTR_CHARS = "!#$&+-.^_`|~"
#: S3 gives all of an object's user metadata 2 KB; the name takes at most this much, encoded.
_MAX_ENCODED_NAME = 1536


def uuid7(milliseconds: int, entropy: bytes) -> UUID:
    """A version 7 UUID (RFC 9562, section 5.7) from a Unix time in milliseconds and ten random bytes."""
    value = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(entropy[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def clean_name(filename: str) -> str:
    """A filename without the characters that deceive its readers; to be applied before the name goes anywhere.

    With U+202E before its last seven letters, `invoicegpj.exe` is shown as `invoiceexe.jpg` (compare CVE-2021-42574).
    """
    return _DECEPTIVE.sub("", filename)


def safe_name(filename: str) -> str:
    """A filename's last segment in `[A-Za-z0-9._-]`, at most 100 bytes, never empty, never dots alone.

    The end is kept rather than the beginning, because it holds the extension.
    """
    name = _UNSAFE.sub("_", _last_segment(filename))[-_MAX_NAME_BYTES:]
    return name if name.strip("._") else "file"


def new_key(prefix: str, filename: str) -> str:
    """A key that was never used, for a file of this name that arrives now."""
    milliseconds = time.time_ns() // 1_000_000
    day = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return f"{prefix}{day:%Y/%m/%d}/{uuid7(milliseconds, os.urandom(10))}/{safe_name(filename)}"


def is_key(prefix: str, key: str) -> bool:
    """Whether this could be a key of ours: the routes reach no other object of the bucket."""
    return key.startswith(prefix) and _KEY.fullmatch(key[len(prefix) :]) is not None


def encode_name(filename: str) -> str:
    """A filename as an extended value (RFC 8187), for S3 metadata, which takes ASCII only.

    Cut at a whole character where it would not fit beside the rest in S3's 2 KB of metadata.
    """
    encoded = "UTF-8''"
    for character in filename:
        quoted = quote(character.encode("utf-8", "replace"), safe=_ATTR_CHARS)
        if len(encoded) + len(quoted) > _MAX_ENCODED_NAME:
            break
        encoded += quoted
    return encoded


def decode_name(value: str) -> str | None:
    """The filename of an extended value, None if it is not one of ours; clients of S3 itself may write it."""
    charset, _, encoded = value.partition("''")
    return clean_name(unquote(encoded)) if charset.upper() == "UTF-8" and encoded else None


def content_disposition(filename: str | None, key: str) -> str:
    """The `Content-Disposition` of a download (RFC 6266): never inline, a plain name and the original one.

    The plain name comes first, for those who know no other (RFC 6266, appendix D). Of a path, such as browsers send for
    a folder, only the last segment is a name, and dots alone are none: the recipient is to see to that (section 4.3),
    and not all do.
    """
    plain = f'attachment; filename="{key.rpartition("/")[2]}"'
    name = _last_segment(filename or "")
    return f"{plain}; filename*={encode_name(name)}" if name.strip(".") else plain


def _last_segment(filename: str) -> str:
    return _SEPARATORS.split(filename)[-1]
