"""What several pages need to know of a deployment: its deploys as they are shown, what may be undone, its pods."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dagferry_core.deploylog import Deploy
from dagferry_core.names import MAX_SEQUENCE
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.errors import RequestError, StoreError, VersionNotFound
from dagferry_server.fleet.status import Pod, PodState, Status
from dagferry_server.http.request_context import RequestContext
from dagferry_server.web.site import Site
from dagferry_server.web.texts import ShownDeploy, shown_deploy

PAGE_PODS = 50
WORST_FIRST = (PodState.FAILING, PodState.LOST, PodState.CLAIMS_UNKNOWN, PodState.BEHIND, PodState.LIVE)
MAX_NUMBER_CHARACTERS = 12


async def shown_deploys(site: Site, deployment: Deployment, deploys: Sequence[Deploy]) -> list[ShownDeploy]:
    """Return deploys as pages show them, with the numbers of their warnings as far as they can be read."""
    warnings = await asyncio.gather(*(_warnings(site, deployment, deploy) for deploy in deploys))
    current, breaks = deployment.current, deployment.fleet.reporters.breaks
    return [
        shown_deploy(
            deploy,
            warnings=number,
            is_current=deploy is current,
            new_import_errors=breaks.get(deploy.version, 0),
        )
        for deploy, number in zip(deploys, warnings, strict=True)
    ]


async def _warnings(site: Site, deployment: Deployment, deploy: Deploy) -> int | None:
    key = "warnings", deployment.name, deploy.version, deploy.nonce
    number: int | None = site.facts.get(key)
    if number is None:
        try:
            details = await deployment.details(deploy)
        except StoreError:
            return None
        number = len(details.warnings) if details else 0
        site.facts.put(key, number)
    return number


async def before(deployment: Deployment, deploy: Deploy) -> Deploy | None:
    """Return the deploy that precedes another one."""
    page = await deployment.page(deploy.sequence, 1)
    return page[0] if page else None


async def find_deploy(deployment: Deployment, name: str) -> Deploy:
    """Return the deploy of a version, or of a number as ``#42`` or ``42``; raises what ``Deployment.deploy`` raises."""
    digits = name.strip().removeprefix("#")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= MAX_NUMBER_CHARACTERS):
        return await deployment.deploy(name.strip())
    number = min(int(digits), MAX_SEQUENCE)
    page = await deployment.page(number + 1, 1) if number else []
    if not page or page[0].sequence != number:
        raise VersionNotFound(f"{deployment.name} has no deploy number {number}.")
    return page[0]


class Undo(NamedTuple):
    """What a visitor may roll back: all of a deployment if ``folders`` is empty, or only these.

    ``closed`` says why nothing can be deployed now; with ``override``, the visitor may deploy in spite of a freeze.
    """

    allowed: bool
    folders: tuple[str, ...]
    closed: str
    override: bool

    @property
    def offered(self) -> bool:
        """Whether a link to roll back makes sense."""
        return self.allowed and (not self.closed or self.override)


def may_undo(context: RequestContext) -> Undo:
    """Return what the visitor may roll back."""
    deployment, caller = context.deployment, context.caller
    scopes = caller.scopes(deployment.name)
    freeze = deployment.freeze_at(context.service.clock())
    disabled = deployment.settings.disabled
    closed = "It is disabled." if disabled else "It is frozen." if freeze else ""
    override = bool(freeze) and not disabled and "override" in scopes
    return Undo("deploy" in scopes, caller.prefixes(deployment.name) or (), closed, override)


class Pods(NamedTuple):
    """A page of the pods of a fleet, the worst first. ``first`` counts from 0; ``components`` are all of them."""

    pods: list[Pod]
    first: int
    total: int
    state: str
    components: Sequence[tuple[str, int, int, int]]
    """Name, how many pods have the newest deploy live, how many there are, how many are expected."""


def pods_of(status: Status, expected: Mapping[str, int], first: int, state: str) -> Pods:
    """Return a page of the pods; with ``state``, only of those in this state."""
    pods = [pod for pod in status.pods if state in {"", pod.state.value}]
    pods.sort(key=lambda pod: (WORST_FIRST.index(pod.state), pod.component, pod.instance))
    known = Counter(pod.component for pod in status.pods)
    live = Counter(pod.component for pod in status.pods if pod.state is PodState.LIVE)
    names = sorted({*known, *expected})
    components = [(name, live[name], known[name], expected.get(name, 0)) for name in names]
    return Pods(pods[first : first + PAGE_PODS], first, len(pods), state, components)


def pod_state(context: RequestContext) -> str:
    """Return the state of pods that a request asks for; empty: all."""
    state = context.request.query.get("state", "")
    if state not in {"", *(known.value for known in PodState)}:
        raise RequestError(f"state={state[:40]!r} is not a state of pods.")
    return state
