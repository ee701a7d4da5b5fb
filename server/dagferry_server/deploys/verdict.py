"""The verdict of a checker on a candidate: what Airflow could not import, and what could not be judged.

The model is that of the request, and of what the store keeps. A checker runs code that others deploy, so nothing that
it says is trusted: it is bounded, and has no characters that do harm on a terminal.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dagferry_server.fleet.cleaning import clean, printable_lines
from dagferry_server.store.base import MAX_NOTE_BYTES

MAX_PROBLEMS, MAX_UNJUDGED = 200, 100
MAX_TRACE_CHARACTERS = 4096
MAX_PATH_CHARACTERS, MAX_MESSAGE_CHARACTERS = 1024, 1000
MAX_NAME_CHARACTERS, MAX_NAMES = 253, 20
MAX_VERSION_CHARACTERS = 40
MAX_COUNT = 10_000_000
MAX_CHECK_SECONDS = 86_400.0

Kind = Literal["import", "syntax", "cycle", "duplicate", "exit", "timeout", "crash", "memory", "database", "serialize"]
"""What is wrong with a file: an exception during its import; it does not parse; a cycle of tasks; a dag_id that another
file has too; it ended the process; it took too long; it crashed; it took too much memory; it asked the metadata
database; a DAG that cannot be serialized."""


def _line(most: int) -> AfterValidator:
    return AfterValidator(lambda text: clean(text, most))


_Path = Annotated[str, _line(MAX_PATH_CHARACTERS)]
_Message = Annotated[str, _line(MAX_MESSAGE_CHARACTERS)]
_Name = Annotated[str, _line(MAX_NAME_CHARACTERS)]
_Version = Annotated[str, _line(MAX_VERSION_CHARACTERS)]
_Trace = Annotated[str, AfterValidator(lambda text: printable_lines(text[-MAX_TRACE_CHARACTERS:]))]
_Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Problem(_Part):
    """Why a file of the candidate cannot be used."""

    path: _Path = Field(description="The file, in the dags folder.")
    line: _Count = Field(default=0, description="The line; 0 if there is none.")
    message: _Message = Field(description="What is wrong, in one line.")
    kind: Kind = Field(description="Which kind of problem it is.")
    trace: _Trace = Field(default="", description=f"The end of the traceback, {MAX_TRACE_CHARACTERS} characters.")
    new: bool = Field(description="Whether the version `base` does not have it.")

    @property
    def sentence(self) -> str:
        """The problem in one line, with file and line."""
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: {self.message}"


class Unjudged(_Part):
    """A file that could not be judged, because what it needs is not given to the checker."""

    path: _Path = Field(description="The file, in the dags folder.")
    message: _Message = Field(description="What happened, in one line.")
    names: list[_Name] = Field(
        default=[], max_length=MAX_NAMES, description="What it asked for, such as `variable:x` or `connection:y`."
    )


class Verdict(_Part):
    """What a checker found in a candidate, or why it could not check it."""

    instance: _Name = Field(default="", description="The checker's name, as in `Dagferry-Instance`.")
    failed: _Message = Field(
        default="", description="Why the check itself could not be done; then the rest is ignored."
    )
    base: _Version = Field(default="", description="The version that it was compared with; empty: none.")
    digest: str = Field(default="", max_length=100, description="The content that was checked, by its digest.")
    problems: list[Problem] = Field(default=[], max_length=MAX_PROBLEMS, description="The first problems.")
    problem_count: _Count = Field(default=0, description="How many problems there are.")
    new_problem_count: _Count = Field(default=0, description="How many of them are new.")
    unjudged: list[Unjudged] = Field(default=[], max_length=MAX_UNJUDGED, description="What could not be judged.")
    files: _Count = Field(default=0, description="How many files were imported.")
    dags: _Count = Field(default=0, description="How many DAGs the candidate has.")
    seconds: float = Field(default=0.0, ge=0, le=MAX_CHECK_SECONDS, description="How long it took.")
    airflow: _Version = Field(default="", description="The version of Airflow.")
    python: _Version = Field(default="", description="The version of Python.")


def encode_verdict(verdict: Verdict) -> bytes:
    """Return a verdict as it is stored: what is too much is omitted, the least important first."""
    problems = sorted(verdict.problems, key=lambda problem: not problem.new)
    verdict = verdict.model_copy(update={"problems": problems})
    for trace, most, unjudged in ((MAX_TRACE_CHARACTERS, 200, 100), (1000, 200, 50), (400, 100, 20), (0, 50, 10)):
        shorter = [
            problem.model_copy(update={"trace": problem.trace[-trace:] if trace else ""}) for problem in problems
        ]
        cut = verdict.model_copy(update={"problems": shorter[:most], "unjudged": verdict.unjudged[:unjudged]})
        data = cut.model_dump_json().encode()
        if len(data) <= MAX_NOTE_BYTES:
            return data
    few = [
        problem.model_copy(update={"message": problem.message[:200], "path": problem.path[:300]}) for problem in shorter
    ]
    return verdict.model_copy(update={"problems": few[:20], "unjudged": []}).model_dump_json().encode()


def decode_verdict(data: bytes) -> Verdict:
    """Return a stored verdict; ``ValueError`` if it does not decode."""
    return Verdict.model_validate_json(data)
