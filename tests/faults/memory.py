"""Load both apps and print their memory each minute: `make memory`, or `make memory MINUTES=5`.

The load is uploads of four sizes by every hand-off for forms, and downloads, on a store that discards the bytes.
Exits with 1 if an app grew by more than a MiB a minute in the second half of ten minutes or more.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import httpx
from contract.api import TLS, Api, form, part
from faults.level import Course, growth
from faults.load import Load
from faults.processes import Processes

from benchmarks import null_store
from demo import stack
from evidence import figures
from filehandoff.arenas import ARENAS
from filehandoff.settings import MIB
from filehandoff.strategies import FORM_HANDOFFS

SIZES = (1000, 64 * 1024, 3 * MIB, 20 * MIB)
#: Number of uploading and of downloading clients per app.
UPLOADS, DOWNLOADS = 12, 2
#: MiB per minute; a level process grows by less in half an hour.
LEVEL = 1.0
#: A shorter run is still warming up.
FEWEST_MINUTES = 10.0
#: Seconds between two samples. The memory of a busy process varies by 30 MiB from one second to the next.
SAMPLE_SECONDS = 1.0


@contextmanager
def downloading(url: str) -> Iterator[None]:
    """Run clients that download an object repeatedly, for the block."""
    done = threading.Event()
    with closing(Api(url)) as api:
        answer = api.upload(form(part("file", os.urandom(9 * MIB), "kept-for-downloads")))
    location = url + answer.headers["Location"]

    def download() -> None:
        with httpx.Client(timeout=60, verify=TLS) as client:
            while not done.is_set():
                with suppress(httpx.HTTPError):
                    client.get(location)

    clients = [threading.Thread(target=download) for _ in range(DOWNLOADS)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        done.set()
        for client in clients:
            client.join()


def measure(minutes: float, every: float) -> dict[str, Course]:
    """Measure each app's memory in MiB by minute of load; print the median of every `every` seconds."""
    held: dict[str, Course] = {}
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        store = exits.enter_context(null_store.running())
        environ = {**store.environ, "UPLOAD_S3": store.endpoint_url, "UPLOAD_LOG_LEVEL": "error"}
        started = exits.enter_context(stack.running(environ, log_path=folder / "servers.log"))
        apps = {name: Processes(server.pid) for name, server in started.apps.items()}
        files = [os.urandom(size) for size in SIZES for _ in range(SIZES[-1] // size if size > MIB else 8)]
        loads = {}
        for name, server in started.apps.items():
            loads[name] = Load(server.url, files, [f"/uploads/{handoff}" for handoff in FORM_HANDOFFS])
            exits.enter_context(downloading(server.url))
            exits.enter_context(loads[name].running(UPLOADS))
        began = time.monotonic()
        printed = 0.0
        while (passed := time.monotonic() - began) < minutes * 60:
            time.sleep(SAMPLE_SECONDS)
            for name, processes in apps.items():
                held.setdefault(name, Course()).samples.append((passed / 60, processes.resident() / MIB))
            if passed // every > printed:
                printed = passed // every
                recent = int(every // SAMPLE_SECONDS)
                seen = ", ".join(
                    f"{name} {held[name].median(recent)} MiB after {len(loads[name].outcomes)} uploads" for name in apps
                )
                print(f"minute {passed / 60:.1f}: {seen}", flush=True)
        for name, load in loads.items():
            lost = Counter(f"{it.status} {it.problem}" for it in load.outcomes if it.status != httpx.codes.CREATED)
            print(f"{name}: {lost.total()} uploads were not stored {dict(lost)}")
    return held


def main() -> int:
    """Measure, and print whether both apps are level."""
    parser = argparse.ArgumentParser(prog="make memory", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two lines")
    options = parser.parse_args()
    grows = False
    for name, course in measure(options.minutes, options.every).items():
        slope = growth(course.second_half())
        minutes = course.minutes()
        print(
            figures.line(
                "memory",
                app=name,
                minutes=options.minutes,
                heaps=os.environ.get("MALLOC_ARENA_MAX", str(ARENAS)),
                least=min(minutes),
                most=max(minutes),
                slope=round(slope, 2),
            )
        )
        grows |= slope > LEVEL and options.minutes >= FEWEST_MINUTES
    return int(grows)


if __name__ == "__main__":
    sys.exit(main())
