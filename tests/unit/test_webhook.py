"""The attempts of a webhook: their signature, their statuses and their end."""

import json
import logging
import time
from typing import Any

import pytest
from standardwebhooks import Webhook

from filehandoff.keys import new_key
from filehandoff.webhook import PAUSES, Attempt, WebhookFailed, attempts, sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RECEIPTS: list[dict[str, Any]] = [{"key": new_key("in/", "ü.txt"), "filename": "ü.txt"}, {"key": "another"}]


def answered(*answers: int | Exception) -> list[Attempt]:
    """Deliver to a receiver with these answers in turn; return the attempts."""
    made = []
    for attempt, answer in zip(attempts(SECRET, RECEIPTS), answers, strict=True):
        made.append(attempt)
        if isinstance(answer, int):
            attempt.status = answer
        else:
            attempt.error = answer
    return made


def test_the_signature_is_that_of_the_scheme() -> None:
    """The signature of a published example of the scheme is reproduced."""
    body = b'{"test": 2432232314}'
    signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body) == signature


def test_the_schemes_library_verifies_a_request() -> None:
    """The library returns the event with the receipts."""
    [attempt] = answered(200)
    event = Webhook(SECRET).verify(attempt.body, attempt.headers(time.time()))
    assert event["type"] == "upload.stored"
    assert event["data"] == {"receipts": RECEIPTS}
    assert json.loads(attempt.body) == event


def test_all_attempts_have_the_same_id_and_body() -> None:
    """The id is the UUID of the first key, and each attempt is signed with its own time."""
    first, second, third = answered(503, OSError("reset"), 204)
    assert {one.identifier for one in (first, second, third)} == {RECEIPTS[0]["key"].split("/")[-2]}
    assert first.body == second.body == third.body
    assert [one.pause for one in (first, second, third)] == list(PAUSES)
    headers = first.headers(1e9), second.headers(1e9 + 1)
    assert [one["webhook-timestamp"] for one in headers] == ["1000000000", "1000000001"]
    assert headers[0]["webhook-signature"] != headers[1]["webhook-signature"]


@pytest.mark.parametrize("status", [500, 502, 503, 408, 425, 429, 199])
def test_a_temporary_answer_is_tried_again(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """The last attempt's failure is the delivery's, and each attempt is logged without a secret."""
    with caplog.at_level(logging.WARNING), pytest.raises(WebhookFailed):
        answered(*[status] * len(PAUSES))
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"the webhook has not accepted attempt {n} of 3: {status}" for n in (1, 2, 3)]


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410, 422])
def test_a_final_answer_ends_the_delivery(status: int) -> None:
    """A redirect is not followed, and an error of the request would be repeated."""
    with pytest.raises(WebhookFailed):
        answered(status)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_success_ends_the_delivery(status: int) -> None:
    """One attempt is enough."""
    assert len(answered(status)) == 1
