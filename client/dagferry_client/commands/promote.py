"""``dagferry promote FROM TO``: what one deployment has is deployed to another, without an upload."""

import click

from dagferry_client.api import DeployOptions
from dagferry_client.deploy_log import Deployed
from dagferry_client.outcome import Waits
from dagferry_client.redeploy import EXITS, OPTIONS, Redeployed, Wanted, redeploy
from dagferry_client.run import Run, sub_command
from dagferry_client.versions import current, find_version
from dagferry_core.errors import SetupError
from dagferry_core.names import check_deployment


def _deployment(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return check_deployment(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


@sub_command(
    click.argument("origin", metavar="FROM", callback=_deployment),
    click.argument("to", metavar="TO", callback=_deployment),
    click.option("--version", metavar="V", help="A version of FROM; without it, its current one."),
    *OPTIONS,
    click.option("--skip-gate", is_flag=True, help="Deploy what the gate refuses; needs the scope override."),
    click.option(
        "--skip-import-check", is_flag=True, help="Deploy without the import check; needs the scope override."
    ),
    click.option("--allow-removals", is_flag=True, help="Remove more DAGs than allowed; needs the scope override."),
    examples=(
        "dagferry promote staging prod --wait-parsed",
        "dagferry promote staging prod --version 41 --dry-run",
    ),
    prints=(Redeployed,),
    exits=EXITS,
)
def command(
    run: Run,
    *,
    origin: str,
    to: str,
    version: str | None,
    message: str,
    wait: int | None,
    wait_parsed: int | None,
    yes: bool,
    dry_run: bool,
    override_freeze: bool,
    skip_gate: bool,
    skip_import_check: bool,
    allow_removals: bool,
) -> None:
    """Deploy what another deployment has.

    TO gets exactly what FROM has: the same digest. Both are deployments of one server; --deployment is not used. Shows
    what would change and asks on a terminal; it is refused if somebody else deploys to TO before the answer.
    """
    if origin == to:
        raise SetupError(f"FROM and TO are both {origin}.", "To deploy an older version again: dagferry rollback V")
    api = run.api
    wanted = current(api, origin).version if version is None else find_version(api, origin, version)

    def send(how: DeployOptions) -> Deployed:
        return api.promote(origin, to, wanted, message, how)

    how = DeployOptions(
        skip_gate=skip_gate,
        allow_removals=allow_removals,
        override_freeze=override_freeze,
        skip_import_check=skip_import_check,
    )
    redeploy(
        run,
        Wanted(to, f"Promote {wanted} of {origin} to {to}:", send, how),
        waits=Waits(wait, wait_parsed),
        yes=yes,
        dry_run=dry_run,
    )
