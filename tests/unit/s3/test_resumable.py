"""Resumable uploads on an S3 in memory: every chunking, interruption and race leaves the right bytes, or none."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.s3.fake_s3 import FakeS3, Running

from filehandoff.errors import (
    ChecksumMismatch,
    DigestMismatch,
    Expired,
    FileTooLarge,
    FormMalformed,
    Locked,
    NotFound,
    StoreRejected,
    StoreUnavailable,
    TypeNotAllowed,
    UploadError,
    UploadGone,
)
from filehandoff.receipt import Stored
from filehandoff.s3 import upload_lock, upload_removal, upload_state
from filehandoff.s3.calls import Flow
from filehandoff.s3.resumable import Writer
from filehandoff.s3.upload_lock import Held
from filehandoff.s3.upload_state import Found, State
from filehandoff.service import Service
from filehandoff.settings import Settings
from filehandoff.tus import Chunk, ChunkChecksum

ID = "019c1234-5678-7abc-89de-f0123456789a"
FOLDER = f".tus/_/{ID}/"
KEY = f"2026/11/27/{ID}/a.bin"
#: Far less than S3's parts: the core takes any size.
PART = 5000
DATA = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(500))


def service_of(**settings: Any) -> Service:
    """Make a service without a shell."""
    return Service("flask", Settings(bucket="photos", **settings))


@pytest.fixture
def service() -> Service:
    """Make a service without a shell."""
    return service_of()


@pytest.fixture
def store() -> FakeS3:
    """Make an empty bucket."""
    return FakeS3()


def state_of(length: int | None = len(DATA), **more: Any) -> State:
    """Make the first state of an upload."""
    values = {"key": KEY, "filename": "a.bin", "content_type": "image/png", "promised": None, "user": "", **more}
    return State(
        **{"request_id": "r", "metadata": "", "concat": "", "length": length, "part_bytes": PART, **values},
        largest_file=1_000_000,
    )


def create(store: FakeS3, service: Service, state: State | None = None) -> None:
    """Create an upload."""
    store.run(upload_lock.create(service, FOLDER, state or state_of()))


def find(store: FakeS3, service: Service) -> Found:
    """Return the upload's present state."""
    return store.run(upload_state.find(service, "", ID))


def offset(store: FakeS3, service: Service) -> int:
    """Return the offset from which a client would continue."""
    return find(store, service).state.offset


def stamp(params: dict[str, Any]) -> None:
    """A hook that stamps a request's id."""
    params["Metadata"]["request-id"] = "r"


def begin(store: FakeS3, service: Service, at: int, *, clock: Any = None, **more: Any) -> Writer:
    """Lock the upload for a chunk at this offset."""
    held = store.run(upload_lock.claim(service, find(store, service), clock or store.clock))
    return writer_of(service, held, at, **more)


def writer_of(service: Service, held: Held, at: int, **head: Any) -> Writer:
    """Return the writer of a chunk."""
    values: dict[str, Any] = {"size": None, "length": None, "checksum": None, **head}
    return Writer(service, held, Chunk(at, **values), stamp)


def feed(writer: Writer, chunks: Sequence[bytes], checksum: ChunkChecksum | None = None) -> Flow[None]:
    """Write the chunks as the shells do, without parallel parts."""
    yield from writer.open()
    for chunk in chunks:
        if checksum is not None:
            checksum.update(chunk)
        if writer.is_old:
            yield from writer.renew()
        for part in writer.receive(chunk):
            if writer.needs_begin:
                yield from writer.begin(part)
            yield from writer.send(part, writer.digest(part))


def handle(writer: Writer, seen: list[Stored]) -> Any:
    """Make the flow that ends an upload."""

    def respond(stored: Stored) -> Flow[State]:
        seen.append(stored)
        return (yield from writer.done([{"sha256": stored.sha256}]))

    return respond


