"""The body of a report: what a dag processor, or the DAG bundle in it, says of what Airflow has read.

It comes from code that runs beside DAGs. So every text is bounded and cleaned, and of each list the first entries are
kept: a report that is a little too long still says what counts. Invalid and negative numbers are rejected.
Unknown fields are ignored, and missing ones have a default, so that older and newer senders are understood.
"""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from dagferry_core.protocol import (
    MAX_REPORTED_ERRORS,
    MAX_REPORTED_HINDRANCES,
    MAX_REPORTED_PROVIDERS,
    MAX_REPORTED_SLOWEST,
    MAX_REPORTED_VERSIONS,
    MAX_TRACE_BYTES,
)
from dagferry_server.fleet.cleaning import (
    MAX_ID_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_VERSION_CHARACTERS,
    clean,
    clean_lines,
)

MAX_PATH_CHARACTERS = 512
MAX_MESSAGE_CHARACTERS = 500
MAX_DIGEST_CHARACTERS = 80
MAX_COUNT = 10**9
MAX_SECONDS = 10 * 366 * 86400.0
KEPT_ERRORS = 20
"""How many import errors of a report the server keeps: as many as the status shows."""


def _cleaned(most: int) -> Callable[[str], str]:
    return lambda text: clean(text, most)


def _first(most: int) -> Callable[[Any], Any]:
    """Return a validator that keeps the first entries of a list or an object, before any of them is looked at."""

    def keep(value: Any) -> Any:
        if isinstance(value, list):
            return value[:most]
        return dict(list(value.items())[:most]) if isinstance(value, dict) else value

    return keep


_Name = Annotated[str, AfterValidator(_cleaned(MAX_NAME_CHARACTERS))]
_Version = Annotated[str, AfterValidator(_cleaned(MAX_VERSION_CHARACTERS))]
_Path = Annotated[str, AfterValidator(_cleaned(MAX_PATH_CHARACTERS))]
_Message = Annotated[str, AfterValidator(_cleaned(MAX_MESSAGE_CHARACTERS))]
_Trace = Annotated[str, AfterValidator(lambda text: clean_lines(text, MAX_TRACE_BYTES))]
_Versions = Annotated[list[_Version], BeforeValidator(_first(MAX_REPORTED_VERSIONS))]
_Count = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)]
_Seconds = Annotated[float, Field(strict=True, ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
_Flag = Annotated[bool, Field(strict=True)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ImportErrorBody(_Part):
    """A DAG file that Airflow could not import."""

    path: _Path = Field(description="The file, relative to the dags folder.")
    message: _Message = Field(default="", description="What happened: the last line of the trace.")
    trace: _Trace = Field(default="", description=f"The end of the trace; {MAX_TRACE_BYTES} bytes at most.")
    new: _Flag = Field(default=False, description="Whether an older version did not have this error.")


class SlowFileBody(_Part):
    """A DAG file that takes long to parse."""

    path: _Path = Field(description="The file, relative to the dags folder.")
    seconds: _Seconds = Field(description="How long its last parse took.")


class ParseSecondsBody(_Part):
    """How long Airflow takes to parse the files."""

    total: _Seconds = Field(default=0.0, description="The last parses of all files together.")
    longest: _Seconds = Field(default=0.0, description="The longest of them.")
    slowest: Annotated[list[SlowFileBody], BeforeValidator(_first(MAX_REPORTED_SLOWEST))] = Field(
        default=[], description=f"The slowest files; {MAX_REPORTED_SLOWEST} at most."
    )


class ParsedBody(_Part):
    """What Airflow has read of one version."""

    version: _Version = Field(description="The version that Airflow's dags folder has.")
    sequence: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = Field(description="Its number in the deploy log.")
    digest: Annotated[str, AfterValidator(_cleaned(MAX_DIGEST_CHARACTERS))] = Field(description="Its content.")
    files: _Count = Field(description="How many DAG files it has that Airflow parses.")
    recorded: _Count = Field(description="How many of them Airflow has parsed at this version, and stored the result.")
    mixed: _Count = Field(default=0, description="The last parse of so many saw two versions: they do not count.")
    dags: _Count = Field(default=0, description="How many DAGs Airflow has.")
    complete_for: _Seconds | None = Field(
        default=None, description="For how many seconds all files have been recorded; null: not all are yet."
    )
    errors: Annotated[list[ImportErrorBody], BeforeValidator(_first(MAX_REPORTED_ERRORS))] = Field(
        default=[], description=f"Import errors; {MAX_REPORTED_ERRORS} at most."
    )
    error_count: _Count = Field(default=0, description="How many import errors there are.")
    new_error_count: _Count = Field(default=0, description="How many of them an older version did not have.")
    parse_seconds: ParseSecondsBody | None = Field(default=None, description="null: not known.")
    hindrances: Annotated[list[_Message], BeforeValidator(_first(MAX_REPORTED_HINDRANCES))] = Field(
        default=[], description="Settings of Airflow that delay what is read, a sentence each."
    )
    airflow: _Version = Field(default="", description="Airflow's version.")
    python: _Version = Field(default="", description="Python's version.")
    providers: Annotated[dict[_Name, _Version], BeforeValidator(_first(MAX_REPORTED_PROVIDERS))] = Field(
        default={}, description="The versions of Airflow's providers, by package."
    )

    def kept(self) -> "ParsedBody":
        """Return this with the ``KEPT_ERRORS`` that matter most: new ones first; and with counts that fit."""
        errors = sorted(self.errors, key=lambda error: not error.new)
        new = sum(error.new for error in errors)
        return self.model_copy(
            update={
                "errors": errors[:KEPT_ERRORS],
                "error_count": max(self.error_count, len(errors)),
                "new_error_count": max(self.new_error_count, new),
            }
        )


class LeasesBody(_Part):
    """Which versions must stay in the store, because runs in Airflow need them."""

    versions: _Versions = Field(description="Those of queued, running and retryable runs.")


class ReportBody(_Part):
    """What one dag processor, or the DAG bundle in it, reports."""

    instance: Annotated[str, Field(min_length=1), AfterValidator(_cleaned(MAX_NAME_CHARACTERS))] = Field(
        description="The sender's name, such as its host's; with a service account's token, that of the token's pod."
    )
    id: str = Field(pattern=r"^[0-9a-f]{32}$", description="A random id of the process: two of one name are two.")
    component: str = Field(pattern=r"^[a-z0-9-]{1,40}$", description="dag-processor or bundle.")
    log_id: Annotated[str, AfterValidator(_cleaned(MAX_ID_CHARACTERS))] = Field(
        description="The log id that the versions are of."
    )
    leaving: _Flag = Field(default=False, description="Whether the sender ends: then it no longer counts.")
    versions: _Versions = Field(default=[], description="The versions on the sender's disk, of the DAG bundle.")
    leases: LeasesBody | None = Field(default=None, description="null: the sender does not know of runs.")
    parsed: ParsedBody | None = Field(default=None, description="null: the sender does not know what Airflow has read.")
