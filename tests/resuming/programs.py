"""Other people's tus clients as programs, most of them those of docs/tus.md."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser.recipes import installed_packages
from client_code import code_blocks
from patience import PATIENCE
from programs import program

#: The command that runs each program, and its package of Debian, by the end of the program's name.
COMMANDS = {".sh": ("sh", "dash"), ".py": (sys.executable, "python3"), ".mjs": ("node", "nodejs")}
_OPTIONS = Path(__file__).with_name("options.mjs")


@dataclass(frozen=True)
class Program:
    """A program by its file's name on the page; with options, one of tests for tus-js-client."""

    name: str
    options: dict[str, Any] | None = None

    def send(self, service: str, path: Path, folder: Path) -> str:
        """Send a file, and return the address of its upload."""
        code = code_blocks()[self.name] if self.options is None else _OPTIONS.read_text("utf-8")
        file = folder / self.name
        file.write_text(code, "utf-8")
        if file.suffix == ".mjs" and not (folder / "node_modules").exists():
            (folder / "node_modules").symlink_to(installed_packages())
        more = [] if self.options is None else [json.dumps(self.options)]
        done = subprocess.run(  # noqa: S603 - a program of our page
            [program(*COMMANDS[file.suffix]), str(file), service, str(path), *more],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert done.stdout, f"it ended without an address or an error; {done.stderr!r}"
        return done.stdout.split()[-1]


thorough = pytest.mark.thorough


def of_tus_js_client(identity: str, *marks: Any, **options: Any) -> Any:
    """tus-js-client with options."""
    return pytest.param(Program("options.mjs", options), id=identity, marks=marks)


TUS_JS_CLIENT = pytest.param(Program("tus.mjs"), id="tus-js-client")
OTHERS = {"tuspy": Program("tus_tuspy.py"), "aiotus": Program("tus_aiotus.py"), "curl": Program("tus.sh")}
OTHER_CLIENTS = [pytest.param(one, id=identity, marks=thorough) for identity, one in OTHERS.items()]
#: The apps that each client meets in `make test`; the thorough tests have all pairs.
MET = {"tus-js-client": ("quart",), "tuspy": (), "aiotus": (), "curl": ("flask",)}
each_client = pytest.mark.parametrize(
    ("framework", "client"),
    [
        pytest.param(app, client, id=f"{app}-{name}", marks=() if app in MET[name] else thorough)
        for name, client in {"tus-js-client": Program("tus.mjs"), **OTHERS}.items()
        for app in ("flask", "quart")
    ],
    indirect=["framework"],
)
#: Any client, but `make test` runs only the first.
one_client = pytest.mark.parametrize("client", [TUS_JS_CLIENT, *OTHER_CLIENTS])
#: The same, with chunks: an app that is killed may lose the bytes of the last seconds, so a whole file may begin anew.
one_client_with_chunks = pytest.mark.parametrize(
    "client", [of_tus_js_client("tus-js-client", chunkSize=4_000_000), *OTHER_CLIENTS]
)
each_variant = pytest.mark.parametrize(
    "client",
    [
        of_tus_js_client("in parallel", parallelUploads=3),
        of_tus_js_client("small chunks", thorough, chunkSize=1_000_000),
        of_tus_js_client("data in creation", thorough, uploadDataDuringCreation=True, chunkSize=1_000_000),
        of_tus_js_client("deferred length", thorough, uploadLengthDeferred=True, chunkSize=3_000_000),
        of_tus_js_client("POST for PATCH", thorough, overridePatchMethod=True),
    ],
)
