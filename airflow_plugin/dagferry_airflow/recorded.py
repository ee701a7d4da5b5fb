"""What Airflow's own tables say of DAG files: when each was last recorded, and its import error. Airflow 2.10 to 3.x.

Only columns are read, over a connection of its own: neither the session of Airflow nor its transaction is touched.
"""

import datetime as dt
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from airflow.models.dag import DagModel
from airflow.models.errors import ParseImportError
from sqlalchemy import select

import airflow
from airflow import settings
from dagferry_airflow.parses import Rows

MAJOR = int(airflow.__version__.partition(".")[0])
SINCE_BUNDLES = 3
LOOPS = 2
"""After so many loops of the dag processor, each parse that had ended before them has been collected."""
MAX_TRACE_CHARACTERS = 64 * 1024
ALIVE_SECONDS = 60.0


def hostname() -> str:
    """Return the name of this host as Airflow writes it into its table of jobs."""
    from airflow.utils.net import get_hostname  # noqa: PLC0415 - it may call what the settings name

    return str(get_hostname())


class Folder(NamedTuple):
    """A folder that Airflow takes DAG files from: ``path`` as Airflow knows it, ``below`` the root's ``current``.

    ``below`` is ``""`` if that is the same; ``bundle`` is the name of the DAG bundle, ``""`` in Airflow 2.
    """

    path: str
    below: str
    bundle: str

    def place(self, path: str) -> str:
        """Return the path from ``current`` of what Airflow calls ``path``; ``""`` if it is not below this folder."""
        if path.startswith("/"):
            if not path.startswith(f"{self.path}/"):
                return ""
            path = path[len(self.path) + 1 :]
        path = f"{self.below}/{path}" if self.below else path
        # A DAG in a zip has the path of the zip and its own behind it.
        archive, inside, _ = path.partition(".zip/")
        return f"{archive}.zip" if inside else path


class Recorded:
    """Reads the tables for these folders. ``collected`` returns until when all parses that ended are collected."""

    def __init__(self, folders: Sequence[Folder], collected: Callable[[], float]) -> None:
        self._folders = folders
        self._collected = collected

    def read(self) -> Rows:
        """Return what the tables say; raise whatever the database does."""
        collected = self._collected()  # before the tables: what is collected later does not count
        dags: dict[str, list[float]] = {}
        errors: dict[str, tuple[float, str]] = {}
        with settings.engine.connect() as connection:
            for folder in self._folders:
                for path, parsed in self._dags(connection, folder):
                    dags.setdefault(path, []).append(parsed)
                for path, at, trace in self._errors(connection, folder):
                    errors[path] = (at, trace)
        if MAJOR < SINCE_BUNDLES:
            return Rows(dags, errors, math.inf, "parse")
        return Rows(dags, errors, collected)

    @staticmethod
    def _dags(connection: Any, folder: Folder) -> Iterator[tuple[str, float]]:
        if MAJOR < SINCE_BUNDLES:
            query = select(DagModel.fileloc, DagModel.last_parsed_time).where(DagModel.is_active.is_(True))
        else:
            query = select(DagModel.relative_fileloc, DagModel.last_parsed_time).where(
                DagModel.is_stale.is_(False), DagModel.bundle_name == folder.bundle
            )
        for path, parsed in connection.execute(query):
            if path and parsed and (place := folder.place(path)):
                yield place, _seconds(parsed)

    @staticmethod
    def _errors(connection: Any, folder: Folder) -> Iterator[tuple[str, float, str]]:
        query = select(ParseImportError.filename, ParseImportError.timestamp, ParseImportError.stacktrace)
        if MAJOR >= SINCE_BUNDLES:
            query = query.where(ParseImportError.bundle_name == folder.bundle)
        for path, at, trace in connection.execute(query):
            if path and at and (place := folder.place(path)):
                yield place, _seconds(at), (trace or "")[-MAX_TRACE_CHARACTERS:]


class Heartbeats:
    """Until when all parses that ended are collected, by the heartbeats of the dag processors of this host.

    A dag processor writes one in its loop, every few seconds. What had ended before a loop began is collected in it or,
    if much was to be read, in one of the next.
    """

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        self._seen: list[dict[int, float]] = []

    def collected(self) -> float:
        """Return until when, in seconds since the epoch; 0 if that is not known."""
        from airflow.jobs.job import Job  # noqa: PLC0415 - of Airflow 2.5 on

        query = select(Job.id, Job.latest_heartbeat).where(
            Job.job_type == "DagProcessorJob", Job.hostname == self._hostname, Job.state == "running"
        )
        with settings.engine.connect() as connection:
            beats = {number: _seconds(at) for number, at in connection.execute(query) if at}
        newest = max(beats.values(), default=0.0)
        # One that was killed stays "running".
        beats = {number: at for number, at in beats.items() if at > newest - ALIVE_SECONDS}
        if beats and (not self._seen or all(at > self._seen[-1].get(number, 0.0) for number, at in beats.items())):
            self._seen = [*self._seen[-LOOPS:], beats]
        if len(self._seen) <= LOOPS:
            return 0.0
        return min(self._seen[0].values())


class Rounds:
    """The same by the rounds of the dag processor's own loop, of which each is noted."""

    def __init__(self) -> None:
        self._at: list[float] = []

    def note(self, now: float) -> None:
        """Note that a round has begun, at ``now`` in seconds since the epoch."""
        self._at = [*self._at[-LOOPS:], now]

    def collected(self) -> float:
        """Return until when, in seconds since the epoch; 0 if that is not known."""
        return self._at[0] if len(self._at) > LOOPS else 0.0


def _seconds(moment: dt.datetime) -> float:
    # Airflow's times are in UTC, with their time zone or, from some databases, without.
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)).timestamp()
