"""The JSON answers: their shapes, which the spec is made from too, and how they are sent."""

from collections.abc import Mapping

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from dagferry_core import __version__
from dagferry_core.deploy_details import DeployDetails
from dagferry_core.deploylog import Deploy
from dagferry_core.errors import DagferryError
from dagferry_core.protocol import JSON_TYPE

FIXED_HEADERS: Mapping[str, str] = {
    # A deploy must never be hidden by a cache in between, nor a body be packed anew.
    "Cache-Control": "no-store, no-transform",
    "Server": f"dagferry/{__version__}",
    "X-Content-Type-Options": "nosniff",
}


class Answer(BaseModel):
    """What all answers share."""

    model_config = ConfigDict(frozen=True)


class DeployAnswer(Answer):
    """One deploy."""

    sequence: int = Field(description="Its number in the deploy log.")
    version: str = Field(description="Its public name.")
    digest: str = Field(description="The content: sha256 over the manifest.")
    kind: str = Field(description="upload, rollback or promote; a later server may know more.")
    description: str = Field(description="What whoever deployed said about it.")
    actor: str = Field(description="Who deployed.")
    time: int = Field(description="When, in seconds since the epoch, UTC.")
    added: int = Field(description="Files added against the deploy before.")
    changed: int = Field(description="Files changed against the deploy before.")
    removed: int = Field(description="Files removed against the deploy before.")


class LoggedDeployAnswer(DeployAnswer):
    """One deploy, as the log has it. Who follows needs no more than the above, and each of them gets it."""

    git: dict[str, str] | None = Field(description="Where the content comes from; null if that was not said.")


class CurrentAnswer(DeployAnswer):
    """The current deploy; sequence 0 and empty fields if nothing was deployed yet."""

    log_id: str = Field(description="The name of the deploy log; another one after the store was lost or restored.")


class DeploysAnswer(Answer):
    """A page of the deploy log."""

    deploys: list[LoggedDeployAnswer] = Field(description="Newest first.")
    next: int | None = Field(description="Give this as `before` for the next page; null on the last one.")


class DetailsAnswer(Answer):
    """What there is to say about a deploy beside its entry in the log; long lists are cut."""

    warnings: list[str] = Field(description="What may go wrong later.")
    excluded_paths: list[str] = Field(description="The first paths that the exclude patterns matched.")
    added_paths: list[str] = Field(description="Files added against the deploy before.")
    changed_paths: list[str] = Field(description="Files changed against the deploy before.")
    removed_paths: list[str] = Field(description="Files removed against the deploy before.")
    cut: bool = Field(description="There was more of it than is kept.")


class OneDeployAnswer(LoggedDeployAnswer):
    """One deploy with its details."""

    details: DetailsAnswer | None = Field(description="null if there are none, as of a deploy by an older server.")


class UploadAnswer(Answer):
    """What an upload led to."""

    version: str = Field(description="The version that is current now.")
    digest: str = Field(description="Its content: sha256 over the manifest.")
    sequence: int = Field(description="Its number in the deploy log.")
    unchanged: bool = Field(description="The content was deployed already, so no deploy was made.")
    added: int = Field(description="Files added against the deploy before.")
    changed: int = Field(description="Files changed against the deploy before.")
    removed: int = Field(description="Files removed against the deploy before.")
    warnings: list[str] = Field(description="What may go wrong later.")
    excluded: int = Field(description="How many files the exclude patterns left out.")
    excluded_paths: list[str] = Field(description="The first paths that fell under them.")


class StatusAnswer(Answer):
    """The server's word on itself."""

    status: str = Field(description="ok")


class ErrorAnswer(Answer):
    """What went wrong."""

    code: str = Field(description="The error's name; the documentation lists them under reference/errors.md.")
    message: str = Field(description="What happened to what.")
    hint: str = Field(description="What to do next.")


def deploy_answer(deploy: Deploy) -> LoggedDeployAnswer:
    """Return a deploy as it is sent."""
    return LoggedDeployAnswer(**deploy._asdict())


def one_deploy_answer(deploy: Deploy, details: DeployDetails | None) -> OneDeployAnswer:
    """Return a deploy as it is sent together with its details."""
    told = details and DetailsAnswer(
        warnings=details.warnings,
        excluded_paths=details.excluded,
        added_paths=details.added,
        changed_paths=details.changed,
        removed_paths=details.removed,
        cut=details.cut,
    )
    return OneDeployAnswer(**{**deploy._asdict(), "details": told})


def current_answer(log_id: str, deploy: Deploy | None) -> CurrentAnswer:
    """Return the current deploy as it is sent, or that there is none."""
    nothing = Deploy(0, "", "", "", "", "", 0, 0, 0, 0)
    return CurrentAnswer(log_id=log_id, **(deploy or nothing)._asdict())


def json_response(body: BaseModel | bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer; ``body`` may be JSON already."""
    data = body if isinstance(body, bytes) else body.model_dump_json().encode()
    return web.Response(
        body=data,
        status=status,
        headers={**FIXED_HEADERS, "Content-Type": JSON_TYPE, **(headers or {})},
    )


def error_response(error: DagferryError, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return the answer that says what went wrong."""
    return json_response(ErrorAnswer(**error.as_dict()), error.status, headers)
