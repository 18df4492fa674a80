"""The demo's files: real ones, in three sizes."""

import hashlib
import io
import os
import tarfile
from dataclasses import dataclass

from demo.processes import ROOT
from filehandoff.settings import MIB
from filehandoff.strategies import SIZE_CLASSES


@dataclass(frozen=True)
class Sample:
    """A file to send."""

    label: str
    filename: str
    content_type: str
    data: bytes

    @property
    def sha256(self) -> str:
        """The SHA-256 in lowercase hex."""
        return hashlib.sha256(self.data).hexdigest()

    def size_class(self, part_bytes: int) -> str:
        """The size class of the grid."""
        if len(self.data) > part_bytes:
            return "parts"
        return "rolled" if len(self.data) >= SIZE_CLASSES["rolled"].size(part_bytes) else "memory"


def samples() -> list[Sample]:
    """The project's source as an archive, a photo-sized file, and one of 64 MiB."""
    return [
        Sample("source", "handoff source.tar.gz", "application/gzip", _source_archive()),
        Sample("photo", "ein Föto.jpg", "image/jpeg", os.urandom(3 * MIB)),
        Sample("64 MiB", "large.bin", "application/octet-stream", os.urandom(64 * MIB)),
    ]


def _source_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for package in ("filehandoff", "flask_app", "quart_app", "demo"):
            for path in sorted((ROOT / package).rglob("*.py")):
                archive.add(path, path.relative_to(ROOT).as_posix())
    return buffer.getvalue()
