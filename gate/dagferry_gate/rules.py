"""What a deployment's Airflow is, as far as the gate needs to know it."""

from typing import Literal, NamedTuple

from dagferry_gate.airflowignore import Syntax

PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
"""The versions of Python that Airflow 2 and 3 run on."""
NEWEST_PYTHON = PYTHONS[-1]
Airflow = Literal["2", "3"]


class Rules(NamedTuple):
    """By what a tree is judged.

    ``python`` is the version that must be able to parse it. Of an Airflow that is not known, the files are found as
    Airflow 3 does by default, and nothing is said about what Airflow 3 removed. ``syntax`` of ``.airflowignore``: by
    default, the default of that Airflow.
    """

    python: str = NEWEST_PYTHON
    airflow: Airflow | None = None
    syntax: Syntax | None = None

    @property
    def ignore_syntax(self) -> Syntax:
        """The syntax of ``.airflowignore``."""
        return self.syntax or ("regexp" if self.airflow == "2" else "glob")

    @property
    def removals(self) -> bool:
        """Whether to warn of what Airflow 3 removed."""
        return self.airflow == "3"
