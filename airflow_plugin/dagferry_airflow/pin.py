"""Pins a process to one tree for as long as it runs: it never sees a later swap.

A task imports modules, reads files and starts processes for as long as it runs. Through ``<root>/current`` it would
get whatever is live at that moment, and mix two versions. So, before the DAG file is read, everything that leads to
``current`` is pointed at one tree behind it: Airflow's dags folder, the paths of its local DAG bundles, ``sys.path``,
and the environment that processes started by the task inherit.

That is the tree that is live right now or, if runs keep their version, the one that was live when the task's run
started. The process holds its tree until it ends, so the sidecar keeps the tree however long that is
(``dagferry_follow.volume.in_use``). On a volume without locks the sidecar keeps it for its usual time.

A process that is pinned already stays as it is, but for holding its tree too: it may be a program that the pinned one
was replaced by. Folders that do not belong to a sidecar stay as they are.
"""

import datetime as dt
import json
import logging
import os
import re
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

from dagferry_follow.volume import in_use
from dagferry_follow.volume.lookup import tree_at

FOLDER_VARIABLE = "AIRFLOW__CORE__DAGS_FOLDER"
BUNDLES_VARIABLE = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"
PINNED_VARIABLE = "DAGFERRY_TASK_VERSION"
"""What the pinned process has logged, for the processes that it becomes or starts."""
MAX_SWAPS = 10
"""How often a process looks again because a tree was removed that was live a moment ago."""

NEWEST, RUN, NEWEST_INSTEAD = "newest", "run", "newest_instead"
"""How a tree was chosen: the live one; the one that was live when the run started; the live one in place of that."""

_TREE = re.compile(r"/\.trees/([0-9a-f]{16})/([A-Za-z0-9-]+)(?=/|\Z)")

_this_process = {"is_task": False}
_held: set[tuple[str, str]] = set()
"""Roots and unique names of the trees that this process holds; a child that was forked holds them too."""

log = logging.getLogger(__name__)


def is_task() -> bool:
    """Return whether this process runs a task."""
    return _this_process["is_task"]


def note_task() -> None:
    """Note that this process runs a task."""
    _this_process["is_task"] = True


class Place(NamedTuple):
    """A folder in a tree: ``below`` is its path in the tree, empty or with a slash at the front."""

    root: str
    unique: str
    version: str
    below: str

    @property
    def path(self) -> str:
        """The real path of the folder."""
        return f"{self.root}/.trees/{self.unique}/{self.version}{self.below}"


class Pinned(NamedTuple):
    """The version that a process was pinned to under one root, and how it was chosen."""

    root: str
    version: str
    how: str

    def text(self, run_started: dt.datetime | None) -> str:
        """Return what is logged: the line, and why it is not the version of the run."""
        line = version_line(self.version, self.how, f"root={self.root}", run_started)
        if self.how != NEWEST_INSTEAD:
            return line
        if not run_started:
            return f"{line} It is not known when the run of this task started: this is the newest."
        why = "What was live when the run started is not on this volume or lacks the DAG file"
        return f"{line} {why}: this is the newest."


class Wish(NamedTuple):
    """Which tree a task should get: the live one, or the one that was live when its run started.

    ``run_started`` is ``None`` too if that is not known. ``dag_file`` is the path of its DAG file below the folder that
    is pinned, as the newest version has it.
    """

    by_run: bool = False
    run_started: dt.datetime | None = None
    dag_file: str = ""


def version_line(version: str, how: str, where: str, run_started: dt.datetime | None = None) -> str:
    """Return the line that says in a task's log which version it runs on (docs/reference/dags-folder.md)."""
    started = f" run_started={run_started.astimezone(dt.timezone.utc):%Y-%m-%dT%H:%M:%SZ}" if run_started else ""
    return f"dagferry version={version} chosen={how}{started} {where}"


def place_of(folder: str) -> Place | None:
    """Return the real place of ``folder`` if it is in a sidecar's tree, or leads there; else ``None``."""
    real = os.path.realpath(folder)
    found = _TREE.search(real)
    return Place(real[: found.start()], found[1], found[2], real[found.end() :]) if found else None


