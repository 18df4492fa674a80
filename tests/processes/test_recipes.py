"""The recipes of docs/service/thumbnails.md make a thumbnail for every 201, although a worker is killed."""

import io
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import redis
from contract.api import Api, check_problem, form, part
from contract.bucket import Bucket
from patience import wait_until
from PIL import Image
from processes.redis_server import redis_server

import filehandoff
from demo import stack
from demo.processes import python, start_child

ROOT = Path(filehandoff.__file__).parent.parent
PAGE = (ROOT / "docs/service/thumbnails.md").read_text("utf-8")
#: The small pictures, and the side of the last one, which takes the worker a second.
PICTURES = 3
SMALL, LARGE = 200, 7000
#: Seconds after which a killed worker's jobs go to another one.
LONGEST_JOB = 3

WORKERS = {
    "flask": python("celery", "-A", "thumbnails", "worker", "--concurrency", "1"),
    "quart": python("taskiq", "worker", "thumbnails:broker", "--workers", "1", "--max-async-tasks", "1"),
}
BROKER_URLS = {"flask": "redis+socket://{}", "quart": "unix://{}"}
#: Whether a worker has begun a thumbnail and not acknowledged it, by each queue's own data.
BEGUN: dict[str, Callable[["redis.Redis"], Any]] = {
    "flask": lambda client: client.hlen("unacked"),
    "quart": lambda client: [job for job in unacknowledged(client) if b"make_thumbnail" in job],
}
#: Whether the time of a job has passed; Celery's worker looks for such jobs at its start, and then every 100 seconds.
OVERDUE: dict[str, Callable[["redis.Redis"], Any]] = {
    "flask": lambda client: client.zcount("unacked_index", 0, time.time() - LONGEST_JOB),
    "quart": lambda client: client.xpending_range("taskiq", "taskiq", "-", "+", 10, idle=LONGEST_JOB * 1000),
}


def unacknowledged(client: "redis.Redis") -> list[bytes]:
    """The jobs that taskiq's workers have taken from the stream and not acknowledged."""
    pending: Any = client.xpending_range("taskiq", "taskiq", "-", "+", 10)
    found: Any = [client.xrange("taskiq", one["message_id"], one["message_id"]) for one in pending]
    return [fields[b"data"] for [(_, fields)] in found]


@pytest.fixture
def broker() -> Iterator[Path]:
    """The socket of a Redis server."""
    with redis_server() as server:
        yield server.path


def recipe(framework: str, folder: Path) -> None:
    """Write the files of the page's recipe for a framework."""
    [tab] = re.findall(rf":::{{tab}} {framework.title()}\n(.*?)\n:::\n", PAGE, re.DOTALL)
    files = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", tab, re.DOTALL))
    assert sorted(files) == ["pictures.py", "thumbnails.py"]
    for name, code in files.items():
        (folder / name).write_text(code, "utf-8")


@contextmanager
def working(framework: str, environ: dict[str, str], folder: Path, log: IO[bytes]) -> Iterator[Callable[[int], None]]:
    """Run a worker for the block; yield a function that sends a signal to all of its processes."""
    with start_child(
        WORKERS[framework],
        cwd=folder,
        env=environ,
        stdout=log,
        stderr=log,
        start_new_session=True,
    ) as worker:
        try:
            yield lambda number: os.killpg(worker.pid, number)
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)


def picture(side: int) -> bytes:
    """A PNG of so many pixels in a row."""
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG", compress_level=1)
    return file.getvalue()


@pytest.mark.parametrize("framework", ["flask", pytest.param("quart", marks=pytest.mark.thorough)])
def test_every_201_gets_its_thumbnail(framework: str, broker: Path, tmp_path: Path) -> None:
    """A worker is killed in its last job, which goes to the next worker; a text has no job.

    Without Redis, a picture is not stored.
    """
    recipe(framework, tmp_path)
    command = [re.sub(r"\w+_app\.[aw]sgi:app", "pictures:app", word) for word in stack.COMMANDS[framework]]
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    settings = {"UPLOAD_S3": "moto", "UPLOAD_DRAIN_SECONDS": "1", "PYTHONPATH": paths}
    settings |= {"BROKER_URL": BROKER_URLS[framework].format(broker), "LONGEST_JOB": str(LONGEST_JOB)}
    log_path = tmp_path / "servers.log"
    client = redis.Redis(unix_socket_path=str(broker))
    with (
        stack.running(settings, log_path=log_path, commands={framework: command}) as started,
        (tmp_path / "worker.log").open("wb") as log,
        closing(started.store.client()) as s3,
        closing(Api(started.apps[framework].url)) as api,
        closing(client),
    ):
        bucket = Bucket(s3, started.settings.bucket, None)

        def thumbnails() -> set[str]:
            return {key for key in bucket.stored_keys() if key.startswith("thumbnails/")}

        def explain() -> str:
            return f"{len(thumbnails())} thumbnails; the worker's log: …{(tmp_path / 'worker.log').read_text()[-1500:]}"

        def stopped_in_a_job() -> bool:
            send(signal.SIGSTOP)
            if not BEGUN[framework](client):  # stopped between two jobs
                send(signal.SIGCONT)
                return False
            return True

        def upload(data: bytes, content_type: str = "image/png") -> str:
            answer = api.upload(form(part("file", data, "a", Content_Type=content_type)), "/uploads/stream")
            assert answer.status_code == 201, answer.text
            return f"thumbnails/{answer.json()['receipts'][0]['key']}.png"

        wanted = {upload(picture(SMALL)) for _ in range(PICTURES)}
        upload(b"text", "text/plain")
        path = os.pathsep.join([str(tmp_path), str(ROOT)])
        environ = dict(started.environ) | {"PYTHONPATH": path, "TMPDIR": str(tmp_path)}
        with working(framework, environ, tmp_path, log) as send:
            wait_until(lambda: thumbnails() == wanted, explain)
            large = upload(picture(LARGE))
            wait_until(stopped_in_a_job, explain)
            assert large not in thumbnails(), "the worker was killed after its last job"
            send(signal.SIGKILL)
        wait_until(lambda: OVERDUE[framework](client), explain)
        with working(framework, environ, tmp_path, log):
            wait_until(lambda: large in thumbnails(), explain)
        wanted.add(large)
        assert thumbnails() == wanted
        for key in wanted:
            body = s3.get_object(Bucket=bucket.name, Key=key)["Body"].read()
            assert Image.open(io.BytesIO(body)).size == (128, 128)

        client.shutdown(nosave=True)
        stored = bucket.stored_keys()
        answer = api.upload(form(part("file", picture(SMALL), "a", Content_Type="image/png")), "/uploads/stream")
        check_problem(answer, 502, "handler-failed")
        assert bucket.stored_keys() == stored
