"""Parts: their ends, their sizes, and readers that behave like other files."""

import io
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, islice, pairwise
from tempfile import SpooledTemporaryFile
from typing import IO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from filehandoff.parts import (
    CHUNK_BYTES,
    MAX_PART_BYTES,
    MAX_PARTS,
    MIN_PART_BYTES,
    SMALL_CHUNK_BYTES,
    FileReader,
    Part,
    PartCutter,
    PartReader,
    PartSizes,
    cut,
    peak_memory,
    read_chunks,
)

MIB = 1024**2
GIB = 1024**3
TIB = 1024**4
#: Candidates for the number of parts between doublings, late ones first.
DOUBLINGS = (10_000, 2000, 1000, 500, 250, 125, 60, 30, 10, 1)


# The size of a part.


def sizes_by_hand(first: int, every: int) -> list[int]:
    """Return the sizes of all 10,000 parts, computed one by one."""
    sizes: list[int] = []
    size = first
    for number in range(MAX_PARTS):
        if number and number % every == 0:
            size = min(size * 2, MAX_PART_BYTES)
        sizes.append(size)
    return sizes


def double_every_by_hand(first: int, largest_file: int) -> int:
    """Return the latest doubling by which 10,000 parts hold the file."""
    return next(every for every in DOUBLINGS if sum(sizes_by_hand(first, every)) >= largest_file)


firsts = st.sampled_from([1, MIN_PART_BYTES, 8 * MIB, 64 * MIB, GIB, MAX_PART_BYTES]) | st.integers(1, MAX_PART_BYTES)


