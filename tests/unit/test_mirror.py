"""The two shells mirror each other: same modules, names and bodies, except for async."""

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

#: Files that only one shell has, each with the reason.
FILES_OF_ONE = {
    "flask_app/wsgi.py": "the app for WSGI servers",
    "quart_app/asgi.py": "the app for ASGI servers",
    "flask_app/worker.py": "gunicorn's accepting thread also closes connections, and its heads have no time limit",
    "quart_app/hypercorn_server.py": "hypercorn's protocol class is replaced; gunicorn has a setting for its worker",
    "quart_app/uvicorn_server.py": "uvicorn's protocol classes are changed in place, and its heads have no time limit",
    "flask_app/gunicorn_protocol.py": "the request class that worker.py gives to gunicorn's parser",
    "quart_app/older_quart.py": "the newest Quart below Python 3.13 lacks a bounded body; Flask is the same everywhere",
    "quart_app/connections.py": "worker.py ends the stalled connections of gunicorn, this module those of hypercorn",
    "flask_app/threads.py": "a thread that waits for S3 cannot be cancelled, only abandoned",
    "quart_app/tasks.py": "a task can be cancelled, and must finish its call to S3",
    "quart_app/idle_limit.py": "a socket has a timeout for each read; a task needs a timer",
    "quart_app/payload.py": "aiohttp's own payloads have flaws; boto3 sends bodies well",
    "flask_app/gunicorn.conf.py": "gunicorn's configuration is Python",
    "quart_app/hypercorn.toml": "hypercorn's configuration is TOML",
    "quart_app/uvicorn.toml": "uvicorn's configuration is TOML",
    "quart_app/__main__.py": "gunicorn's command supervises processes; hypercorn's command does not",
    "quart_app/servers.py": "Quart has two servers; Flask has one, which opens its own sockets",
    "quart_app/workers.py": "gunicorn replaces a lost process, hypercorn ends the service",
}

