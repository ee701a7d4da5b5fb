"""What a status says about Airflow itself, in lines: parsed, kept for runs, checked before it is live."""

from collections.abc import Sequence

from dagferry_client.airflow_state import (
    PARSED,
    STALE,
    Checker,
    ImportCheck,
    ImportFailure,
    Leases,
    Parsed,
    RefusedCandidate,
    behind,
)
from dagferry_client.api import Status
from dagferry_client.output import MAX_LISTED, Cell, Styled, ago

_STYLES = {PARSED: "green", STALE: "red"}
MAX_REFUSED = 3
"""How many refused candidates are shown; with ``--json`` all of them."""
Line = tuple[Cell, ...]


def airflow_lines(status: Status, now: float) -> list[Line]:
    """Return the lines; none for what nothing reports. ``now`` is in seconds since the epoch."""
    lines: list[Line] = []
    if status.parsed:
        lines += parsed_lines(status.parsed)
    if status.leases:
        lines += _lease_lines(status.leases)
    if status.import_check:
        lines += _check_lines(status.import_check, now)
    return lines


def in_short(status: Status) -> list[str]:
    """Return one sentence about what is parsed; none if nothing reports it."""
    return [f"Airflow: {_progress(status.parsed)}."] if status.parsed else []


def parsed_lines(parsed: Parsed) -> list[Line]:
    """Return what Airflow has parsed, which files it cannot import, and what delays it."""
    built = ", ".join(
        f"{name} {version}" for name, version in (("Airflow", parsed.airflow), ("Python", parsed.python)) if version
    )
    style = "red" if parsed.new_error_count else _STYLES.get(parsed.state, "yellow")
    lines: list[Line] = [
        ("Airflow: ", Styled(_progress(parsed), style), f" ({parsed.version}{'; ' * bool(built)}{built})")
    ]
    lines += [("  ", Styled(_failure(one), "red" if one.new else "")) for one in parsed.errors[:MAX_LISTED]]
    more = parsed.error_count - len(parsed.errors[:MAX_LISTED])
    if more > 0:
        lines.append((f"  and {more} more import error{'s' * (more != 1)}",))
    lines += [
        (f"  {one.instance} is at {one.version or 'no version'} ({one.state})",)
        for one in behind(parsed, parsed.sequence)
    ]
    lines += [(f"  Delayed: {one}",) for one in parsed.hindrances]
    return lines


def _progress(parsed: Parsed) -> str:
    errors = f"{parsed.error_count} import error{'s' * (parsed.error_count != 1)}"
    new = f" ({parsed.new_error_count} new)" if parsed.new_error_count else ""
    files = f"{parsed.files} DAG file{'s' * (parsed.files != 1)}"
    if parsed.state == PARSED:
        when = "" if parsed.seconds is None else f", {parsed.seconds:.1f} s after the deploy"
        return f"{parsed.state}, {files}, {parsed.dags} DAG{'s' * (parsed.dags != 1)}, {errors}{new}{when}"
    mixed = f", {parsed.mixed} mixed" if parsed.mixed else ""
    return f"{parsed.state}, {parsed.recorded} of {files}{mixed}, {errors}{new}"


def _failure(one: ImportFailure) -> str:
    return f"{one.path}: {one.message}{' (new)' * one.new}"


def _lease_lines(leases: Leases) -> list[Line]:
    if not leases.versions:
        return []
    versions = sorted(leases.versions, reverse=True)
    more = f" and {len(versions) - MAX_LISTED} more" if len(versions) > MAX_LISTED else ""
    return [(f"Kept for DAG runs: {', '.join(versions[:MAX_LISTED])}{more}",)]


def _check_lines(check: ImportCheck, now: float) -> list[Line]:
    by = ", ".join(map(_checker, (one for one in check.checkers if one.connected)))
    lines: list[Line] = [(f"Import check: {check.policy}, {f'by {by}' if by else _away(check)}",)]
    if check.mismatch:
        lines.append(("  ", Styled(check.mismatch, "yellow")))
    doing = "Checking" if by else "Not checked yet:"
    lines += [(f"  {doing} what {one.actor} sent {ago(one.created, now)}",) for one in check.checking]
    for one in sorted(check.refused, key=lambda refused: -refused.created)[:MAX_REFUSED]:
        lines.append((f"  Refused what {one.actor} sent {ago(one.created, now)}:",))
        lines += [(f"    {problem}",) for problem in _problems(one)]
    return lines


def _checker(one: Checker) -> str:
    return f"{one.instance} (Airflow {one.airflow}, Python {one.python}{', not ready yet' * one.warming})"


def _away(check: ImportCheck) -> str:
    refuses = check.policy == "block" and check.away == "closed"
    return "no checker is connected, so deploys are refused" if refuses else "no checker is connected"


def _problems(refused: RefusedCandidate) -> Sequence[str]:
    return [f"{one.path}{f':{one.line}' if one.line else ''}: {one.message}" for one in refused.problems]
