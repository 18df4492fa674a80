"""The three ways for a boto event hook to read the request.

The view makes a hook for each upload. The hook writes the request's id into the object's metadata, so that each object
leads to the request that stored it. aiobotocore awaits the hook with `params`, the call's parameters, which the hook
changes. The hook returns nothing: for some events boto takes a hook's result as the response.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from typing import Any, TypeAlias, cast

from quart import copy_current_request_context, request

from filehandoff.receipt import REQUEST_ID_METADATA
from filehandoff.web.request import RequestValues

Hook: TypeAlias = Callable[..., Awaitable[None]]


async def stamp(request_id: str, params: dict[str, Any], **_event: object) -> None:
    """Write the request's id into the metadata of the object that the call stores."""
    params.setdefault("Metadata", {})[REQUEST_ID_METADATA] = request_id


async def stamp_from_request(params: dict[str, Any], **_event: object) -> None:
    """Write the id of the current request, which needs a request context."""
    await stamp(cast("RequestValues", request).request_id, params)


def copied() -> Hook:
    """Run the hook in a copied request context.

    When the hook returns, Quart closes the request's files (flask#5399).
    """
    return copy_current_request_context(stamp_from_request)


def bound() -> Hook:
    """Bind the hook to the request's id; the hook never reads the request."""
    return stamping(cast("RequestValues", request).request_id)


def stamping(request_id: str) -> Hook:
    """Bind the hook to the id of a request, which may be an earlier one."""
    return partial(stamp, request_id)


def snapshot() -> Hook:
    """Run the hook in a copy of the view's context variables.

    The hook can read the request, and its end closes no request context. Each call gets its own task and its own copy,
    so no call sees the variables of another.
    """
    context = copy_context()

    async def hook(**event: Any) -> None:
        await asyncio.create_task(stamp_from_request(**event), context=context.copy())

    return hook


HOOKS: dict[str, Callable[[], Hook]] = {"copied": copied, "bound": bound, "snapshot": snapshot}
