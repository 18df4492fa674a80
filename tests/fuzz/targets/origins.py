"""Origins, hosts and addresses: canonical forms, and no way around a list or a trusted proxy."""

import ipaddress
from urllib.parse import urlsplit

from fuzz.inputs import fields

from filehandoff.origins import is_allowed_host, is_foreign, parse_host, parse_origin
from filehandoff.web.addresses import client_address

WORDS = (
    b"https://a.example",
    b":443",
    b":80",
    b"*.example",
    b"[::1]",
    b"[::ffff:192.0.2.1]:8",
    b"192.0.2.1:80",
    b"fe80::1%eth0",
    b"null",
    b"same-origin",
    b"cross-site",
    b"\xe2\x84\xaa",
    b"65536",
)
OWN = ("a.example", "b.example:8080")


def check(data: bytes) -> None:
    """Read the input as an origin, as a host and as lines of X-Forwarded-For."""
    origin, host, site, *lines = (value.decode("utf-8", "replace") for value in fields(data, 7, b"\n"))
    check_origin(origin, site or None)
    check_host(host)
    check_addresses(host, lines)


def check_origin(origin: str, site: str | None) -> None:
    """Check that an origin has one form, and that only own pages are not foreign."""
    parsed = parse_origin(origin)
    if parsed is not None:
        assert parse_origin(parsed) == parsed, "a parsed origin has another form"
        assert parsed.isascii(), "an origin is not ASCII"
        assert urlsplit(parsed).netloc == parsed.partition("://")[2], "an origin has more than a host"
    foreign = is_foreign(origin or None, site, OWN)
    if parsed and not foreign and site not in {"same-origin", "none"}:
        assert urlsplit(origin.lower()).hostname in {"a.example", "b.example"}, "a foreign page counts as an own page"


def check_host(host: str) -> None:
    """Check that a wildcard admits the hosts below it only."""
    parsed = parse_host(host)
    assert parsed is None or parse_host(parsed) == parsed, "a parsed host has another form"
    if is_allowed_host(host, ("*.a.example", "b.example")):
        name = host.lower().partition(":")[0]
        assert name == "b.example" or name.endswith(".a.example"), "a host outside the list is allowed"
    if parsed and not parsed.startswith("*"):
        assert is_allowed_host(host, (parsed,)), "a host is not allowed by its own name"


def check_addresses(peer: str, lines: list[str]) -> None:
    """Check that the address is one, and that a client's own entries do not change it."""
    for trusted in range(4):
        found = client_address(peer, lines, trusted)
        assert not found or str(ipaddress.ip_address(found)) == found, "an address is not in its usual form"
        entries = sum(line.count(",") + 1 for line in lines)
        if trusted <= entries:
            forged = client_address(peer, ["192.0.2.99, ::1", *lines], trusted)
            assert forged == found, "a client chooses its own address"
