"""What a caller may do, and the one function that decides it: pure, and used before the body or the store is touched.

A caller who may not see a deployment learns nothing about it: the response is the same as if it did not exist.
"""

from collections.abc import Collection
from typing import Literal, NamedTuple, get_args

from dagferry_server.auth.patterns import matches
from dagferry_server.errors import DeploymentNotFound, Forbidden, Unauthenticated

Scope = Literal["deploy", "override", "sync", "read", "admin"]
"""``deploy`` allows uploads, rollbacks and reading; ``override`` bypasses the checks that would block a deploy;
``sync`` is what a sidecar needs; ``read`` allows the log, the status and downloads; ``admin`` freezes deployments, and
creates and deletes them."""

SCOPES: tuple[Scope, ...] = get_args(Scope)


class Grant(NamedTuple):
    """Scopes on deployments, which are names or patterns such as ``team-*``."""

    scopes: frozenset[Scope]
    deployments: tuple[str, ...]


class Caller(NamedTuple):
    """Who sent a request.

    ``actor`` is the name in the deploy log and in the logs; ``expires`` is when the credentials expire (seconds since
    the epoch), ``None`` if never. ``by_browser``: a browser is authenticated without any secret that a web page would
    have to know, so pages of other origins must be rejected. ``pod`` is the Kubernetes pod that the credentials were
    issued to, if they name one: its holder can report for no other pod.
    """

    actor: str
    grants: tuple[Grant, ...]
    expires: float | None = None
    by_browser: bool = False
    pod: str | None = None

    def scopes(self, deployment: str) -> frozenset[Scope]:
        """Return the caller's scopes on ``deployment``; empty if the caller may not know that it exists."""
        held: set[Scope] = set()
        for grant in self.grants:
            if any(matches(pattern, deployment) for pattern in grant.deployments):
                held |= grant.scopes
        if "deploy" in held:
            held.add("read")
        return frozenset(held)


MAX_NAME_CHARACTERS = 63
"""How much of an unknown name is quoted in an error; real names are no longer than this."""

MAX_SHOWN_NAMES = 10

ANYBODY = Caller("anonymous", (Grant(frozenset(SCOPES), ("*",)),), by_browser=True)
"""The caller on a server without credentials, which is protected only by its address."""


def no_deployment(name: str, others: Collection[str] = ()) -> DeploymentNotFound:
    """Return the error for a deployment that does not exist, or that the caller may not see.

    ``others`` are the deployments that exist, given only on a server that hides none from anybody.
    """
    shown = ", ".join(sorted(others)[:MAX_SHOWN_NAMES]) + (", …" if len(others) > MAX_SHOWN_NAMES else "")
    has = f" It has: {shown}." if others else ""
    return DeploymentNotFound(f"There is no deployment {name[:MAX_NAME_CHARACTERS]!r} on this server.{has}")


def authorize(scope: Scope | None, deployment: str, caller: Caller | None) -> None:
    """Return if ``caller`` may make a request that needs ``scope`` on ``deployment``; else raise why not.

    ``scope`` is ``None`` for an endpoint that is open to everybody; ``caller`` is ``None`` if the request carried no
    credentials (invalid ones never get here: they raise before). Raises ``Unauthenticated``, ``DeploymentNotFound`` or
    ``Forbidden``.
    """
    if scope is None:
        return
    if caller is None:
        raise Unauthenticated("No credentials were sent, and this endpoint requires them.")
    held = caller.scopes(deployment)
    if not held:
        raise no_deployment(deployment)
    if scope not in held:
        raise Forbidden(
            f"This endpoint requires the scope {scope!r} on {deployment!r}, which {caller.actor!r} does not have."
        )
