"""Passes what the dag processor of this pod reports on to the server: Airflow needs no credential of its own.

What its parses read is kept on the volume, which Airflow only reads. Only who is on this machine may send something,
and only about this volume: the live tree is named by its random name. What a report says is for the server to check,
and what parses read is checked when it is used. One body is in memory at a time, and none of who may not send it.
"""

import contextlib
import http.client
import json
import re
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from dagferry_core.errors import DagferryError
from dagferry_core.loopback import is_loopback
from dagferry_core.protocol import MAX_REPORT_BYTES
from dagferry_follow.beside import (
    MAX_BODY_BYTES,
    MAX_KEPT_BYTES,
    READS_PATH,
    REPORTS_PATH,
    read_kept,
    write_kept,
)
from dagferry_follow.remote.connection import Timeouts
from dagferry_follow.remote.server import Server
from dagferry_follow.volume.known_reads import MAX_READS_BYTES, write_reads
from dagferry_follow.volume.root import Root

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler

TIMEOUTS = Timeouts(5.0, 10.0, 15.0)
WAIT_SECONDS = 10.0
"""How long what is sent waits for something else to be taken; they are taken one after the other."""
BODY_SECONDS = 5.0
"""A client that takes longer to send a body is disconnected."""
PIECE_BYTES = 64 * 1024
_TREE = re.compile(r"[0-9a-f]{16}/[A-Za-z0-9-]{1,100}")

Reply = tuple[int, bytes]


class PassingOn:
    """Sends reports about the volume of ``root`` to ``server``, which no other thread uses."""

    def __init__(self, root: Root, server: Server) -> None:
        self._root = root
        self._server = server
        self._lock = threading.Lock()

    def take(self, path: str, body: Iterable[bytes], length: int, sender: str, receiver: str) -> Reply:
        """Return status and answer for what is sent to ``path``, from the address ``sender`` to ``receiver``.

        ``body`` are the pieces of what should be ``length`` bytes. Nothing is taken of it if it is known to be in vain.
        """
        if not is_loopback(sender) and sender != receiver:
            return _refusal(http.client.FORBIDDEN, "Reports are taken from this machine only.")
        if path != REPORTS_PATH and self._root.published_tree() != path.removeprefix(READS_PATH):
            return _CONFLICT
        if not self._lock.acquire(timeout=WAIT_SECONDS):
            return _refusal(http.client.SERVICE_UNAVAILABLE, "Something else is being sent.")
        try:
            whole = b"".join(body)
            if len(whole) != length:  # the client was ended while it sent
                return _refusal(http.client.BAD_REQUEST, "The body ended too early.")
            if path == REPORTS_PATH:
                return self._pass_on(whole)
            return self._keep_reads(path.removeprefix(READS_PATH), whole)
        finally:
            self._lock.release()

    def _keep_reads(self, tree: str, reads: bytes) -> Reply:
        if self._root.published_tree() != tree:
            return _CONFLICT
        try:
            write_reads(self._root.trees, reads)
        except OSError as error:
            return _refusal(http.client.INSUFFICIENT_STORAGE, f"It cannot be kept on the volume: {error}")
        return http.client.OK, b"{}"

    def _pass_on(self, body: bytes) -> Reply:
        try:
            said = json.loads(body)
            tree, kept, report = said["tree"], said["keep"], json.dumps(said["report"])
            is_valid = isinstance(said["report"], dict) and isinstance(kept, str) and bool(_TREE.fullmatch(tree))
            is_valid = is_valid and len(report) <= MAX_REPORT_BYTES and len(kept.encode()) <= MAX_KEPT_BYTES
        except (ValueError, TypeError, KeyError, RecursionError):
            is_valid = False
        if not is_valid:
            return _refusal(http.client.BAD_REQUEST, "This is not a report that the dag processor sends.")
        if self._root.published_tree() != tree:
            return _CONFLICT
        try:
            self._keep(kept)
            return http.client.OK, self._server.send_report(report)
        except DagferryError as error:
            self._server.close()
            return _refusal(http.client.BAD_GATEWAY, error.message, error.code)

    def _keep(self, kept: str) -> None:
        with contextlib.suppress(OSError):  # then a restart of the dag processor takes old errors for older ones
            if kept != read_kept(self._root.path):
                write_kept(self._root.path, kept)


def max_bytes(path: str) -> int | None:
    """Return how much may be sent to ``path``; ``None`` if nothing is taken there."""
    if path == REPORTS_PATH:
        return MAX_BODY_BYTES
    return MAX_READS_BYTES if path.startswith(READS_PATH) else None


def readable(length: str | None, most: int) -> int | None:
    """Return the length of a body by its header; ``None`` if it is not given, or is more than ``most``."""
    is_number = bool(length and length.isdecimal() and len(length) <= len(str(most)))
    return int(length) if length and is_number and int(length) <= most else None


def pieces(handler: "BaseHTTPRequestHandler", length: int) -> Iterator[bytes]:
    """Yield the body that ``handler`` receives, piece by piece, at most ``length`` bytes.

    Raises ``TimeoutError`` after ``BODY_SECONDS``, however slowly it comes.
    """
    ends_at = time.monotonic() + BODY_SECONDS
    while length:
        left = ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        handler.connection.settimeout(left)
        piece = handler.rfile.read1(min(length, PIECE_BYTES))
        if not piece:
            return
        length -= len(piece)
        yield piece


def _refusal(status: int, message: str, code: str = "report_refused") -> Reply:
    return status, json.dumps({"code": code, "message": message}).encode()


_CONFLICT = _refusal(http.client.CONFLICT, "This is not about the tree that is live on this volume.")
