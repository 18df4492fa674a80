"""The sender of a request: a name, and the scopes that say which routes it may use."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from filehandoff.errors import Forbidden, Unauthorized

UPLOAD, READ, DELETE, OPERATE = "upload", "read", "delete", "operate"
#: The scopes of the routes that clients use; an identity and a token have these by default.
SCOPES = (UPLOAD, READ, DELETE)
#: The scopes that a token can have; settings can ask for `operate` where clients have no business.
ALL_SCOPES = (*SCOPES, OPERATE)
#: The longest name in characters, as of a JWT's `sub` (OpenID Connect Core 1.0, section 2).
MAX_NAME = 255
#: Seconds for a read of a token source, and the most bytes of its content.
READ_SECONDS, MAX_KEYS_BYTES = 3.0, 1024 * 1024

#: The credentials of a bearer token (RFC 6750, section 2.1).
_BEARER = re.compile(r"Bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Identity:
    """The name and the scopes of a request's sender; the empty name is of an unknown sender.

    Raises:
        ValueError: the name is too long, or not printable.
    """

    name: str
    scopes: Iterable[str] = SCOPES

    def __post_init__(self) -> None:
        if len(self.name) > MAX_NAME or not self.name.isprintable():
            raise ValueError(f"a name must have at most {MAX_NAME} printable characters")
        object.__setattr__(self, "scopes", frozenset(self.scopes))

    def require(self, scope: str) -> None:
        """Check that the sender has a scope.

        Raises:
            Forbidden: it has not.
        """
        if scope not in self.scopes:
            raise Forbidden(scope)


#: The sender of each request to an app without authentication.
ANYONE = Identity("")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The values of a request by which its sender is identified; `headers` ignores the case of names."""

    method: str
    path: str
    headers: Mapping[str, str]


#: Identifies the sender by the request's head; raises Unauthorized or Forbidden, or returns None, to refuse it. In
#: Quart it may be a coroutine function.
Authenticate: TypeAlias = Callable[[RequestHead], Any]


class TokenSource(Protocol):
    """The tokens or keys of a file or a key server, against which the tokens of requests are checked.

    A shell reads `address` and calls `take` before the first request, and again before each request for which the
    source `is_due`. Times are in seconds by a clock that never goes back.

    Attributes:
        address: a path, or a URL.
    """

    address: str

    def is_due(self, token: str, now: float) -> bool:
        """Return whether `address` must be read again before this token is checked."""
        ...

    def take(self, data: bytes, now: float) -> None:
        """Use this content from now on.

        Raises:
            ValueError: the content cannot be used; the message is one line.
        """
        ...

    def fail(self, error: Exception, now: float) -> None:
        """Log a failed read or `take`; the former content stays in use."""
        ...

    def identify(self, token: str) -> Identity:
        """Return the owner of a token.

        Raises:
            Unauthorized: the token is not valid.
            IdentityUnavailable: there is no content yet.
        """
        ...


def bearer_token(headers: Mapping[str, str]) -> str:
    """Return the bearer token of a request (RFC 6750, section 2.1).

    Raises:
        Unauthorized: there is none, or it is malformed.
    """
    credentials = headers.get("Authorization")
    if credentials is None:
        raise Unauthorized("Send a token, as 'Authorization: Bearer …'.", invalid=False)
    match = _BEARER.fullmatch(credentials)
    if match is None:
        raise Unauthorized("The header 'Authorization' holds no bearer token.")
    return match[1]
