"""Every app matches its OpenAPI document for valid and invalid requests.

Another test compares each app's document with the core's. schemathesis generates the same requests each time: the
document's examples, the boundaries of each schema, and random values.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from contract.api import Api
from hypothesis import HealthCheck, settings
from schemathesis import Case, Response
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from filehandoff.errors import (
    DigestMalformed,
    DigestMismatch,
    FileClosed,
    FileTooLarge,
    ObjectMissing,
    PreconditionFailed,
    RangeNotSatisfiable,
    UploadError,
)
from filehandoff.form import DIGEST_FIELD
from filehandoff.http import single_range
from filehandoff.web.openapi import document
from filehandoff.web.schemas import FILE

#: Request headers that promise the digest of a body that is one file.
BODY_DIGESTS = frozenset({"Content-Digest", "Repr-Digest"})
CONFIG = {
    "seed": 5399,
    "generation": {"max-examples": 12, "deterministic": True, "database": "none"},
    "checks": {
        "positive_data_acceptance": {"expected-statuses": ["2xx"]},
        "negative_data_rejection": {"expected-statuses": [400, 404, 405, 413, 415, 422]},
    },
}
DESCRIBED = schemathesis.openapi.from_dict(document(), config=SchemathesisConfig.from_dict(CONFIG))

Reached: TypeAlias = dict[tuple[str, str], set[int]]


@pytest.fixture(scope="module")
def reached() -> Iterator[Reached]:
    """The statuses of each app and operation; a run without successes proves nothing."""
    seen: Reached = defaultdict(set)
    yield seen
    assert [operation for operation, statuses in seen.items() if min(statuses) >= 300] == []


@DESCRIBED.parametrize()
@settings(
    deadline=None,  # a slow machine is no bug
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],  # nor are many keys in one test
)
def test_every_answer_is_as_described(app: Api, reached: Reached, case: Case[Any]) -> None:
    """Each answer is documented; valid requests are accepted, invalid ones refused."""
    key = name_a_stored_object(app, case)
    unfinished = name_an_upload(app, case)
    answer = case.call(app.url)
    remember(app, answer, key)
    if unfinished is not None:
        abandon(app, unfinished)
    reached[app.url, case.operation.label].add(answer.status_code)
    case.validate_response(answer, excluded_checks=[check for check, excuses in EXCUSES if excuses(case, answer)])


def test_every_app_serves_the_same_document(apps: list[Api]) -> None:
    """Each app's /openapi.json equals the core's document."""
    answers = [app.send("GET", "/openapi.json") for app in apps]
    assert {answer.headers["Content-Type"] for answer in answers} == {"application/json"}
    assert {answer.content for answer in answers} == {answers[0].content}
    assert answers[0].json() == json.loads(json.dumps(document()))


def test_the_links_of_an_upload_lead_to_its_object(app: Api) -> None:
    """The links of a receipt lead to its object, slashes plain or escaped."""
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
    """Replace a valid key by that of a stored object."""
    if case.path == "/receipts" and case.meta is not None and not case.meta.is_negative_at(ParameterLocation.QUERY):
        case.query["key"] = [str(app.upload_file(FILE).json()["receipts"][0]["key"])]
        return None
    if "key" not in case.path_parameters or case.meta is None or case.meta.is_negative_at(ParameterLocation.PATH):
        return None
    if names_parts(case):
        return None  # a key of name_an_upload
    handoff = "presigned" if "/presigned/" in case.path else "read_early"
    key = str(app.upload_file(FILE, handoff).json()["receipts"][0]["key"])
    case.path_parameters["key"] = quote(key, safe="")
    return key


def name_an_upload(app: Api, case: Case[Any]) -> dict[str, Any] | None:
    """Replace the upload in a valid request for parts by a started one."""
    if not names_parts(case) or case.meta is None or case.meta.generation.mode.is_negative:
        return None
    given: dict[str, Any] = app.presign(bytes(app.limits["part_bytes"] + 1)).json()
    query = httpx.URL(given["complete"]).params
    case.path_parameters["key"] = quote(given["key"], safe="")
    case.query.update({name: query[name] for name in ("upload_id", "size", "part_bytes", "signature")})
    return given


def names_parts(case: Case[Any]) -> bool:
    """Whether the request is about an unfinished upload in parts."""
    return case.path.endswith("/parts") or case.path == "/uploads/presigned/{key}"


def abandon(app: Api, given: dict[str, Any]) -> None:
    """Abort an upload in parts, which may have ended."""
    assert app.send("DELETE", given["abort"]).status_code in {204, 404}


def remember(app: Api, answer: Response, key: str | None) -> None:
    """Record stored and deleted keys; end unfinished uploads."""
    if answer.status_code == 201:
        sent = json.loads(answer.content)
        app.stored |= {receipt["key"] for receipt in sent.get("receipts", [])}
        if "upload_id" in sent:
            abandon(app, sent)
    if answer.status_code == 204 and key is not None:
        app.stored.remove(key)


def closes_its_files(case: Case[Any], answer: Response) -> bool:
    """Whether the request chose the hook that closes its files, and got that error."""
    hooks = case.query.get("hook")
    return has_code(answer, FileClosed) and "copied" in (hooks if isinstance(hooks, list) else [hooks])


def breaks_its_promise(case: Case[Any], answer: Response) -> bool:
    """Whether the promised digest is that of another body or first file."""
    if not has_code(answer, DigestMismatch):
        return False
    if not BODY_DIGESTS.isdisjoint(case.headers):
        return True
    form: Any = case.body
    data = getattr(form["file"][0], "data", form["file"][0])  # schemathesis wraps generated bytes
    digest = hashlib.sha256(data if isinstance(data, bytes) else str(data).encode()).hexdigest()
    return bool(digest != form[DIGEST_FIELD])


def promises_too_late(case: Case[Any], answer: Response) -> bool:
    """Whether the form's promise follows its files."""
    form: Any = case.body
    return (
        isinstance(form, dict)
        and has_code(answer, DigestMalformed)
        and next((name for name in form if name in {DIGEST_FIELD, "file"}), None) == "file"
    )


