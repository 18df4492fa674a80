"""Every app is what its OpenAPI document says: requests made from it, valid and invalid, and what is answered to each.

The document is the core's; that each app serves just this one is a test of its own. schemathesis makes the requests,
the same ones every time: the document's examples, each boundary of each schema, and random values.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from contract.api import Api
from hypothesis import HealthCheck, settings
from schemathesis import Case, Response
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from handoff.errors import (
    DigestMalformed,
    DigestMismatch,
    FileClosed,
    PreconditionFailed,
    RangeNotSatisfiable,
    UploadError,
)
from handoff.form import DIGEST_FIELD
from handoff.http import single_range
from handoff.web.openapi import document
from handoff.web.schemas import FILE

CONFIG = {
    "seed": 5399,
    "generation": {"max-examples": 25, "deterministic": True, "database": "none"},
    "checks": {
        "positive_data_acceptance": {"expected-statuses": ["2xx"]},
        "negative_data_rejection": {"expected-statuses": [400, 404, 405, 413, 415, 422]},
    },
}
DESCRIBED = schemathesis.openapi.from_dict(document(), config=SchemathesisConfig.from_dict(CONFIG))

type Reached = dict[tuple[str, str], set[int]]


@pytest.fixture(scope="module")
def reached() -> Iterator[Reached]:
    """Which statuses each app gave to each operation: a run that never saw success has shown nothing."""
    seen: Reached = defaultdict(set)
    yield seen
    assert [operation for operation, statuses in seen.items() if min(statuses) >= 300] == []


@DESCRIBED.parametrize()
@settings(
    deadline=None,  # a slow machine is no bug
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],  # nor are many keys in one test
)
def test_every_answer_is_as_described(app: Api, reached: Reached, case: Case[Any]) -> None:
    """Status, type, headers and body are documented ones; what is valid is taken, and what is not is refused."""
    key = name_a_stored_object(app, case)
    answer = case.call(app.url)
    remember(app, answer, key)
    reached[app.url, case.operation.label].add(answer.status_code)
    case.validate_response(answer, excluded_checks=[check for check, excuses in EXCUSES if excuses(case, answer)])


def test_every_app_serves_the_same_document(apps: list[Api]) -> None:
    """/openapi.json is the core's document, byte for byte the same from each app."""
    answers = [app.send("GET", "/openapi.json") for app in apps]
    assert {answer.headers["Content-Type"] for answer in answers} == {"application/json"}
    assert {answer.content for answer in answers} == {answers[0].content}
    assert answers[0].json() == json.loads(json.dumps(document()))


def test_the_links_of_an_upload_lead_to_its_object(app: Api) -> None:
    """What the document says can be done with a receipt can be done, with the key's slashes as they are or escaped."""
    paths: dict[str, Any] = json.loads(json.dumps(document()))["paths"]
    methods = {
        one["operationId"]: method for item in paths.values() for method, one in item.items() if "operationId" in one
    }
    answer = app.upload_file(FILE)
    for link in paths["/uploads"]["post"]["responses"]["201"]["links"].values():
        assert link["parameters"] == {"key": "$response.body#/receipts/0/key"}
        key = answer.json()["receipts"][0]["key"]
        method = methods[link["operationId"]]
        if method != "delete":
            assert app.send(method, f"/objects/{quote(key, safe='')}").status_code == 200
        assert app.send(method.upper(), f"/objects/{key}").is_success


def name_a_stored_object(app: Api, case: Case[Any]) -> str | None:
    """Where a valid key is asked for, ask for one that is there."""
    if "key" not in case.path_parameters or case.meta is None or case.meta.is_negative_at(ParameterLocation.PATH):
        return None
    key = str(app.upload_file(FILE).json()["receipts"][0]["key"])
    case.path_parameters["key"] = quote(key, safe="")
    return key


def remember(app: Api, answer: Response, key: str | None) -> None:
    """Note what is stored and what is not any more."""
    if answer.status_code == 201:
        app.stored |= {receipt["key"] for receipt in json.loads(answer.content)["receipts"]}
    if answer.status_code == 204 and key is not None:
        app.stored.remove(key)


def closes_its_files(case: Case[Any], answer: Response) -> bool:
    """The request asked for the hook that closes its files, and was told so."""
    hooks = case.query.get("hook")
    return has_code(answer, FileClosed) and "copied" in (hooks if isinstance(hooks, list) else [hooks])


def breaks_its_promise(case: Case[Any], answer: Response) -> bool:
    """The form promised another first file."""
    if not has_code(answer, DigestMismatch):
        return False
    form: Any = case.body
    data = getattr(form["file"][0], "data", form["file"][0])  # generated bytes come in a wrapper
    digest = hashlib.sha256(data if isinstance(data, bytes) else str(data).encode()).hexdigest()
    return bool(digest != form[DIGEST_FIELD])


def promises_too_late(case: Case[Any], answer: Response) -> bool:
    """The form has its promise behind the files."""
    form: Any = case.body
    return has_code(answer, DigestMalformed) and next(name for name in form if name in {DIGEST_FIELD, "file"}) == "file"


def asks_beyond_the_end(case: Case[Any], answer: Response) -> bool:
    """The request asked for one range, which the object does not have."""
    asked: Any = case.headers.get("Range")
    return has_code(answer, RangeNotSatisfiable) and single_range(asked) is not None


def has_the_object(case: Case[Any], answer: Response) -> bool:
    """The request said that the client has the object, and was told so."""
    said = {"If-None-Match", "If-Modified-Since"} & set(case.headers)
    return answer.status_code == 304 and bool(said)


def means_another_object(case: Case[Any], answer: Response) -> bool:
    """The request was for an object in another state; to HEAD, the answer does not say so in words."""
    said = {"If-Match", "If-Unmodified-Since", "If-None-Match"} & set(case.headers)
    return answer.status_code == PreconditionFailed.status and bool(said)


def has_code(answer: Response, error: type[UploadError]) -> bool:
    """Whether the answer is this error."""
    return bool(answer.status_code == error.status and json.loads(answer.content)["code"] == error.code)


#: Why a valid request may be refused, or end in a 5xx: for each, the check that cannot know, and who can.
EXCUSES = [
    (not_a_server_error, closes_its_files),
    (positive_data_acceptance, closes_its_files),
    (positive_data_acceptance, breaks_its_promise),
    (positive_data_acceptance, promises_too_late),
    (positive_data_acceptance, asks_beyond_the_end),
    (positive_data_acceptance, has_the_object),
    (positive_data_acceptance, means_another_object),
]
