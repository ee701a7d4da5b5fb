"""``dagferry deployments [create|delete NAME]``: the deployments of the server, with their state."""

from typing import NamedTuple

import click

from dagferry_client.api import Deleted, Deployments, Listed
from dagferry_client.asking import can_ask, confirm
from dagferry_client.exits import EXIT_INTERRUPTED
from dagferry_client.output import ago
from dagferry_client.run import Run, sub_command
from dagferry_client.states import notes, styled
from dagferry_core.errors import SetupError
from dagferry_core.names import check_deployment

CREATE, DELETE = "create", "delete"


class Created(NamedTuple):
    """A deployment that there is now; ``created`` is false if it was there."""

    created: bool
    deployment: Listed


def _name(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else check_deployment(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


@sub_command(
    click.argument("action", metavar=f"[{CREATE}|{DELETE}]", type=click.Choice((CREATE, DELETE)), required=False),
    click.argument("name", metavar="[NAME]", required=False, callback=_name),
    click.option("-y", "--yes", is_flag=True, help="Delete without a question."),
    examples=(
        "dagferry deployments",
        "dagferry deployments --json",
        "dagferry deployments create preview-12",
        "dagferry deployments delete preview-12 --yes",
    ),
    prints=(Deployments, Created, Deleted),
    exits={EXIT_INTERRUPTED: "The answer was not yes; nothing was changed."},
)
def command(run: Run, *, action: str | None, name: str | None, yes: bool) -> None:
    """List, create and delete the deployments of the server.

    Without CREATE or DELETE it lists them. Both need a token with the scope admin for NAME, and succeed as well if the
    deployment is there, or gone, already. DELETE asks on a terminal. --deployment is not used.
    """
    if yes and action != DELETE:
        raise SetupError(f"--yes is only for {DELETE}, which asks.", "See dagferry deployments --help.")
    if action is None:
        _list(run)
        return
    if name is None:
        raise SetupError(f"No deployment to {action} was given.", f"Run: dagferry deployments {action} NAME")
    if action == CREATE:
        _create(run, name)
    else:
        _delete(run, name, yes=yes)


def _list(run: Run) -> None:
    found = run.api.deployments()
    if run.output.json_wanted:
        run.output.json(Deployments(found))
        return
    if not found:
        run.output.say("There is no deployment that you may see.")
        return
    run.output.table(
        ("DEPLOYMENT", "STATE", "VERSION", "DEPLOYED", "SCOPES", "NOTE"),
        [
            (
                one.name,
                styled(one.state),
                one.version or "-",
                "-" if one.deployed_at is None else ago(one.deployed_at),
                " ".join(one.scopes),
                "; ".join(notes(one.disabled, one.frozen)),
            )
            for one in found
        ],
    )


def _create(run: Run, name: str) -> None:
    created, deployment = run.api.create(name)
    if run.output.json_wanted:
        run.output.json(Created(created, deployment))
    elif created:
        run.output.say(f"{name} was created; deploy to it with: dagferry deploy -d {name}")
    else:
        run.output.say(f"{name} exists already.")


def _delete(run: Run, name: str, *, yes: bool) -> None:
    if not yes and can_ask(run.output):
        confirm(run.output, f"Delete {name}? Its versions are removed; pods that follow it keep their files.")
    gone = run.api.delete(name)
    if run.output.json_wanted:
        run.output.json(gone)
    else:
        run.output.say(f"{name} was deleted." if gone.deleted else f"{name} does not exist; nothing was deleted.")
