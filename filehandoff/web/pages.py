"""The pages for a browser's plain HTML form: receipts, and a problem.

A form post is a navigation: the browser shows its response. So a stored upload responds with 303 (RFC 9110, section
15.4.4) to `receipts_path`. That page can be reloaded, since its receipts come from the objects' heads in S3.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC
from html import escape
from typing import Self
from urllib.parse import quote

from filehandoff.http import CACHE_CONTROL, ObjectInfo
from filehandoff.keys import decode_name
from filehandoff.receipt import FILENAME_METADATA, REQUEST_ID_METADATA

#: Bytes of the address of a page of receipts; gunicorn accepts request lines of at most 4,094.
MAX_PATH_BYTES = 3500
#: Receipts on a page; each takes a request to S3.
MAX_RECEIPTS = 20

_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  max-width: 48rem; margin: 2rem auto; padding: 0 1rem; background: #f6f6f3; color: #1b1d21; }
h1 { line-height: 1.15; letter-spacing: -.02em; }
a { color: #2458c6; }
dl { padding: 1rem 1.2rem; background: #fff; border: 1px solid #dcdcd5; border-radius: 12px; }
dt { color: #565c66; font-size: .9rem; }
dd { margin: 0 0 .5rem; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) {
  body { background: #121417; color: #e7e9ec; }
  a { color: #8ab4ff; }
  dl { background: #1a1d22; border-color: #30353d; }
  dt { color: #a4acb8; }
}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")
#: The headers of each page: it loads and runs nothing; its only style is allowed by its hash (CSP3, section 8.4).
PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": CACHE_CONTROL,
    "Vary": "Accept",
}


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """The receipt of an object, read from its head in S3.

    `url` is the object's address, `size` is in bytes, `etag` is S3's without quotes, `stored_at` is a time of RFC 3339,
    and `request_id` is the id of the request that stored the object.
    """

    key: str
    url: str
    filename: str
    content_type: str
    size: int
    etag: str
    stored_at: str | None
    request_id: str

    @classmethod
    def of(cls, key: str, info: ObjectInfo, url: str) -> Self:
        """Read the receipt from the object's head in S3."""
        modified = info.modified.astimezone(UTC).isoformat(timespec="seconds") if info.modified else None
        filename = decode_name(info.metadata.get(FILENAME_METADATA, "")) or ""
        request_id = info.metadata.get(REQUEST_ID_METADATA, "")
        return cls(key, url, filename, info.content_type, info.length, info.etag.strip('"'), modified, request_id)

    def as_json(self) -> dict[str, str | int | None]:
        """Return the receipt's members for JSON."""
        return asdict(self)


def receipts_path(root_path: str, keys: Sequence[str]) -> str:
    """Return the address of these objects' receipts; of the first ones, if too long."""
    path = f"{root_path}/receipts?key={quote(keys[0])}"
    for number, key in enumerate(keys[1:], 1):
        longer = f"{path}&key={quote(key)}"
        if number == MAX_RECEIPTS or len(longer) > MAX_PATH_BYTES:
            return f"{path}&more={len(keys) - number}"
        path = longer
    return path


def receipts_page(receipts: Sequence[StoredReceipt], more: int) -> str:
    """Return the page of these receipts; `more` files stored with them are not shown."""
    shown = "".join(_receipt(receipt) for receipt in receipts)
    rest = f"<p>{more} more files were stored with these.</p>" if more else ""
    return _page("Stored", shown + rest)


def problem_page(problem: Mapping[str, str | int]) -> str:
    """Return the page of a problem, from the members of its problem details."""
    facts = {"Status": problem["status"], "Code": problem["code"], "Request id": problem["request_id"]}
    return _page(str(problem["title"]), f"<p>{escape(str(problem['detail']))}</p>{_facts(facts)}")


def _receipt(receipt: StoredReceipt) -> str:
    name = escape(receipt.filename or receipt.key.rpartition("/")[2])
    facts = {
        "Size": f"{receipt.size:,} bytes",
        "Type": receipt.content_type,
        "Stored at": receipt.stored_at or "unknown",
        "Key": receipt.key,
        "ETag": receipt.etag,
        "Request id": receipt.request_id,
    }
    return f'<h2><a href="{escape(receipt.url)}">{name}</a></h2>{_facts(facts)}'


def _facts(facts: Mapping[str, str | int]) -> str:
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{escape(str(value))}</dd>' for name, value in facts.items())}</dl>"


def _page(title: str, body: str) -> str:
    title = escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>"
    )
