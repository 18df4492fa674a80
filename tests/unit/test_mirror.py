"""The two shells are each other's mirror: same modules, same public names, but for what async changes."""

import ast
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import filehandoff
from filehandoff import strategies

ROOT = Path(filehandoff.__file__).parent.parent
SHELLS = ("flask_app", "quart_app")

#: Files that only one shell has, each with its reason.
FILES_OF_ONE = {
    "flask_app/wsgi.py": "what a WSGI server loads",
    "quart_app/asgi.py": "what an ASGI server loads",
    "flask_app/worker.py": "gunicorn's thread that accepts also closes, and heads have no limit; hypercorn's do",
    "quart_app/hypercorn_protocol.py": "hypercorn's protocol is replaced; gunicorn takes a worker class",
    "quart_app/uvicorn_protocol.py": "likewise, in place",
    "quart_app/server_version.py": "the servers whose protocols are replaced must be of a known version",
    "flask_app/gunicorn_protocol.py": "the class that worker.py has gunicorn's parser make",
    "quart_app/connections.py": "hypercorn waits without end for who does not read; gunicorn is in worker.py",
    "flask_app/threads.py": "a thread that waits for S3 cannot be cancelled, a task can",
    "quart_app/payload.py": "aiohttp is to be told how to send a body, boto3 sends it well by itself",
    "flask_app/gunicorn.conf.py": "how gunicorn runs it, in Python",
    "quart_app/hypercorn.toml": "how hypercorn runs it, in TOML",
    "quart_app/uvicorn.toml": "how uvicorn runs it, in TOML",
    "quart_app/__main__.py": "gunicorn's command supervises processes, hypercorn's does not",
    "quart_app/servers.py": "two ASGI servers, one WSGI server",
    "quart_app/listening.py": "gunicorn opens the sockets that its processes share",
    "quart_app/workers.py": "gunicorn replaces a lost process, hypercorn ends the service",
    "quart_app/hypercorn_worker.py": "gunicorn's workers drain on every way to their end",
    "quart_app/uvicorn_fixes.py": "uvicorn has no time limit for heads; gunicorn's is in worker.py",
}

#: Public names that only one shell's module has, each with its reason.
NAMES_OF_ONE = {
    ("flask_app", "request.py", "READ_BYTES"): "Flask asks the server for so much, Quart is given messages",
    ("flask_app", "request.py", "close_after_answer"): "a thread is not to wait for a client, a task may",
    ("flask_app", "client.py", "EXPECT_BYTES"): "boto3 asks S3 before it sends a body, aiohttp is kept from it",
    ("quart_app", "request.py", "WRITE_BYTES"): "a write to disk would block the loop: it goes to a thread, in bulk",
    ("quart_app", "request.py", "TRANSPORT"): "hypercorn does not give the connection, gunicorn does",
    ("quart_app", "request.py", "close_files"): "so does closing what is on disk",
    ("quart_app", "request.py", "BODY_MESSAGES"): "Quart has no back-pressure (pallets/quart#152), WSGI has",
    ("quart_app", "request.py", "JOINED_BYTES"): "likewise: messages come as small as the client sends them",
    ("quart_app", "request.py", "Body"): "likewise: a body of which only so much waits in memory",
    ("quart_app", "request.py", "Connection"): "likewise: the rest of a bounded body must be discarded",
    ("quart_app", "request.py", "ServiceConnection"): "the same, and it can be hung up at the end of the process",
    ("quart_app", "request.py", "Handshake"): "a WebSocket handshake is no request to ASGI, to WSGI it is",
    ("quart_app", "uploads.py", "to_the_end"): "a task can be cancelled in the middle of a call, a thread cannot",
    ("quart_app", "uploads.py", "LOOK_EVERY"): "likewise; threads.py has Flask's",
    ("quart_app", "shutdown.py", "ignore_reload_signals"): "gunicorn handles them",
    ("quart_app", "shutdown.py", "stopped_for"): "a task that may not be cancelled asks, Flask's threads ask `check`",
    ("quart_app", "uploads.py", "undo"): "tasks undo all files of a form at once, a thread one after the other",
    ("quart_app", "uploads.py", "INLINE_BYTES"): "what is digested by the loop itself, and not by a thread",
    ("quart_app", "uploads.py", "AsyncReader"): "the end of a queue of tasks is awaited, that of threads is read",
    ("quart_app", "uploads.py", "is_file"): "so two kinds of body must be told apart",
    ("quart_app", "uploads.py", "read_chunks"): "the core's `read_chunks` from a file that is awaited",
    ("quart_app", "uploads.py", "cut"): "the core's `cut` over chunks that are awaited",
}


