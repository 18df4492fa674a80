"""The work of a handler, chosen by a test by the name of its file; each call is noted in the folder $HANDLED."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def noted(receipts: list[dict[str, Any]]) -> Iterator[float]:
    """Note the receipts, then do the work that the first file's name chooses; yield pauses in seconds."""
    folder = Path(os.environ["HANDLED"])
    name = receipts[0]["filename"]
    note = folder / f"{receipts[0]['request_id']}-{time.monotonic_ns()}.json"
    note.with_suffix(".part").write_text(json.dumps(receipts), "utf-8")
    note.with_suffix(".part").rename(note)
    if name == "fails" or (name == "fails-once" and not (folder / "failed").exists()):
        (folder / "failed").touch()
        raise RuntimeError("the text of the handler's error")
    while name == "never-ends" or (name == "waits" and not (folder / "gate").exists()):
        yield 0.02
