"""The two shells are each other's mirror: same modules, same public names, but for what async changes."""

import ast
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import cast

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
    "quart_app/hypercorn_server.py": "hypercorn's protocol is replaced; gunicorn takes a worker class",
    "quart_app/uvicorn_server.py": "likewise, in place; it has no time limit for heads",
    "flask_app/gunicorn_protocol.py": "the class that worker.py has gunicorn's parser make",
    "quart_app/connections.py": "hypercorn waits without end for who does not read; gunicorn is in worker.py",
    "flask_app/threads.py": "a thread that waits for S3 cannot be cancelled, only abandoned",
    "quart_app/tasks.py": "a task can be cancelled, and must finish a call to S3",
    "quart_app/payload.py": "aiohttp is to be told how to send a body, boto3 sends it well by itself",
    "flask_app/gunicorn.conf.py": "how gunicorn runs it, in Python",
    "quart_app/hypercorn.toml": "how hypercorn runs it, in TOML",
    "quart_app/uvicorn.toml": "how uvicorn runs it, in TOML",
    "quart_app/__main__.py": "gunicorn's command supervises processes, hypercorn's does not",
    "quart_app/servers.py": "two ASGI servers, one WSGI server, which opens its sockets itself",
    "quart_app/workers.py": "gunicorn replaces a lost process, hypercorn ends the service",
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
    ("quart_app", "shutdown.py", "ignore_reload_signals"): "gunicorn handles them",
    ("flask_app", "shutdown.py", "LOOK_EVERY"): "gunicorn's worker has an attribute to look at, asyncio has signals",
    ("flask_app", "store.py", "BrokenOff"): "a thread that sends a part is not cancelled: its body raises",
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


#: Functions whose bodies differ by more than async, each with its reason. `handoffs/` is written by hand: its diff is
#: the lesson.
BODIES_OF_ONE = {
    ("__init__.py", "create_app"): "Quart opens its clients on the event loop, when the server starts",
    ("admission.py", "place"): "an event of threads has a timeout of its own",
    ("causes.py", "reproduce"): "a coroutine or a function is run in a bounded time",
    ("causes.py", "_run"): "the frameworks' test clients differ, and aioboto3's clients are entered",
    ("cleanup.py", "Cleaner.__init__"): "a thread needs a lock, a task is remembered",
    ("cleanup.py", "Cleaner.resume"): "a thread may fail to start",
    ("cleanup.py", "Cleaner.close"): "threads are polled, tasks are gathered",
    ("cleanup.py", "Cleaner._try_last"): "a task is cancelled at the end of its time",
    ("cleanup.py", "Cleaner._work"): "a thread ends under a lock",
    ("client.py", "new_client"): "aioboto3's clients are entered, and each SDK expects 100 Continue in its own way",
    ("client.py", "_new_session"): "each SDK has its own path to a session",
    ("head_probe.py", "Probe.__init__"): "each SDK has its own class of HTTP session",
    ("head_probe.py", "Probe.__call__"): "aiobotocore's stubs want another class of request",
    ("hooks.py", "snapshot"): "a coroutine runs in a context by a task",
    ("request.py", "FormFiller.__init__"): "Quart writes to disk in threads, in bulk",
    ("request.py", "FormFiller.take"): "Quart writes to disk in threads, in bulk",
    ("request.py", "FormFiller.close"): "Quart closes files in a thread",
    ("request.py", "FormDataParser.parse"): "the frameworks' seams differ",
    ("request.py", "Request.__init__"): "Quart's body is asked for by the app, gunicorn's by its reader",
    ("request.py", "Request.chunks"): "Flask reads from the server, Quart is given messages",
    ("request.py", "Request.hang_up"): "a socket or a transport",
    ("request.py", "read_body"): "a socket has a timeout, a queue is awaited in one",
    ("service.py", "Service.__init__"): "Flask opens its clients at once and needs locks; Quart has connections",
    ("shutdown.py", "Shutdown.__init__"): "Quart ends the connections that hypercorn would wait for",
    ("shutdown.py", "Shutdown.watch"): "gunicorn's worker has an attribute to look at, asyncio has signals",
    ("store.py", "Store.__init__"): "aioboto3's clients are entered, and calls by some have a limit of their own",
    ("store.py", "Store.open"): "aioboto3's clients are entered",
    ("store.py", "Store._new_signer"): "aioboto3's clients are entered",
    ("store.py", "Store.new_client"): "aioboto3's clients are entered",
    ("store.py", "Store.close"): "aioboto3's clients are exited together",
    ("store.py", "Store.perform"): "a call is finished by another thread or by a shielded task",
    (
        "store.py",
        "Store._call",
    ): "aiohttp sends our bodies in pieces, boto3 reads them; downloads are awaited in a limit",
    ("store.py", "Store._sign"): "signing many URLs must not hold the event loop",
    ("store.py", "check_bucket"): "aioboto3's clients are entered",
    ("store.py", "send_body"): "aiobotocore makes few errors boto's own",
    ("store.py", "store_errors"): "urllib3's errors or aiohttp's",
    ("uploads.py", "FormUpload.__init__"): "a thread of a hand-off needs the cancellation, a task inherits it",
    ("uploads.py", "FormUpload.upload"): "Quart reads files in threads",
    ("uploads.py", "FormUpload.stream"): "Quart digests in threads, Flask watches the parts that are sent",
    ("uploads.py", "FormUpload._undo"): "a coroutine or a function is run in a bounded time",
    ("uploads.py", "PartSender.__init__"): "futures are watched, tasks are grouped",
    ("uploads.py", "PartSender.send"): "futures are watched, tasks are grouped",
    ("uploads.py", "PartSender._send_part"): "a thread is broken off by its cancellation",
    ("views.py", "counted"): "Quart alone knows that a client has left",
    ("views.py", "admitted"): "a thread is cut off at its socket, a task is cancelled",
    ("views.py", "show_cause"): "async and other contexts nest",
    ("views.py", "get_metrics"): "several processes' numbers are read from files",
    ("views.py", "add_request_id"): "in Quart, the connection sees to the rest of the body",
    ("views.py", "download"): "async and other contexts nest",
}

