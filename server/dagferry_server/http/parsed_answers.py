"""The JSON about what Airflow has read: a part of a status, and the response to a report."""

from pydantic import Field

from dagferry_core.protocol import REPORT_SECONDS
from dagferry_server.fleet.parsed import Parsed, Reader
from dagferry_server.fleet.report_body import KEPT_ERRORS
from dagferry_server.http.answer import Answer


class ReportAnswer(Answer):
    """The response to a report."""

    log_id: str = Field(description="The name of the deploy log; it changes when the store was lost or restored.")
    version: str = Field(description="The current version; empty if nothing is deployed, or it is not known.")
    report_seconds: int = Field(
        description=f"Report again after so many seconds ({REPORT_SECONDS}), or at once when something changed."
    )
    ignored: str | None = Field(description="Why the report does not count; null if it does.")


class ImportErrorAnswer(Answer):
    """A DAG file that Airflow could not import."""

    path: str = Field(description="The file, relative to the dags folder.")
    message: str = Field(description="What happened: the last line of the trace.")
    trace: str = Field(description="The end of the trace.")
    new: bool = Field(description="Whether an older version did not have this error.")


class SlowFileAnswer(Answer):
    """A DAG file that takes long to parse."""

    path: str = Field(description="The file, relative to the dags folder.")
    seconds: float = Field(description="How long its last parse took.")


class ParseSecondsAnswer(Answer):
    """How long Airflow takes to parse the files."""

    total: float = Field(description="The last parses of all files together.")
    longest: float = Field(description="The longest of them.")
    slowest: list[SlowFileAnswer] = Field(description="The slowest files.")


class ReporterAnswer(Answer):
    """One dag processor, or the DAG bundle in it."""

    instance: str = Field(description="Its name; with a service account's token, that of the token's pod.")
    component: str = Field(description="dag-processor or bundle; a later server may know more.")
    version: str = Field(description="The version that it reports; empty if it does not say what Airflow has read.")
    state: str = Field(description="parsed, parsing, stale, or unknown: it does not say what Airflow has read.")
    seen: int = Field(description="When it was last heard, in seconds since the epoch (UTC).")


class ParsedAnswer(Answer):
    """What Airflow has read, by all reporters together."""

    version: str = Field(description="The version that all of this is about: the newest one that a reporter has.")
    sequence: int = Field(description="Its number in the deploy log.")
    state: str = Field(
        description="parsed: Airflow has read all files of the newest deploy; parsing: not yet; stale: a reporter has "
        "had an older version for too long."
    )
    files: int = Field(description="How many DAG files it has that Airflow parses.")
    recorded: int = Field(description="How many of them Airflow has parsed at this version, and stored the result.")
    mixed: int = Field(description="The last parse of so many saw two versions: they do not count as recorded.")
    dags: int = Field(description="How many DAGs Airflow has.")
    error_count: int = Field(description="How many files Airflow cannot import.")
    new_error_count: int = Field(description="How many of them it could import in an older version.")
    errors: list[ImportErrorAnswer] = Field(description=f"The first {KEPT_ERRORS} of them, the new ones first.")
    parsed_at: int | None = Field(
        description="When the state became parsed, in seconds since the epoch (UTC), or null."
    )
    seconds: float | None = Field(description="How long that was after the deploy; null while it is not parsed.")
    parse_seconds: ParseSecondsAnswer | None = Field(description="null if it is not known.")
    hindrances: list[str] = Field(description="Settings of Airflow that delay what is read, a sentence each.")
    airflow: str = Field(description="Airflow's version; empty if it is not known.")
    python: str = Field(description="Python's version there.")
    providers: dict[str, str] = Field(description="The versions of Airflow's providers, by package.")
    reporters: list[ReporterAnswer] = Field(description="Who reports, by component and name.")


def parsed_answer(parsed: Parsed | None, now: float) -> ParsedAnswer | None:
    """Return what Airflow has read as it is sent; ``now`` is in seconds since the epoch."""
    if parsed is None:
        return None
    times = parsed.times
    return ParsedAnswer(
        version=parsed.version,
        sequence=parsed.sequence,
        state=parsed.state.value,
        files=parsed.files,
        recorded=parsed.recorded,
        mixed=parsed.mixed,
        dags=parsed.dags,
        error_count=parsed.error_count,
        new_error_count=parsed.new_error_count,
        errors=[ImportErrorAnswer(**error.model_dump()) for error in parsed.errors],
        parsed_at=times.parsed_at if times else None,
        seconds=times.seconds if times else None,
        parse_seconds=ParseSecondsAnswer(**parsed.parse_seconds.model_dump()) if parsed.parse_seconds else None,
        hindrances=list(parsed.hindrances),
        airflow=parsed.airflow,
        python=parsed.python,
        providers=dict(parsed.providers),
        reporters=[_reporter(reader, now) for reader in parsed.reporters],
    )


def _reporter(reader: Reader, now: float) -> ReporterAnswer:
    return ReporterAnswer(
        instance=reader.instance,
        component=reader.component,
        version=reader.version,
        state=reader.state.value,
        seen=int(now - reader.silent),
    )
