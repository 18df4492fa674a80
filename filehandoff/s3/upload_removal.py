"""The removal of resumable uploads: by the client, at the end, and by the sweep."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from filehandoff.errors import ObjectMissing
from filehandoff.s3 import calls, flows
from filehandoff.s3.calls import Flow
from filehandoff.s3.context import Context
from filehandoff.s3.upload_state import DIGITS, FOLDER, State, list_all, read, records
from filehandoff.tus import PARTIAL

#: Slashes in the path of an upload's folder below `FOLDER`: behind the sender and behind the id.
_FOLDER_DEPTH = 2


def remove(service: Context, folder: str, state: State) -> Flow[None]:
    """Remove an upload: its parts, its object unless the client has a receipt for that, and its folder."""
    yield from flows.abort_lost(service, state.key)
    if not state.is_done or state.concat == PARTIAL:
        yield from calls.delete_object(state.key)
    yield from remove_folder(folder)


@dataclass(frozen=True, slots=True)
class Uploads:
    """The resumable uploads of all senders.

    Attributes:
        living: the ids of those that a client may continue.
        expired: the folders of all others, with the age of their last record in seconds.
    """

    living: frozenset[str]
    expired: Mapping[str, float]


def all_uploads(service: Context) -> Flow[Uploads]:
    """Return the resumable uploads of all senders."""
    ages: dict[str, float] = {}
    below = f"{service.settings.common_prefix}{FOLDER}"
    for one in (yield from list_all(below)):
        folder = one.key.rpartition("/")[0] + "/"
        if folder.removeprefix(below).count("/") == _FOLDER_DEPTH:  # of an upload; any other object is not ours
            ages[folder] = min(one.age, ages.get(folder, one.age))
    life = service.settings.resume_seconds
    living = frozenset(folder.split("/")[-2] for folder, age in ages.items() if age <= life)
    return Uploads(living, {folder: age for folder, age in ages.items() if age > life})


def remove_expired(service: Context, folder: str) -> Flow[None]:
    """Remove an expired upload, also an incomplete rest of one."""
    known = records(folder, (yield from list_all(folder)))
    try:
        state = State.from_bytes(b"".join((yield from read(known[-1].key)))) if known else None
    except ObjectMissing:
        state = None
    if state is None:
        yield from remove_folder(folder)
    else:
        yield from remove(service, folder, state)


def remove_folder(folder: str) -> Flow[None]:
    """Remove all objects of a folder, its records in order."""
    keys = sorted((one.key for one in (yield from list_all(folder))), key=_in_order(folder))
    for key in keys:
        yield from calls.delete_object(key)


def _in_order(folder: str) -> Callable[[str], tuple[bool, str]]:
    """Return a function that puts the bytes before the records."""
    return lambda key: (key[len(folder) :][:DIGITS].isdigit(), key)
