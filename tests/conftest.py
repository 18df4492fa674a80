"""Explain assertions of shared modules, and shorten failure reports, in all tests."""

import itertools
import re
import signal
from collections import defaultdict
from collections.abc import Generator
from typing import Any, TypeAlias

import pytest
from _pytest._code.code import ExceptionChainRepr, ReprEntryNative, ReprTraceback

pytest.register_assert_rewrite(
    "browser.visit", "browser.widget", "contract.api", "contract.bucket", "contract.tus", "patience"
)

#: The longest files of all folders but tests/faults.
LONGEST = tuple(
    f"tests/{file}.py" for file in ("processes/test_servers", "processes/test_recipes", "resuming/test_clients")
)
#: The values of each test's parameters that were seen, by its function and the name.
Values: TypeAlias = defaultdict[tuple[Any, str], list[object]]
#: Most lines of a failure's traceback, and of the captured output.
TRACEBACK_LINES, CAPTURED_LINES = 30, 15
#: The first line of a call in a traceback.
LOCATION = re.compile(r"\S+:\d+: in ")
#: First lines kept of a shortened traceback; they name the line of the test.
FIRST_LINES = 10
#: Most lines kept of an assertion's explanation; the first ones explain most.
EXPLANATION_LINES = 10
#: Most characters of a line; a terminal wraps them into three lines.
LINE_CHARS = 240


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of tests for which `make test` has no time."""
    parser.addoption("--thorough", action="store_true", help="run the tests marked as thorough too")
    cuts = "how often each tus client's connection is cut; an app is killed a tenth as often"
    parser.addoption("--rounds", type=int, default=4, help=cuts)


@pytest.fixture(scope="session")
def rounds(pytestconfig: pytest.Config) -> int:
    """The number of cuts in each test of tus clients."""
    return int(pytestconfig.getoption("rounds"))


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and let child processes receive SIGINT and SIGQUIT.

    A shell's background jobs ignore both signals, and so do their children.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    whole = "`make contract-all`, `waiting-all` and `browser-all` run all"
    config.addinivalue_line("markers", f"thorough: one more of a kind of which `make test` runs another; {whole}")
    every_other = "every_other: `make test` runs every other combination of this test's two or more parameters"
    config.addinivalue_line("markers", f"{every_other}; {whole}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests for which `make test` has no time unless asked for; run the longest files first."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
    if not config.getoption("thorough"):
        values: Values = defaultdict(list)
        one_more = {item for item in items if is_one_more(item, values)}
        config.hook.pytest_deselected(items=[*one_more])
        items[:] = [item for item in items if item not in one_more]


def is_one_more(item: pytest.Item, values: Values) -> bool:
    """Whether `make test` runs another test of the same kind.

    Of two parameters, every value runs; of three, every pair of values, if each has two values or more. `values` has
    those of the earlier items, and gets this one's.
    """
    if item.get_closest_marker("thorough"):
        return True
    if not item.get_closest_marker("every_other"):
        return False
    parameters: dict[str, object] = dict(getattr(item, "callspec").params)  # noqa: B009 - pytest does not publish its type
    for names in (mark.args[0] for mark in item.iter_markers("parametrize")):
        for together in names[1:] if isinstance(names, tuple) else ():
            del parameters[together]  # it moves with the first name
    places = [place(value, values[getattr(item, "function"), name]) for name, value in parameters.items()]  # noqa: B009 - nor this
    return len(places) > 1 and sum(places) % 2 == 1


def place(value: object, values: list[object]) -> int:
    """The place of a value among the different ones; pytest's own index counts the calls of a test."""
    for number, other in enumerate(values):
        if other is value:
            return number
    values.append(value)
    return len(values) - 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shorten a failure's report to a screen; `-vv` shows all of it."""
    report = yield
    if report.failed and item.config.get_verbosity() < 2:
        report.longrepr = shortened(report.longrepr)
        report.sections = last_lines(report.sections)
    return report


def shortened(failure: Any) -> Any:
    """Remove the calls of libraries and the middle of a long text, but keep the location that the summary names."""
    lines = list[str]()
    for explains, group in itertools.groupby(str(failure).splitlines(), lambda line: line.startswith("E ")):
        part = [cut(line) for line in group]
        lines += without_middle(part, EXPLANATION_LINES, EXPLANATION_LINES - 2) if explains else part
    if len(lines) > TRACEBACK_LINES:
        lines = without_middle(without_libraries(lines), TRACEBACK_LINES, FIRST_LINES)
    if not isinstance(failure, ExceptionChainRepr):
        return "\n".join(lines)
    entry = ReprEntryNative([line + "\n" for line in lines])
    return ExceptionChainRepr([(ReprTraceback([entry], None, "native"), failure.reprcrash, None)])


def without_libraries(lines: list[str]) -> list[str]:
    """Remove the calls inside other packages, but no line of an error."""
    kept, in_library = list[str](), False
    for line in lines:
        if LOCATION.match(line):
            in_library = "/lib/python" in line
        if not in_library or line.startswith("E "):
            kept.append(line)
    return kept


def without_middle(lines: list[str], at_most: int, first: int) -> list[str]:
    """Keep the first lines and as many last ones as fit."""
    if len(lines) <= at_most:
        return lines
    left_out = len(lines) - at_most + 1
    return [*lines[:first], f"… {left_out} lines left out; -vv shows them …", *lines[first + left_out :]]


def last_lines(sections: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Keep the last lines of each section of captured output."""
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
    """Shorten a line."""
    return line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}… ({len(line):,} characters)"
