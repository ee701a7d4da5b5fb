"""What ``deploy`` and ``check`` share: which dags folder is read, and by which rules its DAG files are checked."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dagferry_client.local.cache_folder import cache_folder
from dagferry_client.local.folder import DagsFolder
from dagferry_client.local.hash_cache import HashCache
from dagferry_client.local.scan import parse_include
from dagferry_client.local.tree import LocalTree, read_tree
from dagferry_core.errors import SetupError

if TYPE_CHECKING:
    from dagferry_gate.rules import Rules

FOLDER_OPTIONS = (
    click.argument("path", required=False, metavar="[PATH]"),
    click.option(
        "--include",
        "includes",
        multiple=True,
        metavar="NAME=PATH",
        help="Also deploy the file or folder PATH, as NAME. Can be repeated.",
    ),
    click.option("--airflow-python", metavar="3.X", help="The Python that Airflow runs on. [airflow-python]"),
    click.option("--airflow", metavar="2|3", help="The major version of Airflow. [airflow]"),
)
"""``path``, ``includes``, ``airflow_python`` and ``airflow``; in brackets are the keys of ``dagferry.toml``."""


def read_folder(folder: DagsFolder, includes: Sequence[str]) -> LocalTree:
    """Read ``folder`` and what ``--include`` adds. Raises what ``read_tree`` and ``parse_include`` raise."""
    hashes = HashCache(os.path.join(cache_folder(), "hashes"), folder.path)
    return read_tree(folder, [parse_include(text) for text in includes], hashes)


def rules_of(airflow_python: str | None, airflow: str | None) -> "Rules":
    """Return the rules for a Python, such as ``3.11``, and a major version of Airflow; raise ``SetupError``.

    Without them, DAG files may use what any version can read.
    """
    from dagferry_gate.rules import NEWEST_PYTHON, PYTHONS, Airflow, Rules  # noqa: PLC0415 - 50 ms, which --help does without

    if airflow_python is not None and airflow_python not in PYTHONS:
        raise SetupError(
            f"airflow-python is {airflow_python!r}, not one of {', '.join(PYTHONS)}.", "Use the Python of Airflow."
        )
    majors: dict[str | None, Airflow | None] = {None: None, "2": "2", "3": "3"}
    if airflow not in majors:
        raise SetupError(f"airflow is {airflow!r}, neither 2 nor 3.", "Use Airflow's major version.")
    return Rules(airflow_python or NEWEST_PYTHON, majors[airflow])