def patch(
    writer: Writer,
    chunks: Sequence[bytes],
    seen: list[Stored],
    checksum: ChunkChecksum | None = None,
    *,
    cut: bool = False,
) -> Flow[State]:
    """Do all that a request does: feed, then finish or pause."""
    try:
        yield from feed(writer, chunks, checksum)
        check = lose_client if cut else writer.check
        check()
        state: State = yield from writer.finish(handle(writer, seen)) if writer.is_complete else writer.pause()
    except Exception:
        yield from writer.pause()
        raise
    return state


def lose_client() -> None:
    """Raise a shell's error for a disconnected client."""
    raise FormMalformed("cut", cut_short=True)


def pieces(data: bytes, size: int = 700) -> list[bytes]:
    """Cut a chunk into the pieces in which a server receives it."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def send(store: FakeS3, service: Service, at: int, data: bytes, **more: Any) -> list[Stored]:
    """Send one chunk; return the stored file, if it was the last."""
    seen: list[Stored] = []
    checksum = more.get("checksum")
    store.run(patch(begin(store, service, at, **more), pieces(data), seen, checksum))
    return seen


def states(store: FakeS3) -> list[str]:
    """The names of the objects in the upload's folder."""
    return sorted(key.removeprefix(FOLDER) for key in store.objects if key.startswith(FOLDER))


