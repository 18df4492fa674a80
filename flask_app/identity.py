"""The identification of senders by their tokens, in the request's thread."""

import time
from pathlib import Path
from threading import Lock

import urllib3

from filehandoff.identity import MAX_KEYS_BYTES, READ_SECONDS, Identity, RequestHead, TokenSource, bearer_token


class TokenCheck:
    """Identifies senders by their bearer tokens; safe to use from many threads."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._lock = Lock()

    def __call__(self, head: RequestHead) -> Identity:
        """Return the owner of the request's token.

        Raises:
            Unauthorized: the request has no valid token.
            IdentityUnavailable: the keys of tokens cannot be had.
        """
        token = bearer_token(head.headers)
        if self._source.is_due(token, time.monotonic()):
            with self._lock:
                if self._source.is_due(token, time.monotonic()):
                    self._read()
        return self._source.identify(token)

    def _read(self) -> None:
        address = self._source.address
        try:
            data = fetch(address) if "://" in address else Path(address).read_bytes()
            self._source.take(data, time.monotonic())
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            self._source.fail(error, time.monotonic())


def fetch(url: str) -> bytes:
    """Return the content at this URL.

    Raises:
        HTTPError, OSError: there is no answer in time.
        ValueError: the answer is no content.
    """
    with urllib3.PoolManager() as pool:
        answer = pool.request("GET", url, timeout=READ_SECONDS, redirect=False, retries=False, preload_content=False)
        try:
            if answer.status != 200:  # noqa: PLR2004 - HTTP's own number
                raise ValueError(f"the answer has the status {answer.status}")
            return answer.read(MAX_KEYS_BYTES)
        finally:
            answer.close()
