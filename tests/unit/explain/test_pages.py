"""The pages of `python -m filehandoff.explain`: the samples fail or work as labelled; the command prints the pages."""

import asyncio
import re
import runpy
import sys
import threading
from collections.abc import Callable
from importlib.resources import files
from io import BytesIO
from textwrap import indent
from typing import Any, get_args

import pytest
from patience import PATIENCE
from unit.explain import store
from unit.explain.apps import FRAMEWORKS
from unit.explain.conftest import Store
from werkzeug.datastructures import FileStorage

from filehandoff.explain.note import Page

PAGES = {
    entry.name.removesuffix(".md"): entry.read_text("utf-8")
    for entry in (files("filehandoff.explain") / "pages").iterdir()
}
#: The objects that each page's working sample stores.
OBJECTS = {
    "copied-context": {"photo"},
    "transfer-closes": {"photo", "copy"},
    "after-response": {"photo"},
    "own-close": {"table"},
}
DATA = b"a,b\n1,2\n" * 100


def sample(page: str, section: str, framework: str) -> str:
    """The code of one tab."""
    text = PAGES[page].split(f"\n## {section}\n")[1]
    found = re.search(rf":::{{tab}} {framework.title()}\n```python\n(.*?)```\n:::\n", text, re.DOTALL)
    assert found
    return found[1]


def post_to_flask(names: dict[str, Any], path: str, field: str, errors: list[str]) -> None:
    """Send one file; background work begins when the response is there, and is waited for."""
    answered = threading.Event()
    if upload := names.get("upload"):

        def upload_later(body: Any) -> None:
            assert answered.wait(PATIENCE)
            try:
                upload(body)
            except ValueError as error:
                errors.append(str(error))
                raise

        names["upload"] = upload_later
    file = (BytesIO(DATA), "name")
    names["app"].test_client().post(path, data={field: file}, headers={"X-User": "ada"})
    answered.set()
    if "pool" in names:
        names["pool"].shutdown()


async def post_to_quart(names: dict[str, Any], path: str, field: str) -> None:
    """Send one file; background work begins when the response is there, and is waited for."""
    answered = asyncio.Event()
    if upload := names.get("upload"):

        async def upload_later(body: Any) -> None:
            await answered.wait()
            await upload(body)

        names["upload"] = upload_later
    async with names["app"].test_app() as app:
        file = FileStorage(BytesIO(DATA), "name")
        await app.test_client().post(path, files={field: file}, headers={"X-User": "ada"})
        answered.set()


@pytest.fixture
def run(s3: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[list[str], set[str]]]:
    """Run a sample on the file `DATA`; return the texts of its errors and the objects that hold the whole file."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.OPTIONS["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.OPTIONS["aws_secret_access_key"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", store.OPTIONS["region_name"])

    def run(code: str) -> tuple[list[str], set[str]]:
        names: dict[str, Any] = {"__name__": "sample"}
        exec(compile(code, "sample.py", "exec"), names)  # noqa: S102 - the sample is ours
        errors: list[str] = []
        monkeypatch.setattr(names["app"], "log_exception", lambda *seen: errors.append(str(seen[-1][1])))
        [path] = re.findall(r'@app.post\("(.*?)"\)', code)
        field = path.strip("/").removesuffix("s")
        s3.objects.clear()
        if hasattr(names["app"], "asgi_app"):
            asyncio.run(post_to_quart(names, path, field))
        else:
            post_to_flask(names, path, field, errors)
        return errors, {key.removeprefix("/my-bucket/") for key, data in s3.objects.items() if data == DATA}

    return run


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("page", OBJECTS)
def test_the_failing_sample_fails_on_a_closed_file(page: str, framework: str, run: Any) -> None:
    """It ends with one error, of a closed file, and stores less than the working one."""
    [error], objects = run(sample(page, "This fails", framework))
    assert "closed file" in error
    assert objects < OBJECTS[page]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("page", OBJECTS)
def test_the_working_sample_stores_the_file(page: str, framework: str, run: Any) -> None:
    """Every object that it is meant to store holds the whole file."""
    assert run(sample(page, "This works", framework)) == ([], OBJECTS[page])


def test_a_hook_in_a_snapshot_stores_the_file(run: Any) -> None:
    """The page's third way, in the place of the copied hook."""
    failing = sample("copied-context", "This fails", "flask")
    [snapshot] = re.findall(r"```python\n(from contextvars .*?)```", PAGES["copied-context"], re.DOTALL)
    hook = "    hook = copy_current_request_context(add_user)\n"
    assert hook in failing
    assert run(failing.replace(hook, indent(snapshot, "    "))) == ([], {"photo"})


@pytest.mark.usefixtures("run")
async def test_the_sample_for_fastapi_stores_the_file(s3: Store) -> None:
    """The background task of the sample stores the whole file."""
    pytest.importorskip("fastapi", reason="the benchmark's environment has it")
    httpx: Any = pytest.importorskip("httpx", reason="the benchmark's environment has it")
    page = PAGES["after-response"].split("\n## In FastAPI, Starlette and Django\n")[1]
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"__name__": "sample"}
    exec(compile(code, "sample.py", "exec"), names)  # noqa: S102 - the sample is ours
    s3.objects.clear()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(names["app"]), base_url="http://app") as client:
        response = await client.post("/photos", files={"photo": ("name", DATA)})
    assert response.status_code == 202
    assert s3.objects == {"/my-bucket/photo": DATA}


def command(*arguments: str) -> int | str | None:
    """Run `python -m filehandoff.explain` in this process; return its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["explain", *arguments])
        try:
            runpy.run_path(str(files("filehandoff.explain") / "__main__.py"), run_name="__main__")
        except SystemExit as end:
            return end.code
    return 0


@pytest.mark.parametrize("page", OBJECTS)
def test_the_command_prints_a_page_without_the_marks_of_tabs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader in a terminal sees which code is for which framework."""
    assert command(page) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(PAGES[page].partition("\n")[0])
    assert printed.count("In Flask:\n\n```python\n") == printed.count("In Quart:\n\n```python\n") == 2
    assert ":::" not in printed


def test_without_a_cause_the_command_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each page, with its title."""
    assert command() == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == set(PAGES) == set(OBJECTS)
    assert all(PAGES[line.split()[0]].startswith(f"# {line.split(maxsplit=1)[1]}\n") for line in lines)


def test_an_unknown_cause_ends_the_command_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """The error names every cause."""
    assert command("copied_context") == 2
    error = capsys.readouterr().err
    assert all(page in error for page in PAGES)


def test_every_note_names_a_page() -> None:
    """The notes name the pages that exist."""
    assert set(get_args(Page)) == set(PAGES)
