"""Origins and hosts: how settings write them, and how a request's are compared with those."""

import ipaddress
import re
from collections.abc import Iterable

#: The setting that allows every origin.
ANY_ORIGIN = "*"
#: The methods that change nothing (RFC 9110, section 9.2.1).
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
#: `Sec-Fetch-Site` of a request that no other site caused (https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header).
_OWN_SITES = frozenset({"same-origin", "none"})

_MAX_PORT = 65_535
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_HOST = r"(?P<name>[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::(?P<port>[1-9]\d{0,4}))?"
_ORIGIN = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]*)://{_HOST}", re.ASCII)
_HOST_ALONE = re.compile(_HOST, re.ASCII)


def lower(text: str) -> str:
    """Return ASCII in lower case, and nothing of other texts, where a Kelvin sign would become a k."""
    return text.lower() if text.isascii() else ""


def parse_origin(text: str) -> str | None:
    """Return an origin as browsers send it: in lower case, without a default port; None for a malformed one."""
    match = _ORIGIN.fullmatch(lower(text))
    return _without_default_port(match[0], match["scheme"]) if match and _is_valid(match) else None


def parse_host(text: str) -> str | None:
    """Return `host`, `host:port` or `*.host` in lower case; None for a malformed one."""
    match = _HOST_ALONE.fullmatch(lower(text).removeprefix("*."))
    return lower(text) if match and _is_valid(match) else None


def _is_valid(match: re.Match[str]) -> bool:
    """Return whether the port is one, and whether a name in brackets is an IPv6 address."""
    try:
        if match["name"].startswith("["):
            ipaddress.IPv6Address(match["name"][1:-1])
    except ValueError:
        return False
    return int(match["port"] or 0) <= _MAX_PORT


def _without_default_port(address: str, scheme: str) -> str:
    return address.removesuffix(_DEFAULT_PORTS.get(scheme, ""))


def is_allowed_host(host: str, allowed: Iterable[str]) -> bool:
    """Return whether a `Host` is one of these; `*.host` stands for each host below it, but not for itself."""
    match = _HOST_ALONE.fullmatch(lower(host))
    names = (match[0], match["name"]) if match else ()
    return any(name == one or (one.startswith("*") and name.endswith(one[1:])) for one in allowed for name in names)


def is_foreign(origin: str | None, site: str | None, own_hosts: Iterable[str]) -> bool:
    """Return whether a page of another origin has made a request by an unsafe method.

    No page can choose either header, and programs send neither. A browser sends `Origin` with each such request, but
    `null` for some pages of the service itself. It sends `Sec-Fetch-Site` over TLS and to loopback. The schemes are not
    compared: behind a proxy that ends TLS, the service does not know its own.

    Args:
        origin: the header `Origin`.
        site: the header `Sec-Fetch-Site`.
        own_hosts: the hosts by which clients reach the service, with their ports.
    """
    if site in _OWN_SITES:
        return False
    if origin is None:
        return site is not None
    scheme, _, host = lower(origin).partition("://")
    return not host or host not in {_without_default_port(lower(own), scheme) for own in own_hosts}
