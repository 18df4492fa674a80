"""The values that both apps read of a request in the same way."""

import re

import pytest
from unit.sansio_request import make_request

from filehandoff.errors import ChunkedForm, FormError, FormMalformed, UnsupportedMediaType
from filehandoff.settings import Settings

FORM = "multipart/form-data; boundary=x"
SETTINGS = Settings()


def test_a_request_keeps_its_clients_id() -> None:
    """Also if it is asked for twice."""
    request = make_request(headers={"X-Request-Id": "a-request"})
    assert request.request_id == request.request_id == "a-request"


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 65])
def test_a_request_without_a_safe_id_gets_a_new_one(given: str | None) -> None:
    """The id stays the same for the whole request."""
    headers: dict[str, str | list[str]] = {} if given is None else {"X-Request-Id": given}
    one, other = make_request(headers=headers), make_request(headers=headers)
    assert re.fullmatch("[0-9a-f]{32}", one.request_id)
    assert one.request_id == one.request_id != other.request_id


@pytest.mark.parametrize(
    ("headers", "coding"),
    [
        pytest.param({}, "", id="none"),
        pytest.param({"Content-Encoding": "gzip"}, "gzip", id="one"),
        pytest.param({"Content-Encoding": ["gzip", "br"]}, "gzip, br", id="on two lines"),
    ],
)
def test_all_codings_are_one_value(headers: dict[str, str | list[str]], coding: str) -> None:
    """Several lines of a field are one list (RFC 9110, section 5.3)."""
    assert make_request(headers=headers).coding == coding


@pytest.mark.parametrize(
    ("headers", "has_body"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"Content-Length": "0"}, False, id="no byte"),
        pytest.param({"Content-Length": "1"}, True, id="one byte"),
        pytest.param({"Transfer-Encoding": "chunked"}, True, id="chunks"),
    ],
)
def test_the_head_announces_a_body(headers: dict[str, str | list[str]], *, has_body: bool) -> None:
    """Chunks may turn out to be none."""
    assert make_request("POST", headers=headers).has_body is has_body


@pytest.mark.parametrize(
    ("accept", "wants_page"),
    [
        pytest.param("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True, id="a browser"),
        pytest.param("*/*", False, id="curl"),
        pytest.param("application/json", False, id="a program"),
        pytest.param("application/json, text/html", False, id="both alike"),
        pytest.param("text/plain", False, id="neither"),
    ],
)
def test_a_browser_that_navigates_wants_a_page(accept: str, *, wants_page: bool) -> None:
    """It prefers HTML to JSON."""
    assert make_request(headers={"Accept": accept}).wants_page is wants_page


def test_a_request_without_accept_wants_json() -> None:
    """Programs leave it out."""
    assert not make_request().wants_page


def test_a_forms_head_gives_its_parser() -> None:
    """The boundary is that of the Content-Type."""
    parser = make_request("POST", "/uploads?hook=bound", {"Content-Type": FORM}).parser_for(SETTINGS)
    assert list(parser.receive(b"--x--\r\n")) == []


@pytest.mark.parametrize(
    ("headers", "target", "error"),
    [
        pytest.param({"Content-Type": [FORM, FORM]}, "/", FormMalformed, id="two types"),
        pytest.param({}, "/", UnsupportedMediaType, id="no type"),
        pytest.param({"Content-Type": FORM, "Content-Encoding": "gzip"}, "/", UnsupportedMediaType, id="a coding"),
        pytest.param({"Content-Type": FORM, "Content-Range": "bytes 5-9/20"}, "/", ChunkedForm, id="a chunk by range"),
        pytest.param(
            {"Content-Type": FORM}, "/?dzchunkindex=1&dztotalchunkcount=3", ChunkedForm, id="a chunk by query"
        ),
    ],
)
def test_a_head_that_cannot_be_taken_is_refused(
    headers: dict[str, str | list[str]], target: str, error: type[FormError]
) -> None:
    """No byte of the body is read."""
    with pytest.raises(error):
        make_request("POST", target, headers).parser_for(SETTINGS)


def test_only_the_files_of_the_named_fields_are_stored() -> None:
    """They keep the order of the form."""
    request = make_request("POST")
    request.files_in_order += [("file", "first"), ("avatar", "no"), ("files[]", "second"), ("file[0]", "third")]
    assert request.files_to_store(SETTINGS) == ["first", "second", "third"]
    assert request.files_to_store(Settings(field_names=("avatar",))) == ["no"]


def test_a_request_holds_its_resources_until_it_is_answered() -> None:
    """The shell closes them."""
    request, closed = make_request(), list[bool]()
    request.until_answered.callback(closed.append, True)  # noqa: FBT003 - a value
    assert not closed
    request.until_answered.close()
    assert closed
    assert request.arrived > 0
