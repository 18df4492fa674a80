"""The three causes in words, and the calls that closed a file."""

import re
from io import BytesIO

import pytest

from filehandoff.causes import (
    CAUSES,
    SECONDS,
    TRANSFER_THRESHOLD,
    Closing,
    InnerRequest,
    closing_calls,
    occurs,
    report,
    too_slow,
)

SEEN = Closing("flask.ctx:pop", "thread one", "before the view returned, 1.0 ms after the view began")


@pytest.mark.parametrize("cause", CAUSES)
def test_a_file_that_was_closed_is_reported_as_it_was_seen(cause: str) -> None:
    """Error and close stand in the report as they were seen, beside the cause's own words."""
    told = report(cause, "flask", "id-1", "ValueError: closed", SEEN).as_json()
    assert told == {
        "cause": cause,
        "framework": "flask",
        "closed": True,
        "error": "ValueError: closed",
        "closed_by": SEEN.closed_by,
        "where": SEEN.where,
        "when": SEEN.when,
        "explanation": CAUSES[cause].explanation,
        "use_instead": CAUSES[cause].use_instead,
        "request_id": "id-1",
    }


def test_a_close_after_the_reading_is_none_that_matters() -> None:
    """Every request closes its files at its end: without an error before it, nothing was closed too early."""
    told = report("transfer_closes", "quart", "id-1", None, SEEN)
    assert (told.closed, told.error, told.closed_by, told.where, told.when) == (False, None, None, None, None)
    assert told.explanation.startswith("Here the file was still open when it was read again, in quart, at this size. ")


def test_an_error_without_a_close_is_not_called_one() -> None:
    """An error that is none of a closed file's is told, without blaming a close."""
    told = report("after_response", "flask", "id-1", "OSError: no space", None)
    assert (told.closed, told.error, told.closed_by) == (False, "OSError: no space", None)


@pytest.mark.parametrize(
    ("cause", "framework", "size", "known"),
    [
        pytest.param("transfer_closes", "flask", TRANSFER_THRESHOLD - 1, True, id="boto3, under the threshold"),
        pytest.param("transfer_closes", "flask", TRANSFER_THRESHOLD, False, id="boto3, at the threshold"),
        pytest.param("transfer_closes", "quart", 1, False, id="aioboto3 closes nothing"),
        pytest.param("copied_context", "quart", 1, True, id="a copied context, in both"),
        pytest.param("gremlins", "flask", 1, False, id="no cause of ours"),
    ],
)
def test_where_a_cause_occurs(cause: str, framework: str, size: int, known: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """Which cause exists in which framework, at which size."""
    assert occurs(cause, framework, size) is known


def test_only_the_libraries_calls_are_told() -> None:
    """Of a stack, the calls of the frameworks and of boto are left, outermost first, at most six, none twice."""
    frames = [
        ("/app/views.py", "upload"),
        ("/x/site-packages/botocore/client.py", "_api_call"),
        ("/x/site-packages/botocore/hooks.py", "_emit"),
        ("/x/site-packages/botocore/hooks.py", "_emit"),
        ("/x/site-packages/flask/ctx.py", "wrapper"),
        ("/x/site-packages/werkzeug/datastructures/structures.py", "iter_multi_items"),
        ("/x/site-packages/werkzeug/wrappers/request.py", "close"),
        ("/x/site-packages/werkzeug/datastructures/file_storage.py", "close"),
        ("/python/tempfile.py", "close"),
    ]
    assert closing_calls(frames) == (
        "botocore.client:_api_call → botocore.hooks:_emit → flask.ctx:wrapper → werkzeug.wrappers.request:close"
    )
    deep = [(f"/x/flask/module{number}.py", "call") for number in range(9)]
    assert closing_calls(deep).split(" → ") == [f"flask.module{number}:call" for number in range(3, 9)]


def test_a_stack_of_ones_own_has_no_such_calls() -> None:
    """An app that closes the file itself did it without them."""
    assert closing_calls([("/app/views.py", "upload")]) == ""


def test_the_first_close_is_the_one_that_counts() -> None:
    """A close is noted with its place and the moment; a later one, such as the request's end, changes nothing."""
    seen = InnerRequest()
    seen.enter("before the view returned", begin=True)
    seen.closed_in("thread one")
    seen.enter("at the end of the request")
    seen.closed_in("thread two")
    assert seen.closing is not None
    assert (seen.closing.where, seen.closing.closed_by) == ("thread one", "")
    assert re.fullmatch(r"before the view returned, \d+\.\d ms after the view began", seen.closing.when)


def test_a_reading_that_fails_is_kept_as_text() -> None:
    """The error of a block that reads the file is what the report shows; the block's caller goes on."""
    seen = InnerRequest()
    with seen.reading():
        pass
    assert seen.error is None
    file = BytesIO()
    file.close()
    with seen.reading():
        file.read()
    assert seen.error == "ValueError: I/O operation on closed file."


def test_a_cause_that_cannot_be_shown_in_time_is_the_stores_doing() -> None:
    """It says for how long S3 was waited for."""
    assert too_slow().code == "store-unavailable"
    assert f"{SECONDS:g} seconds" in too_slow().detail
