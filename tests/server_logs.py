"""Checks of the logs of a suite's servers."""

from pathlib import Path


def check_event_loops(log: Path) -> None:
    """Check that no callback of an event loop has failed, and no task unseen: asyncio only logs these.

    It also logs a lack of descriptors, which a test may cause.
    """
    lines = [line for line in log.read_text("utf-8").splitlines() if "logger=asyncio" in line]
    failed = [line for line in lines if "no connection can be accepted" not in line]
    assert not failed, failed
