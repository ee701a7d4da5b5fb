"""What ``rollback`` and ``promote`` share: they show what would change, ask, deploy exactly that, and wait."""

from collections.abc import Callable
from typing import NamedTuple

import click

from dagferry_client.airflow_state import Parsed
from dagferry_client.api import DeployOptions
from dagferry_client.asking import can_ask, confirm
from dagferry_client.converge import wait_option
from dagferry_client.deploy_log import Deployed
from dagferry_client.describe import in_words, path_lines, text_of
from dagferry_client.exits import EXIT_INTERRUPTED
from dagferry_client.outcome import Outcome, Waits, wait_for
from dagferry_client.output import Output
from dagferry_client.run import Run
from dagferry_client.wait_parsed import wait_parsed_option
from dagferry_core.errors import EXIT_IMPORT_ERRORS, EXIT_NOT_CONVERGED, EXIT_REFUSED
from dagferry_core.protocol import NOTHING_TAG

Send = Callable[[DeployOptions], Deployed]
"""Sends the request with these options."""

OPTIONS = (
    click.option("-m", "--message", default="", metavar="TEXT", help="Why, for the deploy log."),
    wait_option,
    wait_parsed_option,
    click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    click.option("--dry-run", is_flag=True, help="Only show what would change."),
    click.option("--override-freeze", is_flag=True, help="Deploy to a frozen deployment; needs the scope override."),
)

EXITS = {
    EXIT_REFUSED: "The server refuses it, or somebody else deployed before the answer.",
    EXIT_NOT_CONVERGED: "It is deployed, but with --wait it did not become live in every pod in time, "
    "or with --wait-parsed it was not parsed, or not all of its import errors are known.",
    EXIT_IMPORT_ERRORS: "It is deployed and live, and with --wait-parsed: Airflow has new import errors.",
    EXIT_INTERRUPTED: "The answer was not yes; nothing was changed.",
}


class Redeployed(NamedTuple):
    """What was deployed, or with ``deployed.dry_run`` what would be. ``live``: whether it is live in every pod; null
    without --wait. ``parsed`` is what Airflow reported last; null without --wait-parsed, or if nothing reports.
    """

    deployment: str
    deployed: Deployed
    live: bool | None
    parsed: Parsed | None = None


class Wanted(NamedTuple):
    """What is to happen: ``title`` says it in words, to ``deployment``; ``send`` does it."""

    deployment: str
    title: str
    send: Send
    options: DeployOptions


def redeploy(run: Run, wanted: Wanted, *, waits: Waits, yes: bool, dry_run: bool) -> None:
    """Show what changes, ask on a terminal unless ``yes``, deploy, and wait as ``waits`` says.

    What a person agreed to is deployed only if the version that they saw as current still is.
    """
    output = run.output
    shown = wanted.send(wanted.options._replace(dry_run=True))
    if not output.json_wanted:
        _show(output, wanted.title, shown, is_all=dry_run)
    if dry_run:
        _finish(output, wanted.deployment, shown, Outcome(None))
        return
    if shown.unchanged:
        done = shown._replace(dry_run=False)  # the request itself would find the same
        output.say(f"{wanted.deployment} already has this content.")
    else:
        done = _deploy(output, wanted, shown, ask=not yes and can_ask(output))
    if not output.json_wanted:
        output.line(done.version)
    outcome = wait_for(run.api, output, wanted.deployment, done, waits)
    _finish(output, wanted.deployment, done, outcome)
    if outcome.error:
        raise outcome.error


def _deploy(output: Output, wanted: Wanted, shown: Deployed, *, ask: bool) -> Deployed:
    how = wanted.options
    if ask:
        confirm(output, f"Deploy this to {wanted.deployment}?")
        how = how._replace(if_match=how.if_match or shown.version or NOTHING_TAG)
    done = wanted.send(how)
    for warning in done.warnings:
        if warning not in shown.warnings:
            output.warn(warning)
    return done


def _show(output: Output, title: str, shown: Deployed, *, is_all: bool) -> None:
    """Show what would change: with ``is_all``, because that is all that was asked for, the paths are data."""
    output.say(title)
    for line in path_lines(shown):
        if is_all:
            output.styled(*line)
        else:
            output.say("".join(map(text_of, line)))
    if not shown.unchanged:
        output.say(f"{in_words(shown.added, shown.changed, shown.removed)}.")
    for warning in shown.warnings:
        output.warn(warning)


def _finish(output: Output, deployment: str, done: Deployed, outcome: Outcome) -> None:
    if output.json_wanted:
        output.json(Redeployed(deployment, done, outcome.live, outcome.parsed))
    elif done.dry_run:
        output.say("Nothing was changed: this was a dry run.")
