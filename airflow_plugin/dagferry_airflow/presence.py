"""What the DAG bundle in a dag processor tells the server of itself: that it is there, and which versions it needs.

It is a pod of the fleet, as a sidecar is: its requests for the newest deploy name it. Beside that it reports which
versions are on its disk, and which ones Airflow needs: the server keeps these (leases). Only the dag processor does so:
it alone refreshes a bundle. Tasks and the triggerer end with what they do, so nobody may wait for them.
"""

import atexit
import contextlib
import json
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dagferry_airflow.reports import substance
from dagferry_core.errors import DagferryError
from dagferry_core.names import version_sequence
from dagferry_core.protocol import MAX_REPORTED_VERSIONS, REPORT_SECONDS
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import ServerRefused
from dagferry_follow.remote.connection import Timeouts
from dagferry_follow.remote.server import Report, Server
from dagferry_follow.small_files import read_bytes
from dagferry_follow.volume.root import TREES

COMPONENT = "bundle"
ASK_SECONDS = 30.0
"""How often Airflow's database is asked which versions it needs; at once when another version is live."""
MAX_PAUSE_SECONDS = 300.0
"""The longest of the growing pauses after a report that failed."""
LEAVE_TIMEOUTS = Timeouts(1.0, 2.0, 2.0)
"""For the last requests, when the dag processor ends."""
ID_BYTES = 16
_ID = re.compile("[0-9a-f]{32}")
_NOT_KNOWN = {404, 405}

log = logging.getLogger(__name__)


class Identity(NamedTuple):
    """Who reports: the name of the pod, and the random id of its copy of the bundle."""

    instance: str
    id: str


def instance_name(setting: str | None, environment: Mapping[str, str]) -> str:
    """Return the name of this pod: ``[dagferry] instance`` of Airflow, the sidecar's variable, or the host's name."""
    return setting or environment.get("DAGFERRY_INSTANCE") or socket.gethostname()


def kept_id(path: str) -> str:
    """Return the random id in the file ``path``, which is made if it is missing.

    Where it cannot be kept, it is another one at the next start.
    """
    with contextlib.suppress(OSError):
        if found := _read_id(path):
            return found
        made = os.urandom(ID_BYTES).hex()
        temporary = f"{path}-{made}"
        with open(temporary, "x", encoding="ascii") as file:
            file.write(made)
        try:
            if os.path.exists(path):
                os.rename(temporary, path)  # it is damaged
            else:
                os.link(temporary, path)  # of two processes that start now, one is first
        except OSError:
            if found := _read_id(path):
                return found
            raise
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        return made
    log.warning("The id of this bundle cannot be kept in %s.", path)
    return os.urandom(ID_BYTES).hex()