#: Public names that only one shell's module has, each with the reason.
NAMES_OF_ONE = {
    ("flask_app", "request.py", "READ_BYTES"): "Flask reads from the server in this size; Quart receives messages",
    ("flask_app", "request.py", "close_after_answer"): "a thread must not wait for a client; a task may",
    ("flask_app", "start.py", "BOOT_ERROR"): "gunicorn replaces a worker that ends, unless it ends with this status",
    (
        "flask_app",
        "client.py",
        "EXPECT_BYTES",
    ): "boto3 sends Expect: 100-continue with large bodies; aiohttp never sends it",
    ("quart_app", "quotas.py", "AT_ONCE"): "threads are few, tasks are many",
    ("quart_app", "request.py", "WRITE_BYTES"): "a write to disk would block the loop, so a thread writes, in bulk",
    ("quart_app", "request.py", "TRANSPORT"): "gunicorn gives the app its connection; hypercorn does not",
    ("quart_app", "request.py", "close_files"): "closing a file on disk would block the loop, so a thread closes it",
    ("quart_app", "request.py", "BODY_MESSAGES"): "Quart has no back-pressure (pallets/quart#152), WSGI has",
    ("quart_app", "request.py", "JOINED_BYTES"): "messages are as small as the client sends them",
    ("quart_app", "request.py", "Body"): "Quart has no back-pressure: this body bounds its memory",
    ("quart_app", "request.py", "Connection"): "the rest of a bounded body must be discarded",
    ("quart_app", "request.py", "ServiceConnection"): "a connection that the end of the process can end",
    ("quart_app", "request.py", "Handshake"): "a WebSocket handshake is a request in WSGI, but not in ASGI",
    ("quart_app", "shutdown.py", "ignore_reload_signals"): "gunicorn handles these signals",
    (
        "flask_app",
        "shutdown.py",
        "POLL_SECONDS",
    ): "Flask polls an attribute of gunicorn's worker; asyncio handles signals",
    ("flask_app", "store.py", "PartAborted"): "a thread that sends a part cannot be cancelled: its body raises this",
    ("quart_app", "store.py", "INLINE_BYTES"): "the loop digests small bodies; a thread digests large ones",
    (
        "quart_app",
        "uploads.py",
        "AsyncReader",
    ): "the end of a queue of tasks is awaited; the end of a queue of threads is an ordinary file",
    ("quart_app", "uploads.py", "is_file"): "Quart must distinguish two kinds of body",
    ("quart_app", "uploads.py", "read_chunks"): "the core's `read_chunks` for a file with an async `read`",
    ("quart_app", "uploads.py", "cut"): "the core's `cut` for an async iterator",
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
    """The files that only this shell must have, relative to it."""
    return {path.removeprefix(f"{shell}/") for path in FILES_OF_ONE if path.startswith(f"{shell}/")}


SHARED = sorted(path for path in files("flask_app") - of_one("flask_app") if path.endswith(".py"))


def tree(shell: str, module: str) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse((ROOT / shell / module).read_text("utf-8"))


def is_type_variable(value: ast.expr) -> bool:
    """Whether an expression makes a type variable, which only its module uses."""
    return isinstance(value, ast.Call) and ast.unparse(value.func) == "TypeVar"


def public_names(shell: str, module: str) -> set[str]:
    """The public names that a module defines at its top level."""
    names: set[str] = set()
    for node in tree(shell, module).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Assign(targets=targets, value=value) if not is_type_variable(value):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_the_shells_have_the_same_files() -> None:
    """Each file has a twin, except the files that only one server needs."""
    ours, theirs = (files(shell) - of_one(shell) for shell in SHELLS)
    assert ours == theirs
    assert [path for path in FILES_OF_ONE if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("module", SHARED)
def test_a_module_and_its_twin_have_the_same_public_names(module: str) -> None:
    """Each public name of a module is in its twin, except the names in NAMES_OF_ONE."""
    flask, quart = (public_names(shell, module) for shell in SHELLS)
    differing = {("flask_app", module, name) for name in flask - quart}
    differing |= {("quart_app", module, name) for name in quart - flask}
    assert differing == {difference for difference in NAMES_OF_ONE if difference[1] == module}


def test_every_difference_has_a_module() -> None:
    """Each difference names a module that exists."""
    assert {module for _, module, _ in NAMES_OF_ONE} <= set(SHARED)


#: Functions whose bodies differ by more than async, each with the reason. `handoffs/` is exempt: its differences are
#: for readers.
BODIES_OF_ONE = {
    ("files.py", "create_upload"): "a disconnect cancels Quart's request, so a task of its own stores the bytes",
    ("files.py", "patch_upload"): "a disconnect cancels Quart's request, so a task of its own stores the bytes",
    ("files.py", "receive"): "async and ordinary contexts need nested blocks",
    ("files.py", "store_bytes"): "Quart's client may disconnect; Flask bounds the end's time in `end`",
    ("files.py", "concatenate"): "async and ordinary contexts need nested blocks",
    ("files.py", "bytes_of"): "async and ordinary contexts need nested blocks",
    ("files.py", "ChunkSender.__init__"): "Flask watches futures; Quart has tasks",
    ("files.py", "ChunkSender.send"): "Flask watches futures; Quart digests in threads",
    ("files.py", "ChunkSender._take"): "Flask watches futures; Quart has tasks",
    ("files.py", "ChunkSender._send_part"): "Quart digests in threads",
    ("files.py", "ChunkSender._end"): "Flask waits for futures; Quart's tasks call back",
    ("files.py", "ChunkSender.end"): "Flask runs a function in a bounded time, Quart a coroutine",
    ("__init__.py", "create_app"): "Quart opens its clients on the event loop, when the server starts",
    ("__init__.py", "_service"): "other apps import quart_app.request, which must need no aioboto3",
    ("admission.py", "place"): "an event of threads has its own timeout; asyncio's has none",
    ("causes.py", "reproduce"): "Flask runs a function in a bounded time, Quart a coroutine",
    ("causes.py", "_run"): "the frameworks' test clients differ, and aioboto3's clients are context managers",
    ("cleanup.py", "Cleaner.__init__"): "a thread needs a lock; Quart keeps its task",
    ("cleanup.py", "Cleaner.resume"): "a thread may fail to start",
    ("cleanup.py", "Cleaner.close"): "Flask polls its threads; Quart gathers its tasks",
    ("cleanup.py", "Cleaner._try_last"): "a task is cancelled at the end of its time",
    ("cleanup.py", "Cleaner._work"): "a thread must end under a lock",
    (
        "client.py",
        "new_client",
    ): "aioboto3's clients are context managers, and the SDKs differ in `Expect: 100-continue`",
    ("client.py", "_new_session"): "each SDK has its own path to a session",
    (
        "direct_put.py",
        "DirectPut.__init__",
    ): "aiohttp is called without aiobotocore's session, which costs a tenth of an upload",
    ("direct_put.py", "DirectPut._send"): "aiohttp is called without aiobotocore's session",
    ("identity.py", "TokenCheck.__init__"): "a lock of threads, or of tasks",
    ("identity.py", "TokenCheck._read"): "reading a file would block the loop, so a thread reads it",
    ("identity.py", "fetch"): "urllib3 comes with boto3, aiohttp with aioboto3",
    ("hooks.py", "snapshot"): "only a task runs a coroutine in a context",
    ("quotas.py", "Limiter.__init__"): "threads need locks",
    ("quotas.py", "Limiter._use_redis"): "redis has a client for threads, and one for tasks",
    ("quotas.py", "Limiter.run"): "tasks are many, so they wait for a turn",
    ("quotas.py", "Limiter._increment"): "a task has a time limit for the whole call, a socket for each read",
    ("request.py", "FormFiller.__init__"): "Quart writes to disk in threads, in bulk",
    ("request.py", "FormFiller.take"): "Quart writes to disk in threads, in bulk",
    ("request.py", "FormFiller.close"): "Quart closes files in a thread",
    ("request.py", "FormDataParser.parse"): "the frameworks call their parsers with different arguments",
    ("request.py", "Request.__init__"): "in Quart the request sends 100 Continue, in Flask gunicorn's reader",
    ("request.py", "Request.chunks"): "Flask reads from the server; Quart receives messages",
    ("request.py", "Request.hang_up"): "Flask has a socket, Quart a transport",
    ("request.py", "read_body"): "a socket has a timeout; awaiting a queue needs one",
    ("service.py", "Service.__init__"): "Flask opens its clients at once and needs locks; Quart has connections",
    ("service.py", "Service.close"): "urllib3 has a pool for the whole process, aiohttp a session for each attempt",
    ("shutdown.py", "Shutdown.__init__"): "Quart ends the connections that hypercorn would wait for",
    ("shutdown.py", "Shutdown.watch"): "Flask polls an attribute of gunicorn's worker; asyncio handles signals",
    ("start.py", "start_app"): "gunicorn's configuration does for Flask what no ASGI server's can do for Quart",
    ("stored.py", "handle"): "Flask abandons a thread; Quart shields a task and cancels it",
    ("stored.py", "Webhook.__init__"): "urllib3 has a pool for the whole process, aiohttp a session for each attempt",
    ("stored.py", "Webhook.send"): "a thread looks whether it is abandoned; the libraries' errors differ",
    ("stored.py", "Webhook._post"): "urllib3 and aiohttp differ",
    ("store.py", "Store.__init__"): "aioboto3's clients are context managers, and some need a limit for a whole call",
    ("store.py", "Store.open"): "aioboto3's clients are context managers",
    ("store.py", "Store._new_signer"): "aioboto3's clients are context managers",
    ("store.py", "Store._new_direct_put"): "aioboto3's clients are context managers",
    ("store.py", "Store.new_client"): "aioboto3's clients are context managers",
    ("store.py", "Store.close"): "an exit stack closes aioboto3's clients",
    ("store.py", "Store.perform"): "another thread finishes a call, or a shielded task",
    ("store.py", "Store._call"): "Quart limits the time of a call",
    ("store.py", "Store._opened"): "aiohttp sends this package's bodies in pieces, boto3 reads them",
    ("store.py", "Store._sign"): "signing many URLs must not hold the event loop",
    ("store.py", "check_bucket"): "aioboto3's clients are context managers",
    ("store.py", "send_body"): "aiobotocore wraps few errors in boto's own",
    ("store.py", "store_errors"): "boto3 raises urllib3's errors, aioboto3 raises aiohttp's",
    ("uploads.py", "FormUpload.__init__"): "a hand-off's thread needs the view's context; a task inherits it",
    ("uploads.py", "FormUpload.upload"): "Quart reads files in threads",
    ("uploads.py", "FormUpload.stream"): "Quart digests in threads; Flask watches the parts in flight",
    ("uploads.py", "FormUpload._undo"): "Flask runs a function in a bounded time, Quart a coroutine",
    ("uploads.py", "PartSender.__init__"): "Flask watches futures; Quart has a task group",
    ("uploads.py", "PartSender.send"): "Flask watches futures; Quart has a task group",
    ("uploads.py", "PartSender._send_part"): "a thread needs the cancellation that ends it",
    ("views.py", "begin"): "only in Quart, `authenticate` may be a coroutine function",
    ("views.py", "counted"): "only Quart learns that a client has disconnected",
    ("views.py", "admitted"): "Flask shuts a thread's socket; Quart cancels a task",
    ("views.py", "show_cause"): "async and ordinary contexts need nested blocks",
    ("views.py", "get_metrics"): "a thread reads the numbers of several processes from files",
    ("views.py", "add_request_id"): "in Quart, the connection discards the rest of the body",
    ("views.py", "download"): "async and ordinary contexts need nested blocks",
}

#: Words of the async shell, each with its word in the sync shell.
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
    """Removes async and await from a function, as httpcore's `unasync` does."""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        """Make it a function."""
        return self._as(ast.FunctionDef, node)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        """Make it an ordinary loop, or `yield from` if it only yields its items."""
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
    """Without async, each function equals its twin word for word, except those with a reason."""
    flask, quart = (bodies(shell, module) for shell in SHELLS)
    differing = {(module, name) for name in flask.keys() & quart.keys() if flask[name] != quart[name]}
    assert differing == {function for function in BODIES_OF_ONE if function[0] == module}


def test_a_drifted_body_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One changed word counts as a difference; async alone does not."""
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
        pytest.param("quart_app", {"flask_app", "flask", "boto3", "gunicorn", "queue"}, id="quart"),
    ],
)
def test_a_shell_never_imports_the_other(shell: str, foreign: set[str]) -> None:
    """A shell imports the core, but neither its twin nor its twin's libraries."""
    found = imports(shell)
    assert {name for name in found if name.partition(".")[0] in foreign} == set()
    assert {shell, "filehandoff"} <= {name.partition(".")[0] for name in found}


def loaded(shell: str, module: str) -> ModuleType:
    """A shell's module, imported."""
    return import_module(f"{shell}.{module}")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_has_every_hand_off_of_the_grid(shell: str) -> None:
    """OF_A_FILE has the `hand_off` of each module that gets a file, and no module is missing."""
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
    """HOOKS has the grid's names in the grid's order, each with the function of that name."""
    hooks = loaded(shell, "hooks").HOOKS
    assert list(hooks) == list(strategies.HOOKS)
    assert [function.__name__ for function in hooks.values()] == list(hooks)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_is_one_of_the_grids_frameworks(shell: str) -> None:
    """A shell's name in a receipt is a framework of the grid."""
    framework = shell.removesuffix("_app")
    assert f'super().__init__("{framework}", settings' in (ROOT / shell / "service.py").read_text("utf-8")
    assert framework in strategies.FRAMEWORKS
