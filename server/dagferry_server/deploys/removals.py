"""Which DAG files a deploy would remove: the guard against an archive of one DAG that replaces a folder of five.

A DAG file is gone if Airflow would not read its path any more: it was removed, ``.airflowignore`` files hide it now, or
it has lost the words that Airflow looks for. One whose content is a DAG file at a new path was only moved.
"""

from collections import Counter
from typing import NamedTuple

from dagferry_core.bundle.manifest import Manifest
from dagferry_gate.airflowignore import IGNORE_FILE
from dagferry_gate.check import DagFiles, Gate, is_candidate
from dagferry_gate.rules import Rules
from dagferry_server.deploys.tree import Tree

MIN_DAG_FILES = 3
"""Where there are fewer, any of them may be removed."""


class Removals(NamedTuple):
    """The DAG files that would be gone, sorted; how many there are now, and how many there would be in the whole tree.

    ``before`` is 0 if none would be gone: then they are not counted.
    """

    gone: list[str]
    before: int
    left: int

    def exceed(self, percent: int) -> bool:
        """Return whether more than ``percent`` of the DAG files would be gone."""
        return self.before >= MIN_DAG_FILES and 100 * len(self.gone) > percent * self.before


def find_removals(gate: Gate, old: Tree, new: Tree, rules: Rules, under: str = "") -> Removals:
    """Return which DAG files below ``under`` (``""``: anywhere) would be gone if ``new`` replaced ``old``.

    Reads little: the contents of ``new`` are known to ``gate`` by now, and so are most of ``old``. Raises what reading
    the trees raises.
    """
    none = Removals([], 0, 0)
    suspects, hides = _suspects(old.manifest, new.manifest, rules)
    if not suspects and not hides:
        return none
    found = _dag_files(gate, new, rules)
    left = set() if found.none_found else set(found.paths)
    if not hides and left.issuperset(suspects):
        return none
    known = _dag_files(gate, old, rules)
    dags = known.paths
    if hides and found.unknown and not known.unknown:
        left = set()  # its ``.airflowignore`` files may hide all of them
    before = [path for path in dags if path.startswith(under)]
    moved = Counter(new.manifest.files[path].sha256 for path in left.difference(dags))
    gone = []
    for path in before:
        sha256 = old.manifest.files[path].sha256
        if path in left:
            continue
        if moved[sha256] > 0:
            moved[sha256] -= 1
        else:
            gone.append(path)
    return Removals(gone, len(before), len(left)) if gone else none


def _suspects(old: Manifest, new: Manifest, rules: Rules) -> tuple[list[str], bool]:
    """Return the changed and removed files that may be DAG files, and whether an ``.airflowignore`` file changed."""
    changes = new.changes_from(old)
    suspects = [path for path in (*changes.removed, *changes.changed) if is_candidate(path, rules)]
    return suspects, any(path.rpartition("/")[2] == IGNORE_FILE for paths in changes for path in paths)


def _dag_files(gate: Gate, tree: Tree, rules: Rules) -> DagFiles:
    return gate.dag_files(tree.manifest.files, tree.open_content, rules)
