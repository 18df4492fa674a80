"""JSON Web Tokens, signed here by keys of each kind."""

import json
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from filehandoff.errors import IdentityUnavailable, SettingsError, Unauthorized
from filehandoff.identity import Identity
from filehandoff.jwt_tokens import JwtTokens, key_of_file, keys_of_set
from filehandoff.service import token_source
from filehandoff.settings import Settings

ISSUER, AUDIENCE = "https://issuer.example", "uploads"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SECRET = b"a secret of at least thirty-two bytes"


def pem(private: Any) -> bytes:
    """Return a key's public half in PEM."""
    encoded: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def claims(**changed: object) -> dict[str, Any]:
    """Return the claims of a token that is valid for a minute, with changes; None removes a claim."""
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "scope": "upload read", "exp": time.time() + 60}
    return {name: value for name, value in (whole | changed).items() if value is not None}


def sign(key: Any = EC, algorithm: str = "ES256", kid: str | None = None, **changed: object) -> str:
    """Return a token of these claims."""
    return jwt.encode(claims(**changed), key, algorithm, headers={"kid": kid} if kid else None)


def of_file(data: bytes) -> JwtTokens:
    """Make a source with a key file, read at time 0."""
    source = JwtTokens("key.pem", ISSUER, AUDIENCE, parse=key_of_file, every=1)
    source.take(data, 0)
    return source


def jwk(private: Any, **members: str) -> dict[str, Any]:
    """Return a key's public half as a JSON Web Key."""
    kinds: Mapping[type, Any] = {
        rsa.RSAPrivateKey: RSAAlgorithm,
        ec.EllipticCurvePrivateKey: ECAlgorithm,
        ed25519.Ed25519PrivateKey: OKPAlgorithm,
    }
    algorithm = next(one for kind, one in kinds.items() if isinstance(private, kind))
    return {**json.loads(algorithm.to_jwk(private.public_key())), **members}


def key_set(*keys: Mapping[str, Any]) -> bytes:
    """Return a JSON Web Key Set."""
    return json.dumps({"keys": keys}).encode()


def of_set(data: bytes | None) -> JwtTokens:
    """Make a source with a key server, read at time 0; None: not yet."""
    source = JwtTokens("https://issuer.example/keys", ISSUER, AUDIENCE, parse=keys_of_set, every=300)
    if data is not None:
        source.take(data, 0)
    return source


@pytest.mark.parametrize(
    ("data", "key", "algorithm"),
    [
        pytest.param(pem(RSA), RSA, "RS256", id="RSA"),
        pytest.param(pem(RSA), RSA, "PS512", id="RSA-PSS"),
        pytest.param(pem(EC), EC, "ES256", id="an elliptic curve"),
        pytest.param(pem(ED), ED, "EdDSA", id="Ed25519"),
        pytest.param(SECRET + b"\n", SECRET, "HS256", id="a secret"),
    ],
)
def test_a_token_of_the_files_key_is_valid(data: bytes, key: Any, algorithm: str) -> None:
    """The subject is the name, and `scope` has the scopes."""
    assert of_file(data).identify(sign(key, algorithm)) == Identity("ann", ["upload", "read"])


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"exp": time.time() - 60}, id="expired"),
        pytest.param({"exp": None}, id="without an end"),
        pytest.param({"nbf": time.time() + 86_400}, id="not valid yet"),
        pytest.param({"iss": "https://issuer.example.evil"}, id="another issuer"),
        pytest.param({"iss": None}, id="no issuer"),
        pytest.param({"aud": "downloads"}, id="another audience"),
        pytest.param({"aud": None}, id="no audience"),
        pytest.param({"sub": None}, id="no subject"),
        pytest.param({"sub": ""}, id="an empty subject"),
        pytest.param({"sub": 7}, id="a number as subject"),
        pytest.param({"sub": "x" * 256}, id="a long subject"),
        pytest.param({"sub": "a\nb"}, id="a line end in the subject"),
        pytest.param({"scope": ["upload"]}, id="a list as scope"),
    ],
)
def test_a_token_with_wrong_claims_is_refused(changed: dict[str, object]) -> None:
    """Each claim is checked, and `exp` and `sub` are required."""
    token = jwt.api_jws.encode(json.dumps(claims(**changed)).encode(), SECRET, "HS256")  # PyJWT checks some itself
    with pytest.raises(Unauthorized, match=r"^The token is not valid: "):
        of_file(SECRET).identify(token)


