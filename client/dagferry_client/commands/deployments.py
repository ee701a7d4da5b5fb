"""``dagferry deployments``: the deployments of the server, with their state."""

from dagferry_client.api import Deployments
from dagferry_client.output import ago
from dagferry_client.run import Run, sub_command
from dagferry_client.states import notes, styled


@sub_command(examples=("dagferry deployments", "dagferry deployments --json"), prints=(Deployments,))
def command(run: Run) -> None:
    """List the deployments of the server."""
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
