"""``--wait-parsed``: waits until Airflow has parsed a deploy that is live, and says which DAG files it cannot import.

Only a report of Airflow's own processes that all DAG files of this version, or of a newer one, are parsed and recorded
ends the wait with success. Import errors count when everything is parsed: before, a file may have been read together
with files of the previous version. Those that are new fail the deploy, and those in files that it adds or changes: who
deploys a broken file a second time, after it was undone, must not be green because Airflow knows the error already.
The server lists only some of many errors, and of many files. Where an error may be in a file of the deploy that way,
the wait does not end with success.
"""

import re
import time
from collections.abc import Callable
from typing import Any

import click

from dagferry_client.airflow_state import PARSED, ImportFailure, Parsed, behind
from dagferry_client.api import Api
from dagferry_client.converge import Seconds
from dagferry_client.deploy_log import Deployed
from dagferry_client.errors import ImportErrorsFound, ImportErrorsUnknown, NotParsed
from dagferry_client.output import MAX_LISTED
from dagferry_client.poll import Poll
from dagferry_client.run import OptionalValue
from dagferry_core.documentation import DOCUMENTATION

DEFAULT_WAIT_PARSED = "2m"
NO_REPORT_SECONDS = 45
"""How long nothing may report, from when the deploy is live, before the wait ends: processes report every 30 s, and a
server that has just started has heard none of them."""
LONG_PARSE_SECONDS = 5.0
"""A DAG file that takes so long may be why a deploy is not parsed in time."""
WHO_REPORTS = f"{DOCUMENTATION}/explanation/live-parsed-checked.md#who-reports-it"

wait_parsed_option = click.option(
    "--wait-parsed",
    cls=OptionalValue,
    bare=DEFAULT_WAIT_PARSED,
    type=Seconds(),
    metavar="[=TIME]",
    help=f"Wait until Airflow has parsed it, for at most this time after it is live ({DEFAULT_WAIT_PARSED}). "
    "Implies --wait.",
)
"""The option of all commands that can wait; its value is in whole seconds, ``None`` without it."""


class ParseWait:
    """Waits until Airflow has parsed what was deployed. ``parsed`` is what it reported last, ``None`` for nothing."""

    def __init__(self, api: Api, deployment: str, deployed: Deployed) -> None:
        self._poll = Poll(api, deployment)
        self._deployment = deployment
        self._deployed = deployed
        self.parsed: Parsed | None = None
        self._silent = True

    def wait(self, seconds: float, say: Callable[[str], None]) -> Parsed:
        """Wait for at most ``seconds``; return what Airflow reported.

        ``say`` gets a sentence whenever something changes. Raises ``ImportErrorsFound``; ``NotParsed`` after
        ``seconds``, or after ``NO_REPORT_SECONDS`` without a report; the error of the request if the server does not
        answer at the end, or refuses to.
        """
        poll, said, started = self._poll, "", time.monotonic()
        while True:
            until = started + (seconds if self.parsed else min(seconds, NO_REPORT_SECONDS))
            asked = time.monotonic()
            if status := poll.ask(until - asked):
                self.parsed, self._silent = status.parsed or self.parsed, status.parsed is None
            parsed = self.parsed
            if parsed and parsed.state == PARSED and parsed.sequence >= self._deployed.sequence:
                if fails(parsed, self._deployed):
                    what = f"Airflow has parsed {parsed.version} of {self._deployment}"
                    raise _import_errors(what, parsed, self._deployed)
                if cut := cut_lists(parsed, self._deployed):
                    raise self._unknown(parsed, cut)
                return parsed
            now_said = progress(parsed, self._deployed)
            if status and now_said != said:
                say(now_said)
                said = now_said
            now = time.monotonic()
            left = started + (seconds if parsed else min(seconds, NO_REPORT_SECONDS)) - now
            if left <= 0:
                raise poll.error or self._late(now - started)
            if pause := poll.pause(now - asked, left):
                time.sleep(pause)

    def _unknown(self, parsed: Parsed, cut: str) -> ImportErrorsUnknown:
        return ImportErrorsUnknown(
            f"Airflow has parsed {parsed.version} of {self._deployment}, without a new import error, but whether an "
            f"older one is in a file of this deploy is not known: {cut}."
        )

    def _late(self, seconds: float) -> NotParsed | ImportErrorsFound:
        """Return why the wait is over after ``seconds``."""
        deployed, parsed = self._deployed, self.parsed
        if parsed is None:
            return NotParsed(
                f"{deployed.version} is live in {self._deployment}, but nothing reports what Airflow has parsed: no "
                f"DAG processor with Dagferry's plugin or bundle was heard for {seconds:.0f} s.",
                f"Leave --wait-parsed out, or let Airflow report: {WHO_REPORTS}",
            )
        if parsed.sequence >= deployed.sequence and fails(parsed, deployed):
            return _import_errors(
                f"Airflow has parsed {parsed.recorded} of {_count(parsed.files, 'DAG file')} of {parsed.version} in "
                f"{seconds:.0f} s",
                parsed,
                deployed,
            )
        return NotParsed(
            f"{deployed.version} is live in {self._deployment}, but Airflow has not parsed it after {seconds:.0f} s: "
            f"{missing(parsed, deployed)}{' No DAG processor reports any more.' * self._silent}",
            "Look whether the DAG processor runs, and at its log." if self._silent else None,
        )


