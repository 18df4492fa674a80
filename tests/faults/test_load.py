"""The clients of a load."""

import socket

from faults.load import Load
from patience import wait_until


def test_a_load_runs_again() -> None:
    """A second block has clients too: the hour's soak has two, with a pause between them."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # no process listens, so each request fails at once
        load = Load(f"http://127.0.0.1:{closed.getsockname()[1]}", [b""])
        for _ in range(2):
            load.outcomes.clear()
            with load.running(1):
                wait_until(lambda: len(load.outcomes) > 1, lambda: "no request was sent")
