"""What is known of a file before it is stored, and what a client is told about it afterwards."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from filehandoff.keys import clean_name, encode_name
from filehandoff.strategies import HANDOFFS

#: The object metadata that the hook stamps: which request stored this object.
REQUEST_ID_METADATA = "request-id"
FILENAME_METADATA = "filename"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file on its way: where it goes, what it calls itself, and its promised SHA-256 (lowercase hex), if any."""

    key: str
    filename: str
    content_type: str
    promised: str | None = None

    def __post_init__(self) -> None:
        """Clean the name, for the receipt and the metadata."""
        object.__setattr__(self, "filename", clean_name(self.filename))

    def metadata(self) -> dict[str, str]:
        """The object's user metadata, without the request's id: that is the hook's to stamp."""
        return {FILENAME_METADATA: encode_name(self.filename)}


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is in S3: its size in bytes, its SHA-256 in lowercase hex, S3's ETag without quotes."""

    incoming: Incoming
    size: int
    sha256: str
    etag: str
    parts: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """One stored file as the client is told of it.

    `url` is where to get it. `size` is in bytes, `sha256` lowercase hex, `etag` S3's without quotes, `parts` 1 for a
    single put, `elapsed_ms` milliseconds from the request's arrival in the app to the file being in S3.
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
        """The receipt's members for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class UploadContext:
    """The way an upload goes: one cell of the grid, and the request it belongs to."""

    framework: str
    handoff: str
    hook: str
    request_id: str

    def summary(self, stored: Sequence[Stored], elapsed_seconds: float) -> dict[str, object]:
        """The upload for the log, where the request's id stands already; no filename, which is what a client likes.

        Where one request gave the URL and another completes the upload, `begun_by` is the first one's id.
        """
        begun = {} if HANDOFFS[self.handoff].of_a_form else {"begun_by": self.request_id}
        return {
            "handoff": self.handoff,
            "hook": self.hook,
            "bytes": sum(one.size for one in stored),
            "keys": [one.incoming.key for one in stored],
            "elapsed_ms": round(elapsed_seconds * 1000, 1),
            **begun,
        }

    def receipt(self, stored: Stored, elapsed_seconds: float, base_url: str) -> Receipt:
        """The receipt for a file that went this way, through the app at `base_url`."""
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
