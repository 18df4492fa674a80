"""Each input of the corpus keeps the properties of its target, and so do some new ones."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fuzz.catalogue import HERE, NAMES, load, seeds

#: New executions of each target; `make fuzz` runs many more.
NEW_RUNS = 300


@pytest.mark.parametrize("name", NAMES)
def test_each_input_keeps_the_properties(name: str) -> None:
    """Inputs that once failed stay mended, with or without a fuzzer."""
    target, inputs = load(name), sorted(seeds(name).iterdir())
    assert inputs
    for path in inputs:
        target.check(path.read_bytes())


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this Python or machine")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in NAMES[::3] else pytest.mark.thorough) for name in NAMES]
)
def test_new_inputs_keep_the_properties(name: str, tmp_path: Path) -> None:
    """A target runs under the fuzzer, as all do in `make fuzz`; its random numbers are the same each time.

    libFuzzer's limit of memory is off: Linux hands a process's peak on to its children, and so pytest's to the fuzzer.
    """
    runs = NEW_RUNS + len(list(seeds(name).iterdir()))
    options = (
        *(f"-runs={runs}", "-seed=1", "-max_len=1200", "-rss_limit_mb=0"),
        *(f"-artifact_prefix={tmp_path}/", "-print_final_stats=1"),
    )
    (tmp_path / "inputs").mkdir()
    ended = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "fuzz.one", name, *options, tmp_path / "inputs", seeds(name)],
        env={**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE.parent.parent}"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"stat::number_of_executed_units: {runs}" in ended.stderr


def test_the_corpus_is_small() -> None:
    """The corpus has at most 300 KB."""
    assert sum(path.stat().st_size for name in NAMES for path in seeds(name).iterdir()) <= 300_000
