"""Requests for URLs: a body gives a request or a documented error, a query an upload that the service has signed."""

from urllib.parse import parse_qsl

from fuzz.inputs import fields, number, pieces, texts

from filehandoff.errors import ObjectMissing, UploadError
from filehandoff.form import is_media_type
from filehandoff.keys import clean_name
from filehandoff.parts import MAX_PART_BYTES, MIN_PART_BYTES
from filehandoff.presigned import JSON, PresignedMultipart, PresignRequest, PresignRequestReader, Seal, part_lengths
from filehandoff.settings import MIB, Limits

WORDS = (
    b'{"filename": "a.txt", "size": 5, ',
    b'"content_type": "text/plain"',
    b'"sha256": "' + b"0123456789abcdef" * 4,
    b"\\ud800",
    b"\\u202e",
    b"1e400",
    b"-0",
    b"3.0",
    b"NaN",
    b"[" * 40,
    b"upload_id=a",
    b"&size=",
    b"&part_bytes=8388608",
    b"&signature=",
    b"&after=",
)
LIMITS = Limits(file_bytes=50_000 * MIB, field_bytes=500)
SEAL, UNSEALED = Seal("a secret of sixteen and more"), Seal(None)
UPLOAD = PresignedMultipart("a/key", "id", 20 * MIB, 8 * MIB)
CODES = {"form-malformed", "digest-malformed", "file-too-large", "body-too-large"}


def check(data: bytes) -> None:
    """Read the input as sizes, as a query and as a body."""
    options, query, body = fields(data, 3, b"\n")
    check_body(body, options)
    check_query(dict(parse_qsl(texts(query, 1)[0], keep_blank_values=True)))
    check_round_trip(options)
    check_parts(number(options) << number(options[2:4]) % 24, MIN_PART_BYTES + (number(options[4:]) << 12))


def check_body(body: bytes, sizes: bytes) -> None:
    """Check that a body is read alike in pieces."""
    whole, split = read([body]), read(pieces(body, sizes))
    assert whole == split, "another split causes another request"
    if isinstance(whole, str):
        assert whole in CODES, "the error is another one"
        return
    assert 0 <= whole.size <= LIMITS.file_bytes, "a size is outside its limits"
    assert is_media_type(whole.content_type), "a type is none that S3 accepts"
    assert whole.filename == clean_name(whole.filename), "a name is not clean"
    assert whole.sha256 is None or bytes.fromhex(whole.sha256), "a digest is none"
    assert len(body) <= LIMITS.field_bytes, "a body is larger than its limit"


def read(split: list[bytes]) -> PresignRequest | str:
    """Return the request, or the code of the error."""
    reader = PresignRequestReader(JSON, LIMITS)
    try:
        for piece in split:
            reader.receive(piece)
        return reader.finish()
    except UploadError as error:
        return error.code


def check_query(query: dict[str, str]) -> None:
    """Check that no query is accepted without our signature."""
    for key in (UPLOAD.key, "a/nother"):
        try:
            upload = PresignedMultipart.from_query(SEAL, key, query, LIMITS)
        except ObjectMissing:
            continue
        assert (upload is None) == ("upload_id" not in query), "an upload comes from no query"
        assert upload in {None, UPLOAD}, "another upload is accepted"


def check_round_trip(options: bytes) -> None:
    """Check that our own query returns, and that each change of it is noticed."""
    query = dict(parse_qsl(UPLOAD.query(SEAL)))
    assert PresignedMultipart.from_query(SEAL, UPLOAD.key, query, LIMITS) == UPLOAD, "our own query is rejected"
    name = sorted(query)[number(options) % len(query)]
    changed = query[name] + (options[2:].decode("latin-1") or "0")
    try:
        upload = PresignedMultipart.from_query(SEAL, UPLOAD.key, query | {name: changed}, LIMITS)
    except ObjectMissing:
        return
    raise AssertionError(f"a changed query is accepted: {upload}")


def check_parts(size: int, part_bytes: int) -> None:
    """Check that the parts are the file, and that S3 takes each."""
    part_bytes = min(part_bytes, MAX_PART_BYTES)
    size = min(size, 50 * part_bytes)  # the list of more parts takes most of the time
    lengths = part_lengths(size, part_bytes)
    assert [at for at, _ in lengths] == list(range(1, len(lengths) + 1)), "the numbers are not in order"
    assert sum(length for _, length in lengths) == size, "the parts are not the file"
    assert all(MIN_PART_BYTES <= length <= MAX_PART_BYTES for _, length in lengths[:-1]), "a part has no size for S3"
    upload = PresignedMultipart("a", "id", size, part_bytes)
    upload.check(lengths)
    assert upload.page(1) == lengths[1:], "a page has other parts"
