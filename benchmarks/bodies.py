"""Random bodies of any size, with their SHA-256."""

import hashlib
import os
from functools import cache

from benchmarks.load import Group

#: Bytes in the pool. It is prime, so that no two parts of a large body are equal: a store that swaps parts is caught.
POOL_BYTES = 67_108_859
_SMALL_BYTES = 64 * 2**20
#: Number of different bodies of one size, for small and large ones; hashing large bodies takes seconds.
_MANY, _FEW = 8, 2
_HASH_BYTES = 4 * 2**20


class Bodies:
    """Random bytes in a memory file.

    Each body is a slice that wraps around at the end.
    """

    def __init__(self) -> None:
        self.fd = os.memfd_create("bodies")
        self._data = os.urandom(POOL_BYTES)
        view = memoryview(self._data)
        while view:
            view = view[os.write(self.fd, view) :]
        self.digests = cache(self._digests)

    def _digests(self, size: int) -> dict[int, str]:
        """Map the offset of each body of this size to its SHA-256 in hex."""
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
        """The SHA-256 of the body that request `number` of a group sends."""
        return list(group.digests.values())[number % len(group.digests)]

    def close(self) -> None:
        """Free the memory."""
        os.close(self.fd)
