"""A run of peers that do something wrong: what is wrong is found, and what is slow is seen."""

import re

import pytest
from bench.made import Done, check_report, done

from benchmarks import recommendations, report
from benchmarks.stats import is_tie, ratio

#: What each odd peer is to be found out by.
FOUND = {
    "dropping": "was not stored|has 4,095 bytes where 4,096 were sent",
    "flipping": "does not hold the bytes that were sent",
    "losing": "was answered by 201 and is not in the store",
    "mortal": "the server ended with 3",
}
PEERS = ("right", "slow", *FOUND)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run of peers of which most do something wrong."""
    peers = [f"--peer={name}=tests.bench.odd_peers:{name}@uvicorn" for name in PEERS]
    missing = "--peer=missing=no_such_module:app@uvicorn"
    load = ("--size", "64KiB", "--clients", "4", "--rounds", "3", "--seconds", "0.2")
    return done(tmp_path_factory.mktemp("odd") / "run", *peers, missing, *load)


@pytest.mark.parametrize("name", FOUND)
def test_a_peer_that_stores_something_else_fails_its_cell(odd: Done, name: str) -> None:
    """Whether it drops a byte, flips one, stores nothing or dies: the cell has the reason, and no figures."""
    read = odd.read
    cell = f"{name}@uvicorn null plain 64KiB x4"
    assert re.search(FOUND[name], read.failed[cell])
    assert not [it for it in read.results if it.cell.id == cell]
    assert f"failed: {cell}: {read.failed[cell]}" in odd.output
    assert read.failed[cell] in (odd.folder / report.MARKDOWN).read_text("utf-8")


def test_a_peer_that_cannot_be_loaded_is_skipped(odd: Done) -> None:
    """The reason is told, and the run goes on."""
    assert odd.read.skipped == {"missing@uvicorn null plain 64KiB x4": "the module no_such_module is not installed"}
    assert "skipped: missing@uvicorn null plain 64KiB x4: the module no_such_module is not installed" in odd.output


def test_a_peer_that_is_slower_shows_as_slower(odd: Done) -> None:
    """The same app with half a second more for each upload: beyond noise, and by as much."""
    right, slow = (it for name in ("right", "slow") for it in odd.read.results if it.cell.target == f"{name}@uvicorn")
    quotient = ratio(slow.figures["rate"], right.figures["rate"])
    assert quotient.median < 1
    assert not is_tie(quotient)
    assert slow.figures["p50"].median > 500
    assert "tie" not in recommendations.Goal("", 1, at_least=True, seen=quotient, cell=None).verdict


def test_what_is_printed_agrees_with_the_raw_data(odd: Done) -> None:
    """Each row of the report, computed anew from the lines of its requests; errors and all."""
    check_report(odd)
