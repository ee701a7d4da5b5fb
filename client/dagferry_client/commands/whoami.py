"""``dagferry whoami``: who the token belongs to, and what it allows."""

from dagferry_client.output import ago, utc
from dagferry_client.run import Run, sub_command


@sub_command(examples=("dagferry whoami", "dagferry whoami --json"))
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
    run.output.table(
        ("DEPLOYMENT", "SCOPES", "ONLY BELOW"),
        [(one.name, " ".join(one.scopes), " ".join(one.prefixes)) for one in identity.deployments],
    )