@settings(max_examples=settings().max_examples // 4)
@given(st.data(), firsts)
def test_part_sizes_agree_with_a_sum_by_hand(data: st.DataObject, first: int) -> None:
    """Sizes, doubling, largest part and reach equal those of a list of all 10,000 parts."""
    reaches = [sum(sizes_by_hand(first, every)) for every in DOUBLINGS]
    reach = PartSizes.reach(first)
    assert reach == max(reaches)
    edges = [edge for each in reaches for edge in (each, each + 1) if edge <= reach]
    largest_file = data.draw(st.sampled_from(edges) | st.integers(1, reach))
    sizes = PartSizes(first, largest_file)
    every = double_every_by_hand(first, largest_file)
    assert sizes.double_every == every
    by_hand = sizes_by_hand(first, every)
    assert list(sizes) == by_hand
    needed = next(number for number, total in enumerate(accumulate(by_hand)) if total >= largest_file)
    assert sizes.largest == by_hand[needed]


@pytest.mark.parametrize(("every", "sooner"), [*pairwise(DOUBLINGS), (DOUBLINGS[-1], None)])
def test_sizes_double_as_late_as_the_file_permits(every: int, sooner: int | None) -> None:
    """Each doubling is used up to the last byte of its reach."""
    reach = sum(sizes_by_hand(8 * MIB, every))
    assert PartSizes(8 * MIB, reach).double_every == every
    if sooner is None:
        assert PartSizes.reach(8 * MIB) == reach
    else:
        assert PartSizes(8 * MIB, reach + 1).double_every == sooner


@pytest.mark.parametrize(
    ("largest_file", "largest"),
    [
        pytest.param(1, 8 * MIB, id="one byte"),
        pytest.param(5 * GIB, 8 * MIB, id="the default largest file"),
        pytest.param(78 * GIB, 8 * MIB, id="78 GiB"),
        pytest.param(10_000 * 8 * MIB, 8 * MIB, id="10,000 parts exactly"),
        pytest.param(10_000 * 8 * MIB + 1, 32 * MIB, id="one byte more"),
        pytest.param(2000 * 56 * MIB, 32 * MIB, id="2,000 parts each of 8, 16 and 32 MiB exactly"),
        pytest.param(2000 * 56 * MIB + 1, 64 * MIB, id="one byte more than these"),
        pytest.param(5 * TIB, 4 * GIB, id="5 TiB"),
        pytest.param(PartSizes.reach(8 * MIB), MAX_PART_BYTES, id="the largest object there is"),
    ],
)
def test_parts_grow_only_for_files_that_need_it(largest_file: int, largest: int) -> None:
    """Parts of 8 MiB never grow for files up to 78 GiB."""
    assert PartSizes(8 * MIB, largest_file).largest == largest


@pytest.mark.parametrize(
    ("first", "reach"),
    [
        # 2^k × the first for each part until 5 GiB, then 5 GiB.
        pytest.param(MIN_PART_BYTES, 53_638_767_575_040, id="parts from 5 MiB: 48.78 TiB"),
        pytest.param(8 * MIB, 53_641_985_654_784, id="parts from 8 MiB: 48.79 TiB"),
        pytest.param(MAX_PART_BYTES, 10_000 * MAX_PART_BYTES, id="parts of 5 GiB: 48.83 TiB, S3's own limit"),
    ],
)
def test_the_reach_of_each_first_part_is_beyond_5_tib(first: int, reach: int) -> None:
    """With any first part, S3's old limit fits, and nearly the new one."""
    assert PartSizes.reach(first) == reach
    assert 5 * TIB <= reach <= 10_000 * 5 * GIB


# The end of a part.


@st.composite
def chunked(draw: st.DrawFn) -> tuple[list[bytes], PartSizes]:
    """Draw the chunks of a small file, and part sizes that hold it."""
    chunks = draw(st.lists(st.binary(max_size=12), max_size=12))
    total = sum(len(chunk) for chunk in chunks)
    return chunks, PartSizes(draw(st.integers(1, 9)), max(1, total + draw(st.integers(0, 100))))


def joined(part: Part) -> bytes:
    """Return a part's bytes."""
    return b"".join(part.chunks)


@given(file=chunked(), as_views=st.booleans())
def test_parts_hold_the_file_in_any_chunking(file: tuple[list[bytes], PartSizes], *, as_views: bool) -> None:
    """All parts have their exact size, except the last, for any chunks."""
    chunks, sizes = file
    whole = b"".join(chunks)
    cutter = PartCutter(sizes)
    views: Iterable[bytes | memoryview] = map(memoryview, chunks) if as_views else chunks
    parts = [part for chunk in views for part in cutter.receive(chunk)]
    parts.append(cutter.finish())
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert b"".join(map(joined, parts)) == whole
    assert all(len(chunk) for part in parts for chunk in part.chunks)
    wanted = list(islice(sizes, len(parts)))
    assert [part.size for part in parts[:-1]] == wanted[:-1]
    assert parts[-1].size <= wanted[-1]
    assert parts[-1].size > 0 or not whole
    at_once = PartCutter(sizes)
    assert [*map(joined, at_once.receive(whole)), joined(at_once.finish())] == list(map(joined, parts))


def test_parts_grow_while_they_are_cut() -> None:
    """A file beyond 10,000 parts of the first size is cut into growing parts."""
    sizes = PartSizes(1, 20_001)
    data = bytes(20_001)
    cutter = PartCutter(sizes)
    parts = [*cutter.receive(data), cutter.finish()]
    assert sizes.double_every == 2000
    assert [part.size for part in parts[:6001:2000]] == [1, 2, 4, 8]
    assert sum(part.size for part in parts) == len(data)
    assert len(parts) <= MAX_PARTS


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        pytest.param(0, [0], id="an empty file"),
        pytest.param(9, [9], id="one byte under a part"),
        pytest.param(10, [10], id="one part exactly"),
        pytest.param(11, [10, 1], id="one byte over a part"),
        pytest.param(20, [10, 10], id="two parts exactly"),
        pytest.param(21, [10, 10, 1], id="two parts and a byte"),
    ],
)
def test_the_last_part_is_never_empty_but_in_an_empty_file(size: int, parts: list[int]) -> None:
    """A file of whole parts ends with a whole part."""
    cutter = PartCutter(PartSizes(10, 1000))
    before = [part.size for part in cutter.receive(bytes(size))]
    assert [*before, cutter.finish().size] == parts


def test_a_chunk_that_fits_is_not_copied() -> None:
    """A part holds the given chunks themselves, and slices of shared ones."""
    one = SMALL_CHUNK_BYTES
    chunks = [one * b"a", one * b"b" + one * b"c"]
    cutter = PartCutter(PartSizes(2 * one, 100 * one))
    (part,) = [part for chunk in chunks for part in cutter.receive(chunk)]
    assert part.chunks[0] is chunks[0]
    shared = [part.chunks[1], *cutter.finish().chunks]
    assert [bytes(view) for view in shared] == [one * b"b", one * b"c"]
    assert all(isinstance(view, memoryview) and view.obj is chunks[1] for view in shared)


def test_small_chunks_are_joined() -> None:
    """A file in single bytes is kept in joined chunks, in order."""
    data = bytes(at % 251 for at in range(3 * SMALL_CHUNK_BYTES))
    large = SMALL_CHUNK_BYTES * b"x"
    cutter = PartCutter(PartSizes(10 * SMALL_CHUNK_BYTES, 100 * SMALL_CHUNK_BYTES))
    for chunk in (*(data[at : at + 1] for at in range(len(data))), b"a", large, b"b"):
        assert not list(cutter.receive(chunk))
    part = cutter.finish()
    assert part.open().read() == data + b"a" + large + b"b"
    assert [len(chunk) for chunk in part.chunks] == [*3 * [SMALL_CHUNK_BYTES], 1, SMALL_CHUNK_BYTES, 1]


