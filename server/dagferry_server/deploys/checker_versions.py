"""Whether a checker imports DAGs with the versions that Airflow reads them with. Pure."""

from collections.abc import Sequence
from typing import NamedTuple


class Versions(NamedTuple):
    """The versions of Airflow and of Python, such as ``3.3.2`` and ``3.11.7``; empty where not known."""

    airflow: str
    python: str


def mismatch(checkers: Sequence[tuple[str, Versions]], parsed: Versions | None) -> str:
    """Return one sentence about the first checker, by its name, with other versions than Airflow has.

    Empty if there is none. Of Python, the last number does not matter: it has the same modules and the same syntax.
    """
    if parsed is None:
        return ""
    for name, versions in checkers:
        different = []
        if parsed.airflow and versions.airflow and versions.airflow != parsed.airflow:
            different.append(f"Airflow {versions.airflow}, and the dag processor Airflow {parsed.airflow}")
        if parsed.python and versions.python and _minor(versions.python) != _minor(parsed.python):
            different.append(f"Python {versions.python}, and the dag processor Python {parsed.python}")
        if different:
            return f"The checker {name} has {'; it has '.join(different)}: give both the same image."
    return ""


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
