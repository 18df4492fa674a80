"""Object keys that filenames cannot manipulate: `<prefix><yyyy>/<mm>/<dd>/<uuid7>/<safe name>`.

The prefix may hold `{user}`, the part of the key space of one sender.
"""

import hashlib
import os
import re
import time
from datetime import UTC, datetime
from itertools import accumulate
from urllib.parse import quote, unquote
from uuid import UUID

_MAX_NAME_BYTES = 100
_SEPARATORS = re.compile(r"[/\\]")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
#: The form of a key without its prefix.
KEY_PATTERN = rf"\d{{4}}/\d{{2}}/\d{{2}}/{_UUID7}/(?![._]+$)[A-Za-z0-9._-]{{1,100}}"
_KEY = re.compile(KEY_PATTERN, re.ASCII)

#: Characters that make a name look like another, or control the terminal or page that shows it: controls (Cc), marks
#: and embeddings of text direction (Unicode's Bidi_Control), the deprecated format controls beside them, line and
#: paragraph separators, and lone surrogates, which no encoding has. The joiners U+200C and U+200D stay: Persian words
#: and composed emoji need them, and they reorder no text.
_DECEPTIVE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")

#: Characters that an extended value has unencoded (`attr-char` of RFC 8187, section 3.2.1).
_ATTR_CHARS = "!#$&+-.^_`|~"
_CHARSET = "UTF-8''"
#: Bytes of an encoded filename without its charset; S3 allows 2 KB for all of an object's user metadata.
_MAX_QUOTED_NAME = 1408 - len(_CHARSET)

#: Stands for the sender's segment in `UPLOAD_KEY_PREFIX`.
USER = "{user}"
_MAX_USER_BYTES = 100
_USER_PATTERN = rf"[A-Za-z0-9._-]{{1,{_MAX_USER_BYTES}}}"
_UNSAFE_IN_USER = re.compile(rb"^\.|[^A-Za-z0-9.-]")


def uuid7(milliseconds: int, entropy: bytes) -> UUID:
    """Make a version 7 UUID (RFC 9562, section 5.7) of milliseconds and ten random bytes."""
    value = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(entropy[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def clean_name(filename: str) -> str:
    """Remove the characters that deceive a filename's readers, before any other use.

    With U+202E before its last seven letters, `invoicegpj.exe` looks like `invoiceexe.jpg` (compare CVE-2021-42574).
    """
    return _DECEPTIVE.sub("", filename)


def safe_name(filename: str) -> str:
    """Reduce a filename's last segment to `[A-Za-z0-9._-]` and 100 bytes; never empty, never dots alone.

    A long name loses its beginning, because the end has the extension.
    """
    name = _UNSAFE.sub("_", _last_segment(filename))[-_MAX_NAME_BYTES:]
    return name if name.strip("._") else "file"


def new_key(prefix: str, filename: str) -> str:
    """Return a new, unique key for a file of this name that arrives now."""
    milliseconds = time.time_ns() // 1_000_000
    # each upload formats dates, and strftime takes several times as long as isoformat
    day = datetime.fromtimestamp(milliseconds / 1000, UTC).date().isoformat().replace("-", "/")
    return f"{prefix}{day}/{uuid7(milliseconds, os.urandom(10))}/{safe_name(filename)}"


def user_segment(name: str) -> str:
    """Encode a sender's name as one segment of a key: `_` and two hex digits for each unsafe byte.

    No two names have the same segment. A long name becomes `_-` and its SHA-256, which no encoded name begins with.
    """
    encoded = _UNSAFE_IN_USER.sub(lambda byte: b"_%02x" % byte[0][0], name.encode()).decode("ascii")
    if len(encoded) <= _MAX_USER_BYTES:
        return encoded
    return f"_-{hashlib.sha256(name.encode()).hexdigest()}"


def prefix_of(prefix: str, user: str) -> str:
    """Return the prefix of the keys of a sender of this name."""
    return prefix.replace(USER, user_segment(user)) if USER in prefix else prefix


def common_prefix(prefix: str) -> str:
    """Return the beginning of the keys of all senders."""
    return prefix.partition(USER)[0]


def is_anyones_key(prefix: str, key: str) -> bool:
    """Whether this has the form of a key of any sender."""
    pattern = _USER_PATTERN.join(re.escape(part) for part in prefix.split(USER))
    return re.fullmatch(pattern + KEY_PATTERN, key, re.ASCII) is not None


def is_key(prefix: str, key: str) -> bool:
    """Whether this has the form of a key; the routes reach no other object."""
    return key.startswith(prefix) and _KEY.fullmatch(key[len(prefix) :]) is not None


def is_id(text: str) -> bool:
    """Whether this has the form of the UUID in a key."""
    return re.fullmatch(_UUID7, text, re.ASCII) is not None


def id_of(key: str) -> str:
    """Return the UUID in a key, which no other key has."""
    return key.split("/")[-2]


def encode_name(filename: str) -> str:
    """Encode a filename as an extended value (RFC 8187), for S3's ASCII metadata.

    A name that is too long for S3's 2 KB of metadata is cut after a whole character.
    """
    encoded = _quoted(filename)
    if len(encoded) > _MAX_QUOTED_NAME:
        ends = accumulate(len(_quoted(character)) for character in filename)
        encoded = _quoted(filename[: sum(end <= _MAX_QUOTED_NAME for end in ends)])
    return f"{_CHARSET}{encoded}"


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "replace"), safe=_ATTR_CHARS)


def decode_name(value: str) -> str | None:
    """Decode a filename from an extended value; None for other values of S3's direct clients."""
    charset, _, encoded = value.partition("''")
    return clean_name(unquote(encoded)) if charset.upper() == "UTF-8" and encoded else None


def content_disposition(filename: str | None, key: str) -> str:
    """Return a download's `Content-Disposition` (RFC 6266): an attachment with plain and original name.

    The plain name comes first, for recipients that support no other (RFC 6266, appendix D). Of a path, which browsers
    send for a folder, only the last segment is a name, and dots alone are no name: section 4.3 leaves this to the
    recipient, and some recipients do not check.
    """
    plain = f'attachment; filename="{key.rpartition("/")[2]}"'
    name = _last_segment(filename or "")
    return f"{plain}; filename*={encode_name(name)}" if name.strip(".") else plain


def _last_segment(filename: str) -> str:
    return _SEPARATORS.split(filename)[-1]
