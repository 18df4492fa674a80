"""The time for a hostile text grows with its length, not with the square of its length."""

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from filehandoff.framing import FramingError, parse_head
from filehandoff.part_head import read_parameters
from filehandoff.transfer import decoder

#: The longer text has this many times the length; quadratic time takes the square of it, and the bound lies between.
GROWTH, BOUND = 16, 50


def read_unended_quotes(length: int) -> None:
    """Read parameters whose quotes do not end; clients send a header of 8 KB with a request."""
    read_parameters("form-data" + ';a="x' * (length // 5))


def read_escaped_quotes(length: int) -> None:
    """Read parameters whose closing quotes are escaped."""
    read_parameters("form-data" + ';a="\\"' * (length // 6))


def read_blank_header(length: int) -> None:
    """Read a header of white space before a control character."""
    with suppress(FramingError):
        parse_head(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b" " * length + b"\x01\r\n\r\n")


def decode_blank_lines(length: int) -> None:
    """Decode quoted-printable of long white space, a little too short for a rejection."""
    quoted = decoder("quoted-printable", 1)
    assert quoted
    list(quoted.decode((b" " * (length // 8) + b"a") * 64))


def cost(task: Callable[[int], None], length: int) -> float:
    """Return the least seconds of processor time of several runs."""
    seconds = []
    for _ in range(5):
        began = time.process_time()
        task(length)
        seconds.append(time.process_time() - began)
    return min(seconds)


@pytest.mark.parametrize("task", [read_unended_quotes, read_escaped_quotes, read_blank_header, decode_blank_lines])
def test_a_long_text_takes_no_quadratic_time(task: Callable[[int], None]) -> None:
    """Sixteen times the length takes far less than 256 times the time."""
    assert cost(task, 500 * GROWTH) < BOUND * cost(task, 500)
