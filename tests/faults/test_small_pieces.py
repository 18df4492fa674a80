"""Bodies in tiny pieces are stored right, without memory for each piece."""

import re
import socket
from pathlib import Path

import pytest
from contract.api import form, part
from faults import raw
from faults.app import App

from demo import stack
from demo.processes import family

#: Bytes of the file: fewer for single-byte packets, which take long to send, more for chunks.
SIZES = {"declared": 16 * 1024, "chunked": 512 * 1024}
#: A byte kept as an object takes 42 bytes; single-byte chunks would take 21 MiB and more.
MAX_GROWTH = 16 * 1024**2


def resident(pids: list[int], field: str) -> int:
    """The processes' memory in bytes: VmRSS now, VmHWM at its peak."""
    texts = [Path(f"/proc/{pid}/status").read_text("ascii") for pid in pids]
    return sum(1024 * int(found[1]) for text in texts if (found := re.search(rf"{field}:\s+(\d+)", text)))


@pytest.mark.every_other
@pytest.mark.parametrize("size", [1, *[pytest.param(size, marks=pytest.mark.thorough) for size in (2, 100)], 1000])
@pytest.mark.parametrize("framing", SIZES)
@pytest.mark.parametrize("handoff", ["stream", "file"])
def test_small_pieces_take_no_memory_of_their_own(
    app: App, running: stack.Stack, handoff: str, framing: str, size: int
) -> None:
    """A field and a file in pieces of any size are stored unchanged."""
    data = bytes(at % 251 for at in range(SIZES[framing]))
    body = form(part("note", 500 * b"n"), part("file", data, "name"))
    head, framed = raw.sent_in(framing, handoff, body)
    pids = list(family(running.apps[app.name].pid))
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")  # resets VmHWM: proc(5)
    before = resident(pids, "VmRSS")
    pieces = [framed(body[at : at + size]) for at in range(0, len(body), size)]
    with app.connected() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head)
        if framing == "declared":
            for piece in pieces:
                connection.sendall(piece)
        else:
            connection.sendall(b"".join(pieces) + raw.LAST_CHUNK)
        app.check_stored(raw.read_answer(connection), [data])
    assert resident(pids, "VmHWM") - before < MAX_GROWTH
