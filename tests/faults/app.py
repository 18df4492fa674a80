"""An app in front of broken clients: its stored files and held resources."""

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TypeVar

from contract.api import form, part
from contract.bucket import Bucket
from faults import raw
from faults.raw import Answer
from faults.settings import SETTINGS
from faults.watch import Held, Watch
from patience import PATIENCE

from demo import stack
from filehandoff.strategies import FORM_HANDOFFS

T = TypeVar("T")

#: Leftovers of hypercorn 0.18 for a connection that its client closed without a request, until keep_alive_timeout
#: (5 s): its TaskGroup waits for its own idle timer.
LINGERING = Counter({"worker_serve.<locals>._server_callback": 1, "Server._idle_timeout": 1, "socket": 1})
#: Size of a file of two parts, in bytes.
LARGE = 5 * 1024**2 + 1


class App:
    """One of the apps at its URL; it records the keys of its 201 answers."""

    def __init__(self, name: str, started: stack.Stack, bucket: Bucket) -> None:
        self.name = name
        self.url = started.apps[name].url
        self.bucket = bucket
        self.watch = Watch(started.apps[name].pid, started.environ)
        self._named: set[str] = set()
        self._at_rest = self._warmed_up()

    def connect(self) -> socket.socket:
        """Open a plain connection."""
        return raw.connect(self.url)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """A plain connection for the block."""
        with closing(self.connect()) as connection:
            yield connection

    def by_each(self, exchange: Callable[[str], T], handoffs: Sequence[str] = FORM_HANDOFFS) -> dict[str, T]:
        """Run an exchange with all hand-offs at once; return the results by hand-off."""
        with ThreadPoolExecutor(len(handoffs)) as pool:
            return dict(zip(handoffs, pool.map(exchange, handoffs), strict=True))

    def check_stored(self, answer: Answer, files: Sequence[bytes]) -> None:
        """Assert that the answer is 201, and that S3 holds these files."""
        assert answer.status == 201, answer
        receipts = json.loads(answer.body)["receipts"]
        self._named |= {receipt["key"] for receipt in receipts}
        for receipt, data in zip(receipts, files, strict=True):
            self.bucket.check_receipt(receipt, data)

    def stored_without_a_receipt(self) -> list[int]:
        """The sizes of objects that no client has a receipt of; S3 may keep them."""
        self.wait_until_at_rest()
        sizes = self.bucket.sizes()
        self._named |= set(sizes)
        return list(sizes.values())

    def wait_until_at_rest(self) -> None:
        """Wait until the process is idle."""
        self._wait_for_none(self._more)

    def check_nothing_left(self) -> None:
        """Assert that nothing is left, in S3 beyond 201 answers or in the process."""
        check_nothing_left([self])

    def forget_named(self) -> set[str]:
        """The keys of 201 answers since the last call."""
        named, self._named = self._named, set()
        return named

    def check_at_rest(self) -> None:
        """Assert that no connection lingers beyond its time."""
        self._wait_for_none(lambda: self.watch.held().beyond(self._at_rest))

    def _wait_for_none(self, more: Callable[[], Counter[str]]) -> None:
        """Wait until the counter is empty."""
        deadline = time.monotonic() + PATIENCE
        while (left := more()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert left == Counter(), self.name

    def _more(self) -> Counter[str]:
        """The resources held beyond those at rest, without lingering connections."""
        more = self.watch.held().beyond(self._at_rest)
        lingering = {name: count * more["Server._idle_timeout"] for name, count in LINGERING.items()}
        return more - Counter(lingering)

    def _warmed_up(self) -> Held:
        """The resources that the process holds after it has done everything once."""
        for size in (100, LARGE):
            data = os.urandom(size)

            def upload(handoff: str, data: bytes = data) -> Answer:
                with self.connected() as connection:
                    connection.sendall(raw.whole(handoff, form(part("file", data, "name")), "Connection: close"))
                    return raw.read_answer(connection)

            for answer in self.by_each(upload).values():
                self.check_stored(answer, [data])
        self.bucket.check_and_empty(self._named)
        self._named.clear()
        return self._settled()

    def _settled(self) -> Held:
        """The resources that the process holds, once two looks some time apart agree."""
        held, before = self.watch.held(), None
        while held != before:
            time.sleep(0.5)
            held, before = self.watch.held(), held
        return held


@contextmanager
def warmed_up(started: stack.Stack) -> Iterator[dict[str, App]]:
    """Both apps for the block, after each has done everything once; at its end, both are at rest."""
    with closing(started.store.client()) as client:
        bucket = Bucket(client, SETTINGS["UPLOAD_BUCKET"], started)
        apps = {name: App(name, started, bucket) for name in started.apps}
        yield apps
        for app in apps.values():
            app.check_at_rest()


def check_nothing_left(apps: Iterable[App]) -> None:
    """Assert that nothing is left, in S3 beyond 201 answers or in the processes."""
    apps = list(apps)
    named = set[str]().union(*(app.forget_named() for app in apps))
    try:
        for app in apps:
            app.wait_until_at_rest()
    finally:
        apps[0].bucket.check_and_empty(named)


def answers(app: App, exchange: Callable[[socket.socket, str], Answer]) -> Iterator[Answer]:
    """Run an exchange with all hand-offs at once, each on its own connection.

    Yield the answers.
    """

    def on_a_connection(handoff: str) -> Answer:
        with app.connected() as connection:
            return exchange(connection, handoff)

    yield from app.by_each(on_a_connection).values()