def _read_id(path: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        text = read_bytes(path, 2 * ID_BYTES + 1).decode("ascii", "replace")
        return text if _ID.fullmatch(text) else ""
    return ""


def versions_on_disk(folder: str) -> list[str]:
    """Return the versions in ``folder``, a bundle's, that are live, were live, or have a folder of their own.

    The newest first, as many as a report may have.
    """
    found = set()
    with contextlib.suppress(OSError):
        found.update(os.listdir(f"{folder}/versions"))
    with contextlib.suppress(OSError):
        for unique in os.listdir(f"{folder}/live/{TREES}"):
            with contextlib.suppress(OSError):  # a file, or a tree that is being removed
                found.update(os.listdir(f"{folder}/live/{TREES}/{unique}"))
    return newest_versions(found)


def newest_versions(names: Sequence[str] | set[str]) -> list[str]:
    """Return those of the names that are versions, newest first, as many as a report may have."""
    numbers = {}
    for name in names:
        with contextlib.suppress(ValueError):
            numbers[name] = version_sequence(name)
    return sorted(numbers, key=lambda name: numbers[name], reverse=True)[:MAX_REPORTED_VERSIONS]


class Presence:
    """The reports of one bundle, whose files are in ``folder``, by ``identity``.

    ``connect`` makes a connection; ``needed`` returns the versions that Airflow needs, newest first, and raises if that
    is not known now. ``parsed`` returns what Airflow has parsed of a deploy, ``None`` if that is not known, and never
    raises. ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self,
        folder: str,
        identity: Identity,
        connect: Callable[[Timeouts], Server],
        needed: Callable[[], list[str]],
        parsed: Callable[[DeployRef], dict[str, Any] | None] = lambda _: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity
        self._folder = folder
        self._connect = connect
        self._needed = needed
        self._parsed = parsed
        self._clock = clock
        self._pid = os.getpid()
        self._live: DeployRef | None = None
        self._sent = ""
        self._due = self._ask_at = clock()
        self._pause_until = clock()
        self._failures = 0
        self._leases: list[str] | None = None
        self._said: set[str] = set()
        atexit.register(self.leave)

    @property
    def is_here(self) -> bool:
        """Whether this process is the one that reports, and not a child of it."""
        return os.getpid() == self._pid

    def report(self, live: DeployRef | None, timeouts: Timeouts) -> None:
        """Send a report if there is something new, or it is time. Never raises ``DagferryError``: failures are logged.

        ``live`` is the deploy that is live; ``None``: there is nothing to say yet.
        """
        if not live or not live.sequence or not self.is_here:
            return
        now = self._clock()
        if now >= self._ask_at or live != self._live:
            self._leases, self._ask_at = self._versions_needed(live), now + ASK_SECONDS
        self._live = live
        body = self._body(live, leaving=False)
        said = substance(body)
        if now < self._pause_until or (now < self._due and said == self._sent):
            return
        try:
            answer = self._send(body, timeouts)
        except DagferryError as error:
            self._failures += 1
            unknown = isinstance(error, ServerRefused) and error.answered in _NOT_KNOWN
            pause = MAX_PAUSE_SECONDS if unknown else REPORT_SECONDS * 2.0 ** min(self._failures - 1, 4)
            self._pause_until = self._clock() + min(pause, MAX_PAUSE_SECONDS)
            self._say(
                "This server takes no reports of versions that DAG runs need: it is an older one." if unknown
                else f"A report of the versions that DAG runs need failed: {error.message}"
            )  # fmt: skip
            return
        self._failures, self._sent, self._due = 0, said, self._clock() + REPORT_SECONDS
        if ignored := answer.get("ignored"):
            self._say(str(ignored)[:300])

    def leave(self) -> None:
        """Tell the server that this dag processor ends; its leases stay for a day, because its runs go on."""
        atexit.unregister(self.leave)
        if not self.is_here:
            return
        live = self._live
        with contextlib.suppress(DagferryError, OSError), contextlib.closing(self._connect(LEAVE_TIMEOUTS)) as server:
            server.deregister(Report(live.version if live else "", None, live.log_id if live else ""))
            if live and self._sent:
                server.send_report(json.dumps(self._body(live, leaving=True)))

    def _send(self, body: dict[str, Any], timeouts: Timeouts) -> dict[str, Any]:
        with contextlib.closing(self._connect(timeouts)) as server:
            data = server.send_report(json.dumps(body))
        with contextlib.suppress(ValueError, RecursionError):
            answer = json.loads(data)
            return answer if isinstance(answer, dict) else {}
        return {}

    def _body(self, live: DeployRef, *, leaving: bool) -> dict[str, Any]:
        return {
            "instance": self.identity.instance,
            "id": self.identity.id,
            "component": COMPONENT,
            "log_id": live.log_id,
            "leaving": leaving,
            "versions": versions_on_disk(self._folder),
            "leases": None if self._leases is None else {"versions": self._leases},
            "parsed": None if leaving else self._parsed(live),
        }

    def _versions_needed(self, live: DeployRef) -> list[str] | None:
        """Return the versions to keep; the live one too: it has its lease before the first run on it is created."""
        try:
            needed = self._needed()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the database, DAGs go on
            self._say(f"Which versions DAG runs need is not known: {type(error).__name__}: {str(error)[:200]}")
            return self._leases and newest_versions({*self._leases, live.version})
        return newest_versions({*needed, live.version})

    def _say(self, text: str) -> None:
        """Log a warning once."""
        if text not in self._said and len(self._said) < 100:  # noqa: PLR2004 - of texts that are all different
            self._said.add(text)
            log.warning("%s", text)
