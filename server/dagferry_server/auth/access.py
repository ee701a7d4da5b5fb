"""What a caller may do, and the one function that decides it: pure, and used before the body or the store is touched.

A caller who may not see a deployment learns nothing about it: the response is the same as if it did not exist.
"""

from collections.abc import Collection
from typing import Literal, NamedTuple, get_args

from dagferry_core.tokens import SCOPES, Scope
from dagferry_server.auth.patterns import matches
from dagferry_server.errors import DeploymentNotFound, Forbidden, Unauthenticated

ANY: Literal["any"] = "any"
"""In place of a scope: every caller with valid credentials may use the endpoint, whatever they grant."""

GateLevel = Literal["off", "warn", "enforce"]
"""What happens to files that fail the checks before a deploy: nothing, a warning, a refusal. From lenient to strict."""

GATE_LEVELS: tuple[GateLevel, ...] = get_args(GateLevel)


class Grant(NamedTuple):
    """Scopes on deployments, which are names or patterns such as ``team-*``.

    With ``prefixes``, such as ``team-a/``, it allows deploys below these folders only, and reading as without. ``gate``
    replaces the level of the deployment.
    """

    scopes: frozenset[Scope]
    deployments: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    gate: GateLevel | None = None

    def covers(self, deployment: str) -> bool:
        """Return whether it is for ``deployment``."""
        return any(matches(pattern, deployment) for pattern in self.deployments)

    def allows_deploy(self, deployment: str, under: str) -> bool:
        """Return whether it allows deploys to ``deployment`` that change nothing outside of ``under``; ``""``: all."""
        is_within = not self.prefixes or under.startswith(self.prefixes)
        return "deploy" in self.scopes and self.covers(deployment) and is_within


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
            if grant.covers(deployment):
                held |= grant.scopes
        if "deploy" in held:
            held.add("read")
        return frozenset(held)

    def prefixes(self, deployment: str) -> tuple[str, ...] | None:
        """Return the folders that the caller may deploy to, sorted; ``None`` if it may deploy all of ``deployment``."""
        grants = [grant for grant in self.grants if "deploy" in grant.scopes and grant.covers(deployment)]
        if any(not grant.prefixes for grant in grants):
            return None
        return tuple(sorted({prefix for grant in grants for prefix in grant.prefixes}))

    def gate(self, deployment: str, under: str) -> GateLevel | None:
        """Return the level for this caller's deploys below ``under``; ``None``: that of the deployment.

        Of several grants that allow the deploy and have a level, the most lenient one counts.
        """
        levels = {grant.gate for grant in self.grants if grant.allows_deploy(deployment, under)}
        return next((level for level in GATE_LEVELS if level in levels), None)


MAX_NAME_CHARACTERS = 63
"""How much of an unknown name is quoted in an error; real names are no longer than this."""

MAX_PREFIX_CHARACTERS = 100
MAX_SHOWN_NAMES = 10
"""How many deployments or folders an error lists."""

ANYBODY = Caller("anonymous", (Grant(frozenset(SCOPES), ("*",)),), by_browser=True)
"""The caller on a server without credentials, which is protected only by its address."""


def no_deployment(name: str, others: Collection[str] = ()) -> DeploymentNotFound:
    """Return the error for a deployment that does not exist, or that the caller may not see.

    ``others`` are the deployments that exist, given only on a server that hides none from anybody.
    """
    shown = ", ".join(sorted(others)[:MAX_SHOWN_NAMES]) + (", …" if len(others) > MAX_SHOWN_NAMES else "")
    has = f" It has: {shown}." if others else ""
    return DeploymentNotFound(f"There is no deployment {name[:MAX_NAME_CHARACTERS]!r} on this server.{has}")


def authorize(
    scope: Scope | Literal["any"] | None,
    deployment: str,
    caller: Caller | None,
    *,
    creates: bool = False,
    or_scope: Scope | None = None,
) -> None:
    """Return if ``caller`` may make a request that needs ``scope`` on ``deployment``; else raise why not.

    ``scope`` is ``None`` for an endpoint that is open to everybody; ``caller`` is ``None`` if the request carried no
    credentials (invalid ones never get here: they raise before). ``or_scope`` is another one that is enough. A request
    that ``creates`` the deployment is forbidden to others in the same words whether it exists or not. Raises
    ``Unauthenticated``, ``DeploymentNotFound`` or ``Forbidden``.
    """
    if scope is None:
        return
    if caller is None:
        raise Unauthenticated("No credentials were sent, and this endpoint requires them.")
    if scope == ANY:
        return
    held = caller.scopes(deployment)
    if not held and not creates:
        raise no_deployment(deployment)
    if scope not in held and or_scope not in held:
        raise Forbidden(
            f"This endpoint requires the scope {scope!r} on {deployment!r}, which {caller.actor!r} does not have."
        )


def authorize_write(deployment: str, under: str, caller: Caller) -> None:
    """Return if ``caller``, who may deploy to ``deployment``, may change what is below ``under``; ``""``: all of it.

    Raises ``Forbidden`` if all of the caller's grants are limited to other folders.
    """
    if any(grant.allows_deploy(deployment, under) for grant in caller.grants):
        return
    prefixes = caller.prefixes(deployment) or ()
    shown = ", ".join(prefixes[:MAX_SHOWN_NAMES]) + (", …" if len(prefixes) > MAX_SHOWN_NAMES else "")
    asked = repr(under[:MAX_PREFIX_CHARACTERS]) if under else "all of it"
    raise Forbidden(
        f"{caller.actor!r} may deploy to {deployment!r} only below {shown}; this request is for {asked}.",
        "Name the folder in the request: ?under=team-a/, or dagferry deploy --under team-a/. For other folders, ask "
        "the server's operator.",
    )
