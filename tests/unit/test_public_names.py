"""The core's public names, and its independence: bytes and values, no I/O."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import filehandoff

CORE = Path(filehandoff.__file__).parent
MODULES = sorted(CORE.rglob("*.py"))

#: Modules for I/O or concurrency, which only the shells may import.
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
#: Modules of the core with further imports, each with these and the reason.
EXCEPTIONS = {
    "digest.py": ({"zlib_ng"}, "zlib's own CRC-32, ten times as fast, where it is installed"),
    "explain/_flask.py": ({"werkzeug"}, "imported only when such an app is given"),
    "explain/_quart.py": ({"werkzeug"}, "likewise"),
    "explain/_starlette.py": ({"starlette"}, "likewise"),
    "explain/closing.py": ({"threading"}, "asks for the name of the thread; starts none, waits for none"),
    "explain/upload.py": ({"threading"}, "asks for the id of the thread"),
    "explain/waiting.py": ({"threading"}, "asks for the thread that runs"),
    "jwt_tokens.py": ({"jwt", "cryptography"}, "verify signatures; imported only for UPLOAD_AUTH=jwt"),
    "logs.py": ({"threading"}, "guards a dictionary; starts no thread"),
    "pytest_plugin.py": ({"pytest"}, "pytest alone imports it"),
    "quotas.py": ({"limits"}, "parses limits; imported only for UPLOAD_RATE and UPLOAD_QUOTA"),
    "sweep_command.py": ({"click"}, "the command of both apps; click comes with both frameworks"),
    "metrics.py": ({"tempfile"}, "makes the folder in which prometheus_client keeps numbers of several processes"),
    "temporary_files.py": ({"tempfile"}, "chooses the folder in which the shells make temporary files"),
    "tracing.py": ({"opentelemetry"}, "makes spans, which its SDK exports; imported only for UPLOAD_TRACES"),
    "explain/raising.py": ({"threading"}, "asks for the id of the thread; guards a dictionary"),
}
#: Third-party packages that the core may import, each with the reason.
THIRD_PARTIES = {
    "typing_extensions": "names for type checkers, which bundle it; imported by typing_backports.py for them alone",
    "puremagic": "a table of signatures; imported by file_types.py alone, if a setting needs it",
    "prometheus_client": "numbers as text; imported by metrics.py alone, which the shells ask for",
}


def imports(module: Path) -> set[str]:
    """Return the top-level names of all imports in a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the house imports by full names"
            found.add((node.module or "").partition(".")[0])
    return found


def test_the_face_is_what_type_checkers_see() -> None:
    """`filehandoff.__all__` lists exactly the names imported for type checkers, with the same values."""
    tree = ast.parse((CORE / "__init__.py").read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(seen) == sorted(filehandoff.__all__)
    for name, module in seen.items():
        assert getattr(filehandoff, name) is getattr(import_module(str(module)), name)


def test_the_face_lists_its_names() -> None:
    """`dir(filehandoff)` lists every public name, used or not."""
    assert set(filehandoff.__all__) <= set(dir(filehandoff))


def test_no_other_name_is_public() -> None:
    """Another name raises the error of a module without a `__getattr__`."""
    with pytest.raises(AttributeError, match=r"^module 'filehandoff' has no attribute 'Nothing'$"):
        _ = filehandoff.Nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", filehandoff.__all__)
def test_every_public_name_is_described(name: str) -> None:
    """Every exported name comes from the core and has a docstring."""
    value = getattr(filehandoff, name)
    if name == "Event":  # a type alias cannot have one
        return
    assert value.__module__.partition(".")[0] == "filehandoff"
    assert value.__doc__


@pytest.mark.parametrize("module", [pytest.param(path, id=str(path.relative_to(CORE))) for path in MODULES])
def test_the_core_does_no_io(module: Path) -> None:
    """No module of the core imports a framework, boto, a shell or I/O."""
    found = imports(module) - EXCEPTIONS.get(str(module.relative_to(CORE)), (set(), ""))[0]
    assert found & NO_CORE == set()
    assert found - sys.stdlib_module_names - set(THIRD_PARTIES) - {"filehandoff"} == set()


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_is_needed(name: str) -> None:
    """A module with a permission for further imports uses it."""
    assert EXCEPTIONS[name][0] <= imports(CORE / name)


@pytest.mark.parametrize(
    ("module", "loaded"),
    [
        pytest.param("filehandoff", r"filehandoff", id="the face"),
        pytest.param("filehandoff.explain", r"filehandoff(\.explain(\.\w+)?)?", id="the explainer"),
    ],
)
def test_an_import_loads_only_its_own_modules(module: str, loaded: str) -> None:
    """The import loads no third party and no other module of the core."""
    program = f"import sys; before = set(sys.modules); import {module}; print(*set(sys.modules) - before)"
    ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - our own
    names = {name for name in ended.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert module in names
    assert {name for name in names if not re.fullmatch(loaded, name)} == set()


def test_the_core_is_not_empty() -> None:
    """The checked modules are those of the core."""
    assert {"__init__.py", "form.py", "parts.py"} <= {path.name for path in MODULES}
