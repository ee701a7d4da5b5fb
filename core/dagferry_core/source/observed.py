"""Which files Airflow must read again after a change, by what parses were seen to open and to list.

A parse is a function of what it looks at: as long as no file that it opened and no folder that it listed is different,
it does the same again, whatever else changed. So an ``Observation`` replaces the guess of ``graph.py`` for its DAG
file, until one of those differs from what the parse saw (``inputs``). Where that is not certain, the guess counts too:

- The observation is not of the last parse that was due: a later change touched the DAG file (its mtime is another one),
  or changed what it had opened.
- It is not ``whole``: the parse started other programs, failed, or used a library that opens files in C, unseen.
- Files were added or removed. That one exists (``os.path.exists``, an ``import`` that fails, the search path of
  templates) can be asked without opening or listing anything.

Files that were never parsed have the guess alone. What is missed is a parse that depends on the size or the mtime of a
file that it neither opens nor lists.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from dagferry_core.bundle.manifest import Changes, Manifest
from dagferry_core.source.graph import touched_by
from dagferry_core.source.reads import read_hints
from dagferry_core.source.scan import ANYTHING, imported_names

MAX_PATHS = 10_000
"""How many paths of one parse are kept; one that opens and lists more has the guess."""
MAX_SCANNED_BYTES = 16 * 1024 * 1024
"""How much source is scanned for one change; of a change that needs more, the guess counts."""
TOP = ""
"""The top folder of a bundle, as a listed one."""

_OPENS_IN_C = frozenset(
    {
        *("chdb", "cv2", "daft", "datafusion", "deltalake", "duckdb", "fastavro", "fiona", "geopandas", "h5py", "lxml"),
        *("netCDF4", "osgeo", "polars", "pyarrow", "pyiceberg", "pyogrio", "rasterio", "sqlite3", "tables", "torch"),
        *("xarray", ANYTHING),
    }
)
"""Libraries that open files themselves: Python's audit events do not show it."""
_CALLS_C = re.compile(rb"(?<!\w)(?:read_(?:feather|hdf|orc|parquet)|lxml|polars|pyarrow|duckdb|sqlite)(?![a-z])")
"""How other libraries are made to use those."""


class Observation(NamedTuple):
    """What the parses of one DAG file opened and listed, as paths in the bundle; ``inputs`` is what they saw there.

    Files that were looked for in vain are among ``opened``. ``mtime`` is that of the DAG file, in ns: what touched it
    since may have been something that was only asked for. ``whole``: nothing else can have been read.
    """

    inputs: str
    opened: frozenset[str]
    listed: frozenset[str]
    mtime: int
    whole: bool = True


