"""Fuzz the core by coverage: `python -m fuzz [--runs N] [--minutes N] [--jobs N] [TARGET …]`.

The targets run in turns until each has had N executions in all, or until the time is over. Their inputs grow in
`build/fuzz/corpus`, so the next run goes on where this one ended. A failed property ends the turns of its target. Its
input stays in `build/fuzz/failures`, and a replay needs no fuzzer: `python -m fuzz.replay TARGET FILE`.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz.catalogue import NAMES, load, seeds

WORK = Path("build/fuzz")
#: Seconds of a target's turn; an interruption loses at most the count of one turn.
TURN_SECONDS = 30
#: Bytes of an input; more make executions slow, and runs are expanded anyway.
MAX_BYTES = 1200
#: Seconds after which one execution counts as endless.
TIMEOUT_SECONDS = 20
#: The names that the fuzzer gives its inputs.
_HASH = "[0-9a-f]" * 40
_STATISTIC = re.compile(r"stat::(\w+): +(\d+)")
_COVERAGE = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/")


@dataclass
class Total:
    """A target's executions and seconds in all, and the coverage of its inputs."""

    runs: int = 0
    seconds: float = 0
    edges: int = 0
    features: int = 0
    inputs: int = 0

    def line(self, name: str) -> str:
        """Return a row of the report."""
        rate = self.runs / self.seconds if self.seconds else 0
        return f"{name:16} {self.runs:>12,} {rate:>9,.0f} {self.edges:>7} {self.features:>9} {self.inputs:>7}"


class Failed(Exception):
    """A property failed; the message names it and its input."""


@dataclass(frozen=True)
class Fuzzing:
    """One target's turns, with the folders that they fill."""

    name: str

    @property
    def _folder(self) -> Path:
        folder = WORK / "corpus" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def _totals(self) -> Path:
        return WORK / f"{self.name}.json"

    @property
    def total(self) -> Total:
        """The target's totals of all runs so far."""
        return Total(**json.loads(self._totals.read_text())) if self._totals.exists() else Total()

    def turn(self, runs: int, seconds: float) -> Total:
        """Run the target once, and return its new totals.

        Raises:
            Failed: an input fails a property, or takes too long.
        """
        failures = WORK / "failures" / self.name
        failures.mkdir(parents=True, exist_ok=True)
        words = WORK / f"{self.name}.dict"
        words.write_text("".join(f'"{quoted(word)}"\n' for word in load(self.name).WORDS))
        options = (
            *(
                f"-runs={min(runs, 2**31 - 1)}",
                f"-max_total_time={max(1, round(seconds))}",
                f"-max_len={MAX_BYTES}",
                f"-dict={words}",
            ),
            *(
                f"-timeout={TIMEOUT_SECONDS}",
                f"-artifact_prefix={failures}/",
                "-print_final_stats=1",
                "-len_control=20",
            ),
        )
        began = time.monotonic()
        log = self._run([*options, str(self._folder), str(seeds(self.name))])
        return self._counted(log, time.monotonic() - began)

    def keep(self) -> None:
        """Replace the repository's inputs by the fewest with the same coverage; those with a name of words stay."""
        kept = seeds(self.name)
        with TemporaryDirectory() as fewest:
            self._run(["-merge=1", fewest, str(kept), str(self._folder)])
            for path in kept.glob(_HASH):
                path.unlink()
            for path in Path(fewest).iterdir():
                (kept / path.name).write_bytes(path.read_bytes())

    def _run(self, arguments: Sequence[str]) -> str:
        """Run the target; return the fuzzer's log.

        Raises:
            Failed: an input fails a property, or takes too long.
        """
        ended = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-m", "fuzz.one", self.name, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if ended.returncode:
            raise Failed(self._explained(ended.stdout))
        return ended.stdout

    def _explained(self, log: str) -> str:
        (WORK / f"{self.name}.log").write_text(log)
        found = re.search(r"Test unit written to (\S+)", log)
        property_ = re.search(r"Uncaught Python exception: ===\n(.*)", log)
        if not found:
            return f"{self.name}: the fuzzer does not run; see {WORK}/{self.name}.log"
        return (
            f"{self.name}: {property_[1] if property_ else 'an execution takes too long'}\n"
            f"The input is {found[1]}; this repeats it:\n"
            f"  PYTHONPATH=tests:. {sys.executable} -m fuzz.replay {self.name} {found[1]}"
        )

    def _counted(self, log: str, seconds: float) -> Total:
        statistics = {name: int(value) for name, value in _STATISTIC.findall(log)}
        edges, features, inputs = map(int, _COVERAGE.findall(log)[-1])
        before = self.total
        total = Total(
            before.runs + statistics["number_of_executed_units"], before.seconds + seconds, edges, features, inputs
        )
        self._totals.write_text(json.dumps(asdict(total)))
        return total


