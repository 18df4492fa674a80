"""Make the values of a target from the fuzzer's bytes: texts, long runs, and pieces of any sizes."""

import re
from itertools import accumulate, cycle, islice, pairwise

#: Pieces of a split; the last one has the rest.
PIECES = 32
#: Characters of a run for each unit of its length.
RUN_UNIT = 24
_RUN = re.compile(rb"\xff(.)(.)", re.DOTALL)


def fields(data: bytes, count: int, separator: bytes = b"\0") -> list[bytes]:
    """Split an input into this many values; the last one may hold separators, and missing ones are empty."""
    found = data.split(separator, count - 1)
    return found + [b""] * (count - len(found))


def texts(data: bytes, count: int, separator: bytes = b"\0") -> list[str]:
    """Split an input into texts; bytes outside UTF-8 become lone surrogates, as JSON can hold them."""
    return [value.decode("utf-8", "surrogateescape") for value in fields(data, count, separator)]


def number(data: bytes) -> int:
    """Return a small number that the fuzzer controls bit by bit."""
    return int.from_bytes(data[:2], "little")


def expanded(data: bytes) -> bytes:
    """Expand each run, `FF n c`, into 24 n times the byte c, so that short inputs reach the limits."""
    return _RUN.sub(lambda run: run[2] * (RUN_UNIT * run[1][0]), data)


def pieces(data: bytes, sizes: bytes) -> list[bytes]:
    """Split bytes by these sizes over and over; long inputs have larger pieces."""
    unit = len(data) // 2000 + 1
    lengths = (unit * (size or 256) for size in islice(cycle(sizes or b"\7"), PIECES))
    cuts = (*accumulate(lengths, initial=0), None)
    return [data[start:end] for start, end in pairwise(cuts) if data[start:end]]
