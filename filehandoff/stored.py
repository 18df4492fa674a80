"""The handler of stored files: `on_stored`, or the webhook, between the last confirmed object and the response.

The handler receives the receipts of the response, never the files. These rules hold for both apps:

- It begins after S3 has confirmed every object of the request, and its end comes before the 201. So every 201 has been
  handled at least once.
- After it has returned, nothing is undone, even if the client has disconnected meanwhile.
- It fails if it raises, or if it has not returned after UPLOAD_HANDLER_TIMEOUT. The response is 502 `handler-failed`,
  and all uploads of the form are undone. Of a presigned upload the object stays: its client sent it to S3 before this
  request, which only read it back, and another `complete` calls the handler again.
- A disconnected client does not interrupt it. The shutdown does, UPLOAD_DRAIN_SECONDS after its beginning: the handler
  fails, and the client gets 503.
- A failed handler may have done its work: a thread runs on after its time limit, an answer may be lost, and a killed
  process sends no 201. So a handler, and each job that it starts, must accept the same key twice and a key whose object
  is missing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from filehandoff.errors import HandlerFailed
from filehandoff.s3.calls import Flow, Step

#: The receipts of one request, as their JSON has them.
Receipts: TypeAlias = Sequence[dict[str, Any]]
#: A function or, in Quart, also a coroutine function.
Handler: TypeAlias = Callable[[Receipts], Any]

UNDONE = "The service's own work on the stored files failed. Nothing was stored; try again later."
NOT_UNDONE = "The service's own work on the stored file failed. The object stays in S3; complete it again later."


@dataclass(frozen=True, slots=True)
class Handle(Step[None]):
    """A call of the handler, at most `seconds` long, which a disconnected client does not interrupt.

    Attributes:
        call: calls the handler; in Quart it may return an awaitable.
        seconds: the time limit.
        keep: called at once after the handler has returned.
        detail: the detail of the error if the handler fails.
    """

    call: Callable[[], Any]
    seconds: float
    keep: Callable[[], None]
    detail: str

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Turn each error of the block into HandlerFailed."""
        try:
            yield
        except Exception as error:
            raise HandlerFailed(self.detail) from error


def handle(
    handler: Handler | None, receipts: Receipts, seconds: float, keep: Callable[[], None], detail: str = UNDONE
) -> Flow[None]:
    """Call the handler, if there is one, then `keep`.

    Raises:
        HandlerFailed: the handler has raised, or has not returned in time.
    """
    if handler is None:
        keep()
    else:
        yield from Handle(partial(handler, receipts), seconds, keep, detail)
