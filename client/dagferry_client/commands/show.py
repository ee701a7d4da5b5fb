"""``dagferry show [V]``: one deploy, with the paths that it changed and its warnings."""

from typing import NamedTuple

import click

from dagferry_client.airflow_state import Parsed
from dagferry_client.airflow_view import parsed_lines
from dagferry_client.api import Api
from dagferry_client.deploy_log import Details, LoggedDeploy
from dagferry_client.describe import in_words, kind, path_lines
from dagferry_client.errors import ClientError
from dagferry_client.output import MAX_LISTED, Output, ago, utc
from dagferry_client.run import Run, sub_command
from dagferry_client.states import styled
from dagferry_client.versions import current, find_version

_GIT_FIELDS = ("commit", "branch", "author", "repository", "url")


class Now(NamedTuple):
    """What the status says of a deploy. ``state`` is that of the fleet if it is the newest one, else empty; ``parsed``
    is null unless Airflow is at it; ``used_by`` are who reports that runs use it.
    """

    state: str
    reason: str
    parsed: Parsed | None
    used_by: list[str]


class Shown(NamedTuple):
    """One deploy; ``details`` are null if there are none, as for a deploy by an older server. ``now`` is null if the
    status does not mention it.
    """

    deployment: str
    deploy: LoggedDeploy
    details: Details | None
    now: Now | None


@sub_command(
    click.argument("version", metavar="[V]", required=False),
    examples=("dagferry show", "dagferry show 42 -d prod", "dagferry show 20261120T064501Z-000042 --json"),
    prints=(Shown,),
)
def command(run: Run, *, version: str | None) -> None:
    """Show one deploy: what it changed, and its warnings.

    Without a version it is the newest one. Of the newest one, also whether it is live in every pod, and what Airflow
    has parsed of it.
    """
    deployment, output = run.deployment, run.output
    wanted = current(run.api, deployment).version if version is None else find_version(run.api, deployment, version)
    deploy, details = run.api.deploy(deployment, wanted)
    now = _now(run.api, deployment, wanted)
    if output.json_wanted:
        output.json(Shown(deployment, deploy, details, now))
        return
    _show(output, deployment, deploy)
    if now:
        _show_now(output, now)
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


def _now(api: Api, deployment: str, version: str) -> Now | None:
    """Return what the status says of ``version``; ``None`` if it is another one's, or cannot be read."""
    try:
        status, _ = api.status(deployment)
    except ClientError:
        return None  # what was deployed can be shown all the same
    if status is None:
        return None
    is_newest = status.version == version
    parsed = status.parsed if status.parsed and status.parsed.version == version else None
    used_by = list(status.leases.versions.get(version, ())) if status.leases else []
    if not is_newest and not parsed and not used_by:
        return None
    return Now(status.state if is_newest else "", status.reason if is_newest else "", parsed, used_by)


def _show_now(output: Output, now: Now) -> None:
    if now.state:
        output.styled("Fleet: ", styled(now.state), f" {now.reason}")
    for line in parsed_lines(now.parsed) if now.parsed else []:
        output.styled(*line)
    if now.used_by:
        output.line(f"Kept for DAG runs, as reported by {', '.join(now.used_by[:MAX_LISTED])}")


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