def test_a_clock_may_differ_a_little() -> None:
    """RFC 7519, section 4.1.4, allows a small leeway."""
    assert of_file(pem(EC)).identify(sign(exp=time.time() - 5)).name == "ann"


def test_scopes_of_other_services_are_ignored() -> None:
    """Without one of ours, a sender may do nothing."""
    source = of_file(pem(EC))
    assert source.identify(sign(scope="openid delete profile")).scopes == {"delete"}
    assert source.identify(sign(scope=None)).scopes == set()


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(jwt.encode(claims(), "", "none"), id="no signature"),
        pytest.param(sign(SECRET, "HS256"), id="another kind of key"),
        pytest.param(sign(ec.generate_private_key(ec.SECP256R1())), id="another key"),
        pytest.param(sign()[:-4] + "AAAA", id="a changed signature"),
        pytest.param("", id="empty"),
        pytest.param("abc", id="no token"),
        pytest.param("a.b.c", id="no JSON"),
        pytest.param("x" * 100_000, id="huge"),
        pytest.param("é.é.é", id="not ASCII"),
    ],
)
def test_a_token_of_no_known_key_is_refused(token: str) -> None:
    """The key decides the algorithm, not the token."""
    for source in (of_file(pem(EC)), of_set(key_set(jwk(EC, kid="a")))):
        with pytest.raises(Unauthorized):
            source.identify(token)


def test_a_public_key_is_no_secret() -> None:
    """A token signed with the public key as a secret is the best-known attack (RFC 8725, section 2.1)."""
    header, body = (jwt.utils.base64url_encode(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims()))
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(header + b"." + body, pem(RSA))
    forged = b".".join([header, body, jwt.utils.base64url_encode(signature)]).decode()
    with pytest.raises(Unauthorized):
        of_file(pem(RSA)).identify(forged)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "at least 32 bytes", id="empty"),
        pytest.param(b"short", "at least 32 bytes", id="a short secret"),
        pytest.param(b"-----BEGIN PUBLIC KEY-----\nno\n-----END PUBLIC KEY-----\n", "no public key", id="broken"),
        pytest.param(
            RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "no public key", id="a private key"
        ),
        pytest.param(pem(x25519.X25519PrivateKey.generate()), "no public key", id="a key that signs nothing"),
    ],
)
def test_a_file_without_a_usable_key_is_refused(data: bytes, message: str) -> None:
    """The message does not show the content."""
    with pytest.raises(ValueError, match=message):
        key_of_file(data)


def test_a_set_has_keys_of_all_kinds() -> None:
    """The token's `kid` selects the key."""
    keys = {"a": (RSA, "RS256"), "b": (EC, "ES256"), "c": (ED, "EdDSA")}
    source = of_set(key_set(*(jwk(key, kid=kid) for kid, (key, _) in keys.items())))
    for kid, (key, algorithm) in keys.items():
        assert source.identify(sign(key, algorithm, kid)).name == "ann"
    with pytest.raises(Unauthorized, match="No known key"):
        source.identify(sign(EC, "ES256", "d"))
    with pytest.raises(Unauthorized):
        source.identify(sign(EC, "ES256", "a"))


