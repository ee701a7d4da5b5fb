"""``dagferry history``: who deployed what, when and why, newest first."""

from itertools import islice
from typing import NamedTuple

import click

from dagferry_client.api import MAX_PAGE_DEPLOYS
from dagferry_client.deploy_log import LoggedDeploy
from dagferry_client.describe import counts, git, kind, table
from dagferry_client.output import Cell, ago, utc
from dagferry_client.run import Run, sub_command
from dagferry_core.names import MAX_SEQUENCE

DEFAULT_LIMIT = 20


class History(NamedTuple):
    """Deploys, newest first; ``more``: there are older ones."""

    deployment: str
    deploys: list[LoggedDeploy]
    more: bool


@sub_command(
    click.option(
        "-n",
        "--limit",
        type=click.IntRange(1, MAX_SEQUENCE),
        default=DEFAULT_LIMIT,
        show_default=True,
        metavar="N",
        help="How many deploys.",
    ),
    click.option("-a", "--all", "everything", is_flag=True, help="All deploys, from the first one."),
    examples=("dagferry history -d prod", "dagferry history --limit 5", "dagferry history --all --json"),
    prints=(History,),
)
def command(run: Run, *, limit: int, everything: bool) -> None:
    """Show who deployed what, when and why."""
    deployment, output = run.deployment, run.output
    wanted = None if everything else limit
    page = MAX_PAGE_DEPLOYS if everything else min(limit + 1, MAX_PAGE_DEPLOYS)
    # One more than wanted shows that there are more.
    found = list(islice(run.api.logged(deployment, page), None if wanted is None else wanted + 1))
    more = wanted is not None and len(found) > wanted
    shown = found[:wanted]
    if output.json_wanted:
        output.json(History(deployment, shown, more))
        return
    if not shown:
        output.say(f"Nothing is deployed to {deployment} yet.")
        return
    head = ("VERSION", "WHEN", "WHO", "KIND", "FILES", "PART", "GIT", "FLAGS", "WHY")
    table(output, head, [_row(deploy) for deploy in shown])
    if more:
        newest = "This is the newest deploy" if len(shown) == 1 else f"These are the newest {len(shown)} deploys"
        output.say(f"{newest}. All of them: dagferry history --all")


def _row(deploy: LoggedDeploy) -> tuple[Cell, ...]:
    return (
        deploy.version,
        f"{ago(deploy.time)} ({utc(deploy.time)})",
        deploy.actor,
        kind(deploy),
        counts(deploy.added, deploy.changed, deploy.removed),
        deploy.under,
        git(deploy.git),
        " ".join(deploy.flags),
        deploy.description,
    )