@given(st.lists(st.binary(max_size=9)))
def test_a_part_knows_its_size(chunks: list[bytes]) -> None:
    """A part's size is that of its chunks together."""
    assert Part(1, tuple(chunks)).size == len(b"".join(chunks))


def test_the_sending_of_a_part_can_be_broken_off() -> None:
    """An error of `before_read` is raised, and nothing is read."""
    reads: list[None] = []

    def before_read() -> None:
        reads.append(None)
        if len(reads) > 1:
            raise InterruptedError

    reader = Part(1, (b"abc",)).open(before_read)
    assert reader.read(2) == b"ab"
    with pytest.raises(InterruptedError):
        reader.read(2)


def test_sent_bytes_are_freed() -> None:
    """A released part and a closed reader hold no bytes."""
    chunk = bytearray(b"abc")
    part = Part(1, (memoryview(chunk),))
    reader = part.open()
    reader.read(1)
    part.release()
    reader.close()
    chunk.clear()  # raises BufferError if a view is left
    assert (part.size, reader.closed) == (0, True)


def test_a_part_opens_anew_each_time() -> None:
    """Each reader of a part starts at its first byte, for a retry."""
    part = Part(1, (b"ab", memoryview(b"c")))
    assert [part.open().read(), part.open().read()] == [b"abc", b"abc"]


@given(chunked())
def test_parts_come_while_the_file_does(file: tuple[list[bytes], PartSizes]) -> None:
    """The cutter holds at most one part and one chunk of a file."""
    chunks, sizes = file
    came = 0

    def arriving() -> Iterator[bytes]:
        nonlocal came
        for chunk in chunks:
            came += len(chunk)
            yield chunk

    sent, number = 0, 0
    for number, part in enumerate(cut(arriving(), sizes), 1):
        assert part.number == number
        assert came - sent <= part.size + max(map(len, chunks), default=0)
        sent += part.size
    assert (number > 0, sent) == (True, came)
    assert came == sum(map(len, chunks))


@pytest.mark.parametrize(
    ("uploads", "in_flight", "largest_file", "expected"),
    [
        pytest.param(1, 4, GIB, 82 * MIB, id="one upload by the defaults: 50 MiB and the constant"),
        pytest.param(4, 4, GIB, 232 * MIB, id="four at once"),
        pytest.param(32, 4, 5 * GIB, 1632 * MIB, id="as many as the defaults admit"),
        pytest.param(1, 1, 5 * TIB, 10_272 * MIB, id="parts of 4 GiB, which 5 TiB needs"),
    ],
)
def test_the_memory_formula(uploads: int, in_flight: int, largest_file: int, expected: int) -> None:
    """Peak memory follows the formula in the module's docstring."""
    assert peak_memory(uploads, in_flight, PartSizes(8 * MIB, largest_file)) == expected


@pytest.mark.parametrize(
    ("size", "chunks"),
    [
        pytest.param(0, [], id="an empty file"),
        pytest.param(1, [1], id="one byte"),
        pytest.param(CHUNK_BYTES, [CHUNK_BYTES], id="one chunk exactly"),
        pytest.param(CHUNK_BYTES + 1, [CHUNK_BYTES, 1], id="one byte over a chunk"),
    ],
)
def test_a_file_is_read_in_chunks(size: int, chunks: list[int]) -> None:
    """A file is read from its position on, at most 1 MiB at once."""
    file = io.BytesIO(b"before" + bytes(size))
    file.seek(6)
    assert [len(chunk) for chunk in read_chunks(file)] == chunks


# The readers.


