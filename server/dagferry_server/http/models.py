"""The JSON responses: their models, which the OpenAPI description also comes from, and how they are sent."""

from collections.abc import Mapping

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from dagferry_core import __version__
from dagferry_core.deploy_details import DeployDetails
from dagferry_core.deploylog import Deploy
from dagferry_core.errors import DagferryError
from dagferry_core.protocol import JSON_TYPE
from dagferry_server.deploys.deployer import DeployResult
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.fleet.status import PodState, Status

FIXED_HEADERS: Mapping[str, str] = {
    # A cache on the way must never hide a deploy, and no proxy may compress or change a body.
    "Cache-Control": "no-store, no-transform",
    "Server": f"dagferry/{__version__}",
    "X-Content-Type-Options": "nosniff",
}


class Answer(BaseModel):
    """What all JSON responses share."""

    model_config = ConfigDict(frozen=True)


class DeployAnswer(Answer):
    """One deploy."""

    sequence: int = Field(description="Its number in the deploy log.")
    version: str = Field(description="Its public name.")
    digest: str = Field(description="The content: sha256 over the manifest.")
    kind: str = Field(description="upload, rollback or promote; a later server may know more.")
    description: str = Field(description="The description given with the deploy.")
    actor: str = Field(description="Who deployed.")
    time: int = Field(description="When it was deployed, in seconds since the epoch (UTC).")
    added: int = Field(description="Files added since the previous deploy.")
    changed: int = Field(description="Files changed since the previous deploy.")
    removed: int = Field(description="Files removed since the previous deploy.")


class LoggedDeployAnswer(DeployAnswer):
    """One deploy as it is in the deploy log. Followers get only the fields above, because each of them gets them."""

    git: dict[str, str] | None = Field(description="Where the content comes from; null if not given.")


class CurrentAnswer(DeployAnswer):
    """The current deploy; sequence 0 and empty fields if nothing has been deployed yet."""

    log_id: str = Field(description="The name of the deploy log; it changes when the store was lost or restored.")


class DeploysAnswer(Answer):
    """A page of the deploy log."""

    deploys: list[LoggedDeployAnswer] = Field(description="Newest first.")
    next: int | None = Field(description="The value of `before` for the next page; null on the last page.")


class DetailsAnswer(Answer):
    """Details of a deploy that are not in its log entry; long lists are truncated."""

    warnings: list[str] = Field(description="Problems that the deploy may cause later.")
    excluded_paths: list[str] = Field(description="The first paths that the exclude patterns matched.")
    added_paths: list[str] = Field(description="Files added since the previous deploy.")
    changed_paths: list[str] = Field(description="Files changed since the previous deploy.")
    removed_paths: list[str] = Field(description="Files removed since the previous deploy.")
    cut: bool = Field(description="Whether the lists were truncated.")


class OneDeployAnswer(LoggedDeployAnswer):
    """One deploy with its details."""

    details: DetailsAnswer | None = Field(
        description="null if there are none, for example for deploys by an older server."
    )


class UploadAnswer(Answer):
    """The result of an upload."""

    version: str = Field(description="The version that is current now.")
    digest: str = Field(description="Its content: sha256 over the manifest.")
    sequence: int = Field(description="Its number in the deploy log.")
    unchanged: bool = Field(description="Whether the content was already current, so that no deploy was made.")
    added: int = Field(description="Files added since the previous deploy.")
    changed: int = Field(description="Files changed since the previous deploy.")
    removed: int = Field(description="Files removed since the previous deploy.")
    warnings: list[str] = Field(description="Problems that the deploy may cause later.")
    excluded: int = Field(description="How many files the exclude patterns excluded.")
    excluded_paths: list[str] = Field(description="The first paths that the exclude patterns matched.")


class StatusAnswer(Answer):
    """The health of the server."""

    status: str = Field(description="ok")


class CountsAnswer(Answer):
    """How many pods of a fleet are in which state."""

    known: int = Field(description="All of them, lost ones included.")
    live: int = Field(description="They have the newest deploy live.")
    behind: int = Field(description="They have an older deploy live, or none.")
    failing: int = Field(description="They report an error.")
    lost: int = Field(description="They vanished without deregistering; shown for 15 minutes.")
    claims_unknown: int = Field(description="They claim a version that is not in this log, or was not offered to them.")


class SidecarAnswer(Answer):
    """One pod of a fleet."""

    instance: str = Field(description="Its name; with a service account's token, that of the token's pod.")
    id: str = Field(description="The first characters of the id on its volume; empty for an older sidecar.")
    component: str = Field(description="What runs in it, such as `worker`.")
    live: str = Field(description="The version that it reports as live.")
    state: str = Field(description="live, behind, failing, lost or claims_unknown.")
    error: str = Field(description="Code and message of its last error; empty if there is none.")
    seen: int = Field(description="When it was last heard, in seconds since the epoch (UTC).")
    lag_seconds: int = Field(description="For how long it has lacked a deploy; 0 if it lacks none.")


