"""Which DAG files of a tree must be parsed again, by the rule with which the followers touch files after a swap."""

import os
from collections import OrderedDict
from collections.abc import Collection, Iterator

from dagferry_core.bundle.manifest import Manifest
from dagferry_core.source.graph import touched
from dagferry_core.source.reads import read_hints
from dagferry_core.source.scan import ANYTHING, imported_names

MAX_SOURCE_BYTES = 10 * 1024 * 1024
"""A larger source counts as one that imports and reads everything."""
MAX_KNOWN = 50_000
"""For how many contents it is kept what they import and read."""

Facts = tuple[tuple[str, ...], tuple[str, ...]]


class Sources:
    """What Python sources import and read; each content is looked at once."""

    def __init__(self) -> None:
        self._facts: OrderedDict[str, Facts] = OrderedDict()

    def affected(self, old: Manifest, new: Manifest, folder: str) -> set[str]:
        """Return the paths of ``new``, whose files are in ``folder``, that changed, or import or read what did."""
        changes = new.changes_from(old)
        paths = [path for path in new.files if path.endswith(".py")]
        facts = {path: self._of(new.files[path].sha256, f"{folder}/{path}") for path in paths}
        imports = {path: names for path, (names, _) in facts.items()}
        reads = {path: hints for path, (_, hints) in facts.items()}
        return {*changes.added, *changes.changed, *touched(old, new, imports, reads)}

    def _of(self, sha256: str, file: str) -> Facts:
        if sha256 in self._facts:
            self._facts.move_to_end(sha256)
            return self._facts[sha256]
        try:
            fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, "rb") as source:
                text = source.read(MAX_SOURCE_BYTES + 1)
        except OSError:  # a DAG file removed it: it is parsed
            return (ANYTHING,), (ANYTHING,)
        facts: Facts = ((ANYTHING,), (ANYTHING,))
        if len(text) <= MAX_SOURCE_BYTES:
            names = imported_names(text)
            facts = (names, read_hints(text, names))
        self._facts[sha256] = facts
        while len(self._facts) > MAX_KNOWN:
            self._facts.popitem(last=False)
        return facts


def to_parse(dag_files: Collection[str], known: Collection[str], affected: Collection[str]) -> Iterator[str]:
    """Yield which of the DAG files must be parsed: those that are affected, and those that are not ``known``."""
    return (path for path in dag_files if path in affected or path not in known)