def check_whole(store: FakeS3, service: Service, stored: Stored, data: bytes = DATA) -> None:
    """Check the object, the receipt, and that nothing else is left but the last record."""
    assert store.objects[KEY].data == data
    assert (stored.size, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert f'"{stored.etag}"' == store.objects[KEY].etag
    assert store.objects[KEY].metadata["request-id"] == "r"
    state = find(store, service).state
    assert (state.is_done, state.offset, state.length) == (True, len(data), len(data))
    assert state.receipts == ({"sha256": stored.sha256},)
    assert len(states(store)) == 1
    assert not store.uploads


@settings(max_examples=settings().max_examples // 2)
@given(st.data())
def test_chunks_of_any_size_make_the_file(data: st.DataObject) -> None:
    """However the file is cut into requests, and whichever of them lose their clients."""
    store, service = FakeS3(), service_of()
    whole = DATA[: data.draw(st.sampled_from([0, 1, PART - 1, PART, PART + 1, 2 * PART, len(DATA)]))]
    create(store, service, state_of(len(whole)))
    at, seen = 0, list[Stored]()
    while not seen:
        sizes = st.sampled_from([1, PART - 1, PART, PART + 1, 2 * PART + 3]) | st.integers(PART // 2, 3 * PART)
        size = data.draw(sizes)
        chunk = whole[at : at + size]
        cut = data.draw(st.booleans()) and at + len(chunk) < len(whole)
        flow = patch(begin(store, service, at), pieces(chunk), seen, cut=cut)
        if cut:
            with pytest.raises(FormMalformed):
                store.run(flow)
        else:
            store.run(flow)
        at += len(chunk)
        assert offset(store, service) == at
    check_whole(store, service, seen[0], whole)


def test_a_chunk_of_whole_parts_is_sent_once(service: Service, store: FakeS3) -> None:
    """No byte of it waits in an object of its own, if the file's length is known."""
    create(store, service)
    for at in range(0, 3 * PART, PART):
        send(store, service, at, DATA[at : at + PART])
        assert not [name for name in states(store) if name.startswith("rest")]
        assert offset(store, service) == at + PART
    (stored,) = send(store, service, 3 * PART, DATA[3 * PART :])
    check_whole(store, service, stored)


def test_one_chunk_carries_its_digest_along(service: Service, store: FakeS3) -> None:
    """The object of a file that came in one request is not read back."""
    create(store, service)
    store.operations.clear()
    (stored,) = send(store, service, 0, DATA)
    assert KEY not in [key for key in store.operations if key == "get_object"]
    assert store.operations.count("get_object") == 1  # the state
    check_whole(store, service, stored)


def test_several_chunks_are_read_back_for_their_digest(service: Service, store: FakeS3) -> None:
    """By the checksums of their parts: changed bytes are no receipt."""
    create(store, service)
    send(store, service, 0, DATA[: 2 * PART])
    flipped = bytearray(DATA)
    flipped[7] ^= 1
    store.corrupt = lambda data: bytes(flipped) if data == DATA else data
    with pytest.raises(StoreUnavailable, match="other bytes"):
        send(store, service, 2 * PART, DATA[2 * PART :])
    store.corrupt = lambda data: data
    again = offset(store, service)
    assert again < len(DATA)
    (stored,) = send(store, service, again, DATA[again:])
    check_whole(store, service, stored)


def test_a_changed_rest_is_never_sent(service: Service, store: FakeS3) -> None:
    """The bytes after the last part are compared with their checksum."""
    create(store, service)
    send(store, service, 0, DATA[:1000])
    store.corrupt = lambda data: b"x" + data[1:] if data == DATA[:1000] else data
    with pytest.raises(StoreUnavailable, match="other bytes"):
        send(store, service, 1000, DATA[1000:])
    assert offset(store, service) == 1000


def test_a_changed_state_is_never_used(service: Service, store: FakeS3) -> None:
    """A record holds its own checksum."""
    create(store, service)
    store.corrupt = lambda data: data.replace(b"photos", b"photoz").replace(b'"a.bin"', b'"b.bin"')
    with pytest.raises(StoreUnavailable, match="the upload's state"):
        find(store, service)


def test_a_state_that_arrives_damaged_is_read_again(service: Service, store: FakeS3) -> None:
    """A connection may break, and rclone shows a record before it has written all of it."""
    create(store, service)
    reads = itertools.count()
    store.corrupt = lambda data: data if next(reads) else data[:120]
    assert offset(store, service) == 0
    assert next(reads) == 2


def test_the_length_may_come_last(service: Service, store: FakeS3) -> None:
    """An empty chunk that declares the length completes the upload."""
    create(store, service, state_of(None))
    send(store, service, 0, DATA[:PART])
    assert find(store, service).state.length is None
    send(store, service, PART, DATA[PART:])
    (stored,) = send(store, service, len(DATA), b"", length=len(DATA))
    check_whole(store, service, stored)


def test_a_declared_length_is_kept(service: Service, store: FakeS3) -> None:
    """A chunk that is not the last may declare it, also without a byte."""
    create(store, service, state_of(None))
    send(store, service, 0, b"", length=11)
    send(store, service, 0, b"hello", length=11)
    assert find(store, service).state.length == 11


def test_too_many_bytes_are_refused(service: Service, store: FakeS3) -> None:
    """Of a known length and of a deferred one; the upload goes on."""
    create(store, service, state_of(11))
    with pytest.raises(FileTooLarge, match="11 bytes"):
        send(store, service, 0, b"hello world!")
    assert offset(store, service) == 0
    (stored,) = send(store, service, 0, b"hello world")
    check_whole(store, service, stored, b"hello world")


def test_a_short_body_keeps_its_bytes(service: Service, store: FakeS3) -> None:
    """A body that ends before its declared length was cut off."""
    create(store, service)
    with pytest.raises(FormMalformed, match="cut short"):
        send(store, service, 0, DATA[:2000], size=3000)
    assert offset(store, service) == 2000


def sha1(data: bytes, *, right: bool = True) -> ChunkChecksum:
    """The checksum of a chunk."""
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    return ChunkChecksum("sha1", digest if right else bytes(20))


def test_a_wrong_checksum_discards_the_chunk(service: Service, store: FakeS3) -> None:
    """Also a chunk of several parts, which S3 has already; the right bytes replace them."""
    create(store, service)
    send(store, service, 0, DATA[:1000])
    wrong = bytes(2 * PART)
    with pytest.raises(ChecksumMismatch):
        send(store, service, 1000, wrong, checksum=sha1(wrong, right=False))
    assert offset(store, service) == 1000
    send(store, service, 1000, DATA[1000 : 2 * PART], checksum=sha1(DATA[1000 : 2 * PART]))
    assert offset(store, service) == 2 * PART
    (stored,) = send(store, service, 2 * PART, DATA[2 * PART :], checksum=sha1(DATA[2 * PART :]))
    check_whole(store, service, stored)


def test_a_cut_chunk_with_a_checksum_is_discarded(service: Service, store: FakeS3) -> None:
    """Its checksum is that of bytes that never came."""
    create(store, service)
    checksum = sha1(DATA)
    writer = begin(store, service, 0, checksum=checksum)
    with pytest.raises(FormMalformed):
        store.run(patch(writer, pieces(DATA[: 2 * PART]), [], checksum, cut=True))
    assert offset(store, service) == 0


def test_a_promised_digest_is_compared(store: FakeS3) -> None:
    """In one chunk or several; another file is removed with its upload."""
    service = service_of()
    for at in (0, 2 * PART):
        create(store, service, state_of(promised="0" * 64))
        send(store, service, 0, DATA[:at])
        with pytest.raises(DigestMismatch):
            send(store, service, at, DATA[at:])
        assert not store.objects
        assert not store.uploads
        with pytest.raises(NotFound):
            find(store, service)
    create(store, service, state_of(promised=hashlib.sha256(DATA).hexdigest()))
    send(store, service, 0, DATA[: 2 * PART])
    (stored,) = send(store, service, 2 * PART, DATA[2 * PART :])
    check_whole(store, service, stored)


@pytest.mark.parametrize("data", [b"%PDF-1.7 hello", DATA], ids=["one part", "several parts"])
def test_a_type_that_is_not_allowed_removes_the_upload(store: FakeS3, data: bytes) -> None:
    """The first bytes decide; a found type replaces the declared one, if the settings say so."""
    strict = service_of(allowed_types=("image/png",))
    create(store, strict, state_of(len(data)))
    with pytest.raises(TypeNotAllowed):
        send(store, strict, 0, data)
    assert not store.objects
    assert not store.uploads
    found = service_of(allowed_types=("application/pdf",), store_found_type=True)
    pdf = b"%PDF-1.7" + data
    create(store, found, state_of(len(pdf), content_type="application/pdf"))
    (stored,) = send(store, found, 0, pdf)
    assert stored.incoming.content_type == store.objects[KEY].content_type == "application/pdf"


def test_a_partial_upload_has_any_type(store: FakeS3) -> None:
    """It may begin in the middle of a file; nothing of it is read back, and its checksums stay."""
    service = service_of(allowed_types=("image/png",))
    create(store, service, state_of(concat="partial", key=f"{FOLDER}bytes"))
    send(store, service, 0, DATA[: PART + 1])
    seen = send(store, service, PART + 1, DATA[PART + 1 :])
    assert seen[0].sha256 == ""
    state = find(store, service).state
    body, received = store.run(upload_state.open_bytes(state))
    for chunk in pieces(body.read()):
        received.receive(chunk)
    received.check([crc32 for _, crc32 in state.parts])
    with pytest.raises(StoreUnavailable):
        received.check(["other"])
    store.run(upload_removal.remove(service, FOLDER, state))
    assert not store.objects


def test_a_second_request_is_locked_out(service: Service, store: FakeS3) -> None:
    """Until the first ends, or has not renewed its lock for some seconds."""
    create(store, service)
    first = begin(store, service, 0)
    with pytest.raises(Locked):
        begin(store, service, 0)
    store.later(7)
    begin(store, service, 0)
    with pytest.raises(Locked):
        store.run(patch(first, [b"x"], []))


def test_a_request_that_loses_its_lock_leaves_no_bytes(service: Service, store: FakeS3) -> None:
    """Those after its last part belong to no record."""
    create(store, service)
    writer = begin(store, service, 0)
    store.run(feed(writer, pieces(DATA[: PART + 1000])))
    store.later(7)
    begin(store, service, 0)
    with pytest.raises(Locked):
        store.run(writer.pause())
    assert not [name for name in states(store) if name.startswith("rest")]


def test_a_long_request_renews_its_lock(service: Service, store: FakeS3) -> None:
    """A request whose bytes arrive keeps its lock, and its useless records are removed meanwhile."""
    create(store, service)
    seconds = iter(range(10_000))
    writer = begin(store, service, 0, clock=lambda: float(next(seconds)))
    seen: list[Stored] = []
    running = Running(store, patch(writer, pieces(DATA, 50), seen))
    while not running.ended:
        store.later(0.01)
        running.step()
        if not seen:
            with pytest.raises(Locked):
                begin(store, service, 0)
    running.result()
    assert find(store, service).last.number > 100
    check_whole(store, service, seen[0])


def test_renewed_progress_survives_a_kill(service: Service, store: FakeS3) -> None:
    """A process that ends at once leaves the parts that its last record names."""
    create(store, service)
    writer = begin(store, service, 0)
    store.run(feed(writer, pieces(DATA[: 2 * PART + 1000])))
    store.run(writer.renew())
    store.later(7)
    assert offset(store, service) == 2 * PART
    (stored,) = send(store, service, 2 * PART, DATA[2 * PART :])
    check_whole(store, service, stored)


def test_an_upload_expires(service: Service, store: FakeS3) -> None:
    """Its time counts from its last record."""
    create(store, service)
    store.later(86_000)
    send(store, service, 0, b"x")
    store.later(86_000)
    assert offset(store, service) == 1
    store.later(1000)
    with pytest.raises(Expired):
        find(store, service)


@pytest.mark.parametrize("upload_id", ["", "..", ID.upper(), ID[:-1], f"{ID}/", "019c1234-5678-7abc-89de-f0123456789b"])
def test_an_unknown_upload_is_not_found(service: Service, store: FakeS3, upload_id: str) -> None:
    """An id of another form reaches no object."""
    create(store, service)
    with pytest.raises(NotFound):
        store.run(upload_state.find(service, "", upload_id))


def test_senders_have_folders_of_their_own(service: Service, store: FakeS3) -> None:
    """No name makes the folder of another one, nor that of no name."""
    folders = {upload_state.folder_of(service, name, ID) for name in ("", "_", "ann", "ANN", "a/b", "..")}
    assert len(folders) == 6
    create(store, service)
    with pytest.raises(NotFound):
        store.run(upload_state.find(service, "ann", ID))


@given(st.data())
def test_any_interleaving_of_two_requests_stores_the_file_once(data: st.DataObject) -> None:
    """Of requests with the rest of a file, at most one stores it, also if one takes over the lock of a slow one."""
    store, service = FakeS3(conditional=data.draw(st.sampled_from([True, False, None]))), service_of()
    create(store, service)
    send(store, service, 0, DATA[:PART])
    seen: list[Stored] = []

    def request() -> Flow[State]:
        found = yield from upload_state.find(service, "", ID)
        if found.state.offset != PART:
            raise Locked
        held = yield from upload_lock.claim(service, found, store.clock)
        writer = writer_of(service, held, PART)
        return (yield from patch(writer, pieces(DATA[PART:]), seen))

    running = [Running(store, request()) for _ in range(data.draw(st.integers(2, 3)))]
    stored_by = 0
    while running:
        one = data.draw(st.sampled_from(running))
        store.later(data.draw(st.sampled_from([0, 0, 0, 4])))
        for _ in range(data.draw(st.integers(1, 6))):
            if not one.ended:
                one.step()
        if one.ended:
            running.remove(one)
            with suppress(Locked, UploadGone):
                stored_by += one.result().is_done
    assert stored_by <= 1
    if not stored_by:  # each has lost its lock to another one
        store.later(7)
        at = offset(store, service)
        seen += send(store, service, at, DATA[at:])
    check_whole(store, service, seen[-1])


@settings(max_examples=settings().max_examples // 2)
@given(st.data())
def test_a_failure_at_any_call_loses_no_acknowledged_byte(data: st.DataObject) -> None:
    """S3 fails at one call, or performs it and loses the answer; the client continues where HEAD says.

    Useless records may stay in the upload's folder, until the sweep removes that.
    """
    store, service = FakeS3(), service_of()
    create(store, service)
    fails_at, loses = data.draw(st.integers(0, 40)), data.draw(st.booleans())
    calls = 0

    def break_call(_operation: str) -> bool:
        nonlocal calls
        calls += 1
        if calls - 1 != fails_at:
            return False
        if not loses:
            raise StoreUnavailable("down")
        return True

    sizes: Iterator[int] = iter([PART + 5, 1000, 2 * PART, *[len(DATA)] * 20])
    seen: list[Stored] = []
    at, service.conditional_writes = 0, True
    store.break_call = break_call
    for size in sizes:
        known = at
        try:
            held = store.run(upload_lock.claim(service, find(store, service), store.clock))
            at = held.state.offset
            store.run(patch(writer_of(service, held, at), pieces(DATA[at : at + size]), seen))
            known = min(at + size, len(DATA))
        except UploadError:
            store.later(7)
        try:
            state = find(store, service).state
        except StoreUnavailable:
            state = find(store, service).state
        assert state.offset >= known
        if state.is_done:
            break
        at = state.offset
        assert at < len(DATA)
    assert state.is_done
    assert store.objects[KEY].data == DATA
    store.run(service.cleanup.try_all())
    assert not store.uploads
    assert {key for key in store.objects if not key.startswith(FOLDER)} == {KEY}


def owned(service: Service, found: Found, owner: str) -> Held:
    """Return a writer of this name."""
    held = Held(service, FOLDER, found.state, found.last.number)
    held.owner = owner
    return held


def test_a_lost_answer_to_a_record_is_recognized(service: Service, store: FakeS3) -> None:
    """The SDK sends a put again whose answer was lost, and S3 refuses the second one."""
    service.conditional_writes = True
    create(store, service)
    found = find(store, service)
    held = owned(service, found, "me")
    again = owned(service, found, "me")
    store.run(held.write(found.state))
    store.run(again.write(found.state))
    assert again.number == held.number
    other = owned(service, found, "other")
    with pytest.raises(Locked):
        store.run(other.write(state_of(5)))


def test_a_record_that_vanishes_is_a_lost_lock(service: Service, store: FakeS3) -> None:
    """S3 refuses one of two puts at once, whose winner may have removed its record since."""
    create(store, service)
    found = find(store, service)
    held = owned(service, found, "me")
    running = Running(store, held.write(state_of(5)))
    store.objects[f"{FOLDER}00000002"] = store.objects[f"{FOLDER}00000001"]
    while store.operations[-1] != "put_object":
        running.step()
    del store.objects[f"{FOLDER}00000002"]
    while not running.ended:
        running.step()
    with pytest.raises(Locked):
        running.result()


def test_a_state_that_others_replace_is_read_again(service: Service, store: FakeS3) -> None:
    """The list may name a record that is removed before it is read."""
    create(store, service)
    last = f"{FOLDER}00000001"
    kept, misses = store.objects[last], 3

    def vanish(operation: str) -> bool:
        nonlocal misses
        if operation == "list_objects_v2":
            store.objects[last] = kept
        if operation == "get_object" and misses:
            misses -= 1
            del store.objects[last]
        return False

    store.break_call = vanish
    assert offset(store, service) == 0
    misses = 100
    with pytest.raises(Locked):
        find(store, service)


@pytest.mark.parametrize(("conditional", "known"), [(True, True), (False, False), (None, False)])
def test_the_store_is_asked_once_for_conditional_writes(
    service: Service,
    conditional: bool | None,  # noqa: FBT001 - a parameter
    known: bool,  # noqa: FBT001 - a parameter
) -> None:
    """A store that ignores or refuses the header has none."""
    store = FakeS3(conditional=conditional)
    create(store, service)
    assert service.conditional_writes is known
    assert len(store.objects) == 1
    (stored,) = send(store, service, 0, DATA)
    check_whole(store, service, stored)


@pytest.mark.parametrize("conditional", [True, False])
def test_a_store_without_conditional_writes_is_named_at_the_start(
    service: Service,
    conditional: bool,  # noqa: FBT001 - a parameter
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The line says the consequence; a store that is down has another line."""
    store = FakeS3(conditional=conditional)
    store.run(upload_lock.check_store(service.settings))
    assert ("no conditional writes" in caplog.text) != conditional
    assert not store.objects


def test_a_store_that_fails_at_the_start_stops_nothing(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Neither by the first call nor by a later one."""
    for operation in ("head_bucket", "put_object"):

        def down(called: str, failing: str = operation) -> bool:
            if called == failing:
                raise StoreUnavailable("down")
            return False

        FakeS3(break_call=down).run(upload_lock.check_store(service.settings))
    assert "not available yet" in caplog.text


def test_a_store_that_is_down_tells_nothing(service: Service, store: FakeS3) -> None:
    """The question is asked again."""

    def down(operation: str) -> bool:
        if operation == "put_object" and store.operations.count("put_object") == 2:
            raise StoreUnavailable("down")
        return False

    store.break_call = down
    with pytest.raises(StoreUnavailable):
        create(store, service)
    assert service.conditional_writes is None


def test_an_upload_whose_parts_are_gone_is_removed(service: Service, store: FakeS3) -> None:
    """Another program has aborted the multipart upload: in the middle, or at the end."""
    for at in (PART + 5, 3 * PART + 5):
        create(store, service)
        send(store, service, 0, DATA[:at])
        store.uploads.clear()
        with pytest.raises(UploadGone):
            send(store, service, at, DATA[at:])
        with pytest.raises(NotFound):
            find(store, service)
        assert not store.objects


def test_an_ended_process_after_the_completion_leaves_a_file_that_is_recognized(
    service: Service, store: FakeS3
) -> None:
    """The client sends the last part again, and gets the receipt of the object."""
    create(store, service)
    send(store, service, 0, DATA[:PART])
    running = Running(store, patch(begin(store, service, PART), pieces(DATA[PART:]), []))
    while "complete_multipart_upload" not in store.operations:
        running.step()
    store.later(7)
    at = offset(store, service)
    assert at == 3 * PART
    (stored,) = send(store, service, at, DATA[at:])
    check_whole(store, service, stored)


def test_a_stale_request_stores_nothing(service: Service, store: FakeS3) -> None:
    """It has waited so long that another may hold the upload, so it checks its lock before it stores the file."""
    create(store, service, state_of(11))
    now = 0.0
    writer = begin(store, service, 0, clock=lambda: now)
    store.run(feed(writer, [b"hello world"]))
    now = 7.0
    store.later(7)
    store.run(upload_removal.remove(service, FOLDER, find(store, service).state))
    with pytest.raises(Locked):
        store.run(writer.finish(handle(writer, [])))
    assert KEY not in store.objects


def test_a_failed_handler_keeps_the_upload_open(service: Service, store: FakeS3) -> None:
    """The client sends its last bytes again."""
    create(store, service)

    def fail(_: Stored) -> Flow[State]:
        yield from ()
        raise StoreRejected("the handler failed")

    for end in (DATA, DATA[:11]):
        create(store, service, state_of(len(end))) if not store.objects else None
        writer = begin(store, service, 0)
        store.run(feed(writer, pieces(end)))
        with pytest.raises(StoreRejected):
            store.run(writer.finish(fail))
        store.run(writer.pause())
        at = offset(store, service)
        assert at < len(end)
        (stored,) = send(store, service, at, end[at:])
        check_whole(store, service, stored, end)
        store.objects.clear()
