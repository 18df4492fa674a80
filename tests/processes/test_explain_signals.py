"""The pytest plugin with a partly installed framework: without signals, or broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE

#: Flask 2.2's module of signals without blinker.
NO_SIGNALS = """
class FakeSignal:
    def connect(self, *_any, **_more):
        raise RuntimeError("Signalling support is unavailable because the blinker library is not installed.")

    disconnect = connect


appcontext_pushed = FakeSignal()
"""
BROKEN = 'raise ImportError("cannot import name url_quote from werkzeug.urls")\n'
#: Plugins that a suite does not need, and the slowest of the others.
WITHOUT = [f"-pno:{name}" for name in ("cacheprovider", "cov", "schemathesis")]
OPTION = "--explain-closed-files"


def run(folder: Path, suite: str, *options: str, **modules: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on a suite, with modules that shadow installed ones."""
    (folder / "test_suite.py").write_text(suite, "utf-8")
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source, "utf-8")
    command = [sys.executable, "-m", "pytest", *WITHOUT, "--color=no", *options]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environ["PYTHONPATH"] = os.pathsep.join([str(folder), environ.get("PYTHONPATH", "")])
    return subprocess.run(  # noqa: S603 - this Python
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def test_without_the_option_missing_signals_do_not_matter(tmp_path: Path) -> None:
    """Without the option, a suite without blinker passes and gets no message about signals."""
    done = run(tmp_path, "import flask\ndef test_one(): assert flask", flask=NO_SIGNALS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_option_without_signals_is_a_usage_error(tmp_path: Path) -> None:
    """The option without signals is a usage error of one line, without a traceback."""
    done = run(tmp_path, "def test_one(): pass", OPTION, flask=NO_SIGNALS)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --explain-closed-files needs flask's signals: Signalling support is unavailable" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "name",
    ["flask", "quart", *[pytest.param(it, marks=pytest.mark.thorough) for it in ("starlette", "fastapi", "django")]],
)
def test_a_framework_that_cannot_be_imported_is_left_out(tmp_path: Path, name: str) -> None:
    """A suite runs without a broken framework, and its header gives the reason."""
    other = "flask" if name == "quart" else "quart"
    working = NO_SIGNALS.replace("raise RuntimeError", "return str")
    done = run(tmp_path, "def test_one(): pass", OPTION, **{name: BROKEN, other: working})
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"explains no app of {name}, which fails to import: cannot import name url_quote" in done.stdout
    assert f"no app of {other}" not in done.stdout
