"""The key figures of a stage, its omissions with their reasons, and the end of its log."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

#: The last line of a run of pytest.
_TOTALS = re.compile(r"^=* ?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s\b.*$", re.MULTILINE)
_TOTAL = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed|deselected)")
#: A test that pytest skipped, with its reason.
_SKIPPED = re.compile(r"^SKIPPED \[(\d+)\] (\S+?):(?:\d+:)? (.*)$", re.MULTILINE)
#: Most lines of a failed stage's log on the page.
EXCERPT_LINES = 30
#: A path that leads out of the repository, up to its last folder.
_ABOVE = re.compile(r"(?:\.\./)+(?:[^\s:/]+/)*")
_HOST = re.compile(r"(https?://)(?!127\.0\.0\.1|localhost)[^\s/'\"]+")


def totals(log: str) -> list[str]:
    """The number of tests by outcome, of all runs of pytest; empty without one."""
    counts = Counter[str]()
    for run in _TOTALS.finditer(log):
        for number, outcome in _TOTAL.findall(run[1]):
            counts[outcome.rstrip("s") if outcome == "errors" else outcome] += int(number)
    return [f"{count:,} {outcome}" for outcome, count in counts.items()]


def shown(log: str, patterns: Iterable[str]) -> list[str]:
    """The lines' parts that match, each once."""
    found = (match[0] for pattern in patterns for match in re.finditer(pattern, log))
    return list(dict.fromkeys(found))


def left_out(log: str, patterns: Iterable[str]) -> list[str]:
    """Each thing that a stage left out, and the reason."""
    return list(dict.fromkeys([*_skipped_tests(log), *_others(log, patterns)]))


def _skipped_tests(log: str) -> Iterator[str]:
    for number, place, reason in _SKIPPED.findall(log):
        yield f"{number} of {place}: {reason}"


def _others(log: str, patterns: Iterable[str]) -> Iterator[str]:
    for pattern in patterns:
        for what, reason in re.findall(pattern, log, re.MULTILINE):
            yield f"{what}: {reason}"


def excerpt(log: str) -> str:
    """The last lines."""
    return "\n".join(log.rstrip().splitlines()[-EXCERPT_LINES:])


def anonymous(text: str, root: Path) -> str:
    """A text without the paths of this machine and the names of other hosts."""
    for path, name in ((root, "."), (Path.home(), "~")):
        text = text.replace(str(path), name)
    return _ABOVE.sub("…/", _HOST.sub(r"\1…", text))
