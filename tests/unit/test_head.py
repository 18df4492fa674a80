"""When a request's head has come, and when it is no use to wait for the rest of it."""

import pytest

from filehandoff.head import MAX_BYTES, Head

MAX_LINE = 40
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"


def received(*pieces: bytes) -> list[bool]:
    """What is said after each piece."""
    head = Head(MAX_LINE)
    return [head.receive(piece) for piece in pieces]


@pytest.mark.parametrize("size", range(1, len(REQUEST)))
def test_a_head_has_come_with_its_last_byte(size: int) -> None:
    """However it is cut into pieces, it has not come before, and has then."""
    pieces = [REQUEST[start : start + size] for start in range(0, len(REQUEST), size)]
    assert received(*pieces) == [False] * (len(pieces) - 1) + [True]


def test_what_comes_behind_a_head_is_kept() -> None:
    """The first bytes of the body, or the next request, belong to whoever answers."""
    head = Head(MAX_LINE)
    assert head.receive(REQUEST + b"body")
    assert (bytes(head.data), head.ended, head.cut_short, head.too_long) == (REQUEST + b"body", True, False, False)


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1\n", b"\n", b"a" * (MAX_LINE + 3)])
def test_what_is_no_request_line_is_not_waited_for(line: bytes) -> None:
    """A line that ends in a bare LF, or is too long, gets its error at once."""
    head = Head(MAX_LINE)
    assert head.receive(line)
    assert head.ended


def test_a_long_line_may_be_a_header() -> None:
    """Only the first line is held to the limit of the first line, and to its end."""
    assert received(b"a" * MAX_LINE, b"\r\n", b"X: " + 2 * MAX_LINE * b"a", b"\nb: c") == [False] * 4


def test_a_connection_that_ends_before_the_head_does() -> None:
    """Nobody is there to be answered."""
    head = Head(MAX_LINE)
    assert not head.receive(REQUEST[:-1])
    assert head.receive(b"")
    assert (head.ended, head.cut_short) == (False, True)


def test_a_head_without_an_end_is_too_long() -> None:
    """So much is kept of it and no more; one that ends just there has come."""
    line = b"GET / HTTP/1.1\r\n"
    longest = line + b"a" * (MAX_BYTES - len(line))
    for last, said in ((b"", False), (b"a", True)):
        head = Head(MAX_LINE)
        assert head.receive(longest + last) is said
        assert (head.too_long, head.ended) == (said, False)
    head = Head(MAX_LINE)
    assert head.receive(longest + b"\r\n\r\n")
    assert (head.too_long, head.ended) == (False, True)