def progress(parsed: Parsed | None, deployed: Deployed) -> str:
    """Return one sentence about how far Airflow is with what was deployed."""
    if parsed is None:
        return f"Nothing reports yet that Airflow parses {deployed.version}."
    if parsed.sequence < deployed.sequence:
        return f"Airflow is at {parsed.version} still."
    errors = f", {_count(parsed.new_error_count, 'new import error')}" if parsed.new_error_count else ""
    return f"Parsing: {parsed.recorded} of {_count(parsed.files, 'DAG file')}{errors}."


def missing(parsed: Parsed, deployed: Deployed) -> str:
    """Return what is missing until Airflow has parsed what was deployed, and what delays it."""
    parts = []
    if parsed.sequence < deployed.sequence:
        parts.append(f"It is at {parsed.version} still.")
    else:
        mixed = f", {parsed.mixed} of the others read while the files were swapped" if parsed.mixed else ""
        parts.append(f"{parsed.recorded} of {_count(parsed.files, 'DAG file')} recorded{mixed}.")
    if late := behind(parsed, deployed.sequence):
        named = ", ".join(f"{one.instance} ({one.state}, {one.version or 'no version'})" for one in late[:MAX_LISTED])
        parts.append(f"Behind: {named}.")
    took = parsed.parse_seconds
    if took and took.longest >= LONG_PARSE_SECONDS:
        slowest = f", {took.slowest[0].path} the longest ({took.slowest[0].seconds:.0f} s)" if took.slowest else ""
        parts.append(f"Its last parse of all files took {took.total:.0f} s{slowest}.")
    if parsed.hindrances:
        parts.append(f"Settings of Airflow that delay it: {' '.join(parsed.hindrances)}")
    return " ".join(parts)


def parsed_sentence(parsed: Parsed) -> str:
    """Return what to say when a deploy is parsed."""
    older = parsed.error_count - parsed.new_error_count
    errors = _count(parsed.new_error_count, "new import error") + (f" ({older} older)" if older > 0 else "")
    when = "" if parsed.seconds is None else f", {parsed.seconds:.1f} s after the deploy"
    return f"Parsed: {_count(parsed.files, 'file')}, {_count(parsed.dags, 'DAG')}, {errors}{when}."


def older_errors(parsed: Parsed, deployed: Deployed) -> list[str]:
    """Return a line for each import error that Airflow had before, in files that the deploy does not change."""
    failed = failures(parsed, deployed)
    older = [f"Older import error: {one.path}: {one.message}" for one in parsed.errors if one not in failed]
    own = sum(not one.new for one in failed)
    more = parsed.error_count - parsed.new_error_count - own - len(older[:MAX_LISTED])
    return older[:MAX_LISTED] + ([f"and {more} more"] if older and more > 0 else [])


def fails(parsed: Parsed, deployed: Deployed) -> bool:
    """Return whether import errors fail the deploy."""
    return parsed.new_error_count > 0 or bool(failures(parsed, deployed))


def cut_lists(parsed: Parsed, deployed: Deployed) -> str:
    """Return which lists lack what would say whether an older error is in a file of the deploy; ``""`` if none does."""
    own, listed = deployed.added + deployed.changed, len(deployed.added_paths) + len(deployed.changed_paths)
    if not parsed.error_count or not own:
        return ""
    parts = []
    if parsed.error_count > len(parsed.errors):
        parts.append(f"{len(parsed.errors)} of {_count(parsed.error_count, 'import error')}")
    if own > listed:
        parts.append(f"{listed} of {_count(own, 'file')} that it adds or changes")
    return f"the server lists only {' and '.join(parts)}" if parts else ""


def failures(parsed: Parsed, deployed: Deployed) -> list[ImportFailure]:
    """Return the import errors that fail the deploy: the new ones, and those in files that it adds or changes."""
    own = {*deployed.added_paths, *deployed.changed_paths}
    return [one for one in parsed.errors if one.new or one.path in own]


def line_of(failure: ImportFailure) -> int:
    """Return the line of the file that its trace names last; 0 if it names none."""
    found = re.findall(rf'File "[^"\n]*{re.escape(failure.path)}", line (\d{{1,7}})', failure.trace)
    return int(found[-1]) if found else 0


def _import_errors(what: str, parsed: Parsed, deployed: Deployed) -> ImportErrorsFound:
    found = failures(parsed, deployed)
    own = len([one for one in found if not one.new])
    problems: list[dict[str, Any]] = [
        {"path": one.path, "line": line_of(one), "message": one.message, "trace": one.trace} for one in found
    ]
    counts = [_count(parsed.new_error_count, "new import error")] if parsed.new_error_count else []
    counts += [f"{_count(own, 'older one' if counts else 'import error')} in files of this deploy"] if own else []
    older = parsed.error_count - parsed.new_error_count - own
    beside = f" {_count(older, 'older import error')} beside them." if older > 0 else ""
    return ImportErrorsFound(
        f"{what}, with {' and '.join(counts)}.{beside}",
        details={
            "problems": problems,
            "error_count": parsed.error_count,
            "new_error_count": parsed.new_error_count,
        },
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
