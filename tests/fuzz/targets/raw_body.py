"""Bodies without a form: any headers give a file or a documented error."""

from fuzz.inputs import fields, number

from filehandoff.errors import FormMalformed, UploadError
from filehandoff.form import FormParser, is_media_type
from filehandoff.raw_body import RawBody
from filehandoff.settings import Limits

WORDS = (
    b"Content-Type: text/plain",
    b"Content-Type: multipart/form-data; boundary=a",
    b"Content-Disposition: attachment; filename*=UTF-8''a",
    b'Content-Disposition: attachment; filename="a"',
    b"Content-Encoding: gzip",
    b"Content-Encoding: identity",
    b"Content-Range: bytes 0-4/5",
    b"Content-Digest: sha-256=:RK/5qy6MXBSVfWgGjMSTxKyfkDAz6YMsotw5GBmQyY8=:",
    b"Repr-Digest: sha-512=:AA==:",
    b"Transfer-Encoding: chunked",
    b'boundary="a\\"b"',
)
LIMITS = Limits(file_bytes=300)
HEX = set("0123456789abcdef")


def check(data: bytes) -> None:
    """Read the first line as lengths and a name in the path, and the others as headers."""
    options, *lines = fields(data, 8, b"\n")
    declared = number(options) % 400 if options[:1] != b"?" else None
    sent = number(options[2:]) % 400
    headers = [(name, value.strip(" ")) for name, _, value in (line.decode("latin-1").partition(":") for line in lines)]
    check_form(headers)
    try:
        body = RawBody(options[4:].decode("utf-8", "replace"), headers, declared, LIMITS)
    except UploadError as error:
        assert 400 <= error.status < 500, "the sender's fault counts as the service's"
        return
    check_start(body)
    check_length(body, sent, declared)


def check_start(body: RawBody) -> None:
    """Check that the file's description fits into S3's headers."""
    start = body.start
    assert is_media_type(start.content_type), "the type is none that S3 accepts"
    assert start.content_type.isprintable(), "the type has a control character"
    assert start.promised is None or (len(start.promised) == 64 and set(start.promised) <= HEX), "the digest is none"


def check_length(body: RawBody, sent: int, declared: int | None) -> None:
    """Check that the lengths decide whether the body is accepted."""
    try:
        for start in range(0, sent, 99):
            body.receive(b"x" * min(99, sent - start))
        body.finish()
    except UploadError as error:
        short = declared is not None and sent < declared
        assert sent > LIMITS.file_bytes or short, "a body within its limits is rejected"
        assert isinstance(error, FormMalformed) == (sent <= LIMITS.file_bytes), "the error is another one"
        return
    assert sent <= LIMITS.file_bytes, "a body is larger than its limit"
    assert declared is None or sent >= declared, "a body that was cut short is accepted"


def check_form(headers: list[tuple[str, str]]) -> None:
    """Check that a form's head is read or rejected."""
    fields_ = {name.lower(): value for name, value in headers}
    try:
        FormParser.of(fields_.get("content-type", ""), None, LIMITS, fields_.get("content-encoding", ""))
    except UploadError as error:
        assert error.status in {400, 415}, "the status is another one"