def test_a_set_of_one_key_needs_no_id() -> None:
    """RFC 7517, section 4.5: `kid` is optional."""
    assert of_set(key_set(jwk(EC))).identify(sign()).name == "ann"
    with pytest.raises(ValueError, match="several keys without ids"):
        of_set(key_set(jwk(EC), jwk(RSA)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "no set of keys", id="empty"),
        pytest.param(b"<html>", "no set of keys", id="a page"),
        pytest.param(b"\xff", "no set of keys", id="not UTF-8"),
        pytest.param(b"[]", "no set of keys", id="a list"),
        pytest.param(b'{"keys": []}', "no set of keys", id="no keys"),
        pytest.param(b"[" * 100_000, "no set of keys", id="nested too deep"),
        pytest.param(key_set({"kty": "oct"}), "no set of keys", id="a key without its value"),
        pytest.param(key_set(jwk(RSA, use="enc")), "no public key", id="a key for encryption"),
        pytest.param(key_set({"kty": "oct", "k": "YWJj", "alg": "HS256"}), "no public key", id="a secret"),
    ],
)
def test_a_set_without_a_usable_key_is_refused(data: bytes, message: str) -> None:
    """A secret in a public set would let its readers sign."""
    with pytest.raises(ValueError, match=message):
        keys_of_set(data)


def test_an_unknown_key_is_looked_for_at_most_every_ten_seconds() -> None:
    """A sender cannot make the service ask the key server for each request."""
    source = of_set(key_set(jwk(EC, kid="a")))
    known, unknown = sign(kid="a"), sign(kid="b")
    assert not source.is_due(known, 299)
    assert source.is_due(known, 300)
    assert not source.is_due(unknown, 9)
    assert source.is_due(unknown, 10)
    source.take(key_set(jwk(EC, kid="b")), 10)
    assert source.identify(unknown).name == "ann"
    with pytest.raises(Unauthorized, match="No known key"):
        source.identify(known)


def test_without_keys_no_token_can_be_verified(caplog: pytest.LogCaptureFixture) -> None:
    """The service tries again after ten seconds."""
    source = of_set(None)
    assert source.is_due(sign(), 0)
    source.fail(TimeoutError("no answer"), 0)
    with pytest.raises(IdentityUnavailable):
        source.identify(sign())
    assert not source.is_due(sign(), 9)
    assert source.is_due(sign(), 10)
    assert caplog.messages == [
        "https://issuer.example/keys cannot be used, and no token can be verified: no answer",
    ]


def test_the_keys_outlive_an_outage_of_their_server(caplog: pytest.LogCaptureFixture) -> None:
    """The former keys stay in use, and the next failure of another kind has its own line."""
    caplog.set_level(logging.ERROR)
    source = of_set(key_set(jwk(EC, kid="a")))
    for second, reason in ((300, "no answer"), (310, "no answer"), (320, "status 500")):
        source.fail(TimeoutError(reason), second)
    assert source.identify(sign(kid="a")).name == "ann"
    assert len(caplog.messages) == 2


def test_the_settings_select_a_file_or_a_server(tmp_path: Path) -> None:
    """A wrong file ends the start; a server is asked when the first token comes."""
    named = {"auth": "jwt", "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    path = tmp_path / "key.pem"
    settings: Any = Settings(**named, jwt_key_file=str(path))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"UPLOAD_JWT_KEY_FILE is .*No such file"):
        token_source(settings)
    path.write_bytes(pem(EC))
    source = token_source(settings)
    assert source is not None
    assert source.identify(sign()).name == "ann"
    of_server = token_source(Settings(**named, jwt_jwks_url="https://issuer.example/keys"))  # type: ignore[arg-type]
    assert of_server is not None
    assert of_server.is_due(sign(), 0)


def test_a_missing_package_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line has the command that installs it."""
    monkeypatch.setitem(sys.modules, "filehandoff.jwt_tokens", None)
    monkeypatch.delattr("filehandoff.jwt_tokens", raising=False)
    settings = Settings(auth="jwt", jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_url="https://issuer.example")
    with pytest.raises(SettingsError, match=r"UPLOAD_AUTH is 'jwt'.*pip install 'filehandoff\[jwt\]'"):
        token_source(settings)
