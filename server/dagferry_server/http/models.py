"""The JSON responses: their models, which the OpenAPI description also comes from, and how they are sent."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from dagferry_core import __version__
from dagferry_core.deploy_details import DeployDetails
from dagferry_core.deploylog import Deploy
from dagferry_core.errors import DagferryError
from dagferry_core.protocol import JSON_TYPE
from dagferry_server.deploys.browse import Differences
from dagferry_server.deploys.deployer import DeployResult
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.freeze import Freeze
from dagferry_server.fleet.status import PodState, Status
from dagferry_server.http.answer import Answer
from dagferry_server.http.import_check_answers import ImportCheckAnswer, import_check_answer
from dagferry_server.http.lease_answers import LeasesAnswer, leases_answer
from dagferry_server.http.parsed_answers import ParsedAnswer, parsed_answer

MAX_ANSWERED_PATHS = 200
"""How many added, changed and removed paths an answer to a deploy lists, of each."""

FIXED_HEADERS: Mapping[str, str] = {
    # A cache on the way must never hide a deploy, and no proxy may compress or change a body.
    "Cache-Control": "no-store, no-transform",
    "Server": f"dagferry/{__version__}",
    "X-Content-Type-Options": "nosniff",
}


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
    under: str = Field(description="The folder that was deployed; empty: all of the tree.")
    flags: list[str] = Field(
        description="What was unusual: repeated, skip_gate, allow_removals, skip_import_check; later servers add more."
    )
    source: str = Field(description="The version that was rolled back to, or the deployment@version that was promoted.")
    format: int = Field(description="The format of the entry as it is stored.")
    nonce: str = Field(description="A random number in hex that only this entry has; empty in format 1.")
    previous: str = Field(
        description="The sha256, in hex, of the previous entry as it is stored; empty in the first one and in format 1."
    )
    details_sha256: str = Field(
        description="The sha256, in hex, of the details as they are stored; empty if there are none."
    )


class CurrentAnswer(DeployAnswer):
    """The current deploy; sequence 0 and empty fields if nothing has been deployed yet."""

    log_id: str = Field(description="The name of the deploy log; it changes when the store was lost or restored.")
    entry_sha256: str = Field(
        description="The sha256, in hex, of the entry as it is stored, which the next one has as `previous`; empty if "
        "nothing is deployed."
    )


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


class FileAnswer(Answer):
    """One file of a bundle."""

    path: str = Field(description="Its path in the dags folder.")
    size: int = Field(description="Its size in bytes.")
    mode: int = Field(description="Its permissions as a number: 420 (0644) or 493 (0755).")
    sha256: str = Field(description="The sha256 of its content, in hex.")


class FilesAnswer(Answer):
    """The files of a version: the manifest."""

    version: str = Field(description="The version.")
    digest: str = Field(description="Its content: sha256 over the manifest.")
    files: list[FileAnswer] = Field(description="Every file, sorted by the bytes of its path.")


class OnlyThereAnswer(Answer):
    """A file that only one of two versions has."""

    path: str = Field(description="Its path in the dags folder.")
    size: int = Field(description="Its size in bytes.")
    mode: int = Field(description="Its permissions as a number: 420 (0644) or 493 (0755).")
    sha256: str = Field(description="The sha256 of its content, in hex.")


class ChangedFileAnswer(Answer):
    """A file whose content or mode differs between two versions."""

    path: str = Field(description="Its path in the dags folder.")
    old_size: int = Field(description="Its size in bytes in `from`.")
    size: int = Field(description="Its size in bytes in `to`.")
    old_mode: int = Field(description="Its permissions in `from`: 420 (0644) or 493 (0755).")
    mode: int = Field(description="Its permissions in `to`.")
    old_sha256: str = Field(description="The sha256, in hex, of its content in `from`.")
    sha256: str = Field(description="The sha256, in hex, of its content in `to`.")


class DiffAnswer(Answer):
    """Which files differ between two versions."""

    from_: str = Field(alias="from", description="The old version; empty if `to` is the first deploy.")
    to: str = Field(description="The new version.")
    added: list[OnlyThereAnswer] = Field(description="Files that only `to` has.")
    changed: list[ChangedFileAnswer] = Field(description="Files of both with another content or mode.")
    removed: list[OnlyThereAnswer] = Field(description="Files that only `from` has.")
    cut: bool = Field(description="Whether a list was truncated.")


class UploadAnswer(Answer):
    """The result of an upload, a rollback or a promote."""

    version: str = Field(description="The version that is current now; empty if nothing is deployed.")
    digest: str = Field(description="The content: sha256 over the manifest.")
    sequence: int = Field(description="The version's number in the deploy log.")
    kind: str = Field(description="upload, rollback or promote.")
    under: str = Field(description="The folder that was deployed; empty: all of the tree.")
    dry_run: bool = Field(description="Whether nothing was stored; then the counts and paths are what would change.")
    unchanged: bool = Field(description="Whether the content was already current, so that no deploy was made.")
    added: int = Field(description="Files added since the previous deploy.")
    changed: int = Field(description="Files changed since the previous deploy.")
    removed: int = Field(description="Files removed since the previous deploy.")
    warnings: list[str] = Field(description="Problems that the deploy may cause later.")
    excluded: int = Field(description="How many files the exclude patterns excluded.")
    excluded_paths: list[str] = Field(description="The first paths that the exclude patterns matched.")
    added_paths: list[str] = Field(description="The first files added since the previous deploy.")
    changed_paths: list[str] = Field(description="The first files changed since the previous deploy.")
    removed_paths: list[str] = Field(description="The first files removed since the previous deploy.")
    cut: bool = Field(description=f"Whether there are more paths of a kind than the {MAX_ANSWERED_PATHS} listed.")


class FrozenAnswer(Answer):
    """Why nothing may be deployed."""

    reason: str = Field(description="The reason.")
    until: int | None = Field(description="When it ends, in seconds since the epoch; null: when it is lifted.")
    actor: str = Field(description="Who froze the deployment.")


class FreezeAnswer(Answer):
    """The freeze of a deployment."""

    deployment: str = Field(description="The deployment.")
    frozen: FrozenAnswer | None = Field(description="null if it is not frozen.")


class DeploymentAnswer(Answer):
    """One deployment."""

    name: str = Field(description="Its name.")
    state: str = Field(description="The state of its fleet: EMPTY, UNKNOWN, DEPLOYING, HEALTHY or DEGRADED.")
    version: str = Field(description="The current version; empty if nothing is deployed, or it is not known.")
    deployed_at: int | None = Field(description="When that was deployed, in seconds since the epoch.")
    disabled: str | None = Field(description="Why the configuration allows no deploys; null if it does.")
    frozen: FrozenAnswer | None = Field(description="null if it is not frozen.")
    created_by: str | None = Field(description="Who created it by a request; null if the configuration names it.")
    scopes: list[str] = Field(description="What the caller may do with it.")
    upload_limit_bytes: int = Field(description="How many bytes an upload may have.")


class DeploymentsAnswer(Answer):
    """The deployments that the caller may see."""

    deployments: list[DeploymentAnswer] = Field(description="By name.")


class CreateAnswer(DeploymentAnswer):
    """A deployment that was created."""

    created: bool = Field(description="Whether this request created it; false: it was there.")


class DeleteAnswer(Answer):
    """A deployment that was deleted."""

    name: str = Field(description="Its name.")
    deleted: bool = Field(description="Whether this request deleted it; false: it was gone.")


class PermissionAnswer(Answer):
    """What the caller may do with one deployment."""

    name: str = Field(description="The deployment.")
    scopes: list[str] = Field(description="The caller's scopes.")
    prefixes: list[str] = Field(description="Where the caller may deploy; empty: everywhere.")


class WhoamiAnswer(Answer):
    """Who the caller is, and what the caller may do."""

    actor: str = Field(description="The name in the deploy log.")
    expires: int | None = Field(description="When the credentials expire, in seconds since the epoch; null: never.")
    deployments: list[PermissionAnswer] = Field(description="The deployments that the caller may see, by name.")


class AstroErrorAnswer(Answer):
    """Why a request of the astro CLI failed."""

    message: str = Field(description="What happened, and what to type instead.")


class AstroAnswer(Answer):
    """A GraphQL response: one of the two keys, never both."""

    data: dict[str, Any] = Field(default={}, description="The value of the query's root field, by its name or alias.")
    errors: list[AstroErrorAnswer] = Field(default=[], description="One error; the key is absent on success.")


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
    in_use: int = Field(description="How many old trees on its volume tasks still use.")


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
    leases: LeasesAnswer
    parsed: ParsedAnswer | None = Field(
        description="What Airflow has read, which `state` does not depend on; null if nobody reports it."
    )
    import_check: ImportCheckAnswer | None = Field(
        description="The import check of what is deployed; null if it is off, and there is no checker."
    )


class ErrorAnswer(Answer):
    """An error. Some have more fields."""

    model_config = ConfigDict(extra="allow")

    code: str = Field(description="The error's name; the documentation lists them under reference/errors.md.")
    message: str = Field(description="What went wrong.")
    hint: str = Field(description="What to do next.")


def deploy_answer(deploy: Deploy) -> LoggedDeployAnswer:
    """Return a deploy as it is sent."""
    return LoggedDeployAnswer(**_logged(deploy))


def _logged(deploy: Deploy) -> dict[str, Any]:
    return {**deploy._asdict(), "flags": deploy.flags or [], "details_sha256": deploy.details}


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
    return OneDeployAnswer(**{**_logged(deploy), "details": sent})


def diff_answer(old: Deploy | None, new: Deploy, found: Differences) -> DiffAnswer:
    """Return the differences between two deploys as they are sent; ``old`` is ``None`` before the first deploy."""
    return DiffAnswer(
        **{"from": old.version if old else ""},
        to=new.version,
        added=[OnlyThereAnswer(**entry._asdict()) for entry in found.added],
        changed=[
            ChangedFileAnswer(
                path=after.path,
                old_size=before.size,
                size=after.size,
                old_mode=before.mode,
                mode=after.mode,
                old_sha256=before.sha256,
                sha256=after.sha256,
            )
            for before, after in found.changed
        ],
        removed=[OnlyThereAnswer(**entry._asdict()) for entry in found.removed],
        cut=found.cut,
    )


def current_answer(log_id: str, deploy: Deploy | None, entry_sha256: str) -> CurrentAnswer:
    """Return the current deploy as it is sent; ``None`` if nothing has been deployed yet."""
    nothing = Deploy(0, "", "", "", "", "", 0, 0, 0, 0)
    return CurrentAnswer(log_id=log_id, entry_sha256=entry_sha256, **(deploy or nothing)._asdict())


def frozen_answer(freeze: Freeze | None) -> FrozenAnswer | None:
    """Return a freeze as it is sent."""
    return freeze and FrozenAnswer(reason=freeze.reason, until=freeze.until, actor=freeze.actor)


def upload_answer(result: DeployResult) -> UploadAnswer:
    """Return the result of a request to deploy as it is sent."""
    deploy, request = result.deploy, result.request
    added, changed, removed = result.changes
    return UploadAnswer(
        version=deploy.version if deploy else "",
        digest=result.digest,
        sequence=deploy.sequence if deploy else 0,
        kind=request.kind,
        under=request.under,
        dry_run=request.dry_run,
        unchanged=result.unchanged,
        added=len(added),
        changed=len(changed),
        removed=len(removed),
        warnings=result.warnings,
        excluded=result.excluded_files,
        excluded_paths=result.excluded,
        added_paths=added[:MAX_ANSWERED_PATHS],
        changed_paths=changed[:MAX_ANSWERED_PATHS],
        removed_paths=removed[:MAX_ANSWERED_PATHS],
        cut=any(len(paths) > MAX_ANSWERED_PATHS for paths in result.changes),
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
        frozen=frozen_answer(deployment.freeze_at(now)),
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
                in_use=pod.in_use,
            )
            for pod in status.pods
        ],
        servers=ServersAnswer(asked=status.asked, answered=status.answered),
        leases=leases_answer(deployment.leases),
        parsed=parsed_answer(status.parsed, now),
        import_check=import_check_answer(deployment, status.parsed, now),
    )


def json_response(body: BaseModel | bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a JSON response; ``body`` may already be JSON."""
    data = body if isinstance(body, bytes) else body.model_dump_json(by_alias=True).encode()
    return web.Response(
        body=data,
        status=status,
        headers={**FIXED_HEADERS, "Content-Type": JSON_TYPE, **(headers or {})},
    )


def error_response(error: DagferryError, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return the response for ``error``."""
    return json_response(ErrorAnswer(**error.as_dict()), error.status, headers)