class Twins(RuleBasedStateMachine):
    """Check a reader against an ordinary file of the same bytes, operation by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.ours: IO[bytes] = io.BytesIO()
        self.theirs: IO[bytes] = io.BytesIO()

    @rule(size=st.integers(-1, 12))
    def read(self, size: int) -> None:
        """Both return the same bytes."""
        assert self.ours.read(size) == self.theirs.read(size)

    @rule(size=st.integers(0, 12))
    def read_into(self, size: int) -> None:
        """Both fill a buffer alike, and leave its rest unchanged."""
        mine, yours = bytearray(b"." * size), bytearray(b"." * size)
        read = cast("io.RawIOBase", self.ours).readinto(mine)
        assert read == cast("io.BytesIO", self.theirs).readinto(yours)
        assert mine == yours

    @rule()
    def read_a_line(self) -> None:
        """Both return the same line."""
        assert self.ours.readline() == self.theirs.readline()

    @rule(offset=st.integers(-12, 60), whence=st.sampled_from([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END, 9]))
    def seek(self, offset: int, whence: int) -> None:
        """Both seek to the same position, or both fail."""
        try:
            place = self.theirs.seek(offset, whence)
        except (ValueError, OSError) as error:
            with pytest.raises(type(error)):
                self.ours.seek(offset, whence)
        else:
            assert self.ours.seek(offset, whence) == place

    @rule()
    def tell(self) -> None:
        """Both have the same position."""
        assert self.ours.tell() == self.theirs.tell()

    def teardown(self) -> None:
        """Both have the same unread rest."""
        assert self.ours.read() == self.theirs.read()


class PartTwins(Twins):
    """A PartReader and a BytesIO."""

    @initialize(chunks=st.lists(st.binary(max_size=7), max_size=7), as_views=st.booleans())
    def begin(self, chunks: list[bytes], *, as_views: bool) -> None:
        """Open a part of these chunks."""
        self.ours = Part(1, tuple(map(memoryview, chunks) if as_views else chunks)).open()
        self.theirs = io.BytesIO(b"".join(chunks))

    @rule()
    def take_a_piece(self) -> None:
        """A piece equals the other file's next bytes, and both positions agree afterwards."""
        piece = bytes(next(filter(len, cast("PartReader", self.ours).pieces()), b""))
        assert piece == self.theirs.read(len(piece))
        assert piece or not self.theirs.read(1)


class FileTwins(Twins):
    """A FileReader over a temporary file, and such a file itself."""

    @initialize(data=st.binary(max_size=50), in_memory=st.integers(1, 50))
    def begin(self, data: bytes, in_memory: int) -> None:
        """Open two files of these bytes."""
        self.file, self.theirs = (
            cast("IO[bytes]", SpooledTemporaryFile(in_memory))  # noqa: SIM115 - teardown closes it
            for _ in range(2)
        )
        for file in (self.file, self.theirs):
            file.write(data)
            file.seek(0)
        self.ours = cast("IO[bytes]", FileReader(self.file))

    def teardown(self) -> None:
        """Both have the same unread rest."""
        try:
            super().teardown()
        finally:
            self.file.close()
            self.theirs.close()


@pytest.mark.parametrize("twins", [pytest.param(PartTwins, id="a part"), pytest.param(FileTwins, id="an open file")])
def test_a_reader_behaves_like_any_file(twins: type[Twins]) -> None:
    """No sequence of reads and seeks distinguishes a reader from an ordinary file."""
    run_state_machine_as_test(twins)


def readers() -> list[IO[bytes]]:
    """Return one reader of each class over the same bytes."""
    return [Part(1, (b"ab", b"c")).open(), cast("IO[bytes]", FileReader(io.BytesIO(b"abc")))]


@pytest.mark.parametrize("reader", [pytest.param(reader, id=type(reader).__name__) for reader in readers()])
def test_a_reader_reports_its_abilities(reader: IO[bytes]) -> None:
    """A reader reads and seeks, does not write, and has no descriptor."""
    assert (reader.readable(), reader.seekable(), reader.writable()) == (True, True, False)
    with pytest.raises(io.UnsupportedOperation):
        reader.fileno()


def test_a_part_is_read_without_a_copy_of_the_whole() -> None:
    """A part's reader reads its chunks in place: they may have any size and type."""
    reader = PartReader(chain([b"abc"], [memoryview(b"defg")]))
    buffer = bytearray(5)
    assert reader.readinto(memoryview(buffer)) == 5
    assert bytes(buffer) == b"abcde"


def test_a_spooled_file_stays_in_memory() -> None:
    """A call of FileReader's `fileno` does not make the inner file roll over to disk."""
    with SpooledTemporaryFile(100) as file:
        file.write(b"abc")
        reader = FileReader(cast("IO[bytes]", file))
        with pytest.raises(io.UnsupportedOperation):
            reader.fileno()
        assert not file._rolled  # type: ignore[attr-defined] # noqa: SLF001 - no public attribute shows it


@pytest.mark.parametrize("in_memory", [pytest.param(100, id="in memory"), pytest.param(1, id="on disk")])
def test_a_closed_file_cannot_be_read(in_memory: int) -> None:
    """After the inner file is closed, each use of its reader raises."""
    with SpooledTemporaryFile(in_memory) as file:
        file.write(b"abc")
        reader = FileReader(cast("IO[bytes]", file))
    for use in (reader.read, reader.readall, lambda: reader.seek(0), reader.tell):
        with pytest.raises(ValueError, match="closed file"):
            use()


def test_closing_the_reader_leaves_the_file_open() -> None:
    """Closing a reader leaves the inner file open at its position."""
    file = io.BytesIO(b"abc")
    with FileReader(file) as reader:
        reader.read(1)
    assert reader.closed
    assert file.read() == b"bc"