def hold(place: Place) -> bool:
    """Hold the tree of a place until this process ends, and return whether it is still there."""
    if (place.root, place.unique) in _held:
        return True
    try:
        in_use.hold(place.root, place.unique)
    except FileNotFoundError:
        return False
    except OSError as error:
        log.info("The tree in %s cannot be locked (%s): it stays by its age only", place.root, error.strerror)
        return True
    _held.add((place.root, place.unique))
    return True


class Pins:
    """The tree that a process gets under each root, which is chosen once, and what was pointed there."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._trees: dict[str, Place] = {}
        self.pinned: list[Pinned] = []
        self.folders: dict[str, str] = {}
        """Folders that lead through ``current``, and the real path that each is pinned to."""

    def pin(self, folder: str) -> str:
        """Return the path to use in place of ``folder``; ``""`` if it is pinned already, or not in a tree."""
        place = place_of(folder)
        if not place:
            return ""
        if place.path == os.path.normpath(folder):
            hold(place)
            return ""
        tree = self._trees.get(place.root)
        if not tree:
            tree, how = self._choose(folder, place)
            self._trees[place.root] = tree
            self.pinned.append(Pinned(tree.root, tree.version, how))
        path = tree._replace(below=place.below).path
        self.folders[folder] = path if os.path.isdir(path) else place.path
        return self.folders[folder]

    def _choose(self, folder: str, place: Place) -> tuple[Place, str]:
        how = NEWEST
        if self._wish.by_run:
            how, started = NEWEST_INSTEAD, self._wish.run_started
            if started and (found := tree_at(place.root, started.timestamp())):
                tree = Place(place.root, *found, place.below)
                if self._has_dag(tree, place) and hold(tree):
                    return tree, RUN
        for _ in range(MAX_SWAPS):
            if hold(place):
                break
            place = place_of(folder) or place
        return place, how

    def _has_dag(self, tree: Place, newest: Place) -> bool:
        """Return whether a tree has the task's DAG file where the newest has it: there Airflow looks for it."""
        name = self._wish.dag_file
        was_moved = os.path.exists(f"{newest.path}/{name}") and not os.path.exists(f"{tree.path}/{name}")
        return os.path.isdir(tree.path) and not was_moved


def pinned_bundles(config: Any, pins: Pins) -> tuple[list[Any], bool]:
    """Return the list of DAG bundles with each ``path`` of a sidecar pinned, and whether there are any."""
    found = False
    bundles = []
    for bundle in config if isinstance(config, list) else ():
        kwargs = bundle.get("kwargs") if isinstance(bundle, Mapping) else None
        path = kwargs.get("path") if isinstance(kwargs, Mapping) else None
        if isinstance(kwargs, Mapping) and isinstance(path, str) and (real := pins.pin(path)):
            found = True
            bundles.append({**bundle, "kwargs": {**kwargs, "path": real}})
        else:
            bundles.append(bundle)
    return bundles, found


def repointed(path: str, pins: Mapping[str, str]) -> str:
    """Return ``path``; if it is a pinned folder or in one, that part is replaced by the real path."""
    for folder, real in pins.items():
        folder = folder.rstrip("/")  # noqa: PLW2901
        if path == folder or path.startswith(folder + "/"):
            return real + path[len(folder) :]
    return path


def pin(
    settings: Any,
    bundle_config: Any,
    environment: MutableMapping[str, str],
    import_path: list[str],
    wish: Wish = Wish(),  # noqa: B008 - it is immutable
) -> list[Pinned]:
    """Pin this process, and return what it is pinned to; empty if there is nothing to pin.

    ``settings`` is ``airflow.settings``, ``bundle_config`` the value of ``dag_bundle_config_list`` (``None`` in
    Airflow 2), ``environment`` and ``import_path`` are ``os.environ`` and ``sys.path``.
    """
    pins = Pins(wish)
    bundles, found = pinned_bundles(bundle_config, pins)
    if found:
        environment[BUNDLES_VARIABLE] = json.dumps(bundles)
    if real := pins.pin(str(settings.DAGS_FOLDER)):
        settings.DAGS_FOLDER = environment[FOLDER_VARIABLE] = real
    import_path[:] = [repointed(path, pins.folders) for path in import_path]
    if "PYTHONPATH" in environment:
        paths = environment["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(repointed(path, pins.folders) for path in paths)
    if pins.pinned:
        environment[PINNED_VARIABLE] = "\n".join(each.text(wish.run_started) for each in pins.pinned)
    return pins.pinned
