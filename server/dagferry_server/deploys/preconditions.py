"""What a commit checks before it looks at the content, and the warning about content that undoes a deploy of others."""

from collections.abc import Callable
from operator import attrgetter

from dagferry_core.bundle.merge import overlap
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
    """Raise ``VersionMismatch`` unless the current version is one that the request expects.

    Of a deploy of one folder, it also expects any version since which that folder was not deployed.
    """
    expected = request.if_match
    if expected is None:
        return
    current = head.current
    matching = {*head.versions, ANY_VERSION} if current else {NOTHING_TAG}
    if head.is_newest and matching & expected:
        return
    raise _mismatch(head, expected, request.under)


def _mismatch(head: Head, expected: frozenset[str], under: str) -> VersionMismatch:
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
    last = head.last or current
    where = f"{under} of {head.deployment}" if under else head.deployment
    return VersionMismatch(
        f"{where} has version {last.version} by now, deployed by {last.actor!r}, and not {shown}.",
        details={"version": last.version, "actor": last.actor, "time": last.time},
    )


def last_of(deployment: Deployment, under: str) -> tuple[Deploy | None, frozenset[str]]:
    """Return the newest deploy that overlaps the folder ``under``, and its version with all later ones.

    If it is not in memory, there is none, and the versions are those in memory.
    """
    versions = []
    for deploy in deployment.unbroken():
        versions.append(deploy.version)
        if overlap(deploy.under, under):
            return deploy, frozenset(versions)
    return None, frozenset(versions)


def own_newest(deployment: Deployment, actor: str, now: float, under: str = "") -> Deploy | None:
    """Return the newest deploy by ``actor`` that overlaps ``under``, if it is younger than ``REPEATED_SECONDS``."""
    for deploy in reversed(deployment.recent.values()):
        if deploy.time < now - REPEATED_SECONDS:
            return None
        if deploy.actor == actor and overlap(deploy.under, under):
            return deploy
    return None


def repeated_warnings(head: Head, digest: str, digest_of: Callable[[Deploy], str] = attrgetter("digest")) -> list[str]:
    """Return a warning if the actor's last deploy had the content ``digest``, and others deployed after it.

    ``digest_of`` returns that of a deploy, or of the folder of it that the commit is about.
    """
    own, last = head.own, head.last
    if own is None or last is None or own.sequence == last.sequence or digest_of(own) != digest:
        return []
    undoes = (
        f"The same content was deployed as version {own.version} by the same actor, and {last.actor!r} has deployed "
        f"{last.version} since, which this deploy undoes."
    )
    return [f"{undoes} If it was only a repeated request, roll back to {last.version}."]
