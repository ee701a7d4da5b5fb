"""What --peers may be, and to which addresses it leads."""

import socket

import pytest

from dagferry_server.peers import addresses
from dagferry_server.peers.addresses import MAX_PEERS, Place, places, resolve


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dagferry-peers:8000", [("dagferry-peers", 8000)]),
        ("10.0.0.1:8000, 10.0.0.2:8001", [("10.0.0.1", 8000), ("10.0.0.2", 8001)]),
        ("[fd00::1]:8000", [("fd00::1", 8000)]),
        ("a.b_c.svc.cluster.local:1,a.b_c.svc.cluster.local:1", [("a.b_c.svc.cluster.local", 1)]),
    ],
)
def test_hosts_have_ports_and_ipv6_addresses_brackets(text, expected) -> None:
    assert places(text) == tuple(Place(*place) for place in expected)


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":8000", "host:0", "host:65536", "host:-1", "fd00::1:8000", "http://host:1", "a:1,"]
)
def test_anything_else_is_refused(text) -> None:
    with pytest.raises(ValueError, match="HOST:PORT is expected"):
        places(text)


def test_a_place_is_shown_as_it_is_given() -> None:
    assert [str(place) for place in places("host:1,[::1]:2")] == ["host:1", "[::1]:2"]


def test_a_name_leads_to_all_its_addresses(monkeypatch) -> None:
    def found(*_: object, **__: object):
        v4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 1))
        v6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 1, 0, 0))
        return [v4, v6, v4]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    assert resolve(Place("peers", 1)) == [Place("10.0.0.1", 1), Place("fd00::1", 1)]


def test_there_is_a_limit_and_an_error_for_none(monkeypatch) -> None:
    many = [(socket.AF_INET, 1, 6, "", (f"10.0.{number}.1", 1)) for number in range(MAX_PEERS + 50)]
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_, **__: many)
    assert len(resolve(Place("peers", 1))) == MAX_PEERS
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(OSError, match="no address"):
        resolve(Place("peers", 1))


def test_a_real_name_is_resolved() -> None:
    assert Place("127.0.0.1", 8000) in resolve(Place("localhost", 8000))
