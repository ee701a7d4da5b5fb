"""Which DAG files of the live version Airflow has read, and recorded. Pure: it judges the events it is given.

A file counts once it was parsed, at the live tree or at any since it was last touched, and Airflow recorded that parse:

- its DAGs, or its import error, in the tables are not older than the parse;
- or, of a file that has neither, the parse came to its end without an exception, and the dag processor has collected
  all parses that had ended by then.

A parse that saw two trees does not count. A file counts until another tree touches it: trees give a file a new mtime if
it changed, or anything that it depends on. In doubt a file does not count; it does after its next parse.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from dagferry_airflow.reads import Parse

MAX_WAITING = 4
"""So many of the newest parses of a file may still become recorded."""
MAX_TREES = 1000
"""So many trees are remembered; parses at older ones do not count."""


class Rows(NamedTuple):
    """What Airflow's tables say about the files of a deployment, by their paths. Times: seconds since the epoch."""

    dags: Mapping[str, Collection[float]]
    """When each active DAG of a file was last parsed."""
    errors: Mapping[str, tuple[float, str]]
    """When the import error of a file was recorded, and its trace."""
    collected: float
    """Every parse that had ended by then has been collected by the dag processor."""
    written_by: str = "dag-processor"
    """``parse``: the process of a parse writes its result itself, before its end, as in Airflow 2."""


class _File:
    """What is known of one DAG file of the live tree."""

    __slots__ = ("is_mixed", "mtime", "recorded_at", "seconds", "touched", "waiting", "without_dags")

    def __init__(self, mtime: int, touched: int) -> None:
        self.mtime = mtime
        self.seconds: float | None = None
        self.is_mixed = False
        self.touch(touched)

    def touch(self, tree: int) -> None:
        """Note that it, or what it depends on, changed in the tree with this number."""
        self.touched = tree
        self.recorded_at: float | None = None
        self.waiting: deque[Parse] = deque(maxlen=MAX_WAITING)
        self.without_dags = 0


class Parses:
    """The state of each DAG file of one deployment, as one dag processor parses it.

    ``has_dag_ids`` returns whether there are DAG ids in the source of a file.
    """

    def __init__(self, has_dag_ids: Callable[[str], bool]) -> None:
        self._has_dag_ids = has_dag_ids
        self._numbers: dict[str, int] = {}
        self._live = 0
        self._files: dict[str, _File] = {}
        self._late: list[Parse] = []

    def look(self, tree: str, mtimes: Mapping[str, int]) -> None:
        """Note the live tree, ``<unique>/<version>``, and the mtimes of its DAG files, in nanoseconds."""
        is_new = tree not in self._numbers
        if is_new:
            self._live += 1
            self._numbers[tree] = self._live
            for old in list(self._numbers)[:-MAX_TREES]:
                del self._numbers[old]
        elif self._numbers[tree] != self._live:
            # An older tree again, as after a link that was lost: nothing parsed before is known to be of it.
            self._live += 1
            self._numbers[tree] = self._live
            self._files.clear()
        for path in self._files.keys() - mtimes.keys():
            del self._files[path]
        for path, mtime in mtimes.items():
            known = self._files.get(path)
            if known is None:
                self._files[path] = _File(mtime, self._live)
            elif known.mtime != mtime:
                known.mtime = mtime
                if is_new:  # else it was only touched again, which changes nothing
                    known.touch(self._live)
        # Noted while its tree or its file was not known yet.
        late, self._late = self._late, []
        for parse in late:
            self._add(parse)

    def ended(self, parse: Parse) -> None:
        """Note a parse that has ended."""
        if self._knows(parse):
            self._add(parse)
        else:
            self._late = [*self._late, parse][-MAX_TREES:]

    def _knows(self, parse: Parse) -> bool:
        return parse.file in self._files and parse.trees <= self._numbers.keys()

    def _add(self, parse: Parse) -> None:
        file = self._files.get(parse.file)
        if file is None:
            return  # the live tree does not have it
        if parse.ended is not None:
            file.seconds = max(parse.ended - parse.started, 0.0)
        file.is_mixed = parse.is_mixed
        if not parse.is_mixed and all(self._numbers.get(tree, 0) >= file.touched for tree in parse.trees):
            file.waiting.append(parse)

    def judge(self, rows: Rows, now: float) -> None:
        """Note which parses are recorded by what Airflow's tables say at ``now``."""
        for path, file in self._files.items():
            for parse in list(file.waiting):
                if file.recorded_at is None:
                    file.recorded_at = self._recorded_at(path, file, parse, rows, now)
                    continue
                file.waiting.clear()
                break

    def _recorded_at(self, path: str, file: _File, parse: Parse, rows: Rows, now: float) -> float | None:
        dags = rows.dags.get(path, ())
        error = rows.errors.get(path)
        since = parse.started
        if parse.ended is not None and rows.written_by == "dag-processor":
            since = parse.ended  # nothing is recorded before the end
        moments = [moment for moment in (*dags, *([error[0]] if error else ())) if moment >= since]
        if moments:
            return float(min(*moments, now))
        if dags or error or not parse.well or parse.ended is None or parse.ended > rows.collected:
            # Older rows: the parse is not recorded yet, or the file lost its DAGs, and Airflow deactivates them soon.
            return None
        file.waiting.remove(parse)
        file.without_dags += 1
        # A source that names DAGs has to show twice that there are no DAGs: Airflow may have failed to record them.
        if file.touched > 1 and file.without_dags == 1 and self._has_dag_ids(path):
            return None
        return min(parse.ended, now)

    # --- what is known -----------------------------------------------------------------------------------------------

    @property
    def files(self) -> Collection[str]:
        """The DAG files of the live tree."""
        return self._files.keys()

    def is_recorded(self, path: str) -> bool:
        """Return whether Airflow has read a file as it is, and recorded that."""
        file = self._files.get(path)
        return file is not None and file.recorded_at is not None

    def is_touched(self, path: str) -> bool:
        """Return whether the live tree touched a file; ``is_first``: of the first tree that is not known here."""
        file = self._files.get(path)
        return file is not None and file.touched == self._live and not self.is_first

    @property
    def is_first(self) -> bool:
        """Whether no other tree was live before."""
        return self._live <= 1

    @property
    def recorded(self) -> int:
        """How many files count."""
        return sum(file.recorded_at is not None for file in self._files.values())

    @property
    def mixed(self) -> int:
        """The last parse of how many files, that do not count, saw two versions."""
        return sum(file.is_mixed and file.recorded_at is None for file in self._files.values())

    @property
    def waiting(self) -> bool:
        """Whether some parse has ended that is not known to be recorded."""
        return any(file.waiting for file in self._files.values() if file.recorded_at is None)

    @property
    def complete_at(self) -> float | None:
        """When the last file was recorded, in seconds since the epoch; ``None`` if one is not, 0 without files."""
        moments = [file.recorded_at for file in self._files.values()]
        return None if None in moments else max((moment for moment in moments if moment is not None), default=0.0)

    @property
    def seconds(self) -> dict[str, float]:
        """How long the last parse of each file took."""
        return {path: file.seconds for path, file in self._files.items() if file.seconds is not None}
