"""A file before and after its upload, and the client's receipt."""

from collections.abc import Sequence
from dataclasses import dataclass

from filehandoff.identity import ANYONE, Identity
from filehandoff.keys import clean_name, encode_name, user_segment
from filehandoff.strategies import FORM_HANDOFFS

#: The object metadata in which the hook stamps the request's id.
REQUEST_ID_METADATA = "request-id"
FILENAME_METADATA = "filename"
#: The sender's name, encoded as in a key.
USER_METADATA = "user"


@dataclass(slots=True)
class Incoming:
    """A file before its upload.

    `promised` is its SHA-256 in lowercase hex, if any, `user` the sender's name, empty if unknown.
    """

    key: str
    filename: str
    content_type: str
    promised: str | None = None
    user: str = ""

    def __post_init__(self) -> None:
        """Clean the filename, for the receipt and the metadata."""
        self.filename = clean_name(self.filename)

    def metadata(self) -> dict[str, str]:
        """Return the object's user metadata without the request's id, which the hook stamps."""
        user = {USER_METADATA: user_segment(self.user)} if self.user else {}
        return {FILENAME_METADATA: encode_name(self.filename), **user}


@dataclass(slots=True)
class Stored:
    """A file in S3: size in bytes, SHA-256 in lowercase hex, ETag without quotes."""

    incoming: Incoming
    size: int
    sha256: str
    etag: str
    parts: int


@dataclass(slots=True)
class Receipt:
    """The receipt of one stored file, for the client.

    `url` is the object's address. `size` is in bytes, `sha256` is lowercase hex, `etag` is S3's without quotes, `parts`
    is 1 for a single put, `elapsed_ms` counts from the request's arrival in the app until the file is in S3.
    """

    key: str
    url: str
    filename: str
    content_type: str
    size: int
    sha256: str
    etag: str
    parts: int
    framework: str
    handoff: str
    hook: str
    request_id: str
    elapsed_ms: float

    def as_json(self) -> dict[str, str | int | float]:
        """Return the receipt's members for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class UploadContext:
    """One upload's cell of the grid, its request's id, and the request's sender."""

    framework: str
    handoff: str
    hook: str
    request_id: str
    identity: Identity = ANYONE

    def summary(self, stored: Sequence[Stored], elapsed_seconds: float) -> dict[str, object]:
        """Return the upload's values for the log; no filename, because clients choose it.

        If one request returned the URL and another completes the upload, `begun_by` is the first request's id.
        """
        begun = {} if self.handoff in FORM_HANDOFFS else {"begun_by": self.request_id}
        return {
            "handoff": self.handoff,
            "hook": self.hook,
            "bytes": sum(one.size for one in stored),
            "parts": sum(one.parts for one in stored),
            "keys": [one.incoming.key for one in stored],
            "elapsed_ms": round(elapsed_seconds * 1000, 1),
            **begun,
        }

    def receipt(self, stored: Stored, elapsed_seconds: float, base_url: str) -> Receipt:
        """Return the receipt of a file in this upload, from the app at `base_url`."""
        return Receipt(
            key=stored.incoming.key,
            url=f"{base_url}/objects/{stored.incoming.key}",
            filename=stored.incoming.filename,
            content_type=stored.incoming.content_type,
            size=stored.size,
            sha256=stored.sha256,
            etag=stored.etag,
            parts=stored.parts,
            framework=self.framework,
            handoff=self.handoff,
            hook=self.hook,
            request_id=self.request_id,
            elapsed_ms=round(elapsed_seconds * 1000, 1),
        )
