"""Soak both apps for an hour on a store that comes and goes: `make soak-hour`, or `make soak-hour MINUTES=20`.

Each app has two processes. Its clients upload by every hand-off and by tus, download, and die in the middle of a body
or of a download. Every half minute the store breaks some calls, or is away for some seconds. Each stored file is
compared with the store past the proxy, byte for byte, and then deleted, so that the store does not fill.

Exits with 1 unless

- every 201 was in the store as it was sent, and every other answer was a documented refusal,
- memory, descriptors and threads are level: in the pause after the second half of the time, an app has at most 30 MiB,
  10 descriptors and 10 threads more than in the pause after the first,
- the processes are those of the start,
- at the end the store holds nothing but states of resumable uploads, which `DELETE` removes, and no unfinished upload
  after the sweep,
- both apps end with status 0 at SIGTERM.
"""

import argparse
import hashlib
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from contract.api import Api, form, part
from contract.bucket import Bucket
from faults import raw
from faults.behind import Behind, proxied
from faults.level import Course
from faults.load import Load, Outcome
from faults.processes import Processes
from faults.proxy import Proxy
from faults.script import ANY, Answer, CutAnswer, LostAnswer, Refuse, Reset, When
from faults.settings import SETTINGS
from faults.sweep import sweep
from patience import PATIENCE

from demo import stack
from demo.processes import family
from evidence import figures
from filehandoff.settings import MIB
from filehandoff.strategies import FORM_HANDOFFS

T = TypeVar("T")

PROCESSES = 2
#: One put in memory, one put from a file on disk, two parts, three parts.
FILES = [os.urandom(size) for size in (1000, 64 * 1024, 600_000, 5 * MIB + 1, 11 * MIB)]
#: Clients of an app that upload forms.
UPLOADING = 4
#: One in this many stored files is also downloaded by the app.
DOWNLOADED = 3
#: Seconds that a client of another kind pauses after each request.
PAUSE_SECONDS = 0.5
#: Seconds from one fault of the store to the next, and the most seconds that it is away.
FAULT_EVERY, AWAY_SECONDS = 30.0, 8.0
SAMPLE_SECONDS = 1.0
#: Seconds without clients after each half. The apps keep unused connections to the store for up to 15 seconds.
REST_SECONDS = 60.0
#: Most units by which a quantity may rise from the first pause to the second. MiB for memory.
ALLOWED_RISE = {"memory": 30.0, "descriptors": 10.0, "threads": 10.0}
#: One in this many chunks of resumable uploads is cut, and one in this many uploads is terminated.
CUT_CHUNKS, TERMINATED = 3, 5
TUS = {"Tus-Resumable": "1.0.0"}
FILES_PATH, OFFSET_TYPE = "/files", "application/offset+octet-stream"
#: Statuses that an app may respond with while its store is broken.
REFUSALS = {502, 503}
#: Faults of a call beside the absence of the store.
FAULTS = (
    ("put_object", LostAnswer()),
    ("upload_part", Reset()),
    ("complete_multipart_upload", Answer(500, "InternalError", When.DONE)),
    ("create_multipart_upload", LostAnswer()),
    ("get_object", CutAnswer(after=1)),
    ("delete_object", Reset()),
    ("abort_multipart_upload", Answer(503, "SlowDown")),
)


