"""JSON Web Tokens (RFC 7519) as bearer tokens, verified by PyJWT with the keys of a file or of a key server."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from filehandoff.errors import IdentityUnavailable, Unauthorized
from filehandoff.identity import ALL_SCOPES, Identity
from filehandoff.refreshed import RETRY_SECONDS, Refreshed
from filehandoff.typing_backports import override

#: Seconds between two looks at a key file, and between two requests to a key server.
FILE_SECONDS, SERVER_SECONDS = 1.0, 300.0
#: Seconds by which the issuer's clock may differ.
LEEWAY_SECONDS = 10.0
#: The shortest secret of HS256 (RFC 7518, section 3.2).
MIN_SECRET_BYTES = 32

#: A key, and the algorithms that it is used with. The key decides, never the token: otherwise a sender could choose
#: `none`, or HS256 with a public key as the secret (RFC 8725, section 2.1).
Key: TypeAlias = tuple[Any, tuple[str, ...]]
_ALGORITHMS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (RSAPublicKey, ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    (EllipticCurvePublicKey, ("ES256", "ES384", "ES512", "ES256K")),
    (Ed25519PublicKey | Ed448PublicKey, ("EdDSA",)),
)


class JwtTokens(Refreshed):
    """The tokens of one issuer for one audience.

    Args:
        address: the path or the URL of the keys.
        issuer: the claim `iss` of every token.
        audience: a value of the claim `aud` of every token.
        parse: makes the keys by their ids from the content; the id None means that the key verifies all tokens.
        every: seconds until the keys are read again.
    """

    def __init__(
        self,
        address: str,
        issuer: str,
        audience: str,
        *,
        parse: Callable[[bytes], Mapping[str | None, Key]],
        every: float,
    ) -> None:
        super().__init__(address, every=every)
        self._issuer, self._audience = issuer, audience
        self._parse = parse
        self._keys: Mapping[str | None, Key] = {}

    @override
    def use(self, data: bytes) -> None:
        self._keys = self._parse(data)

    @override
    def is_due(self, token: str, now: float) -> bool:
        return super().is_due(token, now) or (self._key(token) is None and now >= self._read + RETRY_SECONDS)

    def identify(self, token: str) -> Identity:
        """Return the token's subject, with the scopes of its claim `scope` (RFC 8693, section 4.2).

        Raises:
            Unauthorized: the token is not valid.
            IdentityUnavailable: there are no keys yet.
        """
        if not self._keys:
            raise IdentityUnavailable
        found = self._key(token)
        if found is None:
            raise Unauthorized("No known key has signed the token.")
        key, algorithms = found
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=algorithms,
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "sub"]},
            )
            return Identity(_name(claims), _scopes(claims))
        except (jwt.PyJWTError, ValueError) as error:
            raise Unauthorized(f"The token is not valid: {error}.") from error

    def _key(self, token: str) -> Key | None:
        if None in self._keys:
            return self._keys[None]
        try:
            return self._keys.get(jwt.get_unverified_header(token).get("kid"))
        except jwt.PyJWTError as error:
            raise Unauthorized(f"The token is not valid: {error}.") from error


def _name(claims: Mapping[str, Any]) -> str:
    if not claims["sub"]:
        raise ValueError("the claim 'sub' is empty")
    return str(claims["sub"])


def _scopes(claims: Mapping[str, Any]) -> list[str]:
    """Return the scopes of ours: other services of the same issuer have others."""
    scope = claims.get("scope", "")
    if not isinstance(scope, str):
        raise ValueError("the claim 'scope' is no text")  # noqa: TRY004 - the token's fault, not a caller's
    return [one for one in ALL_SCOPES if one in scope.split()]


def key_of_file(data: bytes) -> dict[str | None, Key]:
    """Parse a public key in PEM, or a secret for HS256.

    Raises:
        ValueError: the content is neither; the message is one line.
    """
    if not data.lstrip().startswith(b"-----BEGIN"):
        if len(secret := data.strip()) < MIN_SECRET_BYTES:
            raise ValueError(f"it holds no public key in PEM, and a secret has at least {MIN_SECRET_BYTES} bytes")
        return {None: (secret, ("HS256",))}
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    for kind, algorithms in _ALGORITHMS:
        if isinstance(key, kind):
            return {None: (key, algorithms)}
    raise ValueError("it holds no public key of RSA, an elliptic curve or Ed25519 in PEM")


def keys_of_set(data: bytes) -> dict[str | None, Key]:
    """Parse a JSON Web Key Set (RFC 7517, section 5); keys that sign nothing, and secrets, are ignored.

    Raises:
        ValueError: there is no usable key; the message is one line.
    """
    try:
        listed = jwt.PyJWKSet.from_json(data.decode()).keys
    except (jwt.PyJWTError, ValueError, AttributeError, TypeError, LookupError, RecursionError) as error:
        raise ValueError(f"it is no set of keys ({error})") from None
    keys = [key for key in listed if key.public_key_use in {None, "sig"} and key.key_type in {"RSA", "EC", "OKP"}]
    if not keys:
        raise ValueError("the set holds no public key for signatures")
    if len(keys) > 1 and not any(key.key_id for key in keys):
        raise ValueError("the set holds several keys without ids")
    named: dict[str | None, Key] = {key.key_id: (key.key, (key.algorithm_name,)) for key in keys if key.key_id}
    return named or {None: (keys[0].key, (keys[0].algorithm_name,))}
