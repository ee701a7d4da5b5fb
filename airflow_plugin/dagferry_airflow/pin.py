"""Pins a process to the tree that is live right now: it never sees a later swap.

A task imports modules, reads files and starts processes for as long as it runs. Through ``<root>/current`` it would
get whatever is live at that moment, and mix two versions. So, before the DAG file is read, everything that leads to
``current`` is pointed at the tree behind it: Airflow's dags folder, the paths of its local DAG bundles, ``sys.path``,
and the environment that processes started by the task inherit. The sidecar keeps the tree for its grace time.

A process that is pinned already, or whose folders do not belong to a sidecar, is not changed.
"""

import json
import os
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

FOLDER_VARIABLE = "AIRFLOW__CORE__DAGS_FOLDER"
BUNDLES_VARIABLE = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"

_TREE = re.compile(r"/\.trees/[0-9a-f]{16}/([A-Za-z0-9-]+)(?:/|\Z)")

_this_process = {"is_task": False}


def is_task() -> bool:
    """Return whether this process runs a task."""
    return _this_process["is_task"]


def note_task() -> None:
    """Note that this process runs a task."""
    _this_process["is_task"] = True


def tree_behind(folder: str) -> str:
    """Return the real path of ``folder`` if it leads through a link into a sidecar's tree, else ``""``."""
    real = os.path.realpath(folder)
    return real if real != os.path.normpath(folder) and _TREE.search(real) else ""


def version_of(real: str) -> str:
    """Return the version of the tree that a real path is in; ``""`` if it is in none."""
    found = _TREE.search(real)
    return found[1] if found else ""


def pinned_bundles(config: Any) -> tuple[list[Any], dict[str, str]]:
    """Return the list of DAG bundles with each ``path`` of a sidecar pinned, and which folders that changed to what."""
    pins: dict[str, str] = {}
    bundles = []
    for bundle in config if isinstance(config, list) else ():
        kwargs = bundle.get("kwargs") if isinstance(bundle, Mapping) else None
        path = kwargs.get("path") if isinstance(kwargs, Mapping) else None
        if isinstance(kwargs, Mapping) and isinstance(path, str) and (real := tree_behind(path)):
            pins[path] = real
            bundles.append({**bundle, "kwargs": {**kwargs, "path": real}})
        else:
            bundles.append(bundle)
    return bundles, pins


def repointed(path: str, pins: Mapping[str, str]) -> str:
    """Return ``path``; if it is a pinned folder or in one, that part is replaced by the real path."""
    for folder, real in pins.items():
        folder = folder.rstrip("/")  # noqa: PLW2901
        if path == folder or path.startswith(folder + "/"):
            return real + path[len(folder) :]
    return path


def pin(settings: Any, bundle_config: Any, environment: MutableMapping[str, str], import_path: list[str]) -> str:
    """Pin this process and return the version it is pinned to, ``""`` if there is nothing to pin.

    ``settings`` is ``airflow.settings``, ``bundle_config`` the value of ``dag_bundle_config_list`` (``None`` in
    Airflow 2), ``environment`` and ``import_path`` are ``os.environ`` and ``sys.path``.
    """
    bundles, pins = pinned_bundles(bundle_config)
    if pins:
        environment[BUNDLES_VARIABLE] = json.dumps(bundles)
    folder = str(settings.DAGS_FOLDER)
    if real := tree_behind(folder):
        pins[folder] = real
        settings.DAGS_FOLDER = environment[FOLDER_VARIABLE] = real
    import_path[:] = [repointed(path, pins) for path in import_path]
    if "PYTHONPATH" in environment:
        paths = environment["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(repointed(path, pins) for path in paths)
    return version_of(next(iter(pins.values()), ""))
