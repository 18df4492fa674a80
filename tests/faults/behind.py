"""Both apps on a real store, or behind a proxy in front of one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from faults.proxy import Proxy
from faults.settings import SETTINGS
from faults.watch import watched
from server_logs import check_event_loops

from demo import stack, stores
from demo.processes import ending
from filehandoff.settings import Settings


@dataclass(frozen=True)
class Behind:
    """The proxy, the apps behind it and the store."""

    proxy: Proxy
    started: stack.Stack
    store: stores.Store


@contextmanager
def watchable(folder: Path, more: Mapping[str, str] | None = None) -> Iterator[stack.Stack]:
    """Run the store and both apps for the block, with settings beside the suite's.

    `folder` is empty at first; it holds the apps' temporary folder and the answers of watched apps.
    """
    temporary, answers = folder / "temporary", folder / "watched"
    temporary.mkdir()
    answers.mkdir()
    environ = SETTINGS | {**(more or {}), "TMPDIR": str(temporary)} | watched(answers)
    log = temporary / "servers.log"
    with stack.running(environ, log_path=log) as started:
        yield started
    check_event_loops(log)


@contextmanager
def proxied(
    choice: str,
    folder: Path,
    more: Mapping[str, str] | None = None,
    commands: Mapping[str, Sequence[str]] = stack.COMMANDS,
) -> Iterator[Behind]:
    """Run store, proxy and apps for the block, with settings beside the suite's.

    `folder` is empty at first; it is the apps' temporary folder.
    """
    with (folder.parent / f"{folder.name}-store.log").open("w+b") as log:
        store = stores.start(choice, {}, log)
        assert store.server is not None
        with ending([store.server]):
            settings = Settings.from_env({"UPLOAD_BUCKET": SETTINGS["UPLOAD_BUCKET"]})
            stack.create_bucket(stack.Stack(store, settings, {}, [store.server]), log)
            with Proxy(store.endpoint_url) as proxy:
                environ = SETTINGS | {**(more or {}), **store.environ, "UPLOAD_S3": proxy.url, "TMPDIR": str(folder)}
                log_path = folder / "servers.log"
                with stack.running(environ, log_path=log_path, commands=commands) as started:
                    yield Behind(proxy, started, store)
                check_event_loops(log_path)
