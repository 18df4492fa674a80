"""The grid as data: each pair of hand-off and hook, with its outcomes.

This is the only such table. Both apps serve it at `/strategies`, the contract suite and the demo compare the apps with
it, and the README's grid is generated from it. A cell that starts or stops working must fail the suite.
"""

from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from filehandoff.parts import PAGE_PARTS, peak_memory
from filehandoff.settings import Settings

Verdict: TypeAlias = Literal["stored", "lost"]

STORED: Verdict = "stored"
LOST: Verdict = "lost"

FRAMEWORKS = ("flask", "quart")

#: A process's peak memory above idle during uploads by `stream` (see `filehandoff.parts`).
PEAK_MEMORY = "uploads x (parts_in_flight + 1) x largest_part_bytes x 1.25 + 32 MiB"

#: The error code of the response for a lost file.
LOST_CODE = "file-closed"


@dataclass(frozen=True, slots=True)
class Handoff:
    """One way of handing the bytes over: its cost, and one sentence about it.

    `of_a_form` is whether the app receives the bytes, in a form; otherwise the client sends them to S3 itself.
    """

    name: str
    memory: str
    disk: str
    sentence: str
    of_a_form: bool = True


@dataclass(frozen=True, slots=True)
class Hook:
    """One way for a boto event hook to read the request's values."""

    name: str
    sentence: str


HANDOFFS = {
    handoff.name: handoff
    for handoff in (
        Handoff(
            "file",
            memory="up to 500,000 bytes, then parts in flight",
            disk="the whole file above 500,000 bytes",
            sentence="boto reads the request's own file: the least code, but any close of it loses the file.",
        ),
        Handoff(
            "read_early",
            memory="the whole file",
            disk="the whole file above 500,000 bytes",
            sentence="The view reads all bytes before it calls S3: safe from any close, for files that fit in memory.",
        ),
        Handoff(
            "temp_file",
            memory="up to 500,000 bytes, then parts in flight",
            disk="the whole file, and again above 500,000 bytes",
            sentence="boto reads a temporary copy of the file: safe for every size, for a second copy on disk.",
        ),
        Handoff(
            "byte_queue",
            memory="up to 500,000 bytes, 512 KiB in the queue, then parts in flight",
            disk="the whole file above 500,000 bytes",
            sentence="The view writes the bytes into a bounded queue; the uploader reads the queue, never the file.",
        ),
        Handoff(
            "stream",
            memory="parts in flight and one more",
            disk="nothing",
            sentence="The app sends the request's body to S3 while it arrives: there is no file that code could close.",
        ),
        Handoff(
            "presigned",
            memory="one chunk, while it is read back",
            disk="nothing",
            sentence="The client sends the file to S3 itself, by a URL for this file alone; the app reads it back.",
            of_a_form=False,
        ),
    )
}

#: The name of resumable uploads in receipts and metrics. They are no hand-off of the grid: see `filehandoff.tus`.
TUS = "tus"

#: Names of the hand-offs that read a form.
FORM_HANDOFFS = [handoff.name for handoff in HANDOFFS.values() if handoff.of_a_form]

HOOKS = {
    hook.name: hook
    for hook in (
        Hook(
            "copied",
            "copy_current_request_context: the hook has the whole request, and its return closes all files of it.",
        ),
        Hook("bound", "functools.partial over plain values: the hook has no request, so it closes nothing."),
        Hook(
            "snapshot",
            "a copy of the context variables for each call: the hook has the request, and its return pops no context.",
        ),
    )
}

#: The pair of `POST /uploads`: the safest one.
DEFAULT_HANDOFF = "stream"
DEFAULT_HOOK = "bound"


@dataclass(frozen=True, slots=True)
class SizeClass:
    """A size for which hand-offs differ: in memory, on disk, or several parts."""

    name: str
    sentence: str

    def size(self, part_bytes: int) -> int:
        """Return the file size in bytes that represents this class if parts have `part_bytes`."""
        return {"memory": 100, "rolled": 500_001, "parts": 2 * part_bytes + 1}[self.name]


