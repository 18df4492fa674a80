"""The samples of docs/copying.md and docs/streaming.md run with the named packages; no other can be imported."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE
from unit.explain import store

import filehandoff

ROOT = Path(filehandoff.__file__).parent.parent

#: Runs a sample with a file for its client while all other distributions are hidden.
RUN = r"""
import asyncio, io, re, sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from importlib.metadata import distribution, packages_distributions, PackageNotFoundError

named, seen, project = set(), set(), set(sys.argv[2].split(","))
todo = sys.argv[1].split(",")
while todo:
    name, extras = re.match(r"([\w.-]+)(?:\[(.*?)\])?", todo.pop()).groups()
    named.add(name.lower().replace("_", "-"))
    try:
        required = distribution(name).requires or ()
    except PackageNotFoundError:
        continue  # it is for another system
    for one in required:
        needs = re.search(r"extra == .([\w-]+)", one)
        if (needs is None or needs[1] in (extras or "").split(",")) and one not in seen:
            seen.add(one)
            todo.append(one)
modules = {module for module, owners in packages_distributions().items()
           if {owner.lower().replace("_", "-") for owner in owners} & named}

class Only(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in sys.stdlib_module_names or top in modules or top in project
        return super().find_spec(name, path, target) if known else None

sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Only]
import sample

data = bytes(range(256)) * 4096

def post(client):
    if hasattr(sample.app, "asgi_app"):
        from quart.datastructures import FileStorage
        return client.post("/photos/name", files={"file": FileStorage(io.BytesIO(data), "name")})
    return client.post("/photos/name", data={"file": (io.BytesIO(data), "name")})

async def serve():
    async with sample.app.test_app() as app:
        return await post(app.test_client())

answer = asyncio.run(serve()) if hasattr(sample.app, "asgi_app") else post(sample.app.test_client())
print(answer.status_code)
"""


@pytest.fixture
def s3() -> Iterator[tuple[str, dict[str, bytes]]]:
    """The URL of an S3 server, and its objects."""
    objects: dict[str, bytes] = {}
    server = store.start(objects)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", objects
    server.shutdown()
    thread.join()
    server.server_close()


def sample(page: str, framework: str) -> str:
    """The sample of a page for a framework."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    found: str
    [found] = re.findall(rf":::{{tab}} {framework.title()}\n```python\n(.*?)```\n:::\n", text, re.DOTALL)
    return found


@pytest.mark.every_other
@pytest.mark.parametrize(
    ("framework", "packages"), [("flask", "flask,boto3"), ("quart", "quart,aioboto3")], ids=["Flask", "Quart"]
)
@pytest.mark.parametrize(
    ("page", "handoff_", "project"),
    [
        pytest.param("copying.md", "read_early", "", id="copied"),
        pytest.param("streaming.md", "stream", "filehandoff,quart_app", id="streaming"),
    ],
)
def test_a_sample_stores_a_file_with_the_packages_that_the_text_names(  # noqa: PLR0913, PLR0917 - parametrised
    page: str,
    handoff_: str,
    project: str,
    framework: str,
    packages: str,
    s3: tuple[str, dict[str, bytes]],
    tmp_path: Path,
) -> None:
    """A sample stores a file with only the packages that its text names."""
    url, objects = s3
    (tmp_path / "sample.py").write_text(sample(page, framework), "utf-8")
    (tmp_path / "run.py").write_text(RUN, "utf-8")
    shutil.copy(ROOT / f"{framework}_app" / "handoffs" / f"{handoff_}.py", tmp_path)
    allowed = {"sample", handoff_, *filter(None, project.split(","))}
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "UPLOAD_"))},
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": "anyone",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }
    done = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, str(tmp_path / "run.py"), packages, ",".join(sorted(allowed))],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20 * PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["201"]), done.stderr[-700:]
    assert objects == {"/my-bucket/name": bytes(range(256)) * 4096}