class FrozenAnswer(Answer):
    """Why a deployment accepts no changes."""

    reason: str = Field(description="Why.")
    until: int | None = Field(description="Until when, in seconds since the epoch (UTC); null: until it is unfrozen.")
    actor: str = Field(description="Who froze it.")


class ServersAnswer(Answer):
    """Which servers know of pods."""

    asked: int = Field(description="How many servers were asked for the pods that they know.")
    answered: int = Field(description="How many of them answered; with fewer, the state is `UNKNOWN`.")


class FleetStatusAnswer(Answer):
    """Whether every pod of a deployment has the newest deploy live."""

    deployment: str = Field(description="The deployment.")
    log_id: str = Field(description="The name of its deploy log.")
    state: str = Field(description="EMPTY, UNKNOWN, DEPLOYING, HEALTHY or DEGRADED.")
    reason: str = Field(description="One sentence that says why, and names the first pods that it is about.")
    version: str = Field(description="The newest deploy; empty if there is none, or if it is not known.")
    sequence: int = Field(description="Its number in the deploy log; 0 if there is none.")
    deployed_at: int = Field(description="When it was deployed, in seconds since the epoch (UTC); 0 if there is none.")
    converge_seconds: int = Field(description="How many seconds a pod may take until it has a deploy live.")
    disabled: str | None = Field(description="Why nothing can be deployed, as the settings say; null if it can.")
    frozen: FrozenAnswer | None = Field(description="Who froze the deployment, and why; null if it is not frozen.")
    expected: dict[str, int] = Field(description="How many pods of each component there should be.")
    counts: CountsAnswer
    sidecars: list[SidecarAnswer] = Field(description="The pods, by name.")
    servers: ServersAnswer


class ErrorAnswer(Answer):
    """An error."""

    code: str = Field(description="The error's name; the documentation lists them under reference/errors.md.")
    message: str = Field(description="What went wrong.")
    hint: str = Field(description="What to do next.")


def deploy_answer(deploy: Deploy) -> LoggedDeployAnswer:
    """Return a deploy as it is sent."""
    return LoggedDeployAnswer(**deploy._asdict())


def one_deploy_answer(deploy: Deploy, details: DeployDetails | None) -> OneDeployAnswer:
    """Return a deploy and its details as they are sent."""
    sent = details and DetailsAnswer(
        warnings=details.warnings,
        excluded_paths=details.excluded,
        added_paths=details.added,
        changed_paths=details.changed,
        removed_paths=details.removed,
        cut=details.cut,
    )
    return OneDeployAnswer(**{**deploy._asdict(), "details": sent})


def current_answer(log_id: str, deploy: Deploy | None) -> CurrentAnswer:
    """Return the current deploy as it is sent; ``None`` if nothing has been deployed yet."""
    nothing = Deploy(0, "", "", "", "", "", 0, 0, 0, 0)
    return CurrentAnswer(log_id=log_id, **(deploy or nothing)._asdict())


def upload_answer(result: DeployResult) -> UploadAnswer:
    """Return the result of an upload as it is sent."""
    deploy, unchanged = result.deploy, result.unchanged
    return UploadAnswer(
        version=deploy.version,
        digest=deploy.digest,
        sequence=deploy.sequence,
        unchanged=unchanged,
        added=0 if unchanged else deploy.added,
        changed=0 if unchanged else deploy.changed,
        removed=0 if unchanged else deploy.removed,
        warnings=result.warnings,
        excluded=result.excluded_files,
        excluded_paths=result.excluded,
    )


def fleet_status_answer(deployment: Deployment, status: Status, now: float) -> FleetStatusAnswer:
    """Return the status of a fleet as it is sent; ``now`` is in seconds since the epoch."""
    current, counts = None if deployment.fault else deployment.current, status.counts
    return FleetStatusAnswer(
        deployment=deployment.name,
        log_id=deployment.log_id,
        state=status.state.value,
        reason=status.reason,
        version=current.version if current else "",
        sequence=current.sequence if current else 0,
        deployed_at=current.time if current else 0,
        converge_seconds=deployment.settings.converge_seconds,
        disabled=deployment.settings.disabled,
        frozen=None,
        expected=deployment.settings.expected,
        counts=CountsAnswer(known=len(status.pods), **{state.value: counts[state] for state in PodState}),
        sidecars=[
            SidecarAnswer(
                instance=pod.instance,
                id=pod.id,
                component=pod.component,
                live=pod.live,
                state=pod.state.value,
                error=pod.error,
                seen=int(now - pod.silent),
                lag_seconds=int(pod.lag),
            )
            for pod in status.pods
        ],
        servers=ServersAnswer(asked=1, answered=1),
    )


def json_response(body: BaseModel | bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a JSON response; ``body`` may already be JSON."""
    data = body if isinstance(body, bytes) else body.model_dump_json().encode()
    return web.Response(
        body=data,
        status=status,
        headers={**FIXED_HEADERS, "Content-Type": JSON_TYPE, **(headers or {})},
    )


def error_response(error: DagferryError, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return the response for ``error``."""
    return json_response(ErrorAnswer(**error.as_dict()), error.status, headers)
