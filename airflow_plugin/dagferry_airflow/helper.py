"""Beside a sidecar: a process that tells the sidecar what the dag processor has parsed.

It is forked from the dag processor when that starts, before it does anything else: so it shares the memory of what is
imported, has a database connection of its own, and neither blocks the loop of the dag processor nor holds a lock while
that forks a parse, as a thread might. It ends when the dag processor ends.

Airflow has no token for the server, and only reads the volume. The sidecar of the pod passes reports on, and keeps what
parses read (``dagferry_follow.beside``).
"""

import gc
import http.client
import json
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from typing import Any

from dagferry_airflow import options, reads
from dagferry_airflow.reads import Spool
from dagferry_airflow.reporter import Identity, NotNow, Reporter
from dagferry_airflow.reports import Parsed, Sender, body
from dagferry_core.errors import DagferryError
from dagferry_follow.beside import READS_PATH, REPORTS_PATH, read_address, read_kept
from dagferry_follow.errors import ServerRefused, ServerUnreachable

LOOK_SECONDS = 0.5
POST_SECONDS = 25.0
"""The sidecar waits for the server for less."""
MAX_ANSWER_BYTES = 64 * 1024
FAILED_SECONDS = 10.0
"""The pause after a failure of the database or the volume."""
TITLE = "airflow dag-processor -- dagferry reports"

log = logging.getLogger(__name__)

_started = {"pid": 0}


def start() -> None:
    """Start the helper if this process is a dag processor whose DAGs a sidecar publishes. Never raises."""
    # LocalExecutor of Airflow 2 runs tasks in children of the scheduler: they inherit that it was started.
    if _started["pid"] or not is_dag_processor():
        return
    _started["pid"] = os.getpid()
    try:
        if not options.report_parsed():
            return
        from dagferry_airflow.about import sidecars_folders  # noqa: PLC0415 - only where it is needed

        folders = sidecars_folders()
        if folders:
            spools = [reads.watch(root, is_parse) for root in folders]
            _fork(spools)
    except Exception:
        log.exception("What Airflow has parsed will not be reported to Dagferry")


def note_dag_processor() -> None:
    """Note that this process is the dag processor: its children parse DAG files."""
    _started["pid"] = _started["pid"] or os.getpid()


def is_dag_processor() -> bool:
    """Return whether this process runs the loop that parses DAG files, or starts the one that does."""
    command = sys.argv[1:2]
    if command == ["dag-processor"]:
        return True
    if command != ["scheduler"]:
        return False
    from airflow.configuration import conf  # noqa: PLC0415 - tests do without Airflow

    from dagferry_airflow.recorded import MAJOR, SINCE_BUNDLES  # noqa: PLC0415

    return MAJOR < SINCE_BUNDLES and not conf.getboolean("scheduler", "standalone_dag_processor", fallback=False)


def is_parse() -> bool:
    """Return whether this process parses a DAG file: a child of the dag processor, by its name in Airflow 2."""
    if multiprocessing.current_process().name.startswith("DagFileProcessor"):
        return True
    return os.getppid() == _started["pid"] and sys.argv[1:2] == ["dag-processor"] and _is_airflow_3()


def _is_airflow_3() -> bool:
    return "airflow.sdk" in sys.modules


def _fork(spools: list[Spool]) -> None:
    parent = os.getpid()
    helper = os.fork()
    for spool in spools:
        spool.hand_over(helper or os.getpid())
    if helper:
        return
    try:
        _run(parent, spools)
    except BaseException:
        log.exception("What Airflow has parsed is not reported to Dagferry any more")
    finally:
        os._exit(0)  # nothing of the dag processor's own may run at the end of this process


def _run(parent: int, spools: list[Spool]) -> None:
    reads.ignore_this_process()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    gc.freeze()  # collecting what is shared would copy it
    _set_title()
    from airflow import settings  # noqa: PLC0415 - tests do without Airflow
    from dagferry_airflow.about import sidecars_folders  # noqa: PLC0415

    inherited = settings.engine, settings.Session  # kept, so that no connection of the dag processor is closed
    settings.configure_orm(disable_connection_pool=True)
    folders = sidecars_folders()
    sites = [Site(spool, folders[spool.root]) for spool in spools if spool.root in folders]
    while os.getppid() == parent:
        for site in sites:
            site.step()
        time.sleep(LOOK_SECONDS)
    for site in sites:
        site.leave()
    for spool in spools:
        spool.remove()
    del inherited


def _set_title() -> None:
    try:
        from setproctitle import setproctitle  # noqa: PLC0415 - Airflow has it

        setproctitle(TITLE)
    except ImportError:
        pass