SIZE_CLASSES = {
    size.name: size
    for size in (
        SizeClass("memory", "100 bytes: a form parser that creates files keeps it in memory; one put"),
        SizeClass("rolled", "500,001 bytes: a form parser that creates files has rolled it over to disk; one put"),
        SizeClass("parts", "two parts and a byte: a multipart upload of three parts"),
    )
}

_AT_ONCE = "pallets/flask#5399: leaving the hook's copied context closes the file"
_WHILE_READING = "pallets/flask#5399: the hook closes the file while the view still reads it"

#: The cells that lose the file, by framework, hand-off, hook and size class, each with the reason.
KNOWN_FAILURES = {
    **{(framework, "file", "copied", size): _AT_ONCE for framework in FRAMEWORKS for size in SIZE_CLASSES},
    # A file of one part is read completely before the first call to S3. From two parts on, the rest exceeds the queue.
    **{(framework, "byte_queue", "copied", "parts"): _WHILE_READING for framework in FRAMEWORKS},
}


def verdict(framework: str, handoff: str, hook: str, size_class: str) -> Verdict:
    """Return the outcome for a file of this size class in this cell."""
    return LOST if (framework, handoff, hook, size_class) in KNOWN_FAILURES else STORED


def outcomes(framework: str, handoff: str, hook: str, size: int, part_bytes: int) -> set[Verdict]:
    """Return the possible outcomes for a file of `size` bytes if parts have `part_bytes`.

    Between one part and the size of the class `parts` both may be possible, depending on the progress of the queue.
    """
    if size >= SIZE_CLASSES["parts"].size(part_bytes):
        return {verdict(framework, handoff, hook, "parts")}
    below = "rolled" if size >= SIZE_CLASSES["rolled"].size(part_bytes) else "memory"
    seen = {verdict(framework, handoff, hook, below)}
    return seen | {verdict(framework, handoff, hook, "parts")} if size > part_bytes else seen


def reason(framework: str, handoff: str, hook: str, size_class: str) -> str | None:
    """Return why this cell loses a file; None if it stores the file."""
    return KNOWN_FAILURES.get((framework, handoff, hook, size_class))


def _limits(settings: Settings) -> dict[str, int]:
    form = asdict(settings.limits)
    del form["file_fields"]
    return form | {"part_bytes": settings.part_bytes, "parts_in_flight": settings.parts_in_flight}


def describe(framework: str, settings: Settings) -> dict[str, object]:
    """Return the response of `/strategies`: each pair's verdicts, costs and sentence, and the app's limits."""
    part_bytes = settings.part_bytes
    return {
        "framework": framework,
        "limits": _limits(settings),
        "file_fields": list(settings.field_names),
        "allowed_types": list(settings.allowed_types),
        "peak_memory": {
            "formula": PEAK_MEMORY,
            "uploads": settings.max_concurrent,
            "largest_part_bytes": settings.part_sizes.largest,
            "bytes": peak_memory(settings.max_concurrent, settings.parts_in_flight, settings.part_sizes),
        },
        "presigned": {
            "part_bytes": part_bytes,
            "page_parts": PAGE_PARTS,
            "expires_in": int(settings.presign_seconds),
        },
        "default": {"handoff": DEFAULT_HANDOFF, "hook": DEFAULT_HOOK},
        "size_classes": [
            {"name": size.name, "bytes": size.size(part_bytes), "sentence": size.sentence}
            for size in SIZE_CLASSES.values()
        ],
        "strategies": [
            {
                "handoff": handoff.name,
                "hook": hook.name,
                "verdicts": {size: verdict(framework, handoff.name, hook.name, size) for size in SIZE_CLASSES},
                "memory": handoff.memory,
                "disk": handoff.disk,
                "sentence": f"{handoff.sentence} {hook.name}: {hook.sentence}",
            }
            for handoff in HANDOFFS.values()
            for hook in HOOKS.values()
        ],
    }
