"""Random bodies of any size, and what their SHA-256 is."""

import hashlib
import os
from functools import cache

from benchmarks.load import Group

#: Prime, so that no two parts of a large body are the same bytes: parts stored in a wrong order are seen.
POOL_BYTES = 67_108_859
_SMALL_BYTES = 64 * 2**20
#: How many different bodies of one size are sent: hashing large ones takes its time.
_MANY, _FEW = 8, 2
_HASH_BYTES = 4 * 2**20


class Bodies:
    """Random bytes in a memory file: each body is a stretch of them, and goes on at their beginning."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("bodies")
        self._data = os.urandom(POOL_BYTES)
        view = memoryview(self._data)
        while view:
            view = view[os.write(self.fd, view) :]
        self.digests = cache(self._digests)

    def _digests(self, size: int) -> dict[int, str]:
        """Where the bodies of a size begin, each with its SHA-256 in hex."""
        count = _MANY if size <= _SMALL_BYTES else _FEW
        return {at: self._sha256(at, size) for at in (number * (POOL_BYTES // _MANY) for number in range(count))}

    def _sha256(self, at: int, size: int) -> str:
        digest = hashlib.sha256()
        view = memoryview(self._data)
        while size:
            piece = view[at : at + min(size, _HASH_BYTES)]
            digest.update(piece)
            size -= len(piece)
            at = (at + len(piece)) % POOL_BYTES
        return digest.hexdigest()

    def digest(self, group: Group, number: int) -> str:
        """The SHA-256 of the body that a group's request of this number sends."""
        return list(group.digests.values())[number % len(group.digests)]

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.fd)
