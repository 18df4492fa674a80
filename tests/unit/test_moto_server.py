"""The embedded moto lets one writer in at a time."""

import io
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from werkzeug.test import Client

from demo.moto_server import OneWriterAtATime

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Slow:
    """An app that looks, waits and then writes; it counts the requests inside it."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.bodies: list[bytes] = []
        self._lock = threading.Lock()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer 200."""
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.05)
        self.bodies.append(environ["wsgi.input"].read())
        with self._lock:
            self.inside -= 1
        start_response("200 OK", [])
        return [b""]


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_of_many_writes_one_is_inside(method: str) -> None:
    """Writes wait for one another; each has its body."""
    slow = Slow()
    app = OneWriterAtATime(slow)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: Client(app).open("/", method=method, data=b"%d" % number), range(4)))
    assert slow.most == 1
    assert sorted(slow.bodies) == [b"0", b"1", b"2", b"3"]


def test_a_body_that_ends_early_writes_nothing() -> None:
    """A client that disconnects in its body is answered 400."""
    slow = Slow()
    cut = {"wsgi.input": io.BytesIO(b"some"), "CONTENT_LENGTH": "5"}
    answer = Client(OneWriterAtATime(slow)).open("/", method="PUT", environ_overrides=cut)
    assert (answer.status_code, slow.bodies) == (400, [])
