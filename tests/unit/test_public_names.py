"""The core's public face, and that it is a core: bytes and values, no I/O."""

import ast
import sys
from pathlib import Path

import pytest

import handoff

CORE = Path(handoff.__file__).parent
MODULES = sorted(CORE.rglob("*.py"))

#: What would be I/O, or a choice between threads and tasks: that is for the shells to make.
NO_CORE = {
    "_thread",
    "asyncio",
    "concurrent",
    "http",
    "multiprocessing",
    "queue",
    "select",
    "selectors",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
}
#: Third parties that the core may import, each with its reason.
THIRD_PARTIES = {
    "multipart": "a parser without I/O and without dependencies",
}


def imports(module: Path) -> set[str]:
    """The top-level names of all that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the house imports by full names"
            found.add((node.module or "").partition(".")[0])
    return found


def test_the_face_is_what_it_imports() -> None:
    """`handoff.__all__` is exactly what `handoff/__init__.py` imports, in order, and nothing is public beside it."""
    tree = ast.parse((CORE / "__init__.py").read_text("utf-8"))
    imported = [
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert sorted(imported) == sorted(handoff.__all__)
    assert len(set(handoff.__all__)) == len(handoff.__all__)
    modules = {module.stem for module in CORE.iterdir()}
    public = {name for name in vars(handoff) if not name.startswith("_")} - modules
    assert public == set(handoff.__all__)


@pytest.mark.parametrize("name", handoff.__all__)
def test_every_public_name_is_described(name: str) -> None:
    """Whatever the face exports comes from the core, and what can have a docstring has one."""
    value = getattr(handoff, name)
    if name == "Event":  # a type alias, which has none
        return
    assert value.__module__.partition(".")[0] == "handoff"
    assert value.__doc__


@pytest.mark.parametrize("module", [pytest.param(path, id=str(path.relative_to(CORE))) for path in MODULES])
def test_the_core_does_no_io(module: Path) -> None:
    """No module of the core imports a framework, boto, a shell, or anything that waits."""
    found = imports(module)
    assert found & NO_CORE == set()
    assert found - sys.stdlib_module_names - set(THIRD_PARTIES) - {"handoff"} == set()


def test_the_core_is_not_empty() -> None:
    """The modules that are looked at are those of the core."""
    assert {"__init__.py", "form.py", "parts.py"} <= {path.name for path in MODULES}
