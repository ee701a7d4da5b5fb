"""Informs webhooks when a fleet degrades, and when it has recovered: once each, however often it changes in between."""

from collections.abc import Callable

from dagferry_server.deploys.deployment import Deployment
from dagferry_server.fleet.status import State
from dagferry_server.webhooks.delivery import Webhooks
from dagferry_server.webhooks.messages import degraded, recovered


class Announcer:
    """Follows the fleets of all deployments. ``clock`` gives seconds since the epoch; used on the event loop."""

    def __init__(self, webhooks: Webhooks, clock: Callable[[], float]) -> None:
        self._webhooks = webhooks
        self._clock = clock
        self._degraded: set[str] = set()

    def changed(self, deployment: Deployment, _before: State, after: State, reason: str) -> None:
        """Note that the state of a fleet has become another one.

        A fleet that degraded has recovered when it is healthy; to be deploying or unknown meanwhile changes nothing.
        """
        name, version = deployment.name, deployment.current.version if deployment.current else ""
        if after is State.DEGRADED and name not in self._degraded:
            self._degraded.add(name)
            self._webhooks.send(deployment.settings.webhooks, degraded(name, version, reason, self._clock()))
        elif after is State.HEALTHY and name in self._degraded:
            self._degraded.discard(name)
            self._webhooks.send(deployment.settings.webhooks, recovered(name, version, reason, self._clock()))
        elif after is State.EMPTY:
            self._degraded.discard(name)
