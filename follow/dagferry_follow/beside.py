"""What a sidecar and the dag processor beside it tell each other, through the volume and over loopback.

::

    <root>/.trees/sidecar        where the sidecar listens: HOST:PORT
    <root>/.trees/parsed.json    what the dag processor asked the sidecar to keep
    <root>/.trees/reads.json     what it asked it to keep of what parses read (``volume.known_reads``)

The dag processor only reads the volume: Airflow's pods mount it read-only. So what it has parsed goes to the sidecar's
own port, and the sidecar, which has a token, passes it on to the server.
"""

import re

from dagferry_core.protocol import MAX_REPORT_BYTES
from dagferry_follow.small_files import read_text, replace_text
from dagferry_follow.volume.root import TREES

REPORTS_PATH = "/reports"
"""The path of the sidecar that takes ``{"tree": "<unique>/<version>", "keep": "…", "report": {…}}``.

``tree`` is the live one: only who reads the same volume knows its random name. ``keep`` is text, as in ``read_kept``.
"""
READS_PATH = "/reads/"
"""The path of the sidecar that takes what parses read, in the form of ``volume.known_reads``; the live tree follows."""
MAX_KEPT_BYTES = 256 * 1024
MAX_BODY_BYTES = 2 * MAX_REPORT_BYTES + 2 * MAX_KEPT_BYTES
"""Of what is sent to ``REPORTS_PATH``; JSON inside of JSON takes more than its own bytes."""

_FOR_ALL = 0o644
"""The permissions: Airflow runs as another user than the sidecar."""
_ADDRESS, _KEPT = "sidecar", "parsed.json"
_VALID = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - nothing listens there


def write_address(root: str, host: str, port: int) -> None:
    """Note that the sidecar of ``root`` listens at ``host`` and ``port``; ``OSError`` if that cannot be written."""
    host = _ANY.get(host, host)
    replace_text(f"{root}/{TREES}/{_ADDRESS}", f"{f'[{host}]' if ':' in host else host}:{port}\n", _FOR_ALL)


def read_address(root: str) -> tuple[str, int] | None:
    """Return host and port of the sidecar of ``root``; ``None`` if it has not noted any, as older ones."""
    found = _VALID.fullmatch(read_text(f"{root}/{TREES}/{_ADDRESS}", 512).strip())
    return (found[1].strip("[]"), int(found[2])) if found else None


def write_kept(root: str, text: str) -> None:
    """Keep ``text`` for the dag processor that is beside the sidecar; ``OSError`` if that is not possible."""
    replace_text(f"{root}/{TREES}/{_KEPT}", text, _FOR_ALL)


def read_kept(root: str) -> str:
    """Return the text that is kept; ``""`` if there is none."""
    return read_text(f"{root}/{TREES}/{_KEPT}", MAX_KEPT_BYTES)