#: The words of the async shell, and those of the other one.
WORDS = {
    "quart": "flask",
    "Quart": "Flask",
    "quart_app": "flask_app",
    "aioboto3": "boto3",
    "AioCredentials": "Credentials",
    "aclosing": "closing",
    "asynccontextmanager": "contextmanager",
    "AsyncIterator": "Iterator",
    "AsyncGenerator": "Generator",
    "anext": "next",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
}


class Synchronous(ast.NodeTransformer):
    """Takes async and await out of a function, as httpcore's `unasync` does."""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        """Make it a function."""
        return self._as(ast.FunctionDef, node)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        """Make it an ordinary loop, or `yield from` where it yields what it gets."""
        match node.target, node.body:
            case ast.Name(id=name), [ast.Expr(ast.Yield(ast.Name(id=yielded)))] if name == yielded:
                return ast.Expr(ast.YieldFrom(self.visit(node.iter)))
        return self._as(ast.For, node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        """Make it an ordinary block."""
        return self._as(ast.With, node)

    def visit_Await(self, node: ast.Await) -> ast.AST:
        """Leave the awaited expression."""
        return cast("ast.AST", self.visit(node.value))

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """Make it an ordinary comprehension."""
        node.is_async = 0
        return self.generic_visit(node)

    def _as(self, kind: Callable[..., ast.stmt], node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        return kind(**{name: getattr(node, name, None) for name in node._fields})


def bodies(shell: str, module: str) -> dict[str, str]:
    """The source of each function and method of a module, without async."""
    text = re.sub(r"\w+", lambda word: WORDS.get(word[0], word[0]), (ROOT / shell / module).read_text("utf-8"))
    found: dict[str, ast.AST] = {}
    for node in ast.parse(text).body:
        inside, name = (node.body, f"{node.name}.") if isinstance(node, ast.ClassDef) else ([node], "")
        for one in inside:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                found[name + one.name] = Synchronous().visit(one)
    return {name: ast.unparse(ast.fix_missing_locations(node)) for name, node in found.items()}


@pytest.mark.parametrize("module", [module for module in SHARED if not module.startswith("handoffs/")])
def test_a_function_and_its_twin_have_the_same_body(module: str) -> None:
    """Without async, each function of a module is its twin, word for word, but for those with a reason."""
    flask, quart = (bodies(shell, module) for shell in SHELLS)
    differing = {(module, name) for name in flask.keys() & quart.keys() if flask[name] != quart[name]}
    assert differing == {function for function in BODIES_OF_ONE if function[0] == module}


def test_a_drifted_body_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that differs by one word differs, and one that differs by async alone does not."""
    for shell, text in (
        ("flask_app", "def same(x):\n    return x()\n\ndef other(x):\n    return x(1)\n"),
        ("quart_app", "async def same(x):\n    return await x()\n\nasync def other(x):\n    return await x(2)\n"),
    ):
        (tmp_path / shell).mkdir()
        (tmp_path / shell / "module.py").write_text(text)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    flask, quart = (bodies(shell, "module.py") for shell in SHELLS)
    assert [name for name in flask if flask[name] != quart[name]] == ["other"]


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
    framework = shell.removesuffix("_app")
    assert f'super().__init__("{framework}", settings' in (ROOT / shell / "service.py").read_text("utf-8")
    assert framework in strategies.FRAMEWORKS
