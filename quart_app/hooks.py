"""The three ways a boto event hook can get at the request, each made in the view for one upload.

The hook's job: stamp the request's id on the object's metadata, so that every object can be traced to the request
that stored it. aiobotocore awaits it with `params`, the call's parameters, which it changes; it returns nothing,
because for some events boto takes what a hook returns for an answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from typing import Any, cast

from quart import copy_current_request_context, request

from filehandoff.receipt import REQUEST_ID_METADATA
from filehandoff.web.request import RequestValues

type Hook = Callable[..., Awaitable[None]]


async def stamp(request_id: str, params: dict[str, Any], **_event: object) -> None:
    """Write the request's id into the metadata of the object that the call will store."""
    params.setdefault("Metadata", {})[REQUEST_ID_METADATA] = request_id


async def stamp_from_request(params: dict[str, Any], **_event: object) -> None:
    """The same, with the id looked up in the request: it needs a request context to run in."""
    await stamp(cast("RequestValues", request).request_id, params)


def copied() -> Hook:
    """Run the hook in a copied request context: when it returns, Quart closes the request's files (flask#5399)."""
    return copy_current_request_context(stamp_from_request)


def bound() -> Hook:
    """Bind the hook to the one plain value it needs: it never sees the request."""
    return partial(stamp, cast("RequestValues", request).request_id)


def snapshot() -> Hook:
    """Run the hook in a copy of the view's context variables: it sees the request, and leaving it pops nothing.

    Each call gets a task of its own, and the task a copy of its own: what one call sets, no other sees.
    """
    context = copy_context()

    async def hook(**event: Any) -> None:
        await asyncio.create_task(stamp_from_request(**event), context=context.copy())

    return hook


HOOKS: dict[str, Callable[[], Hook]] = {"copied": copied, "bound": bound, "snapshot": snapshot}
