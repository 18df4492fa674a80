"""Flask's errors while reading a body: the client's fault or the process's."""

import io

import pytest

from filehandoff.errors import FormMalformed
from filehandoff.typing_backports import override
from flask_app.request import read_body


class Broken(io.RawIOBase):
    """A body whose reading fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    @override
    def read(self, size: int = -1, /) -> bytes:
        raise self._error


def test_a_body_that_breaks_off_is_the_client_s_fault() -> None:
    """Each server's error for a broken body becomes FormMalformed."""
    with pytest.raises(FormMalformed):
        list(read_body(Broken(ValueError()), None, 1))  # type: ignore[arg-type] # a raw file is enough


def test_a_body_for_which_the_memory_does_not_suffice_is_not() -> None:
    """A lack of memory while reading a body is not reported as a malformed form."""
    with pytest.raises(MemoryError):
        list(read_body(Broken(MemoryError()), None, 1))  # type: ignore[arg-type] # a raw file is enough
