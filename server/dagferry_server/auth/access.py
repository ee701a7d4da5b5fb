"""What a caller may do, and the one decision about it: pure, and taken before a body is read or the store is touched.

Whoever may not see a deployment learns nothing about it: they get what they would get if it did not exist.
"""

import enum
from collections.abc import Collection
from typing import Literal, NamedTuple, get_args

from dagferry_core.errors import DagferryError
from dagferry_server.auth.patterns import matches
from dagferry_server.errors import DeploymentNotFound, Forbidden, Unauthenticated

Scope = Literal["deploy", "override", "sync", "read"]
"""``deploy`` uploads, rolls back and reads; ``override`` lets a deploy past the checks that hold it back; ``sync`` is
what a sidecar needs; ``read`` is the log, the status and the download."""

SCOPES: tuple[Scope, ...] = get_args(Scope)


class Grant(NamedTuple):
    """Scopes on deployments, which are names or patterns such as ``team-*``."""

    scopes: frozenset[Scope]
    deployments: tuple[str, ...]


class Caller(NamedTuple):
    """Who made a request.

    ``actor`` is the name that stands in the deploy log and in the logs; ``expires`` is when the credentials end
    (seconds since the epoch), ``None`` if they do not. ``by_browser`` says that a browser's request is theirs without
    anything that a page would have to know: pages of other origins must not make any.
    """

    actor: str
    grants: tuple[Grant, ...]
    expires: float | None = None
    by_browser: bool = False

    def scopes(self, deployment: str) -> frozenset[Scope]:
        """Return what the caller may do with ``deployment``; nothing at all if they may not even know of it."""
        held: set[Scope] = set()
        for grant in self.grants:
            if any(matches(pattern, deployment) for pattern in grant.deployments):
                held |= grant.scopes
        if "deploy" in held:
            held.add("read")
        return frozenset(held)


MAX_NAME_CHARACTERS = 63
"""How much is said back of a name that somebody made up; a real one is no longer."""

MAX_SHOWN_NAMES = 10

ANYBODY = Caller("anonymous", (Grant(frozenset(SCOPES), ("*",)),), by_browser=True)
"""The caller of a server without credentials: its address is the guard."""


class Decision(enum.Enum):
    """What becomes of a request, before anything else is known about it."""

    ALLOWED = "allowed"
    UNAUTHENTICATED = "unauthenticated"
    NOT_FOUND = "not found"
    FORBIDDEN = "forbidden"


def decide(scope: Scope | None, deployment: str, caller: Caller | None) -> Decision:
    """Decide about a call that needs ``scope`` on ``deployment``; ``None`` is a call that is open to everybody.

    ``caller`` is ``None`` if the request carried no credentials. Those that are no good never get here: they raise.
    """
    if scope is None:
        return Decision.ALLOWED
    if caller is None:
        return Decision.UNAUTHENTICATED
    held = caller.scopes(deployment)
    if not held:
        return Decision.NOT_FOUND
    return Decision.ALLOWED if scope in held else Decision.FORBIDDEN


def no_deployment(name: str, others: Collection[str] = ()) -> DeploymentNotFound:
    """Return the one error for a deployment that does not exist, or that the caller may not see.

    ``others`` are those that the server has, for a server that hides nothing from anybody.
    """
    shown = ", ".join(sorted(others)[:MAX_SHOWN_NAMES]) + (", …" if len(others) > MAX_SHOWN_NAMES else "")
    has = f" It has: {shown}." if others else ""
    return DeploymentNotFound(f"There is no deployment {name[:MAX_NAME_CHARACTERS]!r} on this server.{has}")


def refusal(decision: Decision, scope: Scope | None, deployment: str, caller: Caller | None) -> DagferryError | None:
    """Return the error that a decision leads to; ``None`` if it is ``ALLOWED``."""
    if decision is Decision.UNAUTHENTICATED:
        return Unauthenticated("The request has no credentials, and this call needs some.")
    if decision is Decision.NOT_FOUND:
        return no_deployment(deployment)
    if decision is Decision.FORBIDDEN and caller:
        return Forbidden(
            f"This call needs the scope {scope!r} on {deployment!r}, which {caller.actor!r} does not have."
        )
    return None
