"""Reports what the dag processor has parsed of a DAG bundle, from the calls of the bundle's ``refresh``.

Without a thread, because the dag processor forks. ``initialize`` of the bundle calls ``of`` before any of its files is
parsed; from then on each ``refresh`` looks at what ended since the last, and sends a report if something is new.
"""

import atexit
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence

from dagferry_airflow import helper, options, reads
from dagferry_airflow.about import this_airflow
from dagferry_airflow.follower import SHORT_TIMEOUTS
from dagferry_airflow.known_errors import MAX_KEPT_BYTES, KnownErrors
from dagferry_airflow.listing import of_airflow
from dagferry_airflow.noting import Noting
from dagferry_airflow.observer import Observer
from dagferry_airflow.recorded import Folder, Recorded, Refreshes
from dagferry_airflow.reporter import Identity, Reporter
from dagferry_airflow.reports import Parsed, Sender, body
from dagferry_follow.remote.connection import Timeouts
from dagferry_follow.remote.server import Server
from dagferry_follow.volume.root import CURRENT

FAILED_SECONDS = 10.0

log = logging.getLogger(__name__)

Connect = Callable[[Timeouts | None], Server]

_sites: dict[str, "BundleReports | None"] = {}


def of(name: str, root: str, refresh_seconds: float, connect: Connect) -> "BundleReports | None":
    """Return the reports of the bundle ``name`` with the volume ``root``: one in a process, whoever asks.

    ``None`` where nothing is reported: in other processes than the dag processor, and where that is switched off.
    ``refresh_seconds`` is the bundle's interval, ``connect`` makes a connection with these timeouts. Never raises.
    """
    if root not in _sites:
        _sites[root] = None
        try:
            if helper.is_dag_processor() and options.report_parsed():
                _sites[root] = BundleReports(name, root, refresh_seconds, connect)
        except Exception:
            log.exception("What Airflow has parsed of bundle %s will not be reported", name)
    return _sites[root]


class BundleReports:
    """The reports of one bundle. Raises ``OSError`` if there is no folder for what parses note."""

    def __init__(self, name: str, root: str, refresh_seconds: float, connect: Connect) -> None:
        self._name = name
        self._root = root
        self._connect = connect
        self._owner = os.getpid()
        self._refreshes = Refreshes()
        self._kept = _read(self._kept_path)
        recorded = Recorded([Folder(f"{root}/{CURRENT}", "", name)], self._refreshes.collected)
        self._noting = Noting(root)
        helper.note_dag_processor()
        self._observer = Observer(
            root,
            [""],
            reads.watch(root, helper.is_parse).collect,
            recorded.read,
            listing=of_airflow(),
            airflow=this_airflow(refresh_seconds),
            known=KnownErrors(self._kept),
            on_parse=self._noting.note,
        )
        self._reporter = Reporter(self._post)
        self._who: Sender | None = None
        self._not_before = 0.0
        self._said = ""
        atexit.register(self._leave)

    @property
    def _kept_path(self) -> str:
        return f"{self._root}.parsed.json"

    def step(self, versions: Sequence[str] = (), leases: Sequence[str] | None = None) -> None:
        """Look, and report what is new, with the ``versions`` on the disk and those that runs need. Never raises."""
        self._refreshes.note(time.time())
        if time.monotonic() < self._not_before or os.getpid() != self._owner:
            return
        try:
            parsed = self._observer.look()
            self._noting.flush()
            if parsed and parsed.sequence and self._observer.live:
                self._reporter.report(self._body(parsed, versions, leases))
                self._keep()
        except Exception as error:  # noqa: BLE001 - the database, the volume
            self._not_before = time.monotonic() + FAILED_SECONDS
            if str(error) != self._said:
                self._said = str(error)
                log.warning("It is not known at the moment what Airflow has parsed of %s: %s", self._name, error)

    def _body(self, parsed: Parsed, versions: Sequence[str], leases: Sequence[str] | None) -> bytes:
        if self._who is None:
            instance = socket.gethostname()
            self._identity = Identity(self._root, instance)
            self._who = Sender(instance, self._identity.id, "bundle")
        log_id = self._observer.live.log_id if self._observer.live else ""
        return body(self._who, log_id, parsed, versions=versions, leases=leases)

    def _post(self, data: bytes) -> bytes:
        server = self._connect(SHORT_TIMEOUTS)
        try:
            return server.report(data)
        finally:
            server.close()

    def _keep(self) -> None:
        kept = self._observer.known.keep()
        if kept != self._kept:
            self._kept = kept
            new = f"{self._kept_path}.new"
            with contextlib.suppress(OSError):  # then a restart takes new errors for older ones
                with open(new, "w", encoding="utf-8") as file:
                    file.write(kept)
                os.replace(new, self._kept_path)

    def _leave(self) -> None:
        if os.getpid() == self._owner and self._who and self._observer.live:
            with contextlib.suppress(Exception):
                self._reporter.leave(body(self._who, self._observer.live.log_id, None, leaving=True))


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read(MAX_KEPT_BYTES)
    return ""
