"""Where the other servers are: names with a port, each resolved to all of its addresses again and again."""

import errno
import re
import socket
from typing import NamedTuple

MAX_PEERS = 100
"""How many addresses are asked; each is one connection and one waiting request."""
_NAME = re.compile(r"([A-Za-z0-9._-]{1,253}):([0-9]{1,5})")
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\]:([0-9]{1,5})")


class Place(NamedTuple):
    """A host, by name or address, and a port. Of a resolved one, the host is an address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def places(text: str) -> tuple[Place, ...]:
    """Read ``HOST:PORT``, or several, separated by commas; an IPv6 address is in brackets.

    Raises ``ValueError`` for anything else.
    """
    return tuple(dict.fromkeys(_place(one.strip()) for one in text.split(",")))


def _place(text: str) -> Place:
    match = _IPV6.fullmatch(text) or _NAME.fullmatch(text)
    host, port = match.groups() if match else ("", "")
    if not port or not 1 <= int(port) <= 65535:  # noqa: PLR2004
        raise ValueError(
            "HOST:PORT is expected, such as dagferry-peers:8000, or several of them, separated by commas; an IPv6 "
            "address is in brackets"
        )
    return Place(host, int(port))


def resolve(place: Place) -> list[Place]:
    """Return every address of a place, at most ``MAX_PEERS``. Blocks; raises ``OSError`` if the name has none now."""
    found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    if not found:
        raise OSError(errno.ENODATA, "it has no address")
    hosts = dict.fromkeys(str(at[0]) for _, _, _, _, at in found)
    return [Place(host, place.port) for host in list(hosts)[:MAX_PEERS]]
