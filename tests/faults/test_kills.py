"""Clients of every hand-off, killed at random bytes, leave nothing behind."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from contract.api import TLS
from contract.nginx import in_front, needs_nginx
from faults import raw
from faults.processes import Processes
from faults.watch import Held, Watch, watched
from patience import PATIENCE, wait_until

from benchmarks import null_store
from demo import stack
from filehandoff.settings import MIB

FRAMEWORKS = ("flask", "quart")
AT_ONCE = 8
#: Allowed growth of memory over a hundred clients: the allocator's reserve. A leak of each upload would be ten times as
#: large.
KEPT_BYTES = 80 * MIB


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[null_store.NullStore, stack.Stack]]:
    """A store that keeps nothing, and both apps."""
    folder = tmp_path_factory.mktemp("kills")
    with null_store.running() as store:
        environ = {**store.environ, "UPLOAD_S3": store.endpoint_url, "UPLOAD_PART_BYTES": "5 MiB"}
        environ |= {"UPLOAD_S3_CONNECT_TIMEOUT": str(PATIENCE), "UPLOAD_IDLE_TIMEOUT": str(PATIENCE)}
        environ |= {"UPLOAD_DRAIN_SECONDS": "1", "TMPDIR": str(folder)} | watched(tmp_path_factory.mktemp("watched"))
        with stack.running(environ, log_path=folder / "servers.log") as started:
            yield store, started


def kill(url: str, seed: int) -> None:
    """Kill an upload; the seed chooses how."""
    raw.kill_an_upload(url, random.Random(seed))  # noqa: S311 - not for secrets


def clients_of(url: str) -> int:
    """Number of a server's open client connections, from the kernel's table."""
    port = f":{int(url.rsplit(':', 1)[1]):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established, close_wait = "01", "08"
    return sum(line[1].endswith(port) and line[3] in {established, close_wait} for line in lines)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_killed_client_leaves_nothing(
    running: tuple[null_store.NullStore, stack.Stack], name: str, pytestconfig: pytest.Config
) -> None:
    """After many killed clients, S3 is empty and the app is as before.

    It has no more tasks, threads, sockets, files or memory. Only its idle connections to S3 may be more.
    """
    store, started = running
    server = started.apps[name]
    app, watch = Processes(server.pid), Watch(server.pid, started.environ)

    def held() -> Held:
        all_of_it = watch.held()
        all_of_it.descriptors["socket"] -= app.connections(urlsplit(store.endpoint_url).port or 80)
        return all_of_it

    kills = pytestconfig.getoption("kills")
    created_before = store.stats().requests.get("CreateMultipartUpload", 0)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(kill, [server.url] * kills, range(kills)))
        settle(store, server.url)
        before, memory = held(), app.resident()
        list(pool.map(kill, [server.url] * kills, range(kills, 2 * kills)))
    settle(store, server.url)
    stats = store.stats()
    assert (stats.objects, stats.unfinished, clients_of(server.url)) == ({}, {}, 0)
    created = stats.requests["CreateMultipartUpload"] - created_before
    assert created > kills / 20  # many uploads by `stream` were killed between parts
    wait_until(lambda: held().beyond(before) == Counter(), lambda: held().beyond(before))
    assert app.resident() - memory < KEPT_BYTES


@needs_nginx
@pytest.mark.thorough
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_client_killed_before_nginx_leaves_nothing(
    running: tuple[null_store.NullStore, stack.Stack], name: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Nginx passes each body on as it comes, and the end of its client too: S3 is empty, and no upload runs."""
    store, started = running
    server, kills = started.apps[name], pytestconfig.getoption("kills")
    created_before = store.stats().requests.get("CreateMultipartUpload", 0)

    def uploading() -> bool:
        return "handoff_uploads_in_flight 0.0" not in httpx.get(f"{server.url}/metrics", verify=TLS).text

    with in_front(server.url, tmp_path / "nginx") as url:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(kill, [url] * kills, range(kills)))
        wait_until(lambda: not store.stats().unfinished and not uploading(), lambda: "an upload goes on")
        stats = store.stats()
    assert (stats.objects, stats.unfinished) == ({}, {})
    assert stats.requests["CreateMultipartUpload"] - created_before > kills / 50  # some uploads had begun a part


def settle(store: null_store.NullStore, url: str) -> None:
    """Wait until no upload is unfinished and no client is connected."""
    wait_until(
        lambda: not store.stats().unfinished and not clients_of(url),
        lambda: f"{len(store.stats().unfinished)} uploads are unfinished, {clients_of(url)} clients connected",
    )
