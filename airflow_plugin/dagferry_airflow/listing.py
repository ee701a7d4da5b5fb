"""Which files of a tree Airflow looks at, found by Airflow's own code, and their mtimes."""

import os
from collections.abc import Callable, Sequence

from dagferry_core.source.dag_ids import dag_ids
from dagferry_follow.small_files import read_bytes

MAX_KNOWN = 50_000
MAX_SOURCE_BYTES = 1024 * 1024

ListFiles = Callable[[str], list[str]]
"""Returns the absolute paths of all ``.py`` and ``.zip`` files that ``.airflowignore`` does not exclude."""
MightContainDag = Callable[[str], bool]


class Listing:
    """The DAG files of trees. The content of a file is looked at once, as long as its inode and mtime are the same."""

    def __init__(self, list_files: ListFiles, might_contain_dag: MightContainDag) -> None:
        self._list_files = list_files
        self._might_contain_dag = might_contain_dag
        self._known: dict[tuple[str, int, int, int], bool] = {}
        self._tree = ""
        self._files: list[str] = []

    def mtimes(self, tree: str, below: Sequence[str]) -> dict[str, int]:
        """Return the mtimes, in nanoseconds, of the DAG files in the tree at ``tree``, by their path there.

        ``below`` are the folders of the tree that Airflow takes DAGs from. Raises ``OSError`` if the tree is gone.
        """
        if tree != self._tree:
            os.stat(tree)
            self._files = sorted({path for folder in below for path in self._dag_files(tree, folder)})
            self._tree = tree
        return {path: os.stat(f"{tree}/{path}").st_mtime_ns for path in self._files}

    def has_dag_ids(self, path: str) -> bool:
        """Return whether there are DAG ids in the source of a file of the tree that was listed last."""
        try:
            return bool(dag_ids(read_bytes(f"{self._tree}/{path}", MAX_SOURCE_BYTES)))
        except OSError:
            return True

    def _dag_files(self, tree: str, folder: str) -> list[str]:
        top = f"{tree}/{folder}" if folder else tree
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        paths = [os.path.relpath(path, tree) for path in self._list_files(top)]
        return [path for path in paths if self._is_dag_file(tree, path)]

    def _is_dag_file(self, tree: str, path: str) -> bool:
        stat = os.stat(f"{tree}/{path}")
        key = (path, stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if key not in self._known:
            self._known[key] = self._might_contain_dag(f"{tree}/{path}")
        return self._known[key]


def of_airflow() -> Listing:
    """Return a listing by the Airflow that this process runs in."""
    from airflow.configuration import conf  # noqa: PLC0415 - tests do without Airflow
    from airflow.utils.file import find_dag_file_paths, might_contain_dag  # noqa: PLC0415

    safe_mode = conf.getboolean("core", "dag_discovery_safe_mode", fallback=True)
    return Listing(
        lambda folder: [str(path) for path in find_dag_file_paths(folder, safe_mode=False)],
        lambda path: bool(might_contain_dag(path, safe_mode)),
    )