class Contents:
    """What a parse sees of a bundle: the contents of its files, and the names in its ``folders`` (``None``: in all)."""

    def __init__(self, manifest: Manifest, folders: Collection[str] | None = None) -> None:
        self._files = manifest.files
        self._every = folders is None
        self._names: dict[str, set[str]] = {folder: set() for folder in folders or ()}
        self._listings: dict[str, str] = {}
        for path in self._files if self._every or folders else ():
            folder, _, name = path.rpartition("/")
            self._add(folder, name)
            while folder:
                folder, _, name = folder.rpartition("/")
                self._add(folder, name + "/")

    def _add(self, folder: str, name: str) -> None:
        if self._every:
            self._names.setdefault(folder, set()).add(name)
        elif folder in self._names:
            self._names[folder].add(name)

    def inputs(self, opened: Iterable[str], listed: Iterable[str]) -> str:
        """Return a digest of the files ``opened`` and of the names in the folders ``listed``."""
        digest = hashlib.sha256()
        for path in sorted(opened):
            entry = self._files.get(path)
            digest.update(f"{path}\0{entry.sha256 if entry else ''}\n".encode("utf-8", "surrogatepass"))
        for folder in sorted(listed):
            digest.update(f"{folder}/\0{self._listing(folder)}\n".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def _listing(self, folder: str) -> str:
        if folder not in self._listings:
            names = "\0".join(sorted(self._names.get(folder, ())))
            self._listings[folder] = hashlib.sha256(names.encode()).hexdigest()
        return self._listings[folder]


def observe(
    path: str,
    opened: Iterable[str],
    listed: Iterable[str],
    contents: Contents,
    *,
    mtime: int,
    before: Observation | None = None,
    whole: bool = True,
) -> Observation | None:
    """Return the observation of a parse of ``path``, which had that ``mtime``; ``None`` if it is too large.

    What it read may depend on the time or on a variable of Airflow too. So what was read ``before`` stays in it, as
    long as nothing of that differs.
    """
    files, folders = frozenset(opened) | {path}, frozenset(listed)
    if before and before.inputs == contents.inputs(before.opened, before.listed):
        files, folders = files | before.opened, folders | before.listed
    if len(files) + len(folders) > MAX_PATHS:
        return None
    return Observation(contents.inputs(files, folders), files, folders, mtime, whole)


def opens_unseen(source: bytes) -> bool:
    """Return whether what ``source`` opens may not be seen, by the libraries that are named in it."""
    tops = {name.lstrip(".").partition(".")[0] for name in imported_names(source)}
    return not tops.isdisjoint(_OPENS_IN_C) or bool(_CALLS_C.search(source))


def to_touch(
    old: Manifest,
    new: Manifest,
    observations: Mapping[str, Observation],
    guess: Iterable[str],
    *,
    mtimes: Mapping[str, int],
    source_of: Callable[[str], bytes],
) -> list[str]:
    """Return the paths of ``new`` that did not change from ``old`` but that Airflow must read again, sorted.

    ``guess`` is what ``graph.touched`` returns. ``mtimes`` are those of the files of ``old``; ``source_of`` returns the
    content of one that was not changed.
    """
    changes = new.changes_from(old)
    changed = {path for paths in changes for path in paths}
    listings = _changed_listings(old, new, changes)
    hit = {
        path
        for path, seen in observations.items()
        if path in new.files and not (changed.isdisjoint(seen.opened) and listings.isdisjoint(seen.listed))
    }
    guessed = set(guess)
    known = _known(old, observations, guessed - hit, mtimes)
    if changes.added or changes.removed:
        known -= _may_ask_for(changes, old, new, {path: observations[path] for path in known}, source_of)
    return sorted((guessed - known) | (hit - changed))


def _known(
    old: Manifest, observations: Mapping[str, Observation], paths: Iterable[str], mtimes: Mapping[str, int]
) -> set[str]:
    """Return those of ``paths`` whose observation is of ``old``, and whole."""
    found = {
        path: seen
        for path in paths
        if (seen := observations.get(path)) and seen.whole and seen.mtime == mtimes.get(path)
    }
    contents = Contents(old, {folder for seen in found.values() for folder in seen.listed})
    return {path for path, seen in found.items() if contents.inputs(seen.opened, seen.listed) == seen.inputs}


def _may_ask_for(
    changes: Changes,
    old: Manifest,
    new: Manifest,
    seen: Mapping[str, Observation],
    source_of: Callable[[str], bytes],
) -> set[str]:
    """Return which DAG files may ask for a file that was added or removed, by the guess of all that they ran.

    The guess from the server is one for all changes. So where others are among them, the sources are scanned here.
    """
    if not changes.changed:
        return set(seen)
    ran = {path for one in seen.values() for path in one.opened if path.endswith(".py") and path in new.files}
    if sum(new.files[path].size for path in ran) > MAX_SCANNED_BYTES:
        return set(seen)
    imports: dict[str, tuple[str, ...]] = {}
    reads: dict[str, tuple[str, ...]] = {}
    for path in sorted(ran):
        source = source_of(path)
        imports[path] = imported_names(source)
        reads[path] = read_hints(source, imports[path])
    asking = set(touched_by(changes._replace(changed=[]), old, new, imports, reads))
    return {path for path, one in seen.items() if path in asking or not asking.isdisjoint(one.opened)}


def _changed_listings(old: Manifest, new: Manifest, changes: Changes) -> set[str]:
    """Return the folders in which a name came or went; those that came or went themselves are among them."""
    came = _upwards(changes.added, _folders(old)) if changes.added else set()
    return came | (_upwards(changes.removed, _folders(new)) if changes.removed else set())


def _upwards(paths: Iterable[str], there: Collection[str]) -> set[str]:
    """Return the folders of ``paths``, and those above them up to the first that is ``there``."""
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder not in found:
            found.add(folder)
            if folder in there or folder == TOP:
                break
            folder = folder.rpartition("/")[0]
    return found


def _folders(manifest: Manifest) -> set[str]:
    found: set[str] = set()
    for path in manifest.files:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found
