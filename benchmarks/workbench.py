"""Perform trials, each with a new store and a new server, and record their results."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError

from benchmarks import backends, npm
from benchmarks.bodies import Bodies
from benchmarks.load import Line
from benchmarks.plans import SCENARIOS, Cell, Scenario
from benchmarks.profiles import Profile, profiling
from benchmarks.targets import Target
from benchmarks.trial import Failed, Level, Skipped, Trial, has_loop_lag
from demo.processes import Server, StartError, ending, listen
from filehandoff.admission import threads
from filehandoff.settings import Settings

#: Shortest profile, in seconds.
PROFILED_SECONDS = 4.0


@dataclass
class Workbench:
    """Shared by all trials: random bodies, a temporary folder, the levels' duration."""

    bodies: Bodies
    folder: Path
    seconds: float

    def run_trial(self, cell: Cell, target: Target, *, thorough: bool) -> tuple[dict[str, Any], list[Line]]:
        """Measure a cell once; return its record and a line for each request.

        Args:
            cell: the cell.
            target: its target.
            thorough: verify files of the cell's full size beforehand, even large ones.
        """
        began = time.monotonic()
        lines: list[Line] = []
        levels: dict[str, Level] = {}
        record: dict[str, Any] = {"status": "measured", "reason": None}
        try:
            with self._running(cell, target) as trial, _failing():
                trial.check(thorough=thorough)
                trial.measure(levels, lines)
        except (Skipped, StartError) as error:
            record = {"status": "skipped", "reason": str(error)}
        except (Failed, OSError) as error:
            record = {"status": "failed", "reason": str(error) or repr(error)}
        seconds = time.monotonic() - began
        return record | {"seconds": seconds, "levels": {name: asdict(level) for name, level in levels.items()}}, lines

    def profile(self, cell: Cell, target: Target) -> Profile:
        """Profile the server while a cell is under load."""
        try:
            with self._running(cell, target) as trial, _failing():
                trial.check(thorough=False)
                with profiling(trial.server.pid) as profile:
                    trial.send_closed(PROFILED_SECONDS)
                return profile
        except (Skipped, StartError, Failed, OSError) as error:
            return Profile(reason=str(error) or repr(error))

    @contextmanager
    def _running(self, cell: Cell, target: Target) -> Iterator[Trial]:
        if missing := target.missing():
            raise Skipped(f"the module {missing} is not installed")
        scenario = SCENARIOS[cell.scenario]
        with ExitStack() as exits:
            log = exits.enter_context(tempfile.TemporaryFile())
            temporary = exits.enter_context(tempfile.TemporaryDirectory(dir=self.folder))
            backend = exits.enter_context(backends.running(cell.store, scenario, log))
            server = start(target, scenario, {**backend.environ, "TMPDIR": temporary}, log)
            exits.enter_context(ending([server]))
            # it is killed: the measurement is over
            exits.callback(server.kill)
            trial = Trial(self.bodies, self.seconds, cell, target, scenario, backend, server, log)
            trial.wait_until_ready()
            yield trial


@contextmanager
def _failing() -> Iterator[None]:
    """Turn errors of the running server or store into `Failed`."""
    try:
        yield
    except (StartError, OSError, HTTPException, BotoCoreError, ClientError, ValueError) as error:
        raise Failed(str(error).partition("\n")[0] or repr(error)) from error


def start(target: Target, scenario: Scenario, environ: Mapping[str, str], log: IO[bytes]) -> Server:
    """Start a target's server with the settings of a scenario.

    Raises:
        StartError: it cannot be started; a one-line message.
    """
    environ = {**os.environ, **scenario.environ, **environ}
    app, server = target.app, target.server
    if server.interface == "npm":
        app = str(npm.installed(Path(app)))
    if has_loop_lag(target, scenario):
        environ["BENCHMARK_APP"], app = app, "benchmarks.loop_lag_app:app"
    count = threads(Settings.from_env(environ).max_concurrent)  # the number in flask_app/gunicorn.conf.py
    command = server.start_command(app, count, scenario.workers)
    listener = listen(target.name, "nothing", 0)
    return Server(target.name, command, listener, environ, log=log, drain_seconds=0, inherits=server.inherits)
