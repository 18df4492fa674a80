"""The address of a request's client, behind proxies as well."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache


def client_address(peer: str | None, forwarded: Sequence[str], trusted_proxies: int) -> str:
    """Return the client's IP address in its usual form; empty if unknown, as of a Unix socket's peer.

    Each proxy adds its own peer to the right of `X-Forwarded-For`, and a client can send any entries to the left of
    these. So the entry counts that the outermost trusted proxy has added. Without such an entry, the peer's address
    counts.

    Args:
        peer: the address of the connection's other end.
        forwarded: the lines of the header `X-Forwarded-For`.
        trusted_proxies: the number of proxies in front; 0: the header is ignored.
    """
    entries = [entry for line in forwarded for entry in line.split(",")] if trusted_proxies else []
    outermost = entries[-trusted_proxies] if 0 < trusted_proxies <= len(entries) else ""
    return _ip_address(outermost.strip()) or _ip_address(peer or "")


@lru_cache(maxsize=1024)  # parsing costs 2 to 6 microseconds
def _ip_address(text: str) -> str:
    """Return the IP address of a text that may have a port or a zone; empty if it has none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    # A socket for both families gives IPv4 clients as ::ffff:192.0.2.1.
    return str(getattr(address, "ipv4_mapped", None) or address)
