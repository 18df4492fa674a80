"""The OpenAPI document is valid and complete, and has the routes of both apps."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest
from flask import Flask
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import OpenAPIV31SpecValidator
from quart import Quart
from werkzeug.routing import Map

import flask_app
import quart_app
from filehandoff import errors
from filehandoff.keys import is_key, new_key
from filehandoff.receipt import Receipt
from filehandoff.settings import Settings
from filehandoff.strategies import HANDOFFS, HOOKS
from filehandoff.web import openapi
from filehandoff.web.schemas import KEY

DOCUMENT: dict[str, Any] = json.loads(json.dumps(openapi.document()))
METHODS = ("get", "head", "post", "put", "patch", "delete")
OPERATIONS = [
    pytest.param(path, method, id=f"{method.upper()} {path}")
    for path, item in DOCUMENT["paths"].items()
    for method in METHODS
    if method in item
]


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Return the node, or the node that it refers to."""
    if "$ref" not in node:
        return node
    found: Any = DOCUMENT
    for name in node["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return resolved(found)


def operation(path: str, method: str) -> dict[str, Any]:
    """Return one operation, with the parameters of its path."""
    item: dict[str, Any] = DOCUMENT["paths"][path]
    described: dict[str, Any] = item[method]
    return described | {"parameters": item.get("parameters", []) + described.get("parameters", [])}


def nodes(node: object, where: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object in the document with its place."""
    if isinstance(node, dict):
        yield where, node
        for name, child in node.items():
            yield from nodes(child, f"{where}/{name}")
    elif isinstance(node, list):
        for number, child in enumerate(node):
            yield from nodes(child, f"{where}/{number}")


def examples() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield every example with its place and its schema."""
    for where, node in nodes(DOCUMENT):
        if "schema" in node and "example" in node:
            yield f"{where}/example", node["schema"], node["example"]
        if "schema" in node and "examples" in node:
            for name, example in node["examples"].items():
                yield f"{where}/examples/{name}", node["schema"], resolved(example)["value"]


def shown(url_map: Map) -> dict[str, set[str]]:
    """Return a routing table as the document has it, without OPTIONS, which every path has."""
    found: dict[str, set[str]] = {}
    for rule in url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        found.setdefault(path, set()).update(method.lower() for method in (rule.methods or set()) - {"OPTIONS"})
    return found


def test_the_document_is_valid() -> None:
    """The document is OpenAPI 3.1, its schemas are valid, and its references resolve."""
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []
    for schema in DOCUMENT["components"]["schemas"].values():
        OAS31Validator.check_schema(schema)
    for _, node in nodes(DOCUMENT):
        assert resolved(node) is not None


def test_nothing_stands_in_it_unused() -> None:
    """Each component is used, except the two responses of addresses outside the document."""
    used = {node["$ref"] for _, node in nodes(DOCUMENT) if "$ref" in node}
    used |= {f"#/components/securitySchemes/{name}" for one in DOCUMENT["security"] for name in one}
    defined = {f"#/components/{kind}/{name}" for kind, some in DOCUMENT["components"].items() for name in some}
    assert defined - used == {"#/components/responses/NotFound", "#/components/responses/MethodNotAllowed"}


@pytest.mark.parametrize(("schema", "example"), [pytest.param(*rest, id=where) for where, *rest in examples()])
def test_an_example_is_one(schema: dict[str, Any], example: object) -> None:
    """Each example is valid by its schema."""
    whole = schema | {"components": DOCUMENT["components"]}
    OAS31Validator(whole, format_checker=oas31_format_checker).validate(example)


both_apps = pytest.mark.parametrize(
    "create_app",
    [pytest.param(flask_app.create_app, id="flask"), pytest.param(quart_app.create_app, id="quart")],
)


@both_apps
def test_the_routes_are_those_of_the_app(create_app: Callable[[Settings], Flask | Quart]) -> None:
    """The document has each path of an app with exactly its methods."""
    documented = {path: set(METHODS) & set(item) for path, item in DOCUMENT["paths"].items()}
    assert documented == shown(create_app(Settings()).url_map)


@both_apps
@pytest.mark.parametrize(("stripped", "below"), [(True, ""), (False, "/some/where")])
def test_the_routes_are_in_one_place_alone(
    create_app: Callable[[Settings], Flask | Quart],
    stripped: bool,  # noqa: FBT001 - parametrised
    below: str,
) -> None:
    """Routes are either at the root or below UPLOAD_ROOT_PATH, never at both."""
    settings = Settings(root_path="/some/where", root_path_stripped=stripped)
    assert shown(create_app(settings).url_map).keys() == {below + path for path in DOCUMENT["paths"]}


@pytest.mark.parametrize(("root_path", "url"), [("", "/"), ("/some/where", "/some/where")])
def test_the_server_of_the_document_is_the_root_path(root_path: str, url: str) -> None:
    """The document's server is UPLOAD_ROOT_PATH, so that clients send their requests below it."""
    document: dict[str, Any] = openapi.document(root_path)
    assert document["servers"] == [{"url": url}]
    assert {**document, "servers": DOCUMENT["servers"]} == openapi.document()


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_an_operation_is_complete(path: str, method: str) -> None:
    """Operations have id, summary and parameters; responses have text, request id and example."""
    described = operation(path, method)
    assert described["operationId"]
    assert described["summary"]
    parameters = [resolved(parameter) for parameter in described["parameters"]]
    assert {one["name"] for one in parameters if one["in"] == "path"} == set(re.findall(r"{(\w+)}", path))
    assert "X-Request-Id" in {one["name"] for one in parameters if one["in"] == "header"}
    assert {"2", "5"} <= {status[0] for status in described["responses"]}
    for status, response in described["responses"].items():
        assert response["description"]
        assert "X-Request-Id" in response["headers"]
        is_empty = (
            method == "head" or status in {"204", "303", "304"} or (path in RESUMABLE and status in EMPTY[method])
        )
        assert ("content" in response) != is_empty
        for content in response.get("content", {}).values():
            assert content["examples"]


#: The addresses of resumable uploads, and the statuses of their responses that say all in headers.
RESUMABLE = {"/files", "/files/{upload_id}"}
EMPTY: dict[str, set[str]] = {"post": {"200", "201"}, "get": set(), "patch": set(), "delete": set()}


def test_operations_have_names_of_their_own() -> None:
    """No two operations share an operationId."""
    names = [operation(*parameter.values)["operationId"] for parameter in OPERATIONS]  # type: ignore[arg-type] # values are any objects to pytest
    assert len(set(names)) == len(names)


def test_every_error_is_in_it() -> None:
    """Each error has its code, an example, and a response with its status."""
    told = {
        error.code: error.status
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.UploadError) and error.__name__ in errors_with_code()
    }
    assert set(DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == set(told)
    assert set(DOCUMENT["components"]["examples"]) == set(told)
    answered: dict[str, set[int]] = {}
    for where, node in nodes(DOCUMENT):
        if where.endswith("/application/problem+json"):
            narrowed = node["schema"]["properties"]
            for code in narrowed["code"]["enum"]:
                answered.setdefault(code, set()).add(narrowed["status"]["const"])
    assert answered == {code: {status} for code, status in told.items()}


def errors_with_code() -> set[str]:
    """Return the class names of the errors with a code, from the tree."""
    return set(re.findall(r"(\w+) +\d{3} [a-z-]+", errors.__doc__ or ""))


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_headers_that_an_error_needs_are_described(path: str, method: str) -> None:
    """A 416 has Content-Range, a 503 Retry-After, a 201 Location, and a 304 ETag."""
    needed = {"201": "Location", "206": "Content-Range", "304": "ETag", "416": "Content-Range", "503": "Retry-After"}
    for status, response in operation(path, method)["responses"].items():
        assert needed.get(status, "X-Request-Id") in response["headers"]


def test_a_method_that_is_not_allowed_is_answered_with_those_that_are() -> None:
    """A 405 has Allow."""
    assert "Allow" in DOCUMENT["components"]["responses"]["MethodNotAllowed"]["headers"]


def test_names_are_those_of_the_grid() -> None:
    """The schema lists the grid's hand-offs and hooks in its order, with its sentences."""
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["Handoff"]["enum"] == list(HANDOFFS)
    assert schemas["Hook"]["enum"] == list(HOOKS)
    assert all(handoff.sentence in schemas["Handoff"]["description"] for handoff in HANDOFFS.values())
    assert all(hook.sentence in schemas["Hook"]["description"] for hook in HOOKS.values())


def test_a_receipt_is_described_member_by_member() -> None:
    """The schema has the dataclass's members in their order, all required and typed."""
    receipt = DOCUMENT["components"]["schemas"]["Receipt"]
    names = [field.name for field in fields(Receipt)]
    assert list(receipt["properties"]) == receipt["required"] == names
    types = [receipt["properties"][name]["type"] for name in names]
    assert types == [{"str": "string", "int": "integer", "float": "number"}[f.type.__name__] for f in fields(Receipt)]  # type: ignore[union-attr] # none is in quotes


def test_links_name_operations() -> None:
    """A link refers to an operation of the document."""
    names = {operation(*parameter.values)["operationId"] for parameter in OPERATIONS}  # type: ignore[arg-type] # values are any objects to pytest
    linked = {node["operationId"] for where, node in nodes(DOCUMENT) if re.search(r"/links/\w+$", where)}
    assert linked
    assert linked <= names


def test_a_lost_file_is_a_documented_answer() -> None:
    """The responses of an upload include `file-closed`, with its explanation."""
    answer = DOCUMENT["paths"]["/uploads/{name}"]["post"]["responses"]["500"]["content"]["application/problem+json"]
    assert "copy_current_request_context" in resolved(answer["examples"]["file-closed"])["value"]["detail"]


@pytest.mark.parametrize("prefix", ["", "some/prefix/", "prefix-"])
@pytest.mark.parametrize("filename", ["a.txt", "", "..", "Übung 1.bin", "x" * 300])
def test_a_key_is_described_as_it_is_made(prefix: str, filename: str) -> None:
    """The pattern accepts the keys of `new_key` under any prefix, and no other names."""
    pattern = DOCUMENT["components"]["schemas"]["Key"]["pattern"]
    key = new_key(prefix, filename)
    assert re.search(pattern, key)
    assert not re.search(pattern, key.rpartition("/")[0] + "/..")
    assert is_key("", KEY)
