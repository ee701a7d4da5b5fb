"""``dagferry deploy``: makes a dags folder the newest deploy, and waits until it is live if asked to."""

from typing import NamedTuple

import click

from dagferry_client.api import DeployOptions
from dagferry_client.converge import WAIT_OPTION, Awaited, wait_until_live
from dagferry_client.describe import ADDED, CHANGED, REMOVED, STYLES, in_words
from dagferry_client.errors import ClientError, NotConverged
from dagferry_client.output import MAX_LISTED, Output, Styled
from dagferry_client.reading import FOLDER_OPTIONS, rules_of
from dagferry_client.run import OptionalValue, Run, sub_command
from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import check_path
from dagferry_core.errors import DagferryError, SetupError


class DeployAnswer(NamedTuple):
    """What ``--json`` prints: the server's answer, and what became of the deploy.

    ``sent_bytes`` is the size of the archive. ``live`` is whether every pod has the deploy, ``null`` if that was not
    waited for; ``undone_by`` is the version of the rollback, if there was one.
    """

    deployment: str
    version: str
    digest: str
    sequence: int
    kind: str
    under: str
    dry_run: bool
    unchanged: bool
    added: int
    changed: int
    removed: int
    warnings: list[str]
    added_paths: list[str]
    changed_paths: list[str]
    removed_paths: list[str]
    cut: bool
    excluded: int
    excluded_paths: list[str]
    sent_bytes: int
    live: bool | None = None
    undone_by: str | None = None


@sub_command(
    *FOLDER_OPTIONS,
    click.option("-m", "--message", default="", metavar="TEXT", help="What the deploy is for. [the commit's subject]"),
    click.option("--under", metavar="FOLDER", help="Deploy as this folder of the dags folder; all else stays."),
    click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing."),
    click.option("--if-current", metavar="VERSION", default="", help="Deploy only if this is the newest version."),
    click.option("--skip-gate", is_flag=True, help="Deploy DAG files that do not parse."),
    click.option("--allow-removals", is_flag=True, help="Remove more DAGs than allowed; needs the scope override."),
    click.option("-y", "--yes", is_flag=True, help="Do not ask before many DAGs are removed."),
    click.option(
        "--pytest",
        "pytest_path",
        cls=OptionalValue,
        bare="",
        metavar="[=PATH]",
        help="Run pytest first, for PATH or for the project; deploy if it passes.",
    ),
    WAIT_OPTION,
    click.option(
        "--undo-on-failure", is_flag=True, help="With --wait: roll back if it fails and nobody else deployed."
    ),
    examples=(
        "dagferry deploy",
        "dagferry deploy my-project -d prod --wait --undo-on-failure",
        "dagferry deploy team-a/dags --under team-a/ -m 'Fix the sales load'",
        "dagferry deploy --include include=../include --dry-run",
    ),
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
    allow_removals: bool,
    yes: bool,
    pytest_path: str | None,
    wait_seconds: int | None,
    undo_on_failure: bool,
) -> None:
    """Deploy a dags folder.

    PATH is the dags folder, or a project that has one; without it, dags/ in the current folder. What
    .dagferryignore lists stays behind.
    """
    if dry_run and (wait_seconds is not None or undo_on_failure):
        raise SetupError("--dry-run and --wait were both given.", "A dry run deploys nothing that could be waited for.")
    if undo_on_failure and wait_seconds is None:
        raise SetupError("--undo-on-failure was given without --wait.", "Add --wait: it finds out whether it failed.")
    from dagferry_client.deploying import Wanted, deploy  # noqa: PLC0415 - zstandard, which --help does without

    wanted = Wanted(
        path=path,
        includes=includes,
        rules=rules_of(airflow_python or run.target.airflow_python, airflow or run.target.airflow),
        pytest_path=pytest_path,
        under=_folder_of(under),
        message=message,
        options=DeployOptions(dry_run, if_current, skip_gate, allow_removals),
        yes=yes,
    )
    deployment = run.deployment
    sent = deploy(run.api, deployment, run.output, wanted)
    answer = DeployAnswer(deployment=deployment, **sent.deployed._asdict(), sent_bytes=sent.sent_bytes)
    _show(run.output, answer)
    if wait_seconds is None:
        _print_json(run.output, answer)
        return
    try:
        wait_until_live(run.api, Awaited(deployment, answer.version, answer.sequence), wait_seconds, run.output)
    except NotConverged:
        undone_by = _undo(run, answer) if undo_on_failure else None
        _print_json(run.output, answer._replace(live=False, undone_by=undone_by))
        raise
    _print_json(run.output, answer._replace(live=True))


def _folder_of(under: str | None) -> str:
    """Return ``--under`` with one slash at its end, ``""`` if it was not given."""
    if under is None:
        return ""
    try:
        checked = check_path(under.strip("/").encode(errors="surrogateescape"))
    except PathRefused as error:
        raise SetupError(f"--under {under!r} is not a folder: {error.message}") from error
    if not checked:
        raise SetupError("--under is empty.", "Name a folder, such as team-a/; leave --under out to deploy everything.")
    return checked + "/"


def _show(output: Output, answer: DeployAnswer) -> None:
    for warning in answer.warnings:
        output.warn(warning)
    if answer.excluded:
        named = ", ".join(answer.excluded_paths[:MAX_LISTED])
        output.say(f"The server left out {answer.excluded} files that match its exclude patterns: {named}")
    if output.json_wanted:
        return
    where = f"{answer.deployment} {answer.under}".rstrip()
    if answer.unchanged:
        output.line(f"Unchanged: {where} has exactly this content already, as {answer.version}. Nothing was deployed.")
        return
    what = in_words(answer.added, answer.changed, answer.removed)
    if answer.dry_run:
        output.line(f"Would deploy to {where}: {what}. Nothing was deployed.")
    else:
        output.line(f"Deployed {answer.version} to {where}: {what}.")
    listed = [
        (letter, path)
        for letter, paths in (
            (REMOVED, answer.removed_paths),
            (CHANGED, answer.changed_paths),
            (ADDED, answer.added_paths),
        )
        for path in paths
    ]
    for letter, path in listed[:MAX_LISTED]:
        output.styled(Styled(letter, STYLES[letter]), f"  {path}")
    more = answer.added + answer.changed + answer.removed - min(len(listed), MAX_LISTED)
    if more > 0:
        output.line(f"and {more} more files")


def _print_json(output: Output, answer: DeployAnswer) -> None:
    if output.json_wanted:
        output.json(answer)


def _undo(run: Run, answer: DeployAnswer) -> str | None:
    """Roll back to the deploy before ``answer``, unless there is a later one; return the new version, if there is one.

    Says what was done, or why nothing was: the error that comes next is why it was tried.
    """
    output = run.output
    if answer.unchanged:
        output.warn("Nothing was deployed by this command, so nothing is undone.")
        return None
    try:
        before = run.api.log(answer.deployment, 1, answer.sequence).deploys
        if not before:
            output.warn("It was the first deploy, so there is none to roll back to.")
            return None
        undone = run.api.rollback(
            answer.deployment,
            before[0].version,
            answer.under,
            f"Undo {answer.version}, which did not become live everywhere",
            DeployOptions(if_match=answer.version),
        )
    except DagferryError as error:
        if isinstance(error, ClientError) and error.reason == "version_mismatch":
            output.warn("Somebody deployed since, so it is not undone.")
        else:
            output.warn(f"It could not be undone: {error.message} {error.hint}")
        return None
    output.say(f"Undone: {before[0].version} is deployed again, as {undone.version}.")
    return undone.version
