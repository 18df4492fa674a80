"""Many uploads at once: the hook stamps each object with its own request's id, never another's."""

import asyncio
import os
import uuid

import httpx
import pytest
from contract.api import CONTENT_TYPE, Api, check_problem, form, part
from contract.bucket import Bucket

from handoff.strategies import HANDOFFS, HOOKS, LOST, LOST_CODE, outcomes

AT_ONCE = 50


@pytest.mark.parametrize("kind", [pytest.param("memory", id="put"), pytest.param("parts", id="multipart")])
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("handoff", HANDOFFS)
async def test_fifty_at_once_are_each_stamped_with_their_own_id(
    app: Api, bucket: Bucket, handoff: str, hook: str, kind: str
) -> None:
    """Of 50 uploads at once, each object has its own request's id and its own bytes, or each is refused as known."""
    filler = os.urandom(app.limits["part_bytes"]) if kind == "parts" else b""
    files = {f"at-once-{uuid.uuid4().hex}": filler + os.urandom(60) for _ in range(AT_ONCE)}

    async def upload(client: httpx.AsyncClient, request_id: str, data: bytes) -> httpx.Response:
        return await client.post(
            f"/uploads/{handoff}",
            params={"hook": hook},
            content=form(part("file", data, "name")),
            headers={"Content-Type": CONTENT_TYPE, "X-Request-Id": request_id},
        )

    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=app.url, timeout=300, limits=limits) as client:
        answers = await asyncio.gather(*(upload(client, *file) for file in files.items()))
    for (request_id, data), answer in zip(files.items(), answers, strict=True):
        app.remember(answer)
        possible = outcomes(app.framework, handoff, hook, len(data), app.limits["part_bytes"])
        if possible == {LOST} or (LOST in possible and not answer.is_success):
            check_problem(answer, 500, LOST_CODE)
            continue
        assert answer.status_code == 201, answer.text
        (receipt,) = answer.json()["receipts"]
        assert receipt["request_id"] == request_id
        bucket.check_receipt(receipt, data)