@dataclass
class Clients:
    """The clients of one app, their counts and their findings."""

    name: str
    url: str
    bucket: Bucket
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def check(self, key: str, sha256: str, chance: random.Random) -> None:
        """Compare a stored file with the store, download some by the app, and delete it."""
        if self.bucket.sha256(key) != sha256:
            self.wrong.append(f"{key} has other bytes")
        with closing(Api(self.url)) as api:
            if not chance.randrange(DOWNLOADED):
                self._download(api, key, sha256)
            with suppress(httpx.TransportError):
                status = api.send("DELETE", f"/objects/{key}").status_code
                self._note(f"DELETE of {key}", status, httpx.codes.NO_CONTENT)
        self.bucket.delete(key)  # the app may have been unable to

    def _download(self, api: Api, key: str, sha256: str) -> None:
        try:
            answer = api.send("GET", f"/objects/{key}")
        except httpx.TransportError:  # the store broke off
            self.counts["downloads cut"] += 1
            return
        self._note(f"GET of {key}", answer.status_code, httpx.codes.OK)
        if answer.is_success:
            self.counts["downloads"] += 1
            if hashlib.sha256(answer.content).hexdigest() != sha256:
                self.wrong.append(f"{key} is downloaded with other bytes")

    def _note(self, request: str, status: int, success: int) -> None:
        if status not in {success, *REFUSALS}:
            self.wrong.append(f"{request}: {status}")

    def check_outcome(self, outcome: Outcome) -> None:
        """Check a form's file."""
        self.check(outcome.key, outcome.sha256, random.Random(outcome.key))  # noqa: S311 - not for secrets

    def send_presigned(self, chance: random.Random) -> None:
        """Upload a file by presigned URLs, each step until it succeeds."""
        data = chance.choice(FILES)
        with closing(Api(self.url)) as api:
            given = insist(lambda: api.presign(data).json())
            insist(lambda: send_to_s3(api, given, data))
            answer = insist(lambda: api.send("POST", given["complete"]).raise_for_status())
        self.counts["presigned"] += 1
        self.check(answer.json()["receipts"][0]["key"], hashlib.sha256(data).hexdigest(), chance)

    def resume(self, chance: random.Random) -> None:
        """Send a file by tus in chunks of random sizes, cut some of them, and go on; terminate some unfinished ones."""
        data = chance.choice(FILES)
        with closing(Api(self.url)) as api:
            path = insist(lambda: create_upload(api, len(data)))
            ends_early = not chance.randrange(TERMINATED)
            deadline = time.monotonic() + PATIENCE
            while (offset := insist(lambda: offset_of(api, path))) < len(data):
                assert time.monotonic() < deadline, f"{path} has {offset} of {len(data)} bytes after {PATIENCE} s"
                if ends_early and offset > len(data) // 2:
                    insist(lambda: terminate(api, path))
                    self.counts["terminated"] += 1
                    return
                self._send_chunk(api, path, offset, data[offset : offset + chance.randrange(1, len(data) + 1)], chance)
            (receipt,) = insist(lambda: api.send("GET", path).raise_for_status()).json()["receipts"]
            self.counts["resumable"] += 1
            self.check(receipt["key"], hashlib.sha256(data).hexdigest(), chance)
            if chance.randrange(2):  # the sweep removes the other states
                insist(lambda: terminate(api, path))

    def _send_chunk(self, api: Api, path: str, offset: int, chunk: bytes, chance: random.Random) -> None:
        headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": OFFSET_TYPE}
        if not chance.randrange(CUT_CHUNKS):
            lines = [f"{name}: {value}" for name, value in {**headers, "Content-Length": str(len(chunk))}.items()]
            head = "\r\n".join([f"PATCH {path} HTTP/1.1", "Host: here", *lines, "", ""]).encode()
            with closing(raw.connect(self.url)) as connection:
                raw.send(connection, head + chunk[: chance.randrange(len(chunk))])
                if chance.randrange(2):
                    raw.reset_on_close(connection)
            self.counts["chunks cut"] += 1
            return
        with suppress(httpx.TransportError):  # the store broke off
            status = api.send("PATCH", path, content=chunk, headers=headers).status_code
            # after a cut chunk, whose request may still run
            if status not in {httpx.codes.LOCKED, httpx.codes.CONFLICT}:
                self._note(f"PATCH of {path}", status, httpx.codes.NO_CONTENT)

    def die(self, chance: random.Random) -> None:
        """Kill a client in the middle of a body."""
        raw.kill_an_upload(self.url, chance)
        self.counts["killed uploads"] += 1

    def die_downloading(self, path: str, chance: random.Random) -> None:
        """Kill a client in the middle of a download."""
        with closing(raw.connect(self.url)) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
            connection.recv(chance.randrange(1, 65536))
            raw.reset_on_close(connection)
        self.counts["killed downloads"] += 1


def send_to_s3(api: Api, given: dict[str, Any], data: bytes) -> None:
    """Send a file by its URLs; an earlier attempt may have stored it."""
    try:
        api.send_to_s3(given, data)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.PRECONDITION_FAILED:
            raise


def create_upload(api: Api, length: int) -> str:
    """Create an upload by tus; return its path."""
    answer = api.send("POST", FILES_PATH, headers={**TUS, "Upload-Length": str(length)}).raise_for_status()
    return urlsplit(answer.headers["Location"]).path


def offset_of(api: Api, path: str) -> int:
    """Return the offset from which to continue."""
    return int(api.send("HEAD", path, headers=TUS).raise_for_status().headers["Upload-Offset"])


def terminate(api: Api, path: str) -> None:
    """Remove an upload; an earlier attempt may have removed it."""
    answer = api.send("DELETE", path, headers=TUS)
    if answer.status_code != httpx.codes.NOT_FOUND:
        answer.raise_for_status()


