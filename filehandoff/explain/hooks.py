"""Find the boto hooks of the app that an upload by the CRT transfer manager skips.

With awscrt, boto3's `upload_fileobj` may use the CRT transfer manager. That one has a client of its own, so hooks on
the app's client never run.
"""

from collections.abc import Iterator
from types import FrameType
from typing import Any

from filehandoff.explain.closing import Function, package_of

#: The events of an upload, in the order in which botocore emits them.
_EVENTS = (
    *("provide-client-params", "before-parameter-build", "before-call", "request-created", "choose-signer"),
    *("before-sign", "before-send", "response-received", "needs-retry", "after-call"),
)
_BOTO = frozenset({"botocore", "boto3", "s3transfer"})


def skipped_hooks(frame: FrameType | None) -> list[Function]:
    """Return the app's hooks on the client whose upload by the CRT transfer manager runs in this frame."""
    by_crt = False
    while frame is not None:
        module = frame.f_globals.get("__name__")
        by_crt = by_crt or module == "s3transfer.crt"
        if by_crt and module == "boto3.s3.inject" and "self" in frame.f_locals:
            return list(dict.fromkeys(_hooks(frame.f_locals["self"])))
        frame = frame.f_back
    return []


def _hooks(client: Any) -> Iterator[Function]:
    handlers = client.meta.events._emitter._handlers  # noqa: SLF001 - boto has no public list of hooks
    for event in _EVENTS:
        for found in handlers.prefix_search(f"{event}.s3.PutObject"):
            hook = getattr(found, "__wrapped__", found)
            function = Function.of(hook) if package_of(getattr(hook, "__module__", None) or "") not in _BOTO else None
            if function is not None:
                yield function
