"""Origins and hosts, and their look-alikes."""

import pytest

from filehandoff.origins import is_allowed_host, is_foreign, parse_host, parse_origin


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        pytest.param("https://example.org", "https://example.org", id="a host"),
        pytest.param("HTTPS://Example.ORG", "https://example.org", id="any case"),
        pytest.param("http://localhost:3000", "http://localhost:3000", id="a port"),
        pytest.param("https://example.org:443", "https://example.org", id="the port of https"),
        pytest.param("http://example.org:80", "http://example.org", id="the port of http"),
        pytest.param("https://example.org:80", "https://example.org:80", id="the port of another scheme"),
        pytest.param("http://192.0.2.1:65535", "http://192.0.2.1:65535", id="IPv4 and the last port"),
        pytest.param("http://[::1]:8080", "http://[::1]:8080", id="IPv6"),
        pytest.param("capacitor://localhost", "capacitor://localhost", id="an app's scheme"),
        pytest.param("https://xn--bcher-kva.example", "https://xn--bcher-kva.example", id="punycode"),
    ],
)
def test_an_origin_is_kept_as_browsers_send_it(text: str, origin: str) -> None:
    """In lower case, without the default port (https://html.spec.whatwg.org/#ascii-serialisation-of-an-origin)."""
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("null", id="null"),
        pytest.param("*", id="any"),
        pytest.param("", id="empty"),
        pytest.param("example.org", id="no scheme"),
        pytest.param("//example.org", id="an empty scheme"),
        pytest.param("https://", id="no host"),
        pytest.param("file://", id="files"),
        pytest.param("https://example.org/", id="a slash"),
        pytest.param("https://example.org/app", id="a path"),
        pytest.param("https://example.org?a", id="a query"),
        pytest.param("https://example.org#a", id="a fragment"),
        pytest.param("https://*.example.org", id="a wildcard"),
        pytest.param("https://user:password@example.org", id="credentials"),
        pytest.param("https://example.org:", id="an empty port"),
        pytest.param("https://example.org:0", id="port 0"),
        pytest.param("https://example.org:0443", id="a port with a zero in front"),
        pytest.param("https://example.org:65536", id="a port beyond the last"),
        pytest.param("https://example.org.", id="a dot at the end"),
        pytest.param("https://.example.org", id="a dot in front"),
        pytest.param("https://exa mple.org", id="a blank"),
        pytest.param("https://example.org\n", id="a line end"),
        pytest.param("https://bücher.example", id="not punycode"),
        pytest.param("https://example.or\u212a", id="a Kelvin sign for a k"),
        pytest.param("https://[::1", id="half an IPv6 address"),
        pytest.param("https://[::::1]", id="no IPv6 address"),
        pytest.param("https://a, https://b", id="two"),
    ],
)
def test_no_browser_sends_a_malformed_origin(text: str) -> None:
    """A setting with one would match nothing."""
    assert parse_origin(text) is None


@pytest.mark.parametrize(
    "text", ["example.org", "EXAMPLE.org:8443", "*.example.org", "[::1]:80", "my_service", "10.0.0.1"]
)
def test_a_host_is_kept_in_lower_case(text: str) -> None:
    """With a port, and with a wildcard for all hosts below."""
    assert parse_host(text) == text.lower()


@pytest.mark.parametrize(
    "text", ["", "*", "*.", "a.*.org", "https://a", "a/b", "a:", "a:0", "a:99999", "a b", "a@b", "a\n", "é", "a."]
)
def test_a_malformed_host_is_none(text: str) -> None:
    """A setting with one would match nothing."""
    assert parse_host(text) is None


ALLOWED = ("example.org", "files.example:8443", "*.example.net", "[::1]")


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "Example.ORG",
        "example.org:8001",
        "files.example:8443",
        "a.example.net",
        "a.b.example.net:1",
        "[::1]:80",
    ],
)
def test_a_host_in_the_list_is_allowed(host: str) -> None:
    """An entry without a port allows each port."""
    assert is_allowed_host(host, ALLOWED)


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("", id="none"),
        pytest.param("127.0.0.1", id="an address"),
        pytest.param("example.org.evil.example", id="a host that begins with it"),
        pytest.param("evilexample.org", id="a host that ends with it"),
        pytest.param("evil.example/.example.net", id="a path that ends with it"),
        pytest.param("evil.example:80:.example.net", id="a port that ends with it"),
        pytest.param("example.org@evil.example", id="a user of it"),
        pytest.param(".example.net", id="an empty label"),
        pytest.param("example.net", id="the host of a wildcard itself"),
        pytest.param("evilexample.net", id="a host that ends like a wildcard"),
        pytest.param("files.example", id="no port"),
        pytest.param("files.example:84430", id="a port that begins with it"),
        pytest.param("example.org\t", id="a tab"),
    ],
)
def test_a_host_that_looks_alike_is_not_allowed(host: str) -> None:
    """Hosts are compared as a whole."""
    assert not is_allowed_host(host, ALLOWED)


OWN = ["Files.example", "127.0.0.1:8001", ""]


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        pytest.param(None, None, id="a program"),
        pytest.param("http://files.example", None, id="the same host"),
        pytest.param("https://files.example", None, id="behind a TLS proxy"),
        pytest.param("http://127.0.0.1:8001", None, id="the same port"),
        pytest.param("null", "same-origin", id="a page without a referrer"),
        pytest.param("https://public.example", "same-origin", id="behind a proxy that changes Host"),
        pytest.param(None, "none", id="the address bar"),
    ],
)
def test_the_services_own_pages_are_not_foreign(origin: str | None, site: str | None) -> None:
    """A browser's word counts more than the host."""
    assert not is_foreign(origin, site, OWN)


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        pytest.param("https://evil.example", None, id="another host"),
        pytest.param("https://files.example.evil.example", None, id="a host that begins with it"),
        pytest.param("https://evilfiles.example", None, id="a host that ends with it"),
        pytest.param("https://evil.example/files.example", None, id="a path that ends with it"),
        pytest.param("https://evil.example://files.example", None, id="two schemes"),
        pytest.param("http://127.0.0.1:8002", None, id="another port"),
        pytest.param("http://127.0.0.1", None, id="the default port"),
        pytest.param("https://files.example:8443", None, id="a port instead of the default one"),
        pytest.param("null", None, id="a sandboxed frame"),
        pytest.param("null", "cross-site", id="a sandboxed frame of another site"),
        pytest.param("", None, id="empty"),
        pytest.param("https://", None, id="no host"),
        pytest.param("https://files.example, https://evil.example", None, id="two origins"),
        pytest.param("https://a.files.example", "same-site", id="the same site"),
        pytest.param(None, "cross-site", id="another site whose origin is hidden"),
    ],
)
def test_all_other_pages_are_foreign(origin: str | None, site: str | None) -> None:
    """Also if their origins look alike."""
    assert is_foreign(origin, site, OWN)


def test_the_default_port_of_a_host_is_no_difference() -> None:
    """Some proxies add it."""
    assert not is_foreign("https://files.example", None, ["files.example:443"])
    assert is_foreign("https://files.example", None, ["files.example:80"])
