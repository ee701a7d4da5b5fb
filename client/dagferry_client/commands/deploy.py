"""``dagferry deploy``: makes a dags folder the newest deploy, and waits until it is live if asked to."""

from collections.abc import Sequence
from typing import NamedTuple

import click

from dagferry_client.airflow_state import Parsed
from dagferry_client.api import DeployOptions
from dagferry_client.converge import wait_option
from dagferry_client.deploy_log import Deployed
from dagferry_client.describe import in_words, path_lines, text_of
from dagferry_client.errors import ClientError, ImportErrorsFound, ImportErrorsUnknown, NotConverged, NotParsed
from dagferry_client.outcome import Waits, wait_for
from dagferry_client.output import MAX_LISTED, Output
from dagferry_client.reading import FOLDER_OPTIONS, rules_of
from dagferry_client.run import OptionalValue, Run, sub_command
from dagferry_client.wait_parsed import wait_parsed_option
from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import check_prefix
from dagferry_core.errors import DagferryError, SetupError


class Answer(NamedTuple):
    """What was deployed, or with ``deployed.dry_run`` what would be.

    ``sent_bytes`` is the size of the archive that was sent. ``live``: whether it is live in every pod; null without
    --wait. ``parsed`` is what Airflow reported last; null without --wait-parsed, or if nothing reports. ``undone_by``
    is the version of the rollback, if --undo-on-failure made one. ``warnings`` are those that this machine and the
    server had, as they were printed.
    """

    deployment: str
    deployed: Deployed
    sent_bytes: int
    live: bool | None = None
    parsed: Parsed | None = None
    undone_by: str | None = None
    warnings: Sequence[str] = ()


@sub_command(
    *FOLDER_OPTIONS,
    click.option("-m", "--message", default="", metavar="TEXT", help="What the deploy is for. [the commit's subject]"),
    click.option("--under", metavar="FOLDER", help="Deploy as this folder of the dags folder; all else stays."),
    click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing."),
    click.option("--if-current", metavar="VERSION", default="", help="Deploy only if this is the newest version."),
    click.option("--skip-gate", is_flag=True, help="Deploy DAG files that do not parse."),
    click.option(
        "--skip-import-check", is_flag=True, help="Deploy without the import check; needs the scope override."
    ),
    click.option("--allow-removals", is_flag=True, help="Remove more DAGs than allowed; needs the scope override."),
    click.option("--override-freeze", is_flag=True, help="Deploy to a frozen deployment; needs the scope override."),
    click.option("-y", "--yes", is_flag=True, help="Do not ask before many DAGs are removed."),
    click.option(
        "--pytest",
        "pytest_path",
        cls=OptionalValue,
        bare="",
        metavar="[=PATH]",
        help="Run pytest first, for PATH or for the project; deploy if it passes.",
    ),
    wait_option,
    wait_parsed_option,
    click.option(
        "--undo-on-failure",
        is_flag=True,
        help="With --wait or --wait-parsed: roll back if it fails and nobody else deployed.",
    ),
    examples=(
        "dagferry deploy",
        "dagferry deploy my-project -d prod --wait --undo-on-failure",
        "dagferry deploy --wait-parsed=5m",
        "dagferry deploy team-a/dags --under team-a/ -m 'Fix the sales load'",
        "dagferry deploy --include include=../include --dry-run",
    ),
    prints=(Answer,),
    exits={
        0: "It is deployed, or was already; with --wait, it is live in every pod; with --wait-parsed, Airflow has "
        "parsed it, without a new import error.",
        3: "The content is refused: by a check, a test, a limit or the server.",
        7: "It is deployed, but not live in every pod, or not parsed, or not all of its import errors are known; with "
        "--undo-on-failure it may be undone.",
        8: "With --wait-parsed: it is deployed and live, and Airflow has new import errors; it may be undone, too.",
    },
)
def command(
    run: Run,
    *,
    path: str | None,
    includes: tuple[str, ...],
    airflow_python: str | None,
    airflow: str | None,
    message: str,
    under: str | None,
    dry_run: bool,
    if_current: str,
    skip_gate: bool,
    skip_import_check: bool,
    allow_removals: bool,
    override_freeze: bool,
    yes: bool,
    pytest_path: str | None,
    wait: int | None,
    wait_parsed: int | None,
    undo_on_failure: bool,
) -> None:
    """Deploy a dags folder.

    PATH is the dags folder, or a project that has one; without it, dags/ in the current folder. What
    .dagferryignore lists stays behind.
    """
    waits = Waits(wait, wait_parsed)
    if dry_run and (waits.any or undo_on_failure):
        raise SetupError("--dry-run and --wait were both given.", "A dry run deploys nothing that could be waited for.")
    if undo_on_failure and not waits.any:
        raise SetupError("--undo-on-failure was given without --wait.", "Add --wait: it finds out whether it failed.")
    from dagferry_client.deploying import Wanted, deploy  # noqa: PLC0415 - zstandard, which --help does without

    wanted = Wanted(
        path=path,
        includes=includes,
        rules=rules_of(airflow_python or run.target.airflow_python, airflow or run.target.airflow),
        pytest_path=pytest_path,
        under=_folder_of(under),
        message=message,
        options=DeployOptions(dry_run, if_current, skip_gate, allow_removals, override_freeze, skip_import_check),
        yes=yes,
    )
    deployment = run.deployment
    output = run.output
    sent = deploy(run.api, deployment, output, wanted)
    answer = Answer(deployment, sent.deployed, sent.sent_bytes)
    _show(output, answer)
    outcome = wait_for(run.api, output, deployment, answer.deployed, waits)
    undone_by = _undo(run, answer, outcome.error) if outcome.error and undo_on_failure else None
    _print_json(output, answer._replace(live=outcome.live, parsed=outcome.parsed, undone_by=undone_by))
    if outcome.error:
        raise outcome.error


