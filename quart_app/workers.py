"""Several processes behind one address: lost ones are replaced, and all drain together.

hypercorn 0.18 and its `--workers` end the whole service with status 0 when one process is lost, and abort the uploads
of the others. Here each worker runs the one-process command on the same listening sockets, and no server's internals
are used. A socket pair joins each worker to its supervisor. The worker sends a byte when it serves, and the end of the
stream shows each side that the other process is gone.
"""

import asyncio
import logging
import os
import selectors
import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from shutil import rmtree
from socket import socket, socketpair
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead
from quart import Quart

from filehandoff.metrics import FOLDER_VARIABLE, share_numbers

logger = logging.getLogger(__name__)

#: The variable in a worker's environment with the descriptor of its socket to the supervisor.
SUPERVISOR = "QUART_APP_SUPERVISOR"
#: Signals that make a serving worker drain; a worker that dies of one has drained, or does not serve yet.
_DRAINING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


class Worker:
    """One serving process, and the supervisor's side of its socket pair."""

    def __init__(self, command: Sequence[str], descriptors: Sequence[int]) -> None:
        self.channel, theirs = socketpair()
        self.ready = False
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - this package's own command
                command,
                env={**os.environ, SUPERVISOR: str(theirs.fileno())},
                pass_fds=[*descriptors, theirs.fileno()],
                process_group=0,  # Ctrl-C must reach only the supervisor, or it would break the start of a worker
            )

    def wait(self) -> int:
        """Collect the ended process; return its exit status, below 0 for a signal."""
        self.channel.close()
        return self.process.wait()


class Supervisor:
    """A number of workers, which it keeps serving until `end`."""

    def __init__(self, command: Sequence[str], count: int, descriptors: Sequence[int]) -> None:
        self._command = command
        self._count = count
        self._descriptors = descriptors
        self._selector = selectors.DefaultSelector()
        self._workers = set[Worker]()
        self._ending = False
        self._status = 0

    def end(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Start no more workers and make all of them drain; a signal handler."""
        self._ending = True
        for worker in tuple(self._workers):
            worker.process.terminate()

    def run(self) -> int:
        """Supervise until the last worker has ended; return the exit status.

        The first worker must serve before the others start, so that the reason of a failed start is printed only once.

        Raises:
            SettingsError: the temporary folder takes no folder for the workers' numbers.
        """
        with ExitStack() as exits:
            if folder := share_numbers(self._count):
                exits.callback(rmtree, folder, ignore_errors=True)
            exits.enter_context(self._selector)
            self._start()
            while self._workers:
                for key, _ in self._selector.select():
                    self._on_message(key.data)
        return self._status

    def _start(self) -> None:
        worker = Worker(self._command, self._descriptors)
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)
        self._workers.add(worker)
        if self._ending:  # the signal came before the worker was in the set
            worker.process.terminate()

    def _on_message(self, worker: Worker) -> None:
        if worker.channel.recv(1):
            worker.ready = True
        else:
            self._selector.unregister(worker.channel)
            self._workers.discard(worker)
            self._on_end(worker, worker.wait())
        while not self._ending and any(one.ready for one in self._workers) and len(self._workers) < self._count:
            self._start()

    def _on_end(self, worker: Worker, status: int) -> None:
        if FOLDER_VARIABLE in os.environ:
            mark_process_dead(worker.process.pid)  # it has no uploads in flight any more
        if self._ending:
            self._status = self._status or (0 if -status in _DRAINING else abs(status))
        elif status > 0 and not worker.ready:
            logger.error("worker %d could not start; the service ends", worker.process.pid)
            self._status = status
            self.end()
        else:
            logger.log(
                logging.ERROR if status else logging.INFO,
                "worker %d %s; another one replaces it",
                worker.process.pid,
                ended(status),
            )
            if not self._workers:
                self._start()


def ended(status: int) -> str:
    """Describe the end of a process."""
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def join_supervisor(app: Quart) -> None:
    """In a worker, report that the app serves, and drain if the supervisor is gone."""
    if descriptor := os.environ.pop(SUPERVISOR, None):
        app.config[SUPERVISOR] = True  # the supervisor itself logs the warnings about all workers
        app.before_serving(partial(_join, socket(fileno=int(descriptor))))


async def _join(channel: socket) -> None:
    loop = asyncio.get_running_loop()

    def drain() -> None:
        loop.remove_reader(channel)
        signal.raise_signal(signal.SIGTERM)

    channel.send(b"1")
    loop.add_reader(channel, drain)  # only the end of the stream makes it readable
