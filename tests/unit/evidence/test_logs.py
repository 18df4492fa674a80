"""Key figures, reasons and failures in the logs of stages."""

from pathlib import Path

import pytest

from evidence import figures, logs

PYTEST = """\
bringing up nodes...
=========================== short test summary info ============================
SKIPPED [2] tests/processes/test_nginx.py:18: nginx is missing: apt-get install nginx-light
SKIPPED [1] tests/browser/conftest.py:44: no Chromium is found: install it
FAILED tests/unit/test_a.py::test_b - assert 1 == 2
============= 1 failed, 1234 passed, 3 skipped in 61.50s (0:01:01) =============
"""


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        pytest.param(PYTEST, ["1 failed", "1,234 passed", "3 skipped"], id="one run"),
        pytest.param(PYTEST + "3 passed in 0.10s\n", ["1 failed", "1,237 passed", "3 skipped"], id="two runs"),
        pytest.param("== 1 passed, 2 errors in 0.1s ==\n== 1 error in 0.1s ==\n", ["1 passed", "3 error"], id="errors"),
        pytest.param("7 files stored in 3s\n", [], id="another program"),
    ],
)
def test_the_totals_add_up_all_runs_of_pytest(log: str, expected: list[str]) -> None:
    """The totals are the sums over the last lines of pytest's runs."""
    assert logs.totals(log) == expected


def test_each_match_is_shown_once() -> None:
    """A stage's figures are the parts of lines that match, without repetitions."""
    log = "a: 2 cases: all well\n2 cases: all well\n3 cases: not so\n"
    assert logs.shown(log, [r"\d+ cases: .*", "nothing"]) == ["2 cases: all well", "3 cases: not so"]


def test_skipped_tests_have_their_reasons() -> None:
    """A stage left out the tests that pytest skipped, and the lines that its own patterns find."""
    log = PYTEST + "nox > Session newest-3.14 skipped: Python interpreter 3.14 not found.\n"
    assert logs.left_out(log, [r"^nox > Session (.*) skipped: (.*)$"]) == [
        "2 of tests/processes/test_nginx.py: nginx is missing: apt-get install nginx-light",
        "1 of tests/browser/conftest.py: no Chromium is found: install it",
        "newest-3.14: Python interpreter 3.14 not found.",
    ]


def test_an_excerpt_is_the_end() -> None:
    """An excerpt has the last lines, and at most `EXCERPT_LINES`."""
    lines = [str(number) for number in range(100)]
    assert logs.excerpt("\n".join(lines) + "\n\n").splitlines() == lines[-logs.EXCERPT_LINES :]


def test_a_published_text_names_no_place() -> None:
    """Paths of this machine and other hosts are replaced; loopback stays."""
    text = f"/srv/code/a.py:1 ../../lib/b.py:2 {Path.home()}/x https://pypi.example.net/simple http://127.0.0.1:80/y"
    assert logs.anonymous(text, Path("/srv/code")) == "./a.py:1 …/b.py:2 ~/x https://…/simple http://127.0.0.1:80/y"


def test_a_plain_log_has_no_control_sequences() -> None:
    """Colours go, and a line that was overwritten has its last text."""
    assert figures.plain("\x1b[32m1 passed\x1b[0m\r\n10%\r20%\rdone\nend") == "1 passed\ndone\nend"


def test_figures_come_back_from_the_log() -> None:
    """Printed figures are read by their name, in order, wherever they stand in a log."""
    log = "\n".join([figures.line("a", x=1), "noise", figures.line("b", x=2), figures.line("a", x=[3, None])])
    assert figures.of(log, "a") == [{"x": 1}, {"x": [3, None]}]
