"""The page at `/`: its files, its policy, and the values in it."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from unit.sansio_request import make_request

from filehandoff.causes import CAUSES
from filehandoff.errors import NotFound
from filehandoff.service import Service
from filehandoff.settings import Settings
from filehandoff.strategies import FRAMEWORKS
from filehandoff.web import routes
from filehandoff.web.page_files import FIXES, VIEWER_FILES, fixes, page_files, policy, store_origins, viewer_files

SETTINGS = Settings(
    s3_endpoint_url="http://127.0.0.1:9000", other_app_url="https://other.example:8443/files/", root_path="/up"
)


@pytest.fixture
def service() -> Service:
    """The core's part of a Flask app."""
    return Service("flask", SETTINGS)


def test_the_page_holds_the_values_of_its_service(service: Service) -> None:
    """The page names its framework, the other app, the base of its addresses, and leaves no value out."""
    page = routes.page(service, make_request()).body.decode()
    assert '<base href="/up/">' in page
    assert 'data-framework="flask"' in page
    assert 'data-other-app="https://other.example:8443/files/"' in page
    assert 'data-authentication="none"' in page
    assert "{{" not in page


@pytest.mark.parametrize(
    ("auth", "authenticate", "shown"),
    [
        pytest.param("none", None, "none", id="none"),
        pytest.param("bearer", lambda _head: None, "bearer", id="tokens"),
        pytest.param("none", lambda _head: None, "custom", id="a function of one's own"),
    ],
)
def test_the_page_knows_how_senders_are_identified(auth: str, authenticate: Any, shown: str) -> None:
    """It shows a field for a token unless every sender may do everything."""
    service = Service("flask", Settings(auth=auth, tokens_file="tokens"), authenticate)
    assert f'data-authentication="{shown}"'.encode() in routes.page(service, make_request()).body


def test_a_value_cannot_add_markup(service: Service) -> None:
    """A quote in a value stays in its attribute."""
    service.framework = '"><script>'
    assert "<script>" not in routes.page(service, make_request()).body.decode()


def test_the_page_without_another_app() -> None:
    """Without UPLOAD_OTHER_APP_URL, the page names none."""
    assert b'data-other-app=""' in routes.page(Service("quart", Settings()), make_request()).body


def test_the_page_has_no_inline_code_and_no_address_outside() -> None:
    """No file of the page has inline scripts or styles, and only the icon's name space is an outside address."""
    for name, file in page_files().items():
        if name == FIXES:
            continue
        text = file.body.decode()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=\"|javascript:", text), name
        assert set(re.findall(r"\w*://[\w.]+[^\s\"]*", text)) <= {"http://www.w3.org/2000/svg"}, name


def test_every_file_that_the_pages_name_is_served(service: Service) -> None:
    """Scripts, styles and imports lead to files that the app serves, and each file is in use."""
    texts = [routes.page(service, make_request()).body, routes.docs(service, make_request()).body]
    texts += [file.body for name, file in page_files().items() if name.endswith(".js")]
    names = set(re.findall(rb"(?:\"page|from \"\.)/([\w.-]+)\"", b"\n".join(texts)))
    assert {name.decode() for name in names} == set(page_files())


def test_a_file_is_served_with_its_type_and_the_policy(service: Service) -> None:
    """A script has its media type, the page's policy, and an ETag for the next request."""
    answer = routes.page_file(service, make_request(), "main.js")
    assert answer.status == 200
    assert answer.body == page_files()["main.js"].body
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == policy(SETTINGS)
    assert answer.headers["Content-Length"] == str(len(answer.body))
    known = make_request(headers={"If-None-Match": answer.headers["ETag"]})
    assert routes.page_file(service, known, "main.js").status == 304
    assert routes.page_file(service, known, "api.js").status == 200


def test_an_unknown_file_is_not_found(service: Service) -> None:
    """A name outside the page's folder is no file of the page."""
    with pytest.raises(NotFound):
        routes.page_file(service, make_request(), "../pages.py")


def test_the_policy_allows_the_app_its_store_and_the_other_app() -> None:
    """The page may connect to these three origins alone, and runs nothing but its own files."""
    assert policy(SETTINGS) == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self' http://127.0.0.1:9000 https://other.example:8443; "
        "base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
    )


@pytest.mark.parametrize(
    ("settings", "origins"),
    [
        pytest.param(Settings(), ["https://*.amazonaws.com", "https://*.amazonaws.com.cn"], id="AWS"),
        pytest.param(
            Settings(s3_endpoint_url="http://s3.local:9000/x"),
            ["http://s3.local:9000", "http://*.s3.local:9000"],
            id="a name",
        ),
        pytest.param(
            replace(SETTINGS, s3_public_endpoint_url="https://[2001:db8::1]"), ["https://[2001:db8::1]"], id="public"
        ),
    ],
)
def test_the_origins_of_presigned_urls(settings: Settings, origins: list[str]) -> None:
    """The store's public address counts, and a bucket may be a subdomain of a name."""
    assert store_origins(settings) == origins


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_has_its_fix_for_both_frameworks(cause: str) -> None:
    """The fix of a cause has code that fails and code that works, from the explainer's page."""
    found = json.loads(json.dumps(fixes()))[cause]
    assert found["title"]
    assert found["explanation"] == CAUSES[cause].explanation
    assert sorted(found["code"]) == sorted(FRAMEWORKS)
    for framework, code in found["code"].items():
        assert f"from {framework} import" in code["works"]
        assert code["works"] != code["fails"]


def test_the_viewer_comes_from_its_package(service: Service) -> None:
    """The page at /docs loads Swagger UI from this app, and every file that it names is served."""
    page = routes.docs(service, make_request()).body.decode()
    assert set(re.findall(r"\"docs/([\w.-]+)\"", page)) == set(VIEWER_FILES)
    for name in VIEWER_FILES:
        answer = routes.docs_file(make_request(), name)
        assert len(answer.body) > 100_000
        assert "connect-src 'self';" in answer.headers["Content-Security-Policy"]
    with pytest.raises(NotFound):
        routes.docs_file(make_request(), "index.html")


def test_without_the_viewer_the_page_says_how_to_install_it(
    service: Service, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """If the package is missing, /docs is a 404 that names the extra."""
    viewer_files.cache_clear()
    request.addfinalizer(viewer_files.cache_clear)
    monkeypatch.setattr("filehandoff.web.page_files.VIEWER", "no_such_package")
    with pytest.raises(NotFound, match=r"pip install 'filehandoff\[docs-viewer\]'"):
        routes.docs(service, make_request())
