"""Bearer tokens in a file."""

import hashlib
import logging
import runpy
from pathlib import Path

import pytest

from filehandoff import tokens
from filehandoff.errors import SettingsError, Unauthorized
from filehandoff.identity import Identity
from filehandoff.service import token_source
from filehandoff.settings import Settings

ANN, BOB = (hashlib.sha256(name).hexdigest() for name in (b"token-of-ann", b"token-of-bob"))
FILE = f"""\
# the team's tokens

ann {ANN} upload,read,delete
  bob\t{BOB}   read
""".encode()


def source(data: bytes = FILE) -> tokens.TokensFile:
    """Make a source that was read at time 0."""
    made = tokens.TokensFile("tokens.txt")
    made.take(data, 0)
    return made


def test_a_token_identifies_its_owner() -> None:
    """The line has the name and the scopes."""
    assert source().identify("token-of-ann") == Identity("ann", ["upload", "read", "delete"])
    assert source().identify("token-of-bob") == Identity("bob", ["read"])


@pytest.mark.parametrize("token", ["", "token", "token-of-ann ", "Token-of-ann", ANN, "é", "x" * 100_000])
def test_any_other_token_is_refused(token: str) -> None:
    """The error does not show the token."""
    with pytest.raises(Unauthorized) as caught:
        source().identify(token)
    assert caught.value.detail == "The token is not valid."


def test_an_empty_file_has_no_tokens() -> None:
    """All senders are refused."""
    with pytest.raises(Unauthorized):
        source(b"").identify("")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("ann", "line 2 must be NAME SHA256HEX SCOPE,SCOPE", id="a name alone"),
        pytest.param("ann secret-token upload", "line 2 must be NAME", id="a token in the place of its digest"),
        pytest.param(f"ann {BOB.upper()} upload", "line 2 must be NAME", id="upper case"),
        pytest.param(f"ann {BOB} upload read", "line 2 must be NAME", id="a blank between scopes"),
        pytest.param(
            f"ann {BOB} all", "line 2: there is no scope 'all'; there are upload, read, delete, operate", id="no scope"
        ),
        pytest.param(f"{'x' * 256} {BOB} read", "line 2: a name must have at most 255", id="a long name"),
        pytest.param(f"eve {ANN} read", "line 2 has the token of another line", id="a token twice"),
    ],
)
def test_a_malformed_line_is_named_without_its_content(line: str, message: str) -> None:
    """An operator may have written a token by mistake."""
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        source(f"ann {ANN} read\n{line}\n".encode())
    assert "secret-token" not in str(caught.value)


def test_the_file_is_read_again_each_second() -> None:
    """A removed token is refused, an added one accepted."""
    tokens_file = source()
    assert not tokens_file.is_due("", 0.9)
    assert tokens_file.is_due("", 1)
    tokens_file.take(f"eve {BOB} read".encode(), 1)
    assert tokens_file.identify("token-of-bob").name == "eve"
    with pytest.raises(Unauthorized):
        tokens_file.identify("token-of-ann")


def test_a_change_is_logged_and_an_unchanged_file_is_not(caplog: pytest.LogCaptureFixture) -> None:
    """The line names the file."""
    caplog.set_level(logging.INFO)
    tokens_file = source()
    tokens_file.take(FILE, 1)
    assert caplog.messages == []
    tokens_file.take(b"", 2)
    assert caplog.messages == ["tokens.txt has changed"]


def test_a_failure_keeps_the_former_tokens_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """An editor may have written half of the file; a second look follows in a second."""
    tokens_file = source()
    with pytest.raises(ValueError, match="line 1"):
        tokens_file.take(b"half", 1)
    for second in (1, 2):
        tokens_file.fail(ValueError("line 1 is wrong"), second)
    assert tokens_file.identify("token-of-ann").name == "ann"
    assert tokens_file.is_due("", 3)
    assert not tokens_file.is_due("", 2.9)
    assert caplog.messages == ["tokens.txt cannot be used, and the former content is kept: line 1 is wrong"]


def test_a_new_token_works_with_its_line() -> None:
    """The line has no token, and two tokens differ."""
    token, line = tokens.make("ann", "upload,read")
    assert token not in line
    assert source(line.encode()).identify(token) == Identity("ann", ["upload", "read"])
    assert tokens.make("ann", "upload,read")[0] != token


def test_the_command_prints_the_token_apart_from_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`>> FILE` takes only the line; the default is all scopes."""
    tokens.main(["ann"])
    line, shown = capsys.readouterr()
    token = next(word for word in shown.split() if word.startswith("fho_"))
    assert source(line.encode()).identify(token) == Identity("ann")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["a b"], "must be NAME", id="a blank in the name"),
        pytest.param(["", "read"], "must be NAME", id="no name"),
        pytest.param(["#ann"], "begin with '#'", id="a comment"),
        pytest.param(["ann", "write"], "no scope 'write'", id="no such scope"),
    ],
)
def test_the_command_refuses_a_line_that_would_not_work(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says why, and nothing is printed for the file."""
    with pytest.raises(SystemExit):
        tokens.main(arguments)
    line, error = capsys.readouterr()
    assert line == ""
    assert message in error


def test_the_setting_reads_the_file_at_the_start(tmp_path: Path) -> None:
    """A missing or malformed file ends the start with one line."""
    path = tmp_path / "tokens"
    settings = Settings(auth="bearer", tokens_file=str(path))
    with pytest.raises(SettingsError, match=r"UPLOAD_TOKENS_FILE is .*No such file"):
        token_source(settings)
    path.write_text("ann")
    with pytest.raises(SettingsError, match=r"UPLOAD_TOKENS_FILE is .*line 1"):
        token_source(settings)
    path.write_bytes(FILE)
    made = token_source(settings)
    assert made is not None
    assert made.identify("token-of-ann").name == "ann"


def test_without_the_setting_there_are_no_tokens() -> None:
    """`none` is the default."""
    assert token_source(Settings()) is None


def test_the_module_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m filehandoff.tokens NAME` prints a line."""
    monkeypatch.setattr("sys.argv", ["tokens", "ann", "read"])
    runpy.run_path(tokens.__file__, run_name="__main__")
    assert capsys.readouterr().out.startswith("ann ")