def quoted(word: bytes) -> str:
    """Write a byte string as libFuzzer's dictionaries have it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def main() -> None:
    """Fuzz, print the totals, and end with 1 after a failed property."""
    parser = argparse.ArgumentParser("python -m fuzz", description=main.__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all by default: {', '.join(NAMES)}")
    parser.add_argument("--runs", type=int, help="executions of each target in all, earlier runs included")
    parser.add_argument("--minutes", type=float, help="the whole run's time; 10 if no --runs is given")
    parser.add_argument("--jobs", type=int, default=2, help="targets that run at once (%(default)s)")
    parser.add_argument(
        "--keep", action="store_true", help="then put the fewest inputs that matter into tests/fuzz/corpus"
    )
    chosen = parser.parse_args()
    if find_spec("atheris") is None:
        parser.error("the fuzzer is not installed: `pip install atheris` (Linux on x86-64, CPython 3.12 to 3.14)")
    if unknown := set(chosen.targets) - set(NAMES):
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    minutes = chosen.minutes if chosen.runs or chosen.minutes else 10.0
    targets = [Fuzzing(name) for name in chosen.targets or NAMES]
    WORK.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * (minutes or sys.maxsize)
    try:
        failures = run(targets, chosen.runs or sys.maxsize, end, chosen.jobs)
    except KeyboardInterrupt:
        failures = ["interrupted; the next run goes on here"]
    print(f"{'target':16} {'executions':>12} {'a second':>9} {'edges':>7} {'features':>9} {'inputs':>7}")
    for target in targets:
        print(target.total.line(target.name))
    print(f"{sum(target.total.runs for target in targets):,} executions in all")
    if chosen.keep and not failures:
        for target in targets:
            target.keep()
    sys.exit("\n".join(failures) or None)


def run(targets: list[Fuzzing], runs: int, end: float, jobs: int) -> list[str]:
    """Fuzz in rounds of a turn for each target, until the executions or the time are over; return the failures.

    A target with a failed property gets no more turns.
    """
    failures: dict[str, str] = {}
    while time.monotonic() < end:
        due = [target for target in targets if target.total.runs < runs and target.name not in failures]
        if not due:
            break
        seconds = min(TURN_SECONDS, (end - time.monotonic()) * jobs / len(due))
        failures |= play(due, runs, seconds, jobs)
        done = [target.total for target in targets]
        print(
            f"{sum(total.runs for total in done):,} executions, {sum(total.inputs for total in done):,} inputs",
            flush=True,
        )
    return list(failures.values())


def play(targets: list[Fuzzing], runs: int, seconds: float, jobs: int) -> dict[str, str]:
    """Give each target one turn; return the failures by target."""
    with ThreadPoolExecutor(jobs) as pool:
        turns = {target.name: pool.submit(target.turn, runs - target.total.runs, seconds) for target in targets}
        try:
            return {name: str(error) for name, turn in turns.items() if (error := turn.exception())}
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C


if __name__ == "__main__":
    main()
