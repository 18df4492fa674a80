"""The README's tables say what the code says: the settings, the grid, the error codes.

A row of settings is one setting: its variable, its default as one would write it into the environment, what it is for:
| `UPLOAD_PART_BYTES` | 8 MiB | … |
"""

import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

import filehandoff
from filehandoff.errors import UploadError
from filehandoff.settings import Settings, variable
from filehandoff.strategies import FRAMEWORKS, HANDOFFS, HOOKS, SIZE_CLASSES, verdict
from filehandoff.web.metrics import OUTCOMES, Metrics

README = Path(filehandoff.__file__).parent.parent / "README.md"
ROW = re.compile(r"^\|\s*`(UPLOAD_\w+)`\s*\|\s*([^|]*?)\s*\|\s*([^|]*?)\s*\|", re.MULTILINE)

#: How a default is written that no environment variable could hold, by its field.
WORDS = {
    "s3_endpoint_url": "none (AWS)",
    "s3_public_endpoint_url": "the same",
    "public_url": "the request's",
    "promise_secret": "that of the AWS credentials",
    "key_prefix": "empty",
    "root_path": "empty",
    "max_body_bytes": "file + 1 MiB",
}


def rows() -> list[tuple[str, str, str]]:
    """Variable, default and purpose of each row."""
    return ROW.findall(README.read_text("utf-8"))


def test_every_setting_is_documented_once() -> None:
    """The table has a row for each setting and for nothing else."""
    documented = [name for name, _, _ in rows()]
    assert sorted(documented) == sorted(variable(field.name) for field in fields(Settings))


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_the_documented_default_is_the_default(name: str) -> None:
    """A default can be copied from the table into the environment, or is in words, and is the code's own."""
    defaults = {variable: default.strip("`") for variable, default, _ in rows()}
    default = defaults[variable(name)]
    if name in WORDS:
        assert default == WORDS[name]
    else:
        assert default
        assert Settings.from_env({variable(name): default}) == Settings()


def test_every_setting_has_a_purpose() -> None:
    """No row of the table is without words on what the setting is for."""
    assert [name for name, _, purpose in rows() if not purpose] == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_grid_is_the_grid(framework: str) -> None:
    """The README's grid, which it gives for both frameworks at once, has each cell with its verdict in each."""
    block = README.read_text("utf-8").split("<!-- grid -->")[1].split("<!-- /grid -->")[0]
    head, _, *lines = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in block.split("\n") if line]
    assert head == ["hand-off", "hook", *SIZE_CLASSES]
    assert lines == [
        [handoff, hook, *(verdict(framework, handoff, hook, size) for size in SIZE_CLASSES)]
        for handoff in HANDOFFS
        for hook in HOOKS
    ]


def test_every_error_code_is_documented_with_its_status() -> None:
    """The README's table of errors has every code that a client can be told, in the row of its status."""
    documented = {
        (int(status), code)
        for status, codes in re.findall(r"^\| (\d{3}) \| (`[^|]+`) \|", README.read_text("utf-8"), re.MULTILINE)
        for code in re.findall(r"`([a-z-]+)`", codes)
    }
    known, todo = set(), [UploadError]
    while todo:
        error = todo.pop()
        todo += error.__subclasses__()
        known |= {(error.status, error.code)} if not error.__subclasses__() or "code" in vars(error) else set()
    assert documented == known


def test_every_number_is_documented_with_its_labels() -> None:
    """The README's table has each of the app's own series, in its order, and each outcome by its name."""
    block = README.read_text("utf-8").split("<!-- metrics -->")[1].split("<!-- /metrics -->")[0]
    metrics = Metrics()
    with metrics.upload("file"):
        metrics.count_files("file", [1])
    metrics.count_retry(SimpleNamespace(context={"retries": {"attempt": 2}}), "PutObject")
    expected = {}
    for family in metrics.registry.collect():
        if family.name.startswith("handoff_"):
            series = family.name + ("_total" if family.type == "counter" else "")
            expected[series] = {label for sample in family.samples for label in sample.labels} - {"le"}
    cells = re.findall(r"^\| `(handoff_\w+)` \|([^|]*)\|", block, re.MULTILINE)
    expected |= {"handoff_failures_total": {"reason"}}  # which shows itself with the first failure
    assert {series: set(re.findall(r"`(\w+)`", labels)) for series, labels in cells} == expected
    assert all(f"`{outcome}`" in block for outcome in OUTCOMES)