class Site:
    """One volume of a sidecar, and what is reported about it."""

    def __init__(self, spool: Spool, folders: list) -> None:  # type: ignore[type-arg]
        from dagferry_airflow.about import this_airflow  # noqa: PLC0415 - tests do without Airflow
        from dagferry_airflow.known_errors import KnownErrors  # noqa: PLC0415
        from dagferry_airflow.listing import of_airflow  # noqa: PLC0415
        from dagferry_airflow.noting import Noting  # noqa: PLC0415
        from dagferry_airflow.observer import Observer  # noqa: PLC0415
        from dagferry_airflow.recorded import Heartbeats, Recorded, hostname  # noqa: PLC0415

        self._root = spool.root
        self._noting = Noting(self._root, self._send_reads)
        recorded = Recorded(folders, Heartbeats(hostname()).collected)
        self._observer = Observer(
            self._root,
            sorted({folder.below for folder in folders}),
            spool.collect,
            recorded.read,
            listing=of_airflow(),
            airflow=this_airflow(),
            known=KnownErrors(read_kept(self._root)),
            on_parse=self._noting.note,
        )
        self._reporter = Reporter(self._post)
        self._who: Sender | None = None
        self._not_before = 0.0
        self._said = ""

    def step(self) -> None:
        """Look, and report what is new. Never raises."""
        if time.monotonic() < self._not_before:
            return
        try:
            parsed = self._observer.look()
            self._noting.flush()
            if parsed and parsed.sequence:
                self._reporter.report(self._body(parsed))
        except Exception as error:  # noqa: BLE001 - the database, the volume
            if os.getppid() != _started["pid"]:
                return  # the dag processor has ended, and removed what parses noted
            self._not_before = time.monotonic() + FAILED_SECONDS
            if str(error) != self._said:
                self._said = str(error)
                log.warning("It is not known at the moment what Airflow has parsed of %s: %s", self._root, error)

    def leave(self) -> None:
        """Tell the server that this dag processor has ended."""
        if self._who and self._observer.live:
            self._reporter.leave(body(self._who, self._observer.live.log_id, None, leaving=True))

    def _body(self, parsed: Parsed) -> dict[str, Any]:
        if self._who is None:
            instance = socket.gethostname()
            self._identity = Identity(self._root, instance)
            self._who = Sender(instance, self._identity.id, "dag-processor")
        log_id = self._observer.live.log_id if self._observer.live else ""
        return body(self._who, log_id, parsed)

    def _post(self, report: dict[str, Any]) -> bytes:
        said = {"tree": self._observer.tree, "keep": self._observer.known.keep(), "report": report}
        return self._send(REPORTS_PATH, json.dumps(said).encode())

    def _send_reads(self, encoded: bytes) -> None:
        try:
            self._send(f"{READS_PATH}{self._observer.tree}", encoded)
        except NotNow as error:
            raise ServerRefused("Another tree went live meanwhile.") from error

    def _send(self, path: str, body: bytes) -> bytes:
        address = read_address(self._root)
        if address is None:
            raise ServerUnreachable(
                f"The sidecar of {self._root} has not noted in the volume where it listens.",
                "Use a sidecar of the same release, in the same pod as the dag processor.",
            )
        return post(address, path, body)


def post(address: tuple[str, int], path: str, body: bytes) -> bytes:
    """Send ``body`` to ``path`` of the sidecar at ``address`` and return the answer.

    Raises ``NotNow`` if another tree went live meanwhile, or ``DagferryError``.
    """
    ends_at = time.monotonic() + POST_SECONDS
    connection = http.client.HTTPConnection(*address, timeout=POST_SECONDS)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = _read(response, ends_at)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(address, error) from error
    finally:
        connection.close()
    if response.status == http.client.OK:
        return answer
    if response.status == http.client.CONFLICT:
        raise NotNow
    raise _refused(address, response.status, answer)


def _read(response: http.client.HTTPResponse, ends_at: float) -> bytes:
    """Return the body of an answer; ``TimeoutError`` if it goes on after ``ends_at``, however slowly it comes."""
    answer = b""
    while len(answer) < MAX_ANSWER_BYTES and (piece := response.read1(MAX_ANSWER_BYTES - len(answer))):
        answer += piece
        if time.monotonic() > ends_at:
            raise TimeoutError("it takes too long")
    return answer


def _unreachable(address: tuple[str, int], error: Exception) -> DagferryError:
    return ServerUnreachable(
        f"The sidecar at {address[0]}:{address[1]} does not answer: {error}.",
        "It must run in the same pod as the dag processor.",
    )


def _refused(address: tuple[str, int], status: int, answer: bytes) -> DagferryError:
    try:
        text = str(json.loads(answer)["message"])[:300]
    except (ValueError, TypeError, KeyError, RecursionError):
        text = "it takes no reports"
    return ServerRefused(f"The sidecar at {address[0]}:{address[1]} answered {status}: {text}")
