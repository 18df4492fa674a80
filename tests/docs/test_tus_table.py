"""The table of the protocol's rules in docs/tus.md names tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\|.*\| (MUST|MUST NOT|SHALL NOT|SHOULD|MAY) \|.*\| (.*) \|$", re.MULTILINE)


def defined() -> set[str]:
    """The names of the tests of tus."""
    files = [*(ROOT / "tests" / "contract").glob("test_tus*.py"), *(ROOT / "tests" / "resuming").glob("test_*.py")]
    trees = [ast.parse(path.read_text("utf-8")) for path in files]
    return {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_rule_has_a_test() -> None:
    """Each row names a test."""
    named = [test for _, test in _ROW.findall((ROOT / "docs" / "tus.md").read_text("utf-8"))]
    assert len(named) > 50
    assert [test for test in named if test.strip("`") not in defined()] == []
