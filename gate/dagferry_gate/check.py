"""The gate: whether Airflow could read the DAGs of a tree at all.

    gate = Gate(find_ruff())
    verdict = gate.check(manifest.files, open_content, Rules(python="3.11", airflow="3"))

A DAG file is a ``.py`` that Airflow would import: its ``.airflowignore`` files do not exclude it, and it has the words
that Airflow looks for. Each must parse. All other ``.py`` files are helpers: if one does not parse, that is a warning,
because it may never be imported.
"""

from collections.abc import Mapping
from typing import NamedTuple

from dagferry_core.bundle.manifest import Entry
from dagferry_gate.airflowignore import IGNORE_FILE, MAX_IGNORE_BYTES, MAX_IGNORE_TOTAL_BYTES, Listing, listed
from dagferry_gate.contents import Contents, OpenContent
from dagferry_gate.findings import Problem
from dagferry_gate.ruff import Ruff
from dagferry_gate.rules import Rules

MAX_PROBLEMS = 20
"""How many problems a verdict lists."""
MAX_HELPERS = 5
MAX_REMOVALS = 10
"""How many helpers that do not parse, and uses of what Airflow 3 removed, become a warning each."""


class Verdict(NamedTuple):
    """What the gate says of a tree: the first of its problems, how many there are, and warnings, in sentences."""

    problems: list[Problem]
    problem_count: int
    warnings: list[str]

    @property
    def passed(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


class DagFiles(NamedTuple):
    """The DAG files of a tree, in its order, and what is wrong with its ``.airflowignore`` files.

    ``none_found``: because of that, Airflow finds none of them.
    """

    paths: list[str]
    problems: list[Problem]
    none_found: bool = False

    @property
    def unknown(self) -> bool:
        """Whether all files are listed because the patterns are too many to find out which ones Airflow finds."""
        return bool(self.problems) and not self.none_found


class Gate:
    """Checks trees; each content once. May be shared by threads."""

    def __init__(self, ruff: Ruff, scratch: str | None = None) -> None:
        self._contents = Contents(ruff, scratch)

    def dag_files(self, files: Mapping[str, Entry], open_content: OpenContent, rules: Rules) -> DagFiles:
        """Return the files that Airflow would import, packaged ones (``.zip``) too, whether they parse or not.

        ``files`` is that of a ``Manifest``. Reads contents that are not known, and raises what ``open_content`` does.
        """
        candidates = [path for path in files if is_candidate(path, rules)]
        sizes = {
            path: min(entry.size, MAX_IGNORE_BYTES + 1)
            for path, entry in files.items()
            if path.rpartition("/")[2] == IGNORE_FILE
        }
        if sum(sizes.values()) > MAX_IGNORE_TOTAL_BYTES:
            limit = f"the .airflowignore files have more than {MAX_IGNORE_TOTAL_BYTES} bytes together"
            found, problems, none_found = Listing(candidates, [Problem(IGNORE_FILE, 1, 1, limit)])
        else:
            ignore_files = {path: open_content(files[path])(0, size) for path, size in sizes.items()}
            found, problems, none_found = listed(candidates, ignore_files, rules.ignore_syntax)
        words = self._contents.words((files[path] for path in found if not _is_package(path)), open_content)
        return DagFiles(
            [path for path in found if _is_package(path) or words[files[path].sha256].may_be_dag(rules.airflow)],
            problems,
            none_found,
        )

    def check(
        self, files: Mapping[str, Entry], open_content: OpenContent, rules: Rules, *, only_known: bool = False
    ) -> Verdict:
        """Judge a tree. Raises ``CheckFailed`` if ruff fails, and what ``open_content`` raises.

        With ``only_known`` ruff does not run: ``CheckFailed`` if a source was not checked before.
        """
        dags = self.dag_files(files, open_content, rules)
        sources = [path for path in files if _is_source(path, rules)]
        reports = self._contents.reports([files[path] for path in sources], open_content, rules, only_known=only_known)
        are_dags = set(dags.paths)
        problems, count = list(dags.problems), len(dags.problems)
        helpers: list[Problem] = []
        removals: list[Problem] = []
        removal_count = 0
        for path in sources:
            report = reports[files[path].sha256]
            errors = [Problem(path, *error) for error in report.errors]
            if path in are_dags:
                problems += errors
                count += report.error_count
            else:
                helpers += errors[:1]
            removals += [Problem(path, *warning) for warning in report.warnings]
            removal_count += report.warning_count
        warnings = [f"{helper}. {_HELPER}" for helper in helpers[:MAX_HELPERS]]
        warnings += _more(len(helpers) - MAX_HELPERS, "helper files do not parse")
        warnings += [f"{removal}." for removal in removals[:MAX_REMOVALS]]
        warnings += _more(removal_count - MAX_REMOVALS, "uses of what Airflow 3 removed")
        return Verdict(problems[:MAX_PROBLEMS], count, warnings)


_HELPER = "Airflow does not load this file itself, but a DAG may import it."


def _more(count: int, of_what: str) -> list[str]:
    return [f"{count:,} more {of_what}."] if count > 0 else []


def is_candidate(path: str, rules: Rules) -> bool:
    """Return whether a file of this name may be a DAG file."""
    return _is_source(path, rules) or _is_package(path)


def _is_source(path: str, rules: Rules) -> bool:
    """Return whether the file at ``path`` is Python to Airflow: Airflow 3 also reads ``.PY``."""
    name = path.rpartition("/")[2]
    return len(name) > len(".py") and (name if rules.airflow == "2" else name.lower()).endswith(".py")


def _is_package(path: str) -> bool:
    return path.endswith(".zip")
