"""A run detects faulty peers, and ranks a slow peer below a fast one."""

import re

import pytest
from bench.made import Done, check_report, done

from benchmarks import report
from benchmarks.goals import Goal
from benchmarks.stats import is_tie, ratio

#: The reason that the record must contain for each faulty peer.
FOUND = {
    "dropping": "was not stored|has 4,095 bytes, but 4,096 were sent",
    "flipping": "differs from the bytes sent",
    "losing": "was answered with 201 but is not in the store",
    "mortal": "the server ended with 3",
}
PEERS = ("right", "slow", *FOUND)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run of peers, most of them faulty."""
    peers = [f"--peer={name}=tests.bench.odd_peers:{name}@uvicorn" for name in PEERS]
    missing = "--peer=missing=no_such_module:app@uvicorn"
    load = ("--size", "64KiB", "--clients", "4", "--rounds", "3", "--seconds", "0.2")
    return done(tmp_path_factory.mktemp("odd") / "run", *peers, missing, *load)


@pytest.mark.parametrize("name", FOUND)
def test_a_peer_that_stores_something_else_fails_its_cell(odd: Done, name: str) -> None:
    """A cell whose app damages or loses a file, or dies, has no figures."""
    read = odd.read
    cell = f"{name}@uvicorn null plain 64KiB x4"
    assert re.search(FOUND[name], read.failed[cell])
    assert not [it for it in read.results if it.cell.id == cell]
    assert f"failed: {cell}: {read.failed[cell]}" in odd.output
    assert read.failed[cell] in (odd.folder / report.MARKDOWN).read_text("utf-8")


def test_a_peer_that_cannot_be_loaded_is_skipped(odd: Done) -> None:
    """A target with a missing module is skipped with that reason, and the run continues."""
    assert odd.read.skipped == {"missing@uvicorn null plain 64KiB x4": "the module no_such_module is not installed"}
    assert "skipped: missing@uvicorn null plain 64KiB x4: the module no_such_module is not installed" in odd.output


def test_a_peer_that_is_slower_shows_as_slower(odd: Done) -> None:
    """An app slowed by half a second has a lower rate and higher latency."""
    right, slow = (it for name in ("right", "slow") for it in odd.read.results if it.cell.target == f"{name}@uvicorn")
    quotient = ratio(slow.figures["rate"], right.figures["rate"])
    assert quotient.median < 1
    assert not is_tie(quotient)
    assert slow.figures["p50"].median > 500
    assert Goal("", 1, quotient, slow.cell.id, at_least=True).verdict == "missed"


def test_the_report_matches_the_raw_data(odd: Done) -> None:
    """Each row of the report matches the raw records, errors included."""
    check_report(odd)
