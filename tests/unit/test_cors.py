"""Pages of other origins, in the core and by both apps' test clients."""

from typing import Any

import pytest
from unit.both_apps import CREATE, Answered, both, send
from unit.sansio_request import make_request

from filehandoff import Identity, RequestHead
from filehandoff.settings import Settings
from filehandoff.web.cors import EXPOSED_HEADERS, PREFLIGHT_SECONDS, headers, preflight_answer
from filehandoff.web.request import EXTENSION

PAGE, OTHER_PAGE = "https://page.example", "http://localhost:3000"
LISTED = Settings(cors_origins=(PAGE, OTHER_PAGE))
ANY = Settings(cors_origins=("*",))
#: The look-alikes of an allowed origin.
LOOK_ALIKES = [
    "https://page.example.evil.example",
    "https://evilpage.example",
    "https://a.page.example",
    "https://page.example:8443",
    "https://page.example:443",
    "https://page.example.",
    "https://page.example/",
    "https://page.example@evil.example",
    "https://evil.example/https://page.example",
    "http://page.example",
    "page.example",
    "//page.example",
    "null",
    "*",
    "",
    "https://page.example, http://localhost:3000",
    "https://pag\u00e9.example",
    "https://pa\u212ae.example",
]


def test_without_origins_no_header_is_added() -> None:
    """The setting is off by default."""
    assert headers(Settings(), make_request(headers={"Origin": PAGE})) == []


@pytest.mark.parametrize("origin", [PAGE, OTHER_PAGE, "HTTPS://Page.Example"])
def test_a_listed_origin_may_read_responses_with_credentials(origin: str) -> None:
    """The browser compares the origin with its own, and caches keep a response for each origin."""
    found = dict(headers(LISTED, make_request(headers={"Origin": origin})))
    assert found.pop("Access-Control-Expose-Headers").split(", ") == list(EXPOSED_HEADERS)
    assert found == {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Vary": "Origin",
    }


@pytest.mark.parametrize("origin", [None, *LOOK_ALIKES])
def test_all_other_origins_get_the_warning_for_caches_alone(origin: str | None) -> None:
    """Origins are compared as a whole."""
    request = make_request(headers={} if origin is None else {"Origin": origin})
    assert headers(LISTED, request) == [("Vary", "Origin")]


def test_two_lines_of_an_origin_are_no_origin() -> None:
    """No browser sends them."""
    request = make_request(headers={"Origin": [PAGE, PAGE]})
    assert request.page_origin == f"{PAGE}, {PAGE}"
    assert headers(LISTED, request) == [("Vary", "Origin")]


@pytest.mark.parametrize("origin", [None, PAGE, "null"])
def test_every_origin_may_read_responses_without_credentials(origin: str | None) -> None:
    """With `*`, the header is the same for each request."""
    found = dict(headers(ANY, make_request(headers={} if origin is None else {"Origin": origin})))
    assert found.keys() == {"Access-Control-Allow-Origin", "Access-Control-Expose-Headers"}
    assert found["Access-Control-Allow-Origin"] == "*"


def test_each_exposed_header_has_its_whole_name() -> None:
    """A `*` in a name exposes nothing (https://fetch.spec.whatwg.org/#http-access-control-expose-headers)."""
    assert "*" not in "".join(EXPOSED_HEADERS)
    assert len(set(EXPOSED_HEADERS)) == len(EXPOSED_HEADERS)
    assert {"Location", "ETag", "X-Request-Id", "Upload-Offset", "Retry-After", "RateLimit"} <= set(EXPOSED_HEADERS)


def preflight(
    settings: Settings = LISTED, methods: str | None = "POST, OPTIONS", method: str = "OPTIONS", **sent: str
) -> Any:
    """Return the headers of the answer to a preflight request, or None."""
    given = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    given |= {name.replace("_", "-"): value for name, value in sent.items()}
    answer = preflight_answer(settings, make_request(method, headers={k: v for k, v in given.items() if v}), methods)
    return answer and (answer.status, answer.body, answer.headers)


def test_a_preflight_is_answered_with_the_methods_of_the_route() -> None:
    """The answer has no body."""
    expected = {
        "Access-Control-Allow-Methods": "OPTIONS, POST",
        "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        "Vary": "Access-Control-Request-Headers",
    }
    assert preflight() == preflight(ANY) == (204, b"", expected)


@pytest.mark.parametrize("names", ["authorization", "authorization,content-type", "X-A, x_b , !#$%&'*+.^`|~"])
def test_a_preflight_allows_all_requested_headers(names: str) -> None:
    """Programs may send them, too."""
    assert preflight(Access_Control_Request_Headers=names)[2]["Access-Control-Allow-Headers"] == names


