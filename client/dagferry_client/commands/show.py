"""``dagferry show [V]``: one deploy, with the paths that it changed and its warnings."""

from typing import NamedTuple

import click

from dagferry_client.deploy_log import Details, LoggedDeploy
from dagferry_client.describe import in_words, kind, path_lines
from dagferry_client.output import Output, ago, utc
from dagferry_client.run import Run, sub_command
from dagferry_client.versions import current, find_version

_GIT_FIELDS = ("commit", "branch", "author", "repository", "url")


class Shown(NamedTuple):
    """One deploy; ``details`` are null if there are none, as for a deploy by an older server."""

    deployment: str
    deploy: LoggedDeploy
    details: Details | None


@sub_command(
    click.argument("version", metavar="[V]", required=False),
    examples=("dagferry show", "dagferry show 42 -d prod", "dagferry show 20261120T064501Z-000042 --json"),
    prints=(Shown,),
)
def command(run: Run, *, version: str | None) -> None:
    """Show one deploy: what it changed, and its warnings.

    Without a version it is the newest one.
    """
    deployment, output = run.deployment, run.output
    wanted = current(run.api, deployment).version if version is None else find_version(run.api, deployment, version)
    deploy, details = run.api.deploy(deployment, wanted)
    if output.json_wanted:
        output.json(Shown(deployment, deploy, details))
        return
    _show(output, deployment, deploy)
    if details is None:
        output.line("Which files it changed was not recorded. See: dagferry diff")
    else:
        _show_details(output, details)


def _show(output: Output, deployment: str, deploy: LoggedDeploy) -> None:
    output.line(f"{deploy.version} of {deployment}, deploy {deploy.sequence}")
    found = {
        "who": deploy.actor,
        "when": f"{ago(deploy.time)} ({utc(deploy.time)})",
        "why": deploy.description,
        "kind": kind(deploy),
        "part": deploy.under,
        "flags": " ".join(deploy.flags),
        **{name: (deploy.git or {}).get(name, "") for name in _GIT_FIELDS},
        "digest": deploy.digest,
        "files": in_words(deploy.added, deploy.changed, deploy.removed),
    }
    width = max(map(len, found))
    for name, text in found.items():
        if text:
            output.line(f"{name.ljust(width)}  {text}")


def _show_details(output: Output, details: Details) -> None:
    for line in path_lines(details):
        output.styled(*line)
    for title, texts in (
        ("Warnings:", details.warnings),
        ("Not deployed, because of --exclude:", details.excluded_paths),
    ):
        if texts:
            output.line(title)
            for text in texts:
                output.line(f"  {text}")