def promises_no_digest(case: Case[Any], answer: Response) -> bool:
    """Whether the headers promise two digests or none; schemathesis allows values that break their pattern."""
    return has_code(answer, DigestMalformed) and not BODY_DIGESTS.isdisjoint(case.headers)


def asks_beyond_the_end(case: Case[Any], answer: Response) -> bool:
    """Whether the requested range lies outside the object."""
    asked: Any = case.headers.get("Range")
    return has_code(answer, RangeNotSatisfiable) and single_range(asked) is not None


def has_the_object(case: Case[Any], answer: Response) -> bool:
    """Whether the client has the object already, and got 304."""
    conditions = {"If-None-Match", "If-Modified-Since"} & set(case.headers)
    return answer.status_code == 304 and bool(conditions)


def means_another_object(case: Case[Any], answer: Response) -> bool:
    """Whether the precondition names another state; HEAD has no body to say so."""
    conditions = {"If-Match", "If-Unmodified-Since", "If-None-Match"} & set(case.headers)
    return answer.status_code == PreconditionFailed.status and bool(conditions)


def asks_for_too_much(case: Case[Any], answer: Response) -> bool:
    """Whether the file exceeds this app's limit; the document is the same for all limits."""
    return case.path == "/uploads/presigned" and has_code(answer, FileTooLarge)


def names_another_upload(case: Case[Any], answer: Response) -> bool:
    """Whether the query names an upload in parts that does not exist."""
    return "/presigned/" in case.path and "upload_id" in case.query and has_code(answer, ObjectMissing)


def has_code(answer: Response, error: type[UploadError]) -> bool:
    """Whether the answer is this error."""
    if answer.status_code != error.status:
        return False
    return not answer.content or bool(json.loads(answer.content)["code"] == error.code)  # HEAD has no body


#: Reasons why a valid request may fail: the check that cannot know the reason, and the function that can.
EXCUSES = [
    (not_a_server_error, closes_its_files),
    (positive_data_acceptance, closes_its_files),
    (positive_data_acceptance, breaks_its_promise),
    (positive_data_acceptance, promises_too_late),
    (positive_data_acceptance, promises_no_digest),
    (positive_data_acceptance, asks_beyond_the_end),
    (positive_data_acceptance, has_the_object),
    (positive_data_acceptance, asks_for_too_much),
    (positive_data_acceptance, names_another_upload),
    (positive_data_acceptance, means_another_object),
]
