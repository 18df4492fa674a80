"""Senders: only the documented errors for any Authorization, any token, and any file of tokens or keys."""

import base64
import hmac
import json
from contextlib import suppress

from fuzz.inputs import fields, texts

from filehandoff.errors import Unauthorized
from filehandoff.identity import ALL_SCOPES, MAX_NAME, Identity, bearer_token
from filehandoff.jwt_tokens import JwtTokens, key_of_file, keys_of_set
from filehandoff.tokens import TokensFile, make, parse

SECRET = b"a secret of thirty-two bytes or more"
KEY_SET = json.dumps(
    {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}
)
TOKEN, LINE = make("ann", "upload,read")
WORDS = (
    b"Bearer ",
    b"bearer  a.b.c==",
    b'{"alg": "HS256", "typ": "JWT"}',
    b'{"alg": "none"}',
    b'{"alg": "EdDSA", "kid": "a"}',
    b'{"sub": "ann", "exp": 9999999999, "iss": "i", "aud": "a"}',
    b'"scope": "upload read"',
    b'"nbf": ',
    b'"iat": 1e999',
    b'"crit": ["b64"], "b64": false',
    b"1e400",
    b"[[[[",
    b"-----BEGIN PUBLIC KEY-----",
    KEY_SET.encode(),
    LINE.encode(),
)


def source(data: bytes) -> JwtTokens:
    """Return the tokens that a secret or a key set verifies."""
    tokens = JwtTokens("address", "i", "a", parse=key_of_file if data is SECRET else keys_of_set, every=1)
    tokens.take(data, 0)
    return tokens


OF_SECRET, OF_SET = source(SECRET), source(KEY_SET.encode())
OF_FILE = TokensFile("address")
OF_FILE.take(LINE.encode(), 0)


def check(data: bytes) -> None:
    """Read the input as a header, as a token, as a signed token, as a name and as a file of tokens or keys."""
    name, header, payload, rest = fields(data, 4, b"\n")
    check_header(header.decode("latin-1"))
    check_token(payload.decode("latin-1"))
    check_token(signed(header, payload))
    check_file(rest)
    check_key_set(rest)
    check_name(texts(name, 1)[0])


def signed(header: bytes, payload: bytes) -> str:
    """Return a JWT with these parts and a right signature."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload)]
    mark = base64.urlsafe_b64encode(hmac.digest(SECRET, b".".join(parts), "sha256")).rstrip(b"=")
    return b".".join([*parts, mark]).decode()


def check_header(header: str) -> None:
    """Check that a token has the characters of RFC 6750, and comes from the header."""
    try:
        token = bearer_token({"Authorization": header})
    except Unauthorized:
        return
    assert token.isascii(), "a token is not ASCII"
    assert not set(token) & set(' ",;\\'), "a token has other characters"
    assert header.endswith(token), "a token is not the header's"


def check_token(token: str) -> None:
    """Check that a token is verified or rejected."""
    for tokens in (OF_SECRET, OF_SET, OF_FILE):
        try:
            tokens.is_due(token, 1)
            identity = tokens.identify(token)
        except Unauthorized:
            continue
        assert tokens is not OF_SET, "a token without the key's signature is accepted"
        assert tokens is not OF_FILE or token == TOKEN, "another token is accepted"
        assert identity.name, "a sender has no name"
        assert set(identity.scopes) <= set(ALL_SCOPES), "a sender has an unknown scope"


def check_file(data: bytes) -> None:
    """Check that a file of tokens is read whole, or rejected with one line without its content."""
    try:
        known = list(parse(data))
    except ValueError as error:
        assert type(error) is ValueError, "the error is another one"
        assert "\n" not in str(error), "the error has several lines"
        return
    assert len({digest for digest, _ in known}) == len(known), "a token has two owners"
    assert all(len(digest) == 32 and identity.name for digest, identity in known), "a token has no owner"


def check_key_set(data: bytes) -> None:
    """Check that a set of keys and a key file are read or rejected."""
    for read in (keys_of_set, key_of_file):
        try:
            keys = read(data)
        except ValueError as error:
            assert type(error) is ValueError, "the error is another one"
            assert "\n" not in str(error), "the error has several lines"
        else:
            assert keys, "a file without keys is accepted"


def check_name(name: str) -> None:
    """Check that a name that is accepted fits into a log's line."""
    with suppress(ValueError):
        accepted = Identity(name).name
        assert len(accepted) <= MAX_NAME, "a name is too long"
        assert not set(accepted) & set("\r\n\0\x1b\u2028"), "a name breaks a line"
