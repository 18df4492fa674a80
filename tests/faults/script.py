"""What a script for the proxy is made of: S3's calls by name, and the faults that befall them."""

import asyncio
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from urllib.parse import parse_qs, urlsplit

#: S3's operations by method, what the path names, and the query parameter that tells one from those below it.
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
#: A call that is none of these; and in a script, any call.
OTHER = "other"
ANY = "any"


@dataclass(frozen=True)
class Reset:
    """The connection is reset, on both sides, when so many bytes of the request's body have passed.

    With 0 the store never hears of the call.
    """

    after: int = 0


@dataclass(frozen=True)
class Refuse:
    """Nobody listens any more for so many seconds, or until cleared: all connections are reset, new ones refused."""

    seconds: float


@dataclass(frozen=True)
class Stall:
    """A black hole when so many bytes have passed: reads no more, answers nothing; reset when cleared or closed."""

    after: int = 0


class When(Enum):
    """How far a call gets before the proxy answers it in the store's place."""

    BEFORE_BODY = auto()  #: its head was read, and neither its body read nor the store asked
    AFTER_BODY = auto()  #: its body was read to the end, and the store not asked
    DONE = auto()  #: the store did it, and its own answer is thrown away


@dataclass(frozen=True)
class Answer:
    """S3's XML for an error, under any status, even 200, or without a code nothing; then the connection is closed."""

    status: int
    code: str
    when: When = When.BEFORE_BODY


@dataclass(frozen=True)
class LostAnswer:
    """The store did it and answered; the client's connection is reset instead."""


@dataclass(frozen=True)
class CutAnswer:
    """The answer ends after so many bytes of its body: by an orderly close, or by a reset."""

    after: int
    reset: bool = False


@dataclass(frozen=True)
class Latency:
    """The store did it; its answer comes so many seconds later."""

    seconds: float


@dataclass(frozen=True)
class Hold:
    """The call waits until the script is cleared, and then goes on: before its body passes, or when it is DONE."""

    when: When = When.BEFORE_BODY


@dataclass(frozen=True)
class Drip:
    """The bodies pass at so many bytes a second: the request's (`up`), the answer's (`down`)."""

    up: float | None = None
    down: float | None = None


@dataclass(frozen=True)
class FlipRequestByte:
    """The lowest bit of one byte of the request's body is flipped."""

    offset: int


@dataclass(frozen=True)
class FlipAnswerByte:
    """The lowest bit of one byte of the answer's body is flipped: counted from its start, or behind a first `after`.

    What it is to come after must come in one piece, as it does in S3's short answers.
    """

    offset: int
    after: bytes = b""


@dataclass(frozen=True)
class FlipAnswerHeader:
    """The lowest bit of one character of one of the answer's headers is flipped; of a negative one, from its end."""

    name: str
    offset: int


@dataclass(frozen=True)
class RewriteAnswerHeader:
    """One of the answer's headers gets another value, made from the one it has, or none; a missing one is added."""

    name: str
    value: Callable[[str], str | None]


type Fault = (
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
    """One request that came: what it asks for, the fault that was scripted for it, the status that was answered.

    The path of a listing ends in the prefix that is listed.
    """

    operation: str
    path: str
    part_number: int | None
    fault: Fault | None = None
    status: int | None = None
    #: set when the script that its fault is from is cleared
    cleared: asyncio.Event = field(default_factory=asyncio.Event, repr=False, compare=False)


def name_call(method: str, target: str) -> Call:
    """What a request asks for, named as in boto3; the bucket is the first segment of its path."""
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
    """One line of a script, and how many of its calls have come."""

    operation: str
    fault: Fault
    first: int
    last: float
    part_number: int | None
    key_end: str
    seen: int = 0

    def strikes(self, call: Call) -> bool:
        """Count a call, if it is one of this rule's, and say whether it gets the fault."""
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
        """Break the nth call of an operation from now on, or `every` one from the nth on.

        Of several faults for one call, the one that was scripted first happens.

        Args:
            operation: by its name in boto3, or `ANY`.
            fault: what is to happen.
            nth: the first call to break, counted from 1; a client's second attempt is another call.
            every: break all from the nth on.
            part_number: count and break only calls for this part.
            key_end: count and break only calls for keys that end so.

        Raises:
            ValueError: there is no such operation, so the fault would never happen.
        """
        if operation not in (ANY, OTHER, *OPERATIONS.values()):
            raise ValueError(f"no operation is named '{operation}'")
        with self._lock:
            last = math.inf if every else nth
            self._rules.append(Rule(operation, fault, nth, last, part_number, key_end))

    def fault_for(self, call: Call) -> Fault | None:
        """What is to befall a call that has come."""
        with self._lock:
            faults = [rule.fault for rule in self._rules if rule.strikes(call)]
        return next(iter(faults), None)

    def forget(self, key_end: str) -> None:
        """Forget the rules for keys that end so."""
        with self._lock:
            self._rules = [rule for rule in self._rules if rule.key_end != key_end]

    def clear(self) -> None:
        """Forget the rules."""
        with self._lock:
            self._rules.clear()