def _folder_of(under: str | None) -> str:
    """Return ``--under`` with one slash at its end, ``""`` if it was not given."""
    if under is None:
        return ""
    try:
        return check_prefix(under)
    except PathRefused as error:
        raise SetupError(
            f"--under: {error.message}", "Name a folder, such as team-a/; leave --under out to deploy everything."
        ) from error


def _show(output: Output, answer: Answer) -> None:
    """Print the version, and say what changed; of a dry run, what would change is the data."""
    done = answer.deployed
    for warning in done.warnings:
        output.warn(warning)
    if done.excluded:
        named = ", ".join(done.excluded_paths[:MAX_LISTED])
        output.say(f"The server excluded {done.excluded} file{'s' * (done.excluded != 1)} by its patterns: {named}")
    where = f"{answer.deployment}, {done.under}" if done.under else answer.deployment
    what = in_words(done.added, done.changed, done.removed)
    if done.unchanged:
        output.say(f"Nothing was deployed: {where} has exactly this content already.")
    elif done.dry_run:
        output.say(f"This would change {where}: {what}. Nothing was deployed.")
    else:
        output.say(f"Deployed to {where}: {what}.")
    lines = path_lines(done)
    for line in lines if done.dry_run else lines[:MAX_LISTED]:
        if not done.dry_run:
            output.say("".join(map(text_of, line)))
        elif not output.json_wanted:
            output.styled(*line)
    if not done.dry_run and len(lines) > MAX_LISTED:
        output.say(f"and {done.added + done.changed + done.removed - MAX_LISTED} more")
    if not output.json_wanted and not done.dry_run:
        output.line(done.version)


def _print_json(output: Output, answer: Answer) -> None:
    if output.json_wanted:
        output.json(answer._replace(warnings=output.warnings))


def _undo(run: Run, answer: Answer, error: DagferryError) -> str | None:
    """Roll back to the previous deploy, unless there is a later one; return the new version, if there is one.

    Says what was done, or why nothing was. ``error`` is why: nothing is undone unless it is known that a pod lacks the
    deploy, because a server that has just started, or does not answer, says nothing about it; or that Airflow cannot
    import it.
    """
    output, deployment, done = run.output, answer.deployment, answer.deployed
    if isinstance(error, NotParsed):
        why_not = "Airflow has not parsed the deploy, which does not say that it cannot"
        if isinstance(error, ImportErrorsUnknown):
            why_not = "Whether files of the deploy have import errors is not known"
        output.warn(f"{why_not}, so nothing is undone.")
        return None
    cannot_import = isinstance(error, ImportErrorsFound)
    if not cannot_import and not (isinstance(error, NotConverged) and error.is_known):
        output.warn("Whether a pod lacks the deploy is not known, so nothing is undone.")
        return None
    if done.unchanged:
        output.warn("This command deployed nothing, so nothing is undone.")
        return None
    try:
        before = run.api.log(deployment, 1, done.sequence).deploys
        if not before:
            output.warn("It was the first deploy: there is none to go back to.")
            return None
        failed = "has new import errors" if cannot_import else "did not become live in every pod"
        why = f"Undo of {done.version}, which {failed}"
        options = DeployOptions(if_match=done.version)
        undone = run.api.rollback(deployment, before[0].version, done.under, why, options)
    except DagferryError as refused:
        if isinstance(refused, ClientError) and refused.reason == "version_mismatch":
            output.warn("Somebody deployed since, so nothing is undone.")
        else:
            output.warn(f"It could not be undone: {refused.message} {refused.hint}")
        return None
    output.say(f"Undone: {before[0].version} is deployed again, as {undone.version}.")
    return undone.version
