"""``dagferry status``: whether every pod has the newest deploy, and which one has not, and why."""

import click

from dagferry_client.api import Frozen, Sidecar, Status
from dagferry_client.output import Cell, Output, Styled, ago, utc
from dagferry_client.run import Run, sub_command
from dagferry_core.errors import SetupError
from dagferry_core.protocol import MAX_WAIT_SECONDS

STATE_STYLES = {
    "HEALTHY": "bold green",
    "DEPLOYING": "bold yellow",
    "DEGRADED": "bold red",
    "UNKNOWN": "bold magenta",
    "EMPTY": "dim",
    "live": "green",
    "behind": "yellow",
    "failing": "red",
    "lost": "red",
    "claims_unknown": "red",
}
"""How the states of a deployment, and of a sidecar, look on a terminal."""


@sub_command(
    click.option("-w", "--watch", is_flag=True, help="Print it again whenever it changes, until Ctrl-C."),
    click.option("-a", "--all", "all_deployments", is_flag=True, help="One line for each deployment of the server."),
    examples=("dagferry status -d prod", "dagferry status --watch", "dagferry status --all --json"),
)
def command(run: Run, *, watch: bool, all_deployments: bool) -> None:
    """Show whether every pod has the newest deploy."""
    if all_deployments:
        if watch:
            raise SetupError(
                "--watch and --all were both given.", "Watch one deployment: dagferry status --watch -d NAME."
            )
        _show_all(run)
        return
    deployment, output = run.deployment, run.output
    status, tag = run.api.status(deployment)
    while True:
        if status is not None:
            _show(output, status)
        if not watch:
            return
        status, tag = run.api.status(deployment, tag=tag, wait=MAX_WAIT_SECONDS)


def _show(output: Output, status: Status) -> None:
    if output.json_wanted:
        output.json(status)
        return
    output.styled(
        f"{status.deployment}: ", Styled(status.state, STATE_STYLES.get(status.state, "")), f" {status.reason}"
    )
    if status.version and status.deployed_at is not None:
        output.line(f"{status.version}, deployed {ago(status.deployed_at)} ({utc(status.deployed_at)})")
    for note in notes(status.disabled, status.frozen):
        output.line(note)
    if status.servers.answered < status.servers.asked:
        output.line(f"Only {status.servers.answered} of {status.servers.asked} servers answered.")
    if status.expected:
        wanted = ", ".join(f"{number} {component}" for component, number in status.expected.items())
        output.line(f"Expected: {wanted}")
    if status.sidecars:
        output.table(("POD", "COMPONENT", "STATE", "LIVE", "SEEN", "LAG", "ERROR"), map(_row, status.sidecars))


def _row(sidecar: Sidecar) -> tuple[Cell, ...]:
    return (
        sidecar.instance,
        sidecar.component or "-",
        Styled(sidecar.state, STATE_STYLES.get(sidecar.state, "")),
        sidecar.live or "-",
        ago(sidecar.seen),
        f"{sidecar.lag_seconds:.0f} s" if sidecar.lag_seconds else "-",
        sidecar.error or "",
    )


def _show_all(run: Run) -> None:
    found = [run.api.status(one.name)[0] for one in run.api.deployments()]
    statuses = [status for status in found if status is not None]
    if run.output.json_wanted:
        run.output.json({"deployments": statuses})
        return
    run.output.table(
        ("DEPLOYMENT", "STATE", "PODS LIVE", "VERSION", "DEPLOYED", "REASON"),
        [
            (
                status.deployment,
                Styled(status.state, STATE_STYLES.get(status.state, "")),
                f"{status.counts.live} of {status.counts.known}",
                status.version or "-",
                "-" if status.deployed_at is None else ago(status.deployed_at),
                "; ".join([status.reason, *notes(status.disabled, status.frozen)]),
            )
            for status in statuses
        ],
    )


def notes(disabled: str | None, frozen: Frozen | None) -> list[str]:
    """Return the sentences about a deployment that accepts no deploys; none if it does."""
    found = [] if disabled is None else [f"Disabled: {disabled}"]
    if frozen:
        until = "" if frozen.until is None else f" until {utc(frozen.until)}"
        found.append(f"Frozen by {frozen.actor}{until}: {frozen.reason}")
    return found