@pytest.mark.parametrize("names", ["", ",", "a,,b", "a b", "a\r\nx: y", "é", "a;b", " a"])
def test_malformed_names_are_not_repeated(names: str) -> None:
    """No browser sends them."""
    request = make_request(headers={"Origin": PAGE})
    request.method = "OPTIONS"
    request.headers.set("Access-Control-Request-Method", "PUT")
    request.headers._list.append(("Access-Control-Request-Headers", names))  # noqa: SLF001 - `add` refuses line ends
    answer = preflight_answer(LISTED, request, "PUT")
    assert answer is not None
    assert "Access-Control-Allow-Headers" not in answer.headers


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"method": "GET"}, id="another method"),
        pytest.param({"methods": None}, id="no such address"),
        pytest.param({"settings": Settings()}, id="no origins"),
        pytest.param({"Origin": "https://evil.example"}, id="another origin"),
        pytest.param({"Access_Control_Request_Method": ""}, id="no method asked for"),
        pytest.param({"Origin": ""}, id="no origin"),
    ],
)
def test_any_other_request_is_no_preflight(changed: Any) -> None:
    """The framework answers it."""
    assert preflight(**changed) is None


def as_header(text: str) -> str:
    """Return a text as its UTF-8 bytes in a header."""
    return text.encode().decode("latin-1")


def values(answer: Answered, name: str) -> set[str]:
    """Return the values of a header that is a list."""
    return {value.strip() for line in answer.headers.getlist(name) for value in line.split(",")}


@both
def test_an_app_answers_a_preflight_on_every_route(create_app: Any) -> None:
    """With the route's own methods, also below a root path, and with authentication."""
    settings = Settings(cors_origins=(PAGE,), root_path="/app", root_path_stripped=False, key_prefix="{user}/")
    app = create_app(settings, authenticate=lambda _head: None)
    methods: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<key:key>", "<path:key>").replace(
            "<path:key>", "2026/01/31/019c1234-5678-7abc-89de-f0123456789a/a"
        )
        path = path.replace("<name>", "a").replace("<cause>", "a")
        methods.setdefault(path, set()).update(rule.methods)
    methods["/app/uploads/presigned"] |= methods["/app/uploads/a"]
    assert len(methods) > 10
    for path, allowed in methods.items():
        for asked in allowed - {"OPTIONS"}:
            sent = {
                "Origin": PAGE,
                "Access-Control-Request-Method": asked,
                "Access-Control-Request-Headers": "authorization",
            }
            answer = send(app, "OPTIONS", path, sent)
            assert (answer.status, answer.body) == (204, b"")
            assert values(answer, "Access-Control-Allow-Methods") == allowed
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
            assert answer.headers["Access-Control-Allow-Headers"] == "authorization"
            assert values(answer, "Vary") >= {"Origin"}
            assert "X-Request-Id" in answer.headers


@both
def test_an_app_answers_no_preflight_of_another_origin_or_address(create_app: Any) -> None:
    """The answer allows nothing."""
    app = create_app(LISTED)
    asks = {"Access-Control-Request-Method": "PUT"}
    for origin, path, status in (("https://evil.example", "/uploads", 200), (PAGE, "/missing", 404)):
        answer = send(app, "OPTIONS", path, {"Origin": origin, **asks})
        assert answer.status == status
        assert "Access-Control-Allow-Methods" not in answer.headers
        assert ("Access-Control-Allow-Origin" in answer.headers) is (origin == PAGE)


@pytest.fixture(scope="module", params=CREATE)
def app(request: pytest.FixtureRequest) -> Any:
    """Each app, for a sender without the scope to delete; it shuts down, so that /readyz needs no S3."""

    def identify(head: RequestHead) -> Identity | None:
        return Identity("ann", ["upload", "read"]) if "X-Sender" in head.headers else None

    made = CREATE[request.param](LISTED, authenticate=identify)
    made.extensions[EXTENSION].drain.refuse()
    return made


@pytest.mark.parametrize("origin", [None, PAGE, *LOOK_ALIKES])
def test_an_app_adds_the_headers_to_refusals(app: Any, origin: str | None) -> None:
    """A page of a listed origin can read why; no other can, and an unsafe request of theirs is refused first."""
    for method, path, status, sent in (
        ("GET", "/healthz", 200, {}),
        ("GET", "/objects/a", 401, {}),
        ("DELETE", "/objects/a", 403, {"X-Sender": "ann"}),
        ("GET", "/missing", 404, {}),
        ("GET", "/objects/a", 404, {"X-Sender": "ann"}),
        ("PATCH", "/uploads", 405, {}),
        ("POST", "/uploads/presigned", 415, {"X-Sender": "ann", "Content-Encoding": "gzip"}),
        ("GET", "/readyz", 503, {}),
    ):
        answer = send(app, method, path, sent if origin is None else {**sent, "Origin": as_header(origin)})
        assert answer.status == (403 if origin in LOOK_ALIKES and method != "GET" else status)
        assert answer.headers.get("Access-Control-Allow-Origin") == (PAGE if origin == PAGE else None)
        assert "Origin" in values(answer, "Vary")
        assert ("ETag" in values(answer, "Access-Control-Expose-Headers")) is (origin == PAGE)


@both
def test_an_app_adds_the_headers_to_a_fault(create_app: Any) -> None:
    """A page learns the request's id."""

    def fail(_head: object) -> None:
        raise ZeroDivisionError

    app = create_app(LISTED, authenticate=fail)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = send(app, "GET", "/objects/a", {"Origin": PAGE})
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (500, PAGE)
