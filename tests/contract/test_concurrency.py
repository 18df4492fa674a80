"""Of many concurrent uploads, each object has its own bytes and its own request id."""

import asyncio
import hashlib
import itertools
import os
import uuid
from dataclasses import dataclass, field

import httpx
import pytest
from contract.api import CONTENT_TYPE, TLS, Api, check_problem, form, part
from contract.bucket import Bucket
from patience import KEPT_SECONDS, PATIENCE

from filehandoff.strategies import HANDOFFS, HOOKS, LOST, LOST_CODE, outcomes


@dataclass
class Sent:
    """An upload in flight."""

    handoff: str
    hook: str
    data: bytes
    request_id: str = field(default_factory=lambda: f"at-once-{uuid.uuid4().hex}")


async def send_all(app: Api, uploads: list[Sent]) -> list[httpx.Response]:
    """Send all uploads at once, each on its own connection."""

    async def send(client: httpx.AsyncClient, upload: Sent) -> httpx.Response:
        if upload.handoff == "presigned":
            return await send_presigned(client, upload)
        return await client.post(
            f"/uploads/{upload.handoff}",
            params={"hook": upload.hook},
            content=form(part("file", upload.data, "name")),
            headers={"Content-Type": CONTENT_TYPE, "X-Request-Id": upload.request_id},
        )

    limits = httpx.Limits(max_connections=len(uploads), keepalive_expiry=KEPT_SECONDS)
    async with httpx.AsyncClient(base_url=app.url, timeout=PATIENCE, limits=limits, verify=TLS) as client:
        return await asyncio.gather(*(send(client, upload) for upload in uploads))


async def send_presigned(client: httpx.AsyncClient, upload: Sent) -> httpx.Response:
    """Send a file by `presigned`; the object must have the id of the first request."""
    sha256 = hashlib.sha256(upload.data).hexdigest()
    wanted = {"filename": "name", "size": len(upload.data), "sha256": sha256}
    headers = {"X-Request-Id": upload.request_id}
    answer = await client.post("/uploads/presigned", params={"hook": upload.hook}, json=wanted, headers=headers)
    given = answer.json()
    start = 0
    for one in given.get("parts", [given]):
        data = upload.data[start : start + one["size"]]
        (await client.put(one["url"], content=data, headers=one.get("headers"))).raise_for_status()
        start += one["size"]
    return await client.post(given["complete"])


def check(app: Api, bucket: Bucket, upload: Sent, answer: httpx.Response) -> None:
    """Assert that an upload was stored under its id, or lost as known."""
    app.remember(answer)
    possible = outcomes(app.framework, upload.handoff, upload.hook, len(upload.data), app.limits["part_bytes"])
    if possible == {LOST} or (LOST in possible and not answer.is_success):
        check_problem(answer, 500, LOST_CODE)
        return
    assert answer.status_code == 201, answer.text
    (receipt,) = answer.json()["receipts"]
    assert receipt["request_id"] == upload.request_id
    bucket.check_receipt(receipt, upload.data)


#: Each hand-off with one hook for `make test`, each hook with two hand-offs; `make contract-all` runs all.
CELLS = [
    pytest.param(handoff, hook, marks=() if (row - column) % len(HOOKS) == 0 else pytest.mark.thorough)
    for (row, handoff), (column, hook) in itertools.product(enumerate(HANDOFFS), enumerate(HOOKS))
]


@pytest.mark.parametrize(("handoff", "hook"), CELLS)
async def test_many_at_once_are_each_stamped_with_their_own_id(
    app: Api, bucket: Bucket, at_once: int, handoff: str, hook: str
) -> None:
    """Each of many concurrent uploads is stored under its own id, or lost as known.

    Two of fifty are multipart uploads, so that both kinds of first call, put and create, run on one client.
    """
    filler = os.urandom(app.limits["part_bytes"])
    sizes = [len(filler) if number % 25 == 0 else 0 for number in range(at_once)]
    uploads = [Sent(handoff, hook, filler[:size] + os.urandom(60)) for size in sizes]
    for upload, answer in zip(uploads, await send_all(app, uploads), strict=True):
        check(app, bucket, upload, answer)


async def test_a_crowd_of_all_kinds_is_stored_right(app: Api, bucket: Bucket, at_once: int) -> None:
    """A crowd of uploads of every kind is stored whole, or lost as known."""
    part_bytes = app.limits["part_bytes"]
    sizes = (0, 1, 100, 60_000, 500_000, 500_001, 700_000, 1_000_000, part_bytes, 2 * part_bytes + 1)
    filler = os.urandom(max(sizes))
    cells = itertools.product(HANDOFFS, HOOKS, sizes)
    uploads = [
        Sent(handoff, hook, (uuid.uuid4().bytes + filler)[:size])
        for handoff, hook, size in itertools.islice(itertools.cycle(cells), 4 * at_once)
    ]
    for upload, answer in zip(uploads, await send_all(app, uploads), strict=True):
        check(app, bucket, upload, answer)
