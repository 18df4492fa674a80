"""For all tests: assertions in shared modules are explained, and a failure's output fits on a screen."""

import itertools
import signal
from collections.abc import Generator
from typing import Any

import pytest
from _pytest._code.code import ExceptionChainRepr, ReprEntryNative, ReprTraceback

pytest.register_assert_rewrite("contract.api", "contract.bucket", "patience")

#: The most lines that a failure prints of its traceback, and of the output captured meanwhile.
TRACEBACK_LINES, CAPTURED_LINES = 30, 15
#: The first lines of a traceback that is cut: they name the line of the test.
FIRST_LINES = 10
#: The most lines of one explanation of an assertion; its first lines say most.
EXPLANATION_LINES = 10
#: The most characters of a line; a terminal wraps it into three.
LINE_CHARS = 240


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs more of each kind than `make test` has time for."""
    parser.addoption("--thorough", action="store_true", help="run the tests marked as thorough too")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and have the processes that tests start heed the keys that end them.

    A shell lets its background jobs ignore SIGINT and SIGQUIT, and so does each process that they start.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    thorough = "thorough: one more of a kind of which `make test` runs another; `make processes-all` runs it"
    config.addinivalue_line("markers", thorough)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked as thorough, unless the option asks for them; the longest file comes first."""
    items.sort(key=lambda item: item.path.name != "test_servers.py")
    if not config.getoption("thorough"):
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Cut a failure's report to a screen; `-vv` shows the whole."""
    report = yield
    if report.failed and item.config.get_verbosity() < 2:
        report.longrepr = shortened(report.longrepr)
        report.sections = last_lines(report.sections)
    return report


def shortened(failure: Any) -> Any:
    """A failure's text with its middle left out, and with the location that the summary names."""
    lines = list[str]()
    for explains, group in itertools.groupby(str(failure).splitlines(), lambda line: line.startswith("E ")):
        part = [cut(line) for line in group]
        lines += without_middle(part, EXPLANATION_LINES, EXPLANATION_LINES - 2) if explains else part
    lines = without_middle(lines, TRACEBACK_LINES, FIRST_LINES)
    if not isinstance(failure, ExceptionChainRepr):
        return "\n".join(lines)
    entry = ReprEntryNative([line + "\n" for line in lines])
    return ExceptionChainRepr([(ReprTraceback([entry], None, "native"), failure.reprcrash, None)])


def without_middle(lines: list[str], at_most: int, first: int) -> list[str]:
    """So many of the lines at most: the first ones, and the rest from the end."""
    if len(lines) <= at_most:
        return lines
    left_out = len(lines) - at_most + 1
    return [*lines[:first], f"… {left_out} lines left out; -vv shows them …", *lines[first + left_out :]]


def last_lines(sections: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The last lines of the captured output, under their titles."""
    kept: list[tuple[str, str]] = []
    room = CAPTURED_LINES
    for title, text in reversed(sections):
        lines = [cut(line) for line in text.splitlines()]
        if not room or not lines:
            continue
        last = lines[-room:]
        more = f", the last of {len(lines)} lines; -vv shows them" if len(lines) > room else ""
        room -= len(last)
        kept.append((title + more, "\n".join(last)))
    return kept[::-1]


def cut(line: str) -> str:
    """A line of bearable length."""
    return line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}… ({len(line):,} characters)"
