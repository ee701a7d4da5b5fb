"""What this Airflow is and how it is set: its version and providers, its folders with DAG files, its hindrances."""

import os
import platform
import re
import sys
from collections.abc import Sequence

from airflow.configuration import conf

import airflow
from airflow import settings
from dagferry_airflow.hindrances import hindrances
from dagferry_airflow.observer import Airflow
from dagferry_airflow.recorded import MAJOR, SINCE_BUNDLES, Folder
from dagferry_follow.volume.root import CURRENT, TREES

LOCAL_BUNDLE = "LocalDagBundle"
DAGS_FOLDER_VALUE = "DAGS_FOLDER"
"""What may stand for the dags folder in an argument of Airflow 2."""

_PROVIDER = re.compile(r"(apache_airflow_providers_[a-z0-9_]+)-([^-]+)\.dist-info")


def this_airflow(refresh_seconds: float | None = None) -> Airflow:
    """Return what is reported about this Airflow; ``refresh_seconds`` is the interval of a DAG bundle."""

    def option(section: str, name: str) -> str | None:
        return conf.get(section, name, fallback=None) if conf.has_option(section, name) else None

    found = hindrances(option, MAJOR, refresh_seconds)
    return Airflow(airflow.__version__, platform.python_version(), _providers(sys.path), found)


def _providers(import_path: Sequence[str]) -> dict[str, str]:
    """Return the versions of Airflow's installed providers, by the names of their folders: reading them takes long."""
    found: dict[str, str] = {}
    for folder in import_path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if match := _PROVIDER.fullmatch(name):
                found.setdefault(match[1].replace("_", "-"), match[2])
    return found


def sidecars_folders() -> dict[str, list[Folder]]:
    """Return the folders with DAG files that a sidecar publishes, by the root of its volume."""
    roots: dict[str, list[Folder]] = {}
    for bundle, named in _folders(sys.argv):
        path = os.path.abspath(named)
        if found := _root_of(path):
            root, below = found
            roots.setdefault(root, []).append(Folder(path, below, bundle))
    return roots


def _folders(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names of the local DAG bundles and their folders; in Airflow 2 the dags folder."""
    folder = str(settings.DAGS_FOLDER)
    if MAJOR < SINCE_BUNDLES:
        [*_, below] = [folder, *_values(arguments, "-S", "--subdir")]
        return [("", below.replace(DAGS_FOLDER_VALUE, folder, 1))]
    only = _values(arguments, "-B", "--bundle-name")
    return [
        (str(bundle["name"]), str((bundle.get("kwargs") or {}).get("path") or folder))
        for bundle in conf.getjson("dag_processor", "dag_bundle_config_list", fallback=None) or ()
        if str(bundle.get("classpath", "")).endswith(LOCAL_BUNDLE) and (not only or bundle.get("name") in only)
    ]


def _values(arguments: Sequence[str], *names: str) -> list[str]:
    """Return the values of an option that may be given several times, as ``NAME VALUE`` or ``NAME=VALUE``."""
    found = []
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            found.append(value if equals else "".join(arguments[number + 1 : number + 2]))
    return found


def _root_of(path: str) -> tuple[str, str] | None:
    """Return the root of the volume that ``path`` is on, and where it is below ``current``; ``None`` if it is on none.

    Before its first deploy a volume may have no trees.
    """
    above, below = path, ""
    while above != "/":
        if os.path.basename(above) == CURRENT:
            root = os.path.dirname(above)
            if os.path.isdir(f"{root}/{TREES}") or not os.path.lexists(above):
                return root, below
        below = f"{os.path.basename(above)}/{below}".rstrip("/")
        above = os.path.dirname(above)
    return None
