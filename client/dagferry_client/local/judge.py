"""Whether Airflow could read the DAGs of a dags folder: the gate of the server, on this machine."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from dagferry_client.local.errors import DagsBroken, FolderChanged
from dagferry_client.local.tree import LocalTree
from dagferry_core.bundle.frames import RangeRead
from dagferry_core.bundle.manifest import Entry

if TYPE_CHECKING:
    from dagferry_gate.check import Verdict
    from dagferry_gate.rules import Rules

IGNORE_FILE = ".airflowignore"


def judge(tree: LocalTree, rules: "Rules", changed: Collection[str] | None = None) -> "Verdict":
    """Return what the gate says of ``tree``, or of its files ``changed`` if everything else was judged before.

    With another ``.airflowignore``, Airflow may read files that it did not read before: then all are judged. Raises
    ``RuffMissing``, ``CheckFailed`` and ``FolderChanged``.
    """
    from dagferry_gate.check import Gate, Verdict  # noqa: PLC0415 - not every command needs it
    from dagferry_gate.ruff import find_ruff  # noqa: PLC0415

    files = tree.manifest.files
    if changed is not None and not any(_is_ignore_file(path) for path in changed):
        wanted = set(changed)
        files = {path: entry for path, entry in files.items() if path in wanted or _is_ignore_file(path)}
    if not any(path.lower().endswith((".py", ".zip")) or _is_ignore_file(path) for path in files):
        return Verdict([], 0, [])

    def open_content(entry: Entry) -> RangeRead:
        return _reader(entry, tree.sources[entry.path])

    return Gate(find_ruff()).check(files, open_content, rules)


def broken(verdict: "Verdict", hint: str | None = None) -> DagsBroken:
    """Return the error for a verdict with problems; ``hint`` says what to do, if that is not about a deploy."""
    count = verdict.problem_count
    things = "1 error" if count == 1 else f"{count} errors"
    return DagsBroken(f"DAG files do not parse: {things}.", [problem._asdict() for problem in verdict.problems], hint)


def _is_ignore_file(path: str) -> bool:
    return path.rpartition("/")[2] == IGNORE_FILE


def _reader(entry: Entry, source: str) -> RangeRead:
    def read(offset: int, size: int) -> bytes:
        try:
            with open(source, "rb") as file:
                file.seek(offset)
                piece = file.read(size)
        except OSError as error:
            raise FolderChanged(entry.path) from error
        if len(piece) != min(size, entry.size - offset):
            raise FolderChanged(entry.path)
        return piece

    return read
