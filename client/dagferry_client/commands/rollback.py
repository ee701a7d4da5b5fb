"""``dagferry rollback [V|--previous]``: an older version is deployed again."""

from itertools import pairwise

import click

from dagferry_client.api import MAX_PAGE_DEPLOYS, Api, DeployOptions
from dagferry_client.deploy_log import Deployed
from dagferry_client.errors import RequestNotAllowed
from dagferry_client.outcome import Waits
from dagferry_client.redeploy import EXITS, OPTIONS, Redeployed, Wanted, redeploy
from dagferry_client.run import Run, sub_command
from dagferry_client.versions import find_version
from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import check_prefix
from dagferry_core.bundle.merge import overlap
from dagferry_core.errors import SetupError

MAX_TRIED = 20
"""How many deploys --previous looks at, to find one that changed the folder."""


@sub_command(
    click.argument("version", metavar="[V]", required=False),
    click.option("--previous", is_flag=True, help="Undo the last deploy: deploy the previous version again."),
    click.option("--under", metavar="FOLDER", default="", help="Only this folder; everything else stays as it is."),
    *OPTIONS,
    examples=(
        "dagferry rollback 41 -d prod --wait",
        "dagferry rollback --previous --dry-run",
        'dagferry rollback --previous --under team-a/ -m "Broken import"',
    ),
    prints=(Redeployed,),
    exits=EXITS,
)
def command(
    run: Run,
    *,
    version: str | None,
    previous: bool,
    under: str,
    message: str,
    wait: int | None,
    wait_parsed: int | None,
    yes: bool,
    dry_run: bool,
    override_freeze: bool,
) -> None:
    """Deploy an older version again.

    Shows what would change and asks on a terminal; it is refused if somebody else deploys before the answer. It is a
    new deploy with the old content, so it can be undone as well.
    """
    if (version is None) != previous:
        raise SetupError(
            "A version and --previous were both given." if previous else "No version was given.",
            "Give a version or --previous. List the versions with: dagferry history",
        )
    deployment, api = run.deployment, run.api
    folder = _folder(under)
    options = DeployOptions(override_freeze=override_freeze)
    if version is None:
        wanted, seen = _previous(api, deployment, folder, options)
        options = options._replace(if_match=seen)  # another deploy has another one before it
    else:
        wanted = find_version(api, deployment, version)

    def send(how: DeployOptions) -> Deployed:
        return api.rollback(deployment, wanted, folder, message, how)

    part = f" of {folder}" if folder else ""
    title = f"Rollback{part} of {deployment} to {wanted}:"
    redeploy(run, Wanted(deployment, title, send, options), waits=Waits(wait, wait_parsed), yes=yes, dry_run=dry_run)


def _folder(under: str) -> str:
    if not under:
        return ""
    try:
        return check_prefix(under)
    except PathRefused as error:
        raise SetupError(f"--under: {error.message}", "Give a folder of the dags folder, such as team-a/.") from error


def _previous(api: Api, deployment: str, folder: str, options: DeployOptions) -> tuple[str, str]:
    """Return the previous version, and the current one.

    With ``folder``, the first one is that which precedes the last deploy that changed something in it.
    """
    log = api.log(deployment, MAX_PAGE_DEPLOYS if folder else 2).deploys
    tried = 0
    for deploy, before in pairwise(log):
        if not folder:
            return before.version, log[0].version
        if tried == MAX_TRIED or not overlap(deploy.under, folder):
            continue
        tried += 1
        how = options._replace(dry_run=True)
        if not api.rollback(deployment, before.version, folder, "", how).unchanged:
            return before.version, log[0].version
    where = f" that changed {folder}" if folder else ""
    raise RequestNotAllowed(
        f"{deployment} has no deploy{where} with another one before it, so there is nothing to go back to.",
        "See: dagferry history",
        reason="version_not_found",
    )
