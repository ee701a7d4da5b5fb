"""Joins what parses have read with what Airflow recorded, into what is reported of the live version.

One observer is for one root: a sidecar's volume, or that of a DAG bundle. ``look`` is called about once a second, or
whenever a bundle is refreshed; the tables are read only if a parse has ended since, or one is still to be recorded.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dagferry_airflow.known_errors import KnownErrors
from dagferry_airflow.listing import Listing
from dagferry_airflow.parses import Parses, Rows
from dagferry_airflow.reads import Parse
from dagferry_airflow.reports import Error, Parsed
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.volume.records import Record, read_record
from dagferry_follow.volume.root import CURRENT, TREES
from dagferry_follow.volume.tree import SECOND_NS

SWAP_SECONDS = 5.0
"""The most time there can be between the mtimes of a swap and the swap."""
TABLES_SECONDS = 30.0
"""The tables are read again after so long although nothing happened."""
WAITING_PART = 0.2
"""While a parse is not recorded yet they are read after this part of the wait so far: after a crash it never is."""

MAX_COLLECTED = 10_000
"""So many parses are remembered while the volume cannot be read."""

log = logging.getLogger(__name__)


class Airflow(NamedTuple):
    """What is reported about this Airflow itself."""

    airflow: str
    python: str
    providers: dict[str, str]
    hindrances: list[str]


class Observer:
    """Observes the files below ``root``, of which Airflow takes DAGs from the folders ``below`` (``""``: from all).

    ``collect`` returns the parses that have ended since its last call, ``read`` what the tables say; ``on_parse`` gets
    each parse.
    """

    def __init__(
        self,
        root: str,
        below: Sequence[str],
        collect: Callable[[], list[Parse]],
        read: Callable[[], Rows],
        *,
        listing: Listing,
        airflow: Airflow,
        known: KnownErrors,
        on_parse: Callable[[Parse], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.known = known
        self.live: DeployRef | None = None
        """The deploy that is live, by its record."""
        self.tree = ""
        """Its tree, as ``<unique>/<version>``."""
        self._root = root
        self._below = below
        self._collect = collect
        self._read = read
        self._listing = listing
        self._airflow = airflow
        self._on_parse = on_parse
        self._clock = clock
        self._collected: list[Parse] = []  # those that ended while the volume could not be read are not lost
        self._parses = Parses(listing.has_dag_ids)
        self._live_since = 0.0
        self._touched_at_first: frozenset[str] = frozenset()
        self._rows = Rows({}, {}, 0.0)
        self._rows_at = -TABLES_SECONDS
        self._is_stale = True
        self._stale_at = 0.0
        self._errors: list[Error] = []

    def look(self) -> Parsed | None:
        """Return what is parsed of the live version now; ``None`` if nothing is live.

        Raises ``OSError`` if the volume cannot be read, and whatever the database does.
        """
        self._collected = [*self._collected, *self._collect()][-MAX_COLLECTED:]
        if not self._look_at_tree():
            return None
        parses, self._collected = self._collected, []
        for parse in parses:
            self._parses.ended(parse)
            self._is_stale = True
            self._on_parse(parse)
        now = self._clock()
        if self._is_stale:
            self._stale_at = now
        pause = TABLES_SECONDS
        if self._parses.waiting:
            pause = min(pause, (now - self._stale_at) * WAITING_PART)
        if self._is_stale or not 0 <= now - self._rows_at < pause:
            self._rows, self._rows_at, self._is_stale = self._read(), now, False
            self._parses.judge(self._rows, now)
            self._judge_errors()
        return self._parsed(now)

    def _look_at_tree(self) -> bool:
        try:
            target = os.readlink(f"{self._root}/{CURRENT}")
        except FileNotFoundError:
            return False
        tree = target.removeprefix(f"{TREES}/")
        folder = f"{self._root}/{target}"
        mtimes = self._listing.mtimes(folder, self._below)
        if tree != self.tree:
            record = read_record(os.path.dirname(folder))
            # Of the link: it is made for each swap.
            self._live_since = os.lstat(f"{self._root}/{CURRENT}").st_mtime
            if not self.tree:
                self._touched_at_first = _touched(record, mtimes, self._live_since)
            self.tree, self.live, self._is_stale = tree, record.deploy, True
            self.known.forget_missing(mtimes.__contains__)
        self._parses.look(tree, mtimes)
        return True

    def _is_touched(self, path: str) -> bool:
        return self._parses.is_touched(path) or (self._parses.is_first and path in self._touched_at_first)

    def _judge_errors(self) -> None:
        if self.live:
            version = f"{self.live.log_id} {self.live.sequence} {self.live.digest}"
            traces = {path: trace for path, (_, trace) in self._rows.errors.items()}
            self._errors = self.known.judge(version, traces, self._is_touched, self._parses.is_recorded)

    def _parsed(self, now: float) -> Parsed | None:
        if not self.live:
            return None
        complete_at = self._parses.complete_at
        files = self._parses.files
        return Parsed(
            self.live.version,
            self.live.sequence,
            self.live.digest,
            len(files),
            self._parses.recorded,
            self._parses.mixed,
            sum(len(dags) for path, dags in self._rows.dags.items() if path in files),
            None if complete_at is None else now - max(complete_at, self._live_since),
            self._errors,
            self._parses.seconds,
            self._airflow.hindrances,
            self._airflow.airflow,
            self._airflow.python,
            self._airflow.providers,
        )


def _touched(record: Record, mtimes: dict[str, int], swapped: float) -> frozenset[str]:
    """Return the files that the swap to a tree touched, as far as the tree itself tells.

    The first tree on a volume replaced nothing there, and all its files are as old as the swap: of a first deploy they
    are new, otherwise it is not known what an earlier volume had.
    """
    if record.serial <= 1:
        return frozenset(mtimes) if record.sequence == 1 else frozenset()
    return frozenset(path for path, mtime in mtimes.items() if mtime / SECOND_NS >= swapped - SWAP_SECONDS)