def insist(request: Callable[[], T]) -> T:
    """Repeat a request until it succeeds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return request()
        except (httpx.HTTPError, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_SECONDS)


@contextmanager
def repeating(jobs: Sequence[Callable[[random.Random], None]], wrong: list[str]) -> Iterator[None]:
    """Repeat each job in its own thread for the block; note its errors."""
    done = threading.Event()

    def repeat(job: Callable[[random.Random], None], seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - not for secrets
        while not done.wait(PAUSE_SECONDS):
            try:
                job(chance)
            except Exception as error:  # noqa: BLE001 - any is a fault of the app or of this program
                wrong.append(repr(error))

    threads = [threading.Thread(target=repeat, args=(job, seed)) for seed, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def break_store(proxy: Proxy, chance: random.Random) -> None:
    """Break the next call of each kind, and then let the store be away for some seconds."""
    for operation, fault in FAULTS:
        proxy.on(operation, fault)
    time.sleep(FAULT_EVERY / 3)
    proxy.clear()
    proxy.on(ANY, Refuse(chance.uniform(1, AWAY_SECONDS)))
    time.sleep(FAULT_EVERY * 2 / 3)
    proxy.calls.clear()


@dataclass
class Watched:
    """The processes of an app, the course of their memory, descriptors and threads, and the least of each in a pause.

    Under load, all three follow the number of clients that are served at once, which other programs on the machine
    change. In a pause only those that an app keeps are left.
    """

    server: int
    courses: dict[str, Course] = field(default_factory=lambda: {name: Course() for name in ALLOWED_RISE})
    pauses: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pids = sorted(family(self.server))
        self._processes = Processes(self.server)

    def held(self) -> dict[str, float]:
        """Each quantity now."""
        held = self._processes
        return {"memory": held.resident() / MIB, "descriptors": held.descriptors(), "threads": held.threads()}

    def sample(self, minute: float) -> None:
        """Take one sample of each quantity under load."""
        for name, value in self.held().items():
            self.courses[name].samples.append((minute, value))

    def rise(self, name: str) -> float:
        """The rise of a quantity from the first pause to the last."""
        return self.pauses[-1][name] - self.pauses[0][name]

    def problems(self) -> Iterator[str]:
        """Name each quantity that rises, and processes that are not those of the start."""
        for name, allowed in ALLOWED_RISE.items():
            if self.rise(name) > allowed:
                yield f"{name} rise by {self.rise(name):.1f} from pause to pause; {allowed:g} is allowed"
        if (now := sorted(family(self.server))) != self.pids:
            yield f"the processes are {now} and no more {self.pids}"

    def figures(self) -> dict[str, dict[str, float]]:
        """The lowest and the highest minute under load of the second half, and the rise."""
        found = {}
        for name, course in self.courses.items():
            minutes = Course(course.second_half()).minutes()
            found[name] = {"least": min(minutes), "most": max(minutes), "rise": round(self.rise(name), 1)}
        return found


def keep_object(url: str) -> str:
    """Store an object for clients that die while they download it; return its path."""
    with closing(Api(url)) as api:
        return insist(lambda: api.upload(form(part("file", FILES[-1], "kept.bin"))).raise_for_status()).headers[
            "Location"
        ]


def soak(behind: Behind, minutes: float, every: float) -> list[str]:
    """Run the clients; print the figures, and return everything that is wrong."""
    client = behind.store.client()
    bucket = Bucket(client, SETTINGS["UPLOAD_BUCKET"], behind.started)
    apps = {name: Clients(name, server.url, bucket) for name, server in behind.started.apps.items()}
    watched = {name: Watched(server.pid) for name, server in behind.started.apps.items()}
    loads = {
        name: Load(app.url, FILES, [f"/uploads/{handoff}" for handoff in FORM_HANDOFFS], app.check_outcome)
        for name, app in apps.items()
    }
    wrong: list[str] = []
    kept = {name: keep_object(app.url) for name, app in apps.items()}
    for half in (0.0, minutes / 2):
        with ExitStack() as exits:
            for name, app in apps.items():
                exits.enter_context(
                    repeating(
                        [app.send_presigned, app.resume, app.die, partial(app.die_downloading, kept[name])], app.wrong
                    )
                )
                exits.enter_context(loads[name].running(UPLOADING))
            exits.enter_context(repeating([partial(break_store, behind.proxy)], wrong))
            sample_for(half, minutes / 2, every, watched, loads)
        behind.proxy.clear()
        rest(watched)
    for name, app in apps.items():
        statuses = Counter(outcome.status for outcome in loads[name].outcomes)
        app.wrong += [
            f"{outcome.request_id}: {outcome.status} {outcome.problem}"
            for outcome in loads[name].outcomes
            if outcome.status not in {httpx.codes.CREATED, *REFUSALS}
        ]
        app.wrong += watched[name].problems()
        bucket.delete(kept[name].removeprefix("/objects/"))
        counts = {"uploads": statuses[201], "refused": sum(statuses[one] for one in REFUSALS), **app.counts}
        print(figures.line("soak-hour", app=name, minutes=minutes, **counts, **watched[name].figures()))
        wrong += [f"{name}: {one}" for one in app.wrong]
    wrong += leftovers(bucket, behind)
    wrong += endings(behind)
    client.close()
    return wrong


def sample_for(after: float, minutes: float, every: float, watched: dict[str, Watched], loads: dict[str, Load]) -> None:
    """Sample both apps for some minutes under load, after some earlier ones, and print a line now and then."""
    began, printed = time.monotonic(), 0.0
    while (passed := time.monotonic() - began) < minutes * 60:
        time.sleep(SAMPLE_SECONDS)
        for app in watched.values():
            app.sample(after + passed / 60)
        if passed // every > printed:
            printed = passed // every
            last = int(every // SAMPLE_SECONDS)
            seen = ", ".join(
                f"{name} {' '.join(f'{course.median(last)} {what}' for what, course in app.courses.items())}"
                f" {Counter(str(outcome.status) for outcome in loads[name].outcomes)}"
                for name, app in watched.items()
            )
            print(f"minute {after + passed / 60:.1f}: {seen}", flush=True)


def rest(watched: dict[str, Watched]) -> None:
    """Note the least of each quantity in a pause without clients, and print it."""
    held: dict[str, list[dict[str, float]]] = {name: [] for name in watched}
    deadline = time.monotonic() + REST_SECONDS
    while time.monotonic() < deadline:
        time.sleep(SAMPLE_SECONDS)
        for name, app in watched.items():
            held[name].append(app.held())
    for name, app in watched.items():
        app.pauses.append({what: min(one[what] for one in held[name]) for what in ALLOWED_RISE})
        least = " ".join(f"{value:.0f} {what}" for what, value in app.pauses[-1].items())
        print(f"pause: {name} {least}", flush=True)


def leftovers(bucket: Bucket, behind: Behind) -> Iterator[str]:
    """Name everything that is left in the store, and the open temporary files."""
    deadline = time.monotonic() + PATIENCE
    while (bucket.unfinished() or bucket.new_open_files()) and time.monotonic() < deadline:
        time.sleep(1)
    print(figures.line("soak-hour-store", unfinished_before_the_sweep=len(bucket.unfinished())))
    yield from remove_states(bucket, behind)
    for name in behind.started.apps:
        sweep(name, behind.started.environ)
    yield from (f"{key} is left of request {bucket.request_id(key)}" for key in bucket.files())
    yield from (f"{key} is unfinished after the sweep" for key, _ in bucket.unfinished())
    yield from (f"{path} is open" for path in bucket.new_open_files())


def remove_states(bucket: Bucket, behind: Behind) -> Iterator[str]:
    """Remove the resumable uploads by an app; name those that it cannot remove, and bytes that none continues."""
    for key in bucket.stored_keys() - bucket.files():
        if key.endswith("/probe"):  # S3 went away before the end of a process's check of it; the sweep removes it later
            bucket.delete(key)
    states = bucket.stored_keys() - bucket.files()
    folders = sorted({key.rpartition("/")[0] for key in states})
    [*_, server] = behind.started.apps.values()
    with closing(Api(server.url)) as api:
        for folder in folders:
            path = f"{FILES_PATH}/{folder.rpartition('/')[2]}"
            answer = api.send("HEAD", path, headers=TUS)
            length, offset = (answer.headers.get(f"Upload-{one}", "none") for one in ("Length", "Offset"))
            if offset not in {length, "0"}:  # the answer to a creation may have been lost, but no client gives up later
                yield f"{path} is at {offset} of {length}"
            api.send("DELETE", path, headers=TUS)
    print(figures.line("soak-hour-states", resumable=len(folders)))
    yield from (f"{key} is left of a resumable upload" for key in sorted(bucket.stored_keys() - bucket.files()))


def endings(behind: Behind) -> Iterator[str]:
    """End both apps by SIGTERM; name those that do not end by themselves."""
    for name, server in behind.started.apps.items():
        began = time.monotonic()
        server.terminate()
        server.wait()
        print(f"{name} ended with {server.returncode} in {time.monotonic() - began:.1f} s")
        if server.returncode != 0:
            yield f"{name} ended with {server.returncode}"


def main() -> int:
    """Soak, and print all faults."""
    parser = argparse.ArgumentParser(prog="make soak-hour", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two lines")
    options = parser.parse_args()
    commands = {name: [*command, "--workers", str(PROCESSES)] for name, command in stack.COMMANDS.items()}
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "apps"
        numbers = Path(folder) / "numbers"  # of the metrics, which stay open
        temporary.mkdir()
        numbers.mkdir()
        more = {"UPLOAD_LOG_LEVEL": "error", "PROMETHEUS_MULTIPROC_DIR": str(numbers)}
        with proxied("moto", temporary, more, commands) as behind:
            wrong = soak(behind, options.minutes, options.every)
        if wrong:
            sys.stdout.write((temporary / "servers.log").read_text("utf-8", "replace")[-20_000:])
    for one in wrong[:50]:
        print(f"WRONG {one}")
    print(f"{len(wrong)} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
