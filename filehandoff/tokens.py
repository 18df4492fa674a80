"""Bearer tokens in a file of one line for each: `NAME SHA256HEX SCOPE,SCOPE`.

    python -m filehandoff.tokens NAME [SCOPE,SCOPE]

makes a token, and prints it and its line. The file holds no token, only the SHA-256 of each, which needs no salt: a
token is 256 random bits.
"""

import argparse
import hashlib
import hmac
import logging
import re
import secrets
import sys
from collections.abc import Iterator, Sequence

from filehandoff.digest import SHA256_PATTERN
from filehandoff.errors import Unauthorized
from filehandoff.identity import ALL_SCOPES, SCOPES, Identity
from filehandoff.refreshed import Refreshed
from filehandoff.typing_backports import override

logger = logging.getLogger(__name__)

#: Seconds between two looks at the file; a removed token works for that long.
LOOK_SECONDS = 1.0
#: Begins each token, so that scanners for leaked secrets find it.
_TOKEN_PREFIX = "fho_"  # noqa: S105 - no secret
_LINE = re.compile(rf"(\S+)[ \t]+({SHA256_PATTERN})[ \t]+([a-z]+(?:,[a-z]+)*)", re.ASCII)


class TokensFile(Refreshed):
    """The tokens of a file, by their SHA-256."""

    def __init__(self, path: str) -> None:
        super().__init__(path, every=LOOK_SECONDS)
        self._tokens: list[tuple[bytes, Identity]] = []

    @override
    def use(self, data: bytes) -> None:
        self._tokens = list(parse(data))

    def identify(self, token: str) -> Identity:
        """Return the owner of a token; the time that this takes depends on no token.

        Raises:
            Unauthorized: the file has no such token.
        """
        digest = hashlib.sha256(token.encode()).digest()
        found = [identity for known, identity in self._tokens if hmac.compare_digest(known, digest)]
        if not found:
            raise Unauthorized("The token is not valid.")
        return found[0]


def parse(data: bytes) -> Iterator[tuple[bytes, Identity]]:
    """Yield the SHA-256 and the owner of each token; empty lines and lines with `#` in front are comments.

    Raises:
        ValueError: a line is malformed; the message is one line, without the line's content.
    """
    known = set()
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise ValueError(f"line {number} must be NAME SHA256HEX SCOPE,SCOPE")
        name, sha256, scopes = match.groups()
        if sha256 in known:
            raise ValueError(f"line {number} has the token of another line")
        known.add(sha256)
        try:
            yield bytes.fromhex(sha256), Identity(name, parse_scopes(scopes))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None


def parse_scopes(text: str) -> list[str]:
    """Return the scopes of a comma-separated list.

    Raises:
        ValueError: there is no such scope.
    """
    scopes = text.split(",")
    if unknown := [scope for scope in scopes if scope not in ALL_SCOPES]:
        raise ValueError(f"there is no scope '{unknown[0]}'; there are {', '.join(ALL_SCOPES)}")
    return scopes


def make(name: str, scopes: str) -> tuple[str, str]:
    """Return a new token and its line for the file.

    Raises:
        ValueError: the name has a blank, or there is no such scope.
    """
    token = _TOKEN_PREFIX + secrets.token_urlsafe(32)
    line = f"{name} {hashlib.sha256(token.encode()).hexdigest()} {scopes}"
    if list(parse(line.encode())) == []:
        raise ValueError("a name must not be empty or begin with '#'")
    return token, line


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a new token to stderr, and its line for UPLOAD_TOKENS_FILE to stdout."""
    parser = argparse.ArgumentParser("python -m filehandoff.tokens", description=main.__doc__)
    parser.add_argument("name", metavar="NAME", help="the token's owner, without blanks")
    parser.add_argument(
        "scopes", metavar="SCOPE,SCOPE", nargs="?", default=",".join(SCOPES), help="what the owner may do (%(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        token, line = make(options.name, options.scopes)
    except ValueError as error:
        parser.error(str(error))
    sys.stderr.write(f"The token, which is stored nowhere: {token}\nIts line for UPLOAD_TOKENS_FILE:\n")
    sys.stderr.flush()
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
