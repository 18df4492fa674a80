"""A process that stands still, as on a paused or starved machine, does not blame its clients for it."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from contract.api import form, part
from faults import raw

from benchmarks import null_store
from demo import stack
from demo.processes import family
from flask_app.worker import HEAD_SECONDS

#: Longer than every time limit for a client below.
STOPPED_SECONDS = HEAD_SECONDS + 1
BODY = form(part("file", os.urandom(100_000), "file.bin"))
REQUEST = raw.whole("stream", BODY)
#: The number of bytes that arrived before the stop.
SENT = {"nothing": 0, "half a head": 60, "half a body": len(REQUEST) // 2}


@pytest.fixture
def started(tmp_path: Path) -> Iterator[stack.Stack]:
    """Both apps, with an idle timeout shorter than the stop."""
    with null_store.running() as store:
        environ = {**store.environ, "UPLOAD_S3": store.endpoint_url, "UPLOAD_IDLE_TIMEOUT": "5"}
        with stack.running(environ, log_path=tmp_path / "servers.log") as running:
            yield running


@pytest.mark.thorough
@pytest.mark.parametrize("name", stack.COMMANDS)
def test_a_request_that_arrived_during_a_stop_is_answered(started: stack.Stack, name: str) -> None:
    """The limits for heads and bodies do not count the time in which the process read nothing."""
    app = started.apps[name]
    [*_, worker] = family(app.pid)
    with ExitStack() as exits:
        clients = [exits.enter_context(closing(raw.connect(app.url))) for _ in SENT]
        for client, sent in zip(clients, SENT.values(), strict=True):
            client.sendall(REQUEST[:sent])
        time.sleep(1)
        os.kill(worker, signal.SIGSTOP)
        try:
            for client, sent in zip(clients, SENT.values(), strict=True):
                client.sendall(REQUEST[sent:])
            time.sleep(STOPPED_SECONDS)
        finally:
            os.kill(worker, signal.SIGCONT)
        statuses = [raw.read_answer(client).status for client in clients]
    assert dict(zip(SENT, statuses, strict=True)) == dict.fromkeys(SENT, 201)
