"""The grid: each cell has a verdict, and each loss has a reason."""

import json
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filehandoff import strategies
from filehandoff.errors import FileClosed
from filehandoff.parts import peak_memory
from filehandoff.settings import MIB, Settings
from filehandoff.strategies import (
    DEFAULT_HANDOFF,
    DEFAULT_HOOK,
    FRAMEWORKS,
    HANDOFFS,
    HOOKS,
    KNOWN_FAILURES,
    SIZE_CLASSES,
    describe,
    outcomes,
    reason,
    verdict,
)

CELLS = list(product(FRAMEWORKS, HANDOFFS, HOOKS, SIZE_CLASSES))


def test_a_file_is_lost_for_a_reason_and_only_then() -> None:
    """A cell is lost exactly if it has a reason in the table."""
    assert {cell: reason(*cell) for cell in CELLS if verdict(*cell) == "lost"} == KNOWN_FAILURES
    assert {verdict(*cell) for cell in CELLS if reason(*cell) is None} == {"stored"}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("size_class", SIZE_CLASSES)
def test_the_issue_is_in_the_grid(framework: str, size_class: str) -> None:
    """The request's own file with a copied context is lost everywhere (pallets/flask#5399)."""
    assert "pallets/flask#5399" in (reason(framework, "file", "copied", size_class) or "")


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("size_class", SIZE_CLASSES)
def test_the_default_loses_nothing(framework: str, size_class: str) -> None:
    """The default pair stores every file, in both frameworks at every size."""
    assert verdict(framework, DEFAULT_HANDOFF, DEFAULT_HOOK, size_class) == "stored"


def test_a_lost_file_has_the_code_of_a_closed_one() -> None:
    """The table's code of a lost file is that of the app's error."""
    assert FileClosed.code == strategies.LOST_CODE


@pytest.mark.parametrize(
    ("handoff", "size", "expected"),
    [
        pytest.param("file", 0, {"lost"}, id="file: nothing"),
        pytest.param("file", 16 * MIB + 1, {"lost"}, id="file: three parts"),
        pytest.param("byte_queue", 100, {"stored"}, id="byte_queue: in memory"),
        pytest.param("byte_queue", 500_001, {"stored"}, id="byte_queue: on disk"),
        pytest.param("byte_queue", 8 * MIB, {"stored"}, id="byte_queue: one part"),
        pytest.param("byte_queue", 8 * MIB + 1, {"stored", "lost"}, id="byte_queue: one byte over a part"),
        pytest.param("byte_queue", 16 * MIB, {"stored", "lost"}, id="byte_queue: two parts"),
        pytest.param("byte_queue", 16 * MIB + 1, {"lost"}, id="byte_queue: three parts"),
        pytest.param("temp_file", 12 * MIB, {"stored"}, id="temp_file: between one part and three"),
    ],
)
def test_any_size_has_its_outcomes(handoff: str, size: int, expected: set[str]) -> None:
    """With a copied hook, a size between two classes has either's verdict."""
    for framework in FRAMEWORKS:
        assert outcomes(framework, handoff, "copied", size, 8 * MIB) == expected


@given(st.sampled_from(CELLS), st.sampled_from([5 * MIB, 8 * MIB]))
def test_a_size_class_has_its_verdict_alone(cell: tuple[str, str, str, str], part_bytes: int) -> None:
    """A class's own size has only the class's verdict."""
    framework, handoff, hook, size_class = cell
    size = SIZE_CLASSES[size_class].size(part_bytes)
    assert outcomes(framework, handoff, hook, size, part_bytes) == {verdict(*cell)}


@pytest.mark.parametrize(
    ("size_class", "size"),
    [
        pytest.param("memory", 100, id="in memory"),
        pytest.param("rolled", 500_001, id="a byte over the limit of memory"),
        pytest.param("parts", 16 * MIB + 1, id="a byte over two parts"),
    ],
)
def test_each_size_class_stands_for_a_size(size_class: str, size: int) -> None:
    """A size class has a size in bytes, for every size of a part."""
    assert SIZE_CLASSES[size_class].size(8 * MIB) == size


def test_size_classes_differ_with_the_smallest_parts() -> None:
    """With parts of 5 MiB, the three classes are still different."""
    memory, rolled, parts = (size.size(5 * MIB) for size in SIZE_CLASSES.values())
    assert memory < 500_000 < rolled < 5 * MIB < parts


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_description_is_the_whole_grid(framework: str) -> None:
    """The response of /strategies has each pair once, as plain JSON."""
    served = json.loads(json.dumps(describe(framework, Settings())))
    assert served["framework"] == framework
    assert served["default"] == {"handoff": DEFAULT_HANDOFF, "hook": DEFAULT_HOOK}
    assert [(pair["handoff"], pair["hook"]) for pair in served["strategies"]] == list(product(HANDOFFS, HOOKS))
    for pair in served["strategies"]:
        handoff, hook = HANDOFFS[pair["handoff"]], HOOKS[pair["hook"]]
        cells = {size: verdict(framework, handoff.name, hook.name, size) for size in SIZE_CLASSES}
        assert pair["verdicts"] == cells
        assert (pair["memory"], pair["disk"]) == (handoff.memory, handoff.disk)
        assert handoff.sentence in pair["sentence"]
        assert hook.sentence in pair["sentence"]


def test_the_description_has_the_sizes_of_these_settings() -> None:
    """Size classes and limits come from the app's settings."""
    settings = replace(Settings(), part_bytes=5 * MIB, parts_in_flight=2, max_form_parts=3, field_names=("a",))
    settings = replace(settings, allowed_types=("image/*",))
    served = json.loads(json.dumps(describe("flask", settings)))
    assert [size["bytes"] for size in served["size_classes"]] == [100, 500_001, 10 * MIB + 1]
    assert [size["name"] for size in served["size_classes"]] == list(SIZE_CLASSES)
    assert served["limits"]["part_bytes"] == 5 * MIB
    assert served["limits"]["parts_in_flight"] == 2
    assert served["limits"]["form_parts"] == 3
    assert (served["file_fields"], served["allowed_types"]) == (["a"], ["image/*"])
    assert served["peak_memory"]["bytes"] == peak_memory(32, 2, settings.part_sizes)
    assert (served["peak_memory"]["uploads"], served["peak_memory"]["largest_part_bytes"]) == (32, 5 * MIB)
