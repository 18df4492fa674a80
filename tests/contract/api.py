"""An app as its clients see it: over HTTP only. It records every stored key."""

import hashlib
import ssl
import uuid
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import httpx
import pytest
from patience import KEPT_SECONDS, PATIENCE

BOUNDARY = "a-boundary-of-27-characters"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
CHUNK_BYTES = 64 * 1024
#: Made once, because httpx would read all certificates for each client, and each test has two.
TLS = ssl.create_default_context()
KEPT_SHORT = httpx.Limits(keepalive_expiry=KEPT_SECONDS)

#: The members of every receipt.
RECEIPT_MEMBERS = {
    *("key", "url", "filename", "content_type", "size", "sha256", "etag", "parts"),
    *("framework", "handoff", "hook", "request_id", "elapsed_ms"),
}
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "request_id"}


def part(name: str | None, data: bytes, filename: str | None = None, **headers: str) -> bytes:
    """One raw part of a form, without escaping; None omits the name."""
    disposition = "Content-Disposition: form-data"
    if name is not None:
        disposition += f'; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    lines = [disposition, *(f"{header.replace('_', '-')}: {value}" for header, value in headers.items())]
    head = "\r\n".join(lines).encode()
    return b"--" + BOUNDARY.encode() + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A form of raw parts."""
    return b"".join(parts) + b"--" + BOUNDARY.encode() + b"--\r\n"


def chunked(body: bytes) -> Iterator[bytes]:
    """A body without a declared length; httpx sends an iterator chunked."""
    return (body[start : start + CHUNK_BYTES] for start in range(0, len(body), CHUNK_BYTES))


class Api:
    """One app at its base URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stored: set[str] = set()
        self._http = httpx.Client(base_url=url, timeout=PATIENCE, verify=TLS, limits=KEPT_SHORT)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @cached_property
    def strategies(self) -> dict[str, Any]:
        """The app's /strategies."""
        return dict(self._http.get("/strategies").json())

    @property
    def framework(self) -> str:
        """The framework that the app reports."""
        return str(self.strategies["framework"])

    @property
    def limits(self) -> dict[str, int]:
        """The app's limits, in bytes and counts."""
        return dict(self.strategies["limits"])

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send any request; record the keys of a 201, and forget a deleted one."""
        answer = self._http.request(method, path, **options)
        self.remember(answer)
        if method == "DELETE" and answer.status_code == httpx.codes.NO_CONTENT:
            self.stored.discard(path.removeprefix("/objects/"))
        return answer

    def remember(self, answer: httpx.Response) -> None:
        """Record the keys of a 201's receipts; a 201 without receipts, or without a body, has stored nothing yet."""
        if answer.status_code == httpx.codes.CREATED and answer.content:
            self.stored |= {receipt["key"] for receipt in answer.json().get("receipts", [])}

    def upload(
        self,
        body: bytes | Iterable[bytes],
        path: str = "/uploads/read_early",
        headers: Mapping[str, str] | None = None,
        **params: str,
    ) -> httpx.Response:
        """POST a raw form."""
        return self.send(
            "POST", path, content=body, params=params, headers={"Content-Type": CONTENT_TYPE, **(headers or {})}
        )

    def upload_file(self, data: bytes, handoff: str = "read_early", hook: str = "bound") -> httpx.Response:
        """Send one file through a cell of the grid, with a new request id."""
        headers = {"X-Request-Id": f"contract-{uuid.uuid4().hex}"}
        if handoff == "presigned":
            given = self.presign(data, "a file.bin", "application/x-test", headers, hook=hook).json()
            self.send_to_s3(given, data)
            return self.send("POST", given["complete"], headers=headers)
        body = form(part("file", data, "a file.bin", Content_Type="application/x-test"))
        return self.upload(body, f"/uploads/{handoff}", headers, hook=hook)

    def presign(
        self,
        data: bytes,
        filename: str = "a file.bin",
        content_type: str = "application/x-test",
        headers: Mapping[str, str] | None = None,
        **params: str,
    ) -> httpx.Response:
        """Request the URLs to send a file to S3."""
        wanted = {
            "filename": filename,
            "content_type": content_type,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        answer = self.send("POST", "/uploads/presigned", json=wanted, params=params, headers=headers)
        assert answer.status_code == httpx.codes.CREATED, answer.text
        return answer

    def send_to_s3(self, given: Mapping[str, Any], data: bytes) -> None:
        """PUT a file to S3 by the given URLs, whole or part by part."""
        if "url" in given:
            self.put_to_s3(given["url"], data, given["headers"]).raise_for_status()
            return
        page: Mapping[str, Any] | None = given
        start = 0
        while page is not None:
            for one in page["parts"]:
                self.put_to_s3(one["url"], data[start : start + one["size"]]).raise_for_status()
                start += one["size"]
            page = self.send("GET", page["next"]).json() if page["next"] else None
        assert start == len(data)

    def put_to_s3(self, url: str, data: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """PUT bytes to S3 by plain HTTP."""
        return httpx.put(url, content=data, headers=headers, timeout=PATIENCE, verify=TLS)


def check_bytes(answer: httpx.Response, status: int, expected: bytes) -> None:
    """Assert that the answer has this status and exactly these bytes.

    Not a plain ``==``: with the environment variable CI set, pytest compares line by line, which takes minutes for half
    a megabyte.
    """
    assert answer.status_code == status, answer.text[:300]
    if (actual := answer.content) != expected:
        at = next((n for n, (a, b) in enumerate(zip(actual, expected, strict=False)) if a != b), None)
        where = "one is the beginning of the other" if at is None else f"they differ first at byte {at}"
        pytest.fail(f"{len(actual)} bytes were answered instead of {len(expected)}, and {where}")


def check_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Assert that the answer is this problem, complete and well-formed (RFC 9457)."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text[:300]
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert set(problem) == PROBLEM_MEMBERS
    assert problem["status"] == status
    assert problem["type"].endswith(code)
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert problem["title"]
    assert problem["detail"].endswith(".")
    return problem
