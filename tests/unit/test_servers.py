"""The Quart app's listening sockets, and the version check of the servers whose internals it changes."""

from pathlib import Path

import pytest

from quart_app import servers
from quart_app.servers import is_known, listen


def found(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Have this version installed."""
    monkeypatch.setattr(servers, "version", lambda _server: version)


def test_a_known_version_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that begins as the known one does is known."""
    found(monkeypatch, "0.18.7")
    assert is_known("hypercorn", "0.18.", __name__)


def test_an_unknown_version_that_runs_the_app_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start ends with one line that names the server and both versions."""
    found(monkeypatch, "0.180.0")
    with pytest.raises(SystemExit) as caught:
        is_known("hypercorn", "0.18.", __name__)
    assert caught.value.code == "quart_app: hypercorn 0.180.0 cannot run this app safely; install hypercorn 0.18.x"


def test_an_unknown_version_that_does_not_run_the_app_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed server that does not load the app cannot end the start, and is not changed."""
    found(monkeypatch, "0.19.0")
    assert not is_known("hypercorn", "0.18.", "a.module.that.calls.nothing")


def test_a_socket_file_that_an_earlier_process_left_is_replaced(tmp_path: Path) -> None:
    """The same path can be listened on again."""
    for _ in range(2):
        listen(f"unix:{tmp_path / 'socket'}").close()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # hypercorn leaves it to the end of the process
@pytest.mark.parametrize("bind", ["127.0.0.1:65536", "fd://number", "unix:/no/such/x"])
def test_an_address_that_is_none_is_one_line(bind: str) -> None:
    """The line names the address."""
    with pytest.raises(OSError, match=f"^cannot listen on {bind}: [^\n]+$"):
        listen(bind)
