"""What Airflow was seen to read while it parsed the DAG files of a volume: ``.trees/reads.json``.

Airflow's plugin knows it: a DAG bundle writes it itself, a sidecar is sent it (``beside``). The process that publishes
trees there reads it. It decides which files Airflow reads again at once. So it may be missing, old or damaged: then the
guess of the server counts. It is trusted no further than the pod's own Airflow, which could stop reading DAGs anyway:
sizes are bounded, and paths are only compared with those of manifests.

::

    {"format": 1, "paths": ["a.yml", "dag.py", "sql"],
     "files": {"dag.py": {"inputs": "<sha256>", "opened": [0, 1], "listed": [2], "mtime": 1, "whole": true}}}

``opened`` and ``listed`` are places in ``paths``.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dagferry_core.bundle.manifest import Manifest
from dagferry_follow.small_files import read_bytes, replace_bytes
from dagferry_follow.volume.tree import Tree

if TYPE_CHECKING:  # a sidecar needs it for a swap only
    from dagferry_core.source.observed import Observation

READS = "reads.json"
MAX_READS_BYTES = 2 * 1024 * 1024
"""Enough for 5,000 DAG files that open 30 files each; decoded, it takes 60 MB at most, or 100 MB if it is hostile."""
FORMAT = 1

_FILE_MODE = 0o644


def read_known(trees: str) -> "dict[str, Observation]":
    """Return what is known, by DAG file, from the folder ``trees``; nothing if it is missing, too large or damaged."""
    try:
        data = read_bytes(f"{trees}/{READS}", MAX_READS_BYTES + 1)
        return _decoded(json.loads(data)) if len(data) <= MAX_READS_BYTES else {}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return {}


def _decoded(raw: Any) -> "dict[str, Observation]":
    from dagferry_core.source.observed import Observation  # noqa: PLC0415 - a sidecar starts without it

    paths = raw["paths"]
    if raw["format"] != FORMAT or not all(type(path) is str for path in paths):
        return {}

    def at(places: Any) -> frozenset[str]:
        if not all(type(place) is int and place >= 0 for place in places):
            raise ValueError("a place is not a number")
        return frozenset(paths[place] for place in places)

    found = {}
    for path, one in raw["files"].items():
        if (type(one["inputs"]), type(one["mtime"]), type(one["whole"])) != (str, int, bool):
            return {}
        found[path] = Observation(one["inputs"], at(one["opened"]), at(one["listed"]), one["mtime"], one["whole"])
    return found


def to_touch(trees: str, old: Tree, new: Manifest, guess: Iterable[str], source_of: Callable[[str], bytes]) -> set[str]:
    """Return which unchanged files Airflow must read again after a swap: the ``guess``, refined by what is known.

    ``old`` is the tree that was live. ``source_of`` returns the content of an unchanged file.
    """
    known = read_known(trees)
    if not known:
        return set(guess)
    from dagferry_core.source import observed  # noqa: PLC0415 - the same

    return set(observed.to_touch(old.manifest, new, known, guess, mtimes=old.mtimes, source_of=source_of))


def write_reads(trees: str, encoded: bytes) -> None:
    """Write what is known, as ``encode`` returned it, in place of what was; ``OSError`` if that is not possible."""
    replace_bytes(f"{trees}/{READS}", encoded, _FILE_MODE)


def encode(known: "Mapping[str, Observation]") -> bytes:
    """Return what is ``known`` as text of the file; without the largest observations if it is too much."""
    smallest_first = sorted(known, key=lambda path: (len(known[path].opened) + len(known[path].listed), path))
    while len(data := json.dumps(_raw({path: known[path] for path in smallest_first})).encode()) > MAX_READS_BYTES:
        smallest_first = smallest_first[: len(smallest_first) * 3 // 4]
    return data


def _raw(known: "Mapping[str, Observation]") -> dict[str, object]:
    paths = sorted({path for one in known.values() for path in (*one.opened, *one.listed)})
    places = {path: place for place, path in enumerate(paths)}
    return {
        "format": FORMAT,
        "paths": paths,
        "files": {
            path: {
                "inputs": one.inputs,
                "opened": sorted(map(places.__getitem__, one.opened)),
                "listed": sorted(map(places.__getitem__, one.listed)),
                "mtime": one.mtime,
                "whole": one.whole,
            }
            for path, one in sorted(known.items())
        },
    }
