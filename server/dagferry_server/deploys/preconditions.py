"""What a commit checks before it looks at the content, and the warning about content that undoes a deploy of others."""

from dagferry_core.deploylog import Deploy
from dagferry_core.protocol import NOTHING_TAG
from dagferry_server.deploys.contents import Head
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.request import ANY_VERSION, DeployRequest
from dagferry_server.errors import VersionMismatch

REPEATED_SECONDS = 600
"""Content that its actor deployed within this time, and others replaced, is suspected to be a repeated request."""
MAX_SHOWN_VERSIONS = 5


def refuse_closed(deployment: Deployment, request: DeployRequest, now: float) -> None:
    """Raise an error if nothing may be deployed at ``now``, in seconds since the epoch.

    Called before an upload is received, and under the lock.
    """
    deployment.refuse_if_disabled()
    deployment.refuse_if_frozen(now, override=request.override_freeze)


def check_match(head: Head, request: DeployRequest) -> None:
    """Raise ``VersionMismatch`` unless the current version is one that the request expects."""
    expected = request.if_match
    if expected is None:
        return
    current = head.current
    matching = {current.version, ANY_VERSION} if current else {NOTHING_TAG}
    if head.is_newest and matching & expected:
        return
    raise _mismatch(head, expected)


def _mismatch(head: Head, expected: frozenset[str]) -> VersionMismatch:
    shown = " or ".join(sorted(expected)[:MAX_SHOWN_VERSIONS])
    if not head.is_newest:
        return VersionMismatch(
            f"The newest entry of the deploy log of {head.deployment}, {head.highest}, is damaged, so that the current "
            f"version cannot be compared with {shown}.",
            "Deploy without If-Match, which does not need the damaged entry.",
        )
    current = head.current
    if current is None:
        return VersionMismatch(
            f"Nothing is deployed to {head.deployment}, but {shown} was expected.", details={"version": ""}
        )
    return VersionMismatch(
        f"{head.deployment} has version {current.version} by now, deployed by {current.actor!r}, and not {shown}.",
        details={"version": current.version, "actor": current.actor, "time": current.time},
    )


def own_newest(deployment: Deployment, actor: str, now: float) -> Deploy | None:
    """Return the newest deploy by ``actor``, if it is younger than ``REPEATED_SECONDS``."""
    for deploy in reversed(deployment.recent.values()):
        if deploy.time < now - REPEATED_SECONDS:
            return None
        if deploy.actor == actor:
            return deploy
    return None


def repeated_warnings(head: Head, digest: str) -> list[str]:
    """Return a warning if the actor's last deploy had the content ``digest``, and others deployed after it."""
    own, current = head.own, head.current
    if own is None or current is None or own.digest != digest or own.sequence == current.sequence:
        return []
    undoes = (
        f"The same content was deployed as version {own.version} by the same actor, and {current.actor!r} has deployed "
        f"{current.version} since, which this deploy undoes."
    )
    return [f"{undoes} If it was only a repeated request, roll back to {current.version}."]
