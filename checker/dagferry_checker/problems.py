"""What an import check finds: the types, and which of two findings are the same. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

MAX_MESSAGE_CHARACTERS = 1000
MAX_TRACE_BYTES = 4096
MAX_PROBLEMS = 200
MAX_UNJUDGED = 100
MAX_NAMES = 20
"""How many of each a verdict lists; how many there are is said beside."""
MAX_ID_CHARACTERS = 250
MAX_NAME_CHARACTERS = 200
"""The longest DAG id, as in Airflow's database, and the longest name of a value that a file asks for."""


class Kind(str, Enum):
    """What is wrong. The values are sent to the server."""

    IMPORT = "import"
    """Any exception at the file's top level; a missing module is the most frequent one."""
    SYNTAX = "syntax"
    CYCLE = "cycle"
    DUPLICATE = "duplicate"
    EXIT = "exit"
    """The file ended its process, with ``os._exit`` or ``sys.exit``."""
    TIMEOUT = "timeout"
    CRASH = "crash"
    """A signal ended the process."""
    MEMORY = "memory"
    DATABASE = "database"
    """Airflow's database was needed, which DAG files must not use at their top level."""
    SERIALIZE = "serialize"
    """Airflow cannot store the DAG."""


class Fault(NamedTuple):
    """What is wrong with one file: in which of its lines (0: unknown), in a sentence, and with the end of the trace.

    ``soft``: it may be due to a value that the check does not have, such as that of a Variable.
    """

    line: int
    message: str
    kind: Kind
    trace: str = ""
    soft: bool = False


class Outcome(NamedTuple):
    """What one DAG file was parsed to: the ids of its DAGs, its faults, and the names of the values it asked for.

    Names are such as ``variable:bucket``, ``connection:warehouse`` and ``network``.
    """

    dags: tuple[str, ...]
    faults: tuple[Fault, ...]
    names: tuple[str, ...]
    seconds: float = 0.0


class Problem(NamedTuple):
    """Something that Airflow could not load. ``new``: what is live does not have it."""

    path: str
    line: int
    message: str
    kind: Kind
    trace: str
    new: bool

    def as_dict(self) -> dict[str, Any]:
        """Return what is sent to the server."""
        return {**self._asdict(), "kind": self.kind.value}

    def __str__(self) -> str:
        """Return ``file:line: message``."""
        return f"{self.path}:{self.line}: {self.message}" if self.line else f"{self.path}: {self.message}"


class Unjudged(NamedTuple):
    """An error that may be due to a value that the check does not have; ``names`` are those it asked for."""

    path: str
    message: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        """Return a sentence."""
        needs = ", ".join(self.names)
        return f"{self.path}: not judged, because the check has no values of {needs}: {self.message}"


Key = tuple[str, str, str]

_CHANGING = re.compile(r"\b0x[0-9a-fA-F]+|\bline \d+|\d+(?:\.\d+)? ?s(?:econds)?\b|\btmp[a-z0-9_]{8}\b")


def key_of(problem: Problem) -> Key:
    """Return what two versions of one problem have in common: no lines, addresses, times or temporary names."""
    return problem.path, problem.kind.value, _CHANGING.sub("#", problem.message)


class Report(NamedTuple):
    """What a check of a tree found, with all problems in the order of their paths."""

    problems: Sequence[Problem]
    unjudged: Sequence[Unjudged]
    files: int
    """How many DAG files there are, those included that were known from before."""
    parsed: int
    """How many of them were parsed."""
    dags: int
    seconds: float

    @property
    def new_problem_count(self) -> int:
        """How many problems what is live does not have."""
        return sum(problem.new for problem in self.problems)

    def as_dict(self, versions: Mapping[str, str]) -> dict[str, Any]:
        """Return it as JSON, bounded, new problems first; ``versions`` are those of Airflow and Python."""
        first = sorted(self.problems, key=lambda problem: not problem.new)
        return {
            "problems": [problem.as_dict() for problem in first[:MAX_PROBLEMS]],
            "problem_count": len(self.problems),
            "new_problem_count": self.new_problem_count,
            "unjudged": [entry._asdict() for entry in self.unjudged[:MAX_UNJUDGED]],
            "files": self.files,
            "parsed": self.parsed,
            "dags": self.dags,
            "seconds": round(self.seconds, 2),
            **versions,
        }


def first_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the first names, each once."""
    return tuple(dict.fromkeys(names))[:MAX_NAMES]
