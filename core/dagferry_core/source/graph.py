"""Which files Airflow must read again after a change: those that import or read what changed, in any number of steps.

``touched`` returns them. ``scan`` finds what a source imports, and ``reads`` which data files it reads.
"""

import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from dagferry_core.bundle.manifest import Changes, Manifest
from dagferry_core.source.readers import Readers
from dagferry_core.source.scan import ANYTHING

COMPILED = ".so"
"""How the files of compiled modules end: ``fast.so``, ``fast.abi3.so``, ``fast.cpython-311-x86_64-linux-gnu.so``."""
MAX_ROOTS = 100
"""If modules of one name changed in more folders than this, every file that may import one of the others counts as
importing it: finding out exactly would take too long."""


def touched(
    old: Manifest, new: Manifest, imports: Mapping[str, Sequence[str]], reads: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return the Python files that did not change from ``old`` to ``new`` but import or read what did, also indirectly.

    Airflow must read them again, and does so only if they look newer. ``imports`` has the ``imported_names`` of each
    Python file in ``new``, ``reads`` its ``read_hints``; what was removed counts as well. The paths are sorted.
    """
    changes = new.changes_from(old)
    if len(changes.added) == len(new.files):
        return []
    return touched_by(changes, old, new, imports, reads)


def touched_by(
    changes: Changes,
    old: Manifest,
    new: Manifest,
    imports: Mapping[str, Sequence[str]],
    reads: Mapping[str, Sequence[str]],
) -> list[str]:
    """Return what only these ``changes`` of those between ``old`` and ``new`` touch, see ``touched``."""
    changed = {path for paths in changes for path in paths}
    modules = {path for path in changed if is_module(path)}
    importers = _Importers(old, new, imports)
    fresh: set[str] = set()
    if modules:
        fresh.update(importers.of(modules), importers.of_anything)
        if any(map(is_module, (*changes.added, *changes.removed))):
            fresh.update(importers.of_folders())
    if len(modules) < len(changed):
        readers = Readers(reads)
        fresh.update(readers.of(changed - modules), readers.of_anything)
    fresh -= changed
    found = set(changed)
    while fresh:
        found |= fresh
        fresh = set(importers.of(fresh)) - found
    return sorted(found - changed)


def is_module(path: str) -> bool:
    """Return whether Python can import the file at ``path``; all other files are data."""
    return path.endswith((".py", COMPILED))


class _Importers:
    """Which files import a module, by its location: its path without ``.py`` or ``/__init__.py``.

    An absolute name is looked for in every folder above the file that imports it, since any of them may be on
    ``sys.path``. If no such folder has that exact module, any folder of the bundle that has it may be meant:
    ``sys.path`` is often extended by a folder of helpers, and one package may have folders in several places.
    ``dags.a`` may also be the bundle's own ``a``, below the folder that is its root.
    """

    def __init__(self, old: Manifest, new: Manifest, imports: Mapping[str, Sequence[str]]) -> None:
        self._old, self._new = old, new
        self._paths: dict[str, list[str]] = defaultdict(list)  # of the files that import a name
        for path, names in imports.items():
            for name in names:
                self._paths[name].append(path)
        self.of_anything = self._paths.pop(ANYTHING, [])
        self._names = sorted(self._paths)
        self._by_step: dict[str, list[str]] = {}
        # What was yielded already: all modules of a folder share the importers of its ``*``, which may be many.
        self._asked: set[str] = set()
        self._found: set[tuple[str, str]] = set()
        self._told: set[tuple[str, str]] = set()
        self._roots: dict[str, int] = defaultdict(int)

    def of(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield the files that import one of the modules at ``paths`` directly, some of them twice.

        Files that were yielded for the same module, folder or name before, also by an earlier call, are skipped.
        """
        for path in paths:
            yield from self._of_place(_location(path))

    def of_folders(self) -> Iterator[str]:
        """Yield the files that import a folder directly that is only in the one bundle or only in the other.

        Even without an ``__init__.py`` it is a package, so an import of it can start or stop working.
        """
        for place in self._old_places ^ self._new_places:
            yield from self._of_place(place)

    def _of_place(self, place: str) -> Iterator[str]:
        *folders, last = place.split("/")
        for end in (last, "*"):
            steps = [*folders, end]
            place = "/".join(steps)
            if place in self._asked:
                continue
            self._asked.add(place)
            yield from self._by_location.get(place, ())
            for cut in range(len(steps)):
                yield from self._finding("/".join(steps[:cut]), steps[cut], ".".join(steps[cut:]))

    @cached_property
    def _by_location(self) -> dict[str, list[str]]:
        """The files whose names can only mean one place, by each step of the way there."""
        files: dict[str, list[str]] = defaultdict(list)
        for name in (*self._below(""), *self._below("dags")):
            rest = name.lstrip(".") if name[0] == "." else name.removeprefix("dags.")
            for path in self._paths[name]:
                folders = path.split("/")[: len(rest) - len(name)] if name[0] == "." else []
                steps = [*folders, *filter(None, rest.split("."))]
                for length in range(len(folders), len(steps) + 1):
                    place = "/".join(steps[:length])
                    if place and place not in self._places and not place.endswith("*"):
                        break  # nothing is below it either
                    files[place].append(path)
        return files

    def _below(self, name: str) -> list[str]:
        """Return the names that start with ``name`` and a dot."""
        return self._names[bisect_left(self._names, name + ".") : bisect_left(self._names, name + "/")]

    def _finding(self, root: str, first: str, name: str) -> Iterator[str]:
        """Yield the files that import ``name``, which starts with ``first``, and may find it in the folder ``root``."""
        if name not in self._by_step:
            names = [name, *self._below(name)] if name else []  # a file that imports a.b imports a too
            importers = {path for name in names for path in self._paths.get(name, ())}
            if not importers:
                return  # not cached: hardly any part of a path is imported, and a bundle may have millions
            self._by_step[name] = sorted(importers)
        if (root, name) in self._found:
            return
        self._found.add((root, name))
        paths = self._by_step[name]
        if not root:
            yield from paths
            return
        # The character after "/" is "0", and so these are the files below the folder.
        yield from paths[bisect_left(paths, root + "/") : bisect_left(paths, root + "0")]
        if first in _NEVER_ELSEWHERE:
            return
        self._roots[name] += 1
        for imported in [name, *self._below(name)] if self._roots[name] <= MAX_ROOTS + 1 else ():
            module = self._module(root, imported) if self._roots[name] <= MAX_ROOTS else None
            if (imported, module or "") not in self._told:
                self._told.add((imported, module or ""))  # the other files that may find it are the same for every root
                for path in self._paths.get(imported, ()):
                    if module is None or not self._is_above(path, module):
                        yield path

    def _module(self, root: str, name: str) -> str:
        """Return the location below ``root`` of the module that ``name`` means if ``root`` is where it is found."""
        module = ""
        for step in name.split("."):
            deeper = f"{module}/{step}" if module else step
            if f"{root}/{deeper}" not in self._places:
                break
            module = deeper
        return module

    def _is_above(self, path: str, module: str) -> bool:
        folders = path.split("/")[:-1]
        return any("/".join([*folders[:length], module]) in self._places for length in range(len(folders) + 1))

    @cached_property
    def _places(self) -> set[str]:
        """Every module and package there is or was."""
        return self._old_places | self._new_places

    @cached_property
    def _old_places(self) -> set[str]:
        return _places_of(self._old)

    @cached_property
    def _new_places(self) -> set[str]:
        return _places_of(self._new)


_NEVER_ELSEWHERE = sys.stdlib_module_names | {"airflow"}
"""If no folder above the file has such a name, it refers to something outside the bundle."""


def _places_of(manifest: Manifest) -> set[str]:
    places: set[str] = set()
    for path in manifest.files:
        place = _location(path) if is_module(path) else ""
        while place and place not in places:
            places.add(place)
            place = place.rpartition("/")[0]
    return places


def _location(path: str) -> str:
    if path.endswith(COMPILED):
        folder, slash, name = path.rpartition("/")
        path = folder + slash + name.partition(".")[0]
    location = path.removesuffix(".py")
    return "" if location == "__init__" else location.removesuffix("/__init__")