def files(shell: str) -> set[str]:
    """A shell's files, relative to it."""
    folder = ROOT / shell
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def of_one(shell: str) -> set[str]:
    """The files that only this shell is to have, relative to it."""
    return {path.removeprefix(f"{shell}/") for path in FILES_OF_ONE if path.startswith(f"{shell}/")}


SHARED = sorted(path for path in files("flask_app") - of_one("flask_app") if path.endswith(".py"))


def tree(shell: str, module: str) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse((ROOT / shell / module).read_text("utf-8"))


def public_names(shell: str, module: str) -> set[str]:
    """The public names that a module itself makes at its top level."""
    names: set[str] = set()
    for node in tree(shell, module).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.TypeAlias(name=ast.Name(id=name)) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_the_shells_have_the_same_files() -> None:
    """Each file has its twin, but for those that only one server needs."""
    ours, theirs = (files(shell) - of_one(shell) for shell in SHELLS)
    assert ours == theirs
    assert [path for path in FILES_OF_ONE if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("module", SHARED)
def test_a_module_and_its_twin_have_the_same_public_names(module: str) -> None:
    """Each public name of a module is in its twin, but for what async changes."""
    flask, quart = (public_names(shell, module) for shell in SHELLS)
    differing = {("flask_app", module, name) for name in flask - quart}
    differing |= {("quart_app", module, name) for name in quart - flask}
    assert differing == {difference for difference in NAMES_OF_ONE if difference[1] == module}


def test_every_difference_has_a_module() -> None:
    """No difference is excused in a module that is not there."""
    assert {module for _, module, _ in NAMES_OF_ONE} <= set(SHARED)


def imports(shell: str) -> set[str]:
    """The full names of all modules that a shell's modules import, anywhere in them."""
    found: set[str] = set()
    for module in sorted(path for path in files(shell) if path.endswith(".py")):
        for node in ast.walk(tree(shell, module)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module or "")
    return found


@pytest.mark.parametrize(
    ("shell", "foreign"),
    [
        pytest.param(
            "flask_app", {"quart_app", "quart", "aioboto3", "aiobotocore", "hypercorn", "asyncio"}, id="flask"
        ),
        pytest.param("quart_app", {"flask_app", "flask", "boto3", "gunicorn", "threading", "queue"}, id="quart"),
    ],
)
def test_a_shell_never_imports_the_other(shell: str, foreign: set[str]) -> None:
    """A shell knows the core, never its twin, nor its twin's framework, SDK and way of waiting."""
    found = imports(shell)
    assert {name for name in found if name.partition(".")[0] in foreign} == set()
    assert {shell, "filehandoff"} <= {name.partition(".")[0] for name in found}


def loaded(shell: str, module: str) -> ModuleType:
    """A shell's module, imported."""
    return import_module(f"{shell}.{module}")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_has_every_hand_off_of_the_grid(shell: str) -> None:
    """OF_A_FILE has those that get a file, each the `hand_off` of its own module, and no module is left over."""
    handoffs = loaded(shell, "handoffs").OF_A_FILE
    assert [*handoffs, "stream", "presigned"] == list(strategies.HANDOFFS)
    assert {name: function.__module__ for name, function in handoffs.items()} == {
        name: f"{shell}.handoffs.{name}" for name in handoffs
    }
    assert {path.stem for path in (ROOT / shell / "handoffs").glob("*.py")} == {
        "__init__",
        "stream",
        "presigned",
        *handoffs,
    }


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_has_every_hook_of_the_grid(shell: str) -> None:
    """HOOKS has the grid's names in its order, each the function of that name."""
    hooks = loaded(shell, "hooks").HOOKS
    assert list(hooks) == list(strategies.HOOKS)
    assert [function.__name__ for function in hooks.values()] == list(hooks)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_is_one_of_the_grids_frameworks(shell: str) -> None:
    """The name that a shell gives itself in a receipt is one that the grid knows."""
    assert shell.removesuffix("_app") == loaded(shell, "views").FRAMEWORK
    assert loaded(shell, "views").FRAMEWORK in strategies.FRAMEWORKS
