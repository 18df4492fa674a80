"""The package as a user installs it: a wheel in an environment of its own, run from a folder far from the checkout."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import httpx
import pytest
from patience import PATIENCE

from demo.processes import ROOT
from demo.stack import running

PACKAGES = {"filehandoff", "flask_app", "quart_app"}
#: The packages' files that no import names.
DATA_FILES = {
    "filehandoff/py.typed",
    "filehandoff/web/page/index.html",
    "filehandoff/web/page/main.js",
    "filehandoff/web/page/page.css",
    "flask_app/gunicorn.conf.py",
    "quart_app/hypercorn.toml",
    "quart_app/uvicorn.toml",
}
#: The files of a source distribution beside the packages.
PROJECT_FILES = {
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "MANIFEST.in",
    "PACKAGE.md",
    "PKG-INFO",
    "README.md",
    "pyproject.toml",
    "setup.cfg",
}
#: Files of the checkout that a build must not find: the environment, and the results of an earlier build.
NOT_COPIED = (".*", "build", "*.egg-info", "__pycache__", "runs")
#: The commands that the documents give an operator.
COMMANDS = {
    "flask": "gunicorn -c \"$(python -c 'import flask_app; print(*flask_app.__path__)')/gunicorn.conf.py\" "
    "-b 127.0.0.1:8001 flask_app.wsgi:app",
    "quart": "python -m quart_app -b 127.0.0.1:8002",
}


def run(*command: str | Path, **options: Path | dict[str, str]) -> str:
    """Run a command that must succeed; return its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, **options)  # type: ignore[call-overload] # noqa: S603 - our own commands
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, because a build leaves folders in its source."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*NOT_COPIED))
    return folder / "source"


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """The wheel, built from the copy."""
    folder = source.parent
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site_packages(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site-packages of an environment that has the wheel and nothing else."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel)
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))


@pytest.fixture
def serving_environ(site_packages: Path) -> dict[str, str]:
    """Variables by which `python` is that of the environment, which borrows the dependencies of this one."""
    # Python reads no `.pth` file of a folder that a `.pth` file names: the editable install of the checkout stays out.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    scripts = site_packages.parents[2] / "bin"
    return {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}


def test_the_wheel_holds_the_three_packages_and_their_data_files(wheel: Path) -> None:
    """A user's site-packages gets `filehandoff`, `flask_app` and `quart_app`, and neither the demo nor the tests."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == PACKAGES
    assert names >= DATA_FILES


def test_the_source_distribution_holds_the_packages_and_what_builds_them(source: Path, wheel: Path) -> None:
    """The source distribution holds the wheel's files, the license, the texts about the project, and nothing else."""
    program = f"from setuptools.build_meta import build_sdist; build_sdist({str(source.parent)!r})"
    run(sys.executable, "-c", program, cwd=source)
    (built,) = source.parent.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    packaged = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name for name in names if "egg-info/" not in name} == packaged | PROJECT_FILES


def test_the_metadata_has_the_one_version(wheel: Path) -> None:
    """The wheel, CITATION.cff and the changelog's newest release have the version of pyproject.toml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert wheel.name == f"filehandoff-{version}-py3-none-any.whl"
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[0] == version


def test_a_package_index_can_show_the_description(wheel: Path) -> None:
    """The description has no link that only the repository can follow, and no sample but those of the README."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_bytes(
            archive.read(f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info/METADATA")
        )
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = str(metadata.get_payload())
    assert re.findall(r"\]\((?!https://)", description) == []
    samples = re.findall(r"^```\w.*?^```$", description, re.MULTILINE | re.DOTALL)
    readme = (ROOT / "README.md").read_text("utf-8")
    assert samples
    assert [sample for sample in samples if sample not in readme] == []


def test_the_explainer_needs_nothing_but_the_wheel(site_packages: Path) -> None:
    """Beside the standard library, the wheel alone suffices to import the explainer."""
    program = (
        f"import sys; sys.path.append({str(site_packages)!r}); from filehandoff.explain import explain_closed_files"
    )
    run(sys.executable, "-I", "-S", "-c", program)


def test_both_apps_serve_from_another_folder(
    site_packages: Path, serving_environ: dict[str, str], tmp_path: Path
) -> None:
    """The documented commands start both apps from the wheel's files; each stores a file and returns it."""
    documents = "".join(path.read_text("utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")))
    assert all(command in documents for command in COMMANDS.values())
    program = (
        "import filehandoff, flask_app, quart_app; print(filehandoff.__file__, flask_app.__file__, quart_app.__file__)"
    )
    origins = run("python", "-c", program, cwd=tmp_path, env=serving_environ).split()
    assert origins == [str(site_packages / name / "__init__.py") for name in sorted(PACKAGES)]

    commands = {name: ["sh", "-c", f"exec {on_given_socket(command)}"] for name, command in COMMANDS.items()}
    data = os.urandom(300_000)
    with running(serving_environ, log_path=tmp_path / "log", commands=commands, folder=tmp_path) as stack:
        for app in stack.apps.values():
            answer = httpx.post(f"{app.url}/uploads", files={"file": ("a.bin", data)}, timeout=PATIENCE)
            assert answer.status_code == httpx.codes.CREATED, answer.text
            (receipt,) = answer.json()["receipts"]
            assert httpx.get(f"{app.url}/objects/{receipt['key']}", timeout=PATIENCE).content == data


def on_given_socket(command: str) -> str:
    """A command that serves on the socket it is given; a server is a module here, not a script of the environment."""
    address = command.partition(" -b ")[2].split()[0]
    return command.replace(shlex.quote(address), "fd://{fd}").replace("gunicorn -c", "python -m gunicorn -c")
