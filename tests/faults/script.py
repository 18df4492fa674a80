"""The parts of a proxy's script: S3's calls by name, and their faults."""

import asyncio
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias
from urllib.parse import parse_qs, urlsplit

#: S3's operations by method, kind of path and deciding query parameter; the first match counts.
OPERATIONS = {
    ("PUT", "key", "partNumber"): "upload_part",
    ("POST", "key", "uploads"): "create_multipart_upload",
    ("POST", "key", "uploadId"): "complete_multipart_upload",
    ("DELETE", "key", "uploadId"): "abort_multipart_upload",
    ("GET", "key", "uploadId"): "list_parts",
    ("PUT", "key", None): "put_object",
    ("GET", "key", None): "get_object",
    ("HEAD", "key", None): "head_object",
    ("DELETE", "key", None): "delete_object",
    ("GET", "bucket", "uploads"): "list_multipart_uploads",
    ("GET", "bucket", "list-type"): "list_objects_v2",
    ("GET", "bucket", None): "list_objects",
    ("HEAD", "bucket", None): "head_bucket",
    ("PUT", "bucket", None): "create_bucket",
    ("DELETE", "bucket", None): "delete_bucket",
}
#: Any other call; in a script, every call.
OTHER = "other"
ANY = "any"


@dataclass(frozen=True)
class Reset:
    """Reset both connections when this many bytes of the request's body have passed.

    With 0, the store receives nothing.
    """

    after: int = 0


@dataclass(frozen=True)
class Refuse:
    """Stop listening for some seconds, or until cleared: open connections are reset, new ones refused."""

    seconds: float


@dataclass(frozen=True)
class Stall:
    """Stop reading and answering after some bytes; reset when cleared or closed."""

    after: int = 0


class When(Enum):
    """The progress of a call when the proxy answers it in the store's place."""

    BEFORE_BODY = auto()  #: after its head; neither was its body read nor the store asked
    AFTER_BODY = auto()  #: after its body; the store was not asked
    DONE = auto()  #: after the store performed it; the store's answer is dropped


@dataclass(frozen=True)
class Answer:
    """S3's XML for an error under any status, even 200, or an empty body.

    Then the connection closes.
    """

    status: int
    code: str
    when: When = When.BEFORE_BODY


@dataclass(frozen=True)
class LostAnswer:
    """The store performs and answers the call, but the client's connection is reset."""


@dataclass(frozen=True)
class CutAnswer:
    """The answer ends after some bytes of its body, by a close or a reset."""

    after: int
    reset: bool = False


@dataclass(frozen=True)
class Latency:
    """The store performs the call; its answer comes some seconds later."""

    seconds: float


@dataclass(frozen=True)
class Hold:
    """The call waits until the script is cleared, before its body or when DONE."""

    when: When = When.BEFORE_BODY


@dataclass(frozen=True)
class Drip:
    """Bodies pass at a rate in bytes per second: the request's (`up`), the answer's (`down`)."""

    up: float | None = None
    down: float | None = None


@dataclass(frozen=True)
class FlipRequestByte:
    """Flip the lowest bit of one byte of the request's body."""

    offset: int


@dataclass(frozen=True)
class FlipAnswerByte:
    """Flip the lowest bit of one byte of the answer's body.

    `offset` counts from its start, or from the end of the first `after`, which must arrive in one piece.
    """

    offset: int
    after: bytes = b""


@dataclass(frozen=True)
class FlipAnswerHeader:
    """Flip the lowest bit of one character of an answer's header.

    A negative index counts from the end.
    """

    name: str
    offset: int


@dataclass(frozen=True)
class RewriteAnswerHeader:
    """Replace an answer's header by a function of its value, or remove it.

    A missing one is added.
    """

    name: str
    value: Callable[[str], str | None]


Fault: TypeAlias = (
    Reset
    | Refuse
    | Stall
    | Answer
    | LostAnswer
    | CutAnswer
    | Latency
    | Hold
    | Drip
    | FlipRequestByte
    | FlipAnswerByte
    | FlipAnswerHeader
    | RewriteAnswerHeader
)


@dataclass
class Call:
    """A received request: its operation, its scripted fault, and the status of its answer.

    The path of a listing ends in the listed prefix.
    """

    operation: str
    path: str
    part_number: int | None
    fault: Fault | None = None
    status: int | None = None
    #: set when the script of its fault is cleared
    cleared: asyncio.Event = field(default_factory=asyncio.Event, repr=False, compare=False)


def name_call(method: str, target: str) -> Call:
    """Name a request as boto3 does; the bucket is the first segment of its path."""
    url = urlsplit(target)
    query = parse_qs(url.query, keep_blank_values=True)
    bucket, _, key = url.path.lstrip("/").partition("/")
    names = "key" if key else "bucket" if bucket else "store"
    operation = next(
        (
            name
            for (*what, parameter), name in OPERATIONS.items()
            if what == [method, names] and parameter in (None, *query)
        ),
        OTHER,
    )
    part_number = query.get("partNumber")
    return Call(operation, url.path + "".join(query.get("prefix", [])), int(part_number[0]) if part_number else None)


@dataclass
class Rule:
    """A line of a script, with the number of its calls so far."""

    operation: str
    fault: Fault
    first: int
    last: float
    part_number: int | None
    key_end: str
    seen: int = 0

    def strikes(self, call: Call) -> bool:
        """Count a call of this rule, and return whether the fault strikes it."""
        if self.operation not in (ANY, call.operation) or self.part_number not in (None, call.part_number):
            return False
        if not call.path.endswith(self.key_end):
            return False
        self.seen += 1
        return self.first <= self.seen <= self.last


@dataclass
class Script:
    """The rules; the test writes them and the proxy's thread reads them."""

    _rules: list[Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on(
        self,
        operation: str,
        fault: Fault,
        *,
        nth: int = 1,
        every: bool = False,
        part_number: int | None = None,
        key_end: str = "",
    ) -> None:
        """Break the nth call of an operation, or with `every` all from the nth on.

        If several faults match a call, the first scripted one happens.

        Args:
            operation: its name in boto3, or `ANY`.
            fault: the fault.
            nth: the first call to break, counted from 1; a client's second attempt is another call.
            every: break all calls from the nth on.
            part_number: count and break only calls for this part.
            key_end: count and break only calls for keys with this end.

        Raises:
            ValueError: the operation does not exist, so the fault would never happen.
        """
        if operation not in (ANY, OTHER, *OPERATIONS.values()):
            raise ValueError(f"no operation is named '{operation}'")
        with self._lock:
            last = math.inf if every else nth
            self._rules.append(Rule(operation, fault, nth, last, part_number, key_end))

    def fault_for(self, call: Call) -> Fault | None:
        """The fault for a received call."""
        with self._lock:
            faults = [rule.fault for rule in self._rules if rule.strikes(call)]
        return next(iter(faults), None)

    def forget(self, key_end: str) -> None:
        """Remove the rules for keys with this end."""
        with self._lock:
            self._rules = [rule for rule in self._rules if rule.key_end != key_end]

    def clear(self) -> None:
        """Remove all rules."""
        with self._lock:
            self._rules.clear()
