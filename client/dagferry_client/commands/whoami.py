"""``dagferry whoami``: who the token belongs to, and what it allows."""

from dagferry_client.api import Identity
from dagferry_client.output import ago, utc
from dagferry_client.run import Run, sub_command


@sub_command(examples=("dagferry whoami", "dagferry whoami --json"), prints=(Identity,))
def command(run: Run) -> None:
    """Show who you are for the server, and what you may do."""
    identity = run.api.whoami()
    if run.output.json_wanted:
        run.output.json(identity)
        return
    source = run.api.http.credentials.source
    run.output.line(f"{identity.actor} on {run.target.server}" + (f", by the token of {source}" if source else ""))
    if identity.expires is not None:
        run.output.line(f"The token expires at {utc(identity.expires)}, {ago(identity.expires)}.")
    if not identity.deployments:
        run.output.line("You may not see any deployment.")
        return
    # Few tokens are limited to folders.
    columns = 3 if any(one.prefixes for one in identity.deployments) else 2
    rows = [(one.name, " ".join(one.scopes), " ".join(one.prefixes)) for one in identity.deployments]
    run.output.table(("DEPLOYMENT", "SCOPES", "ONLY BELOW")[:columns], [row[:columns] for row in rows])
