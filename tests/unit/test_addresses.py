"""The client's address: of the connection, or of a trusted proxy's header."""

import pytest
from unit.sansio_request import make_request

from filehandoff.web.addresses import client_address


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        pytest.param("192.0.2.1", "192.0.2.1", id="IPv4"),
        pytest.param("2001:DB8:0::1", "2001:db8::1", id="IPv6"),
        pytest.param("::ffff:192.0.2.1", "192.0.2.1", id="IPv4 on a socket of both"),
        pytest.param("fe80::1%eth0", "fe80::1", id="a zone"),
        pytest.param("", "", id="gunicorn on a Unix socket"),
        pytest.param("<local>", "", id="Quart on a Unix socket"),
        pytest.param(None, "", id="none"),
    ],
)
def test_the_address_is_the_peers(peer: str | None, address: str) -> None:
    """A header counts for nothing if no proxy is trusted."""
    assert client_address(peer, ["198.51.100.1"], 0) == address


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        pytest.param(1, ["192.0.2.1"], "192.0.2.1", id="one proxy"),
        pytest.param(1, ["198.51.100.1, 192.0.2.1"], "192.0.2.1", id="a client's own entry before it"),
        pytest.param(1, ["198.51.100.1", "192.0.2.1"], "192.0.2.1", id="two lines"),
        pytest.param(2, ["198.51.100.1, 192.0.2.1,203.0.113.1"], "192.0.2.1", id="two proxies"),
        pytest.param(1, ["192.0.2.1:5678"], "192.0.2.1", id="IPv4 with a port"),
        pytest.param(1, ["[2001:db8::1]:5678"], "2001:db8::1", id="IPv6 with a port"),
        pytest.param(1, ["2001:db8::1"], "2001:db8::1", id="IPv6"),
        pytest.param(1, ["198.51.100.1, fe80::1%\n evil"], "fe80::1", id="a zone of any text"),
        pytest.param(2, ["192.0.2.1"], "127.0.0.1", id="fewer entries than proxies"),
        pytest.param(1, [], "127.0.0.1", id="no header"),
        pytest.param(1, [""], "127.0.0.1", id="an empty header"),
        pytest.param(1, ["192.0.2.1, unknown"], "127.0.0.1", id="a word"),
        pytest.param(1, ["192.0.2.1, 999.1.1.1"], "127.0.0.1", id="no address"),
    ],
)
def test_behind_proxies_the_outermost_ones_entry_counts(trusted: int, forwarded: list[str], address: str) -> None:
    """Entries to the left of it may be the client's invention."""
    assert client_address("127.0.0.1", forwarded, trusted) == address


def test_a_request_has_its_clients_address() -> None:
    """By default the header is ignored."""
    request = make_request(headers={"X-Forwarded-For": "198.51.100.1"}, remote_addr="192.0.2.1")
    assert request.client_address == "192.0.2.1"
