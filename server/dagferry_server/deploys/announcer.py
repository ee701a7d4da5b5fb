"""Informs webhooks when a fleet degrades, and when it has recovered: once each, however often it changes in between.

All servers on one store see the same, and one of them sends: the leader. If it is gone soon after, nobody knows whether
it did, and the next leader sends the message again.
"""

from collections.abc import Callable
from typing import NamedTuple

from dagferry_server.deploys.deployment import Deployment
from dagferry_server.fleet.status import State
from dagferry_server.webhooks.delivery import Webhooks
from dagferry_server.webhooks.messages import Message, degraded, recovered

UNSURE_SECONDS = 30.0
"""For how long after a message it is not certain that the leader sent it, should it be gone."""


class _Left(NamedTuple):
    """A message that was left to another server, and when."""

    leader: str
    deployment: Deployment
    message: Message
    at: float


class Announcer:
    """Follows the fleets of all deployments. ``clock`` gives seconds since the epoch; used on the event loop.

    ``leader`` returns the id of the server that sends; this one is ``own_id``.
    """

    def __init__(self, webhooks: Webhooks, clock: Callable[[], float]) -> None:
        self.own_id = ""
        self.leader: Callable[[], str] = lambda: ""
        self._webhooks = webhooks
        self._clock = clock
        self._degraded: set[str] = set()
        self._left: dict[str, _Left] = {}

    def changed(self, deployment: Deployment, _before: State, after: State, reason: str) -> None:
        """Note that the state of a fleet has become another one.

        A fleet that degraded has recovered when it is healthy; to be deploying or unknown meanwhile changes nothing.
        """
        name, version = deployment.name, deployment.current.version if deployment.current else ""
        if after is State.DEGRADED and name not in self._degraded:
            self._degraded.add(name)
            self._send(deployment, degraded(name, version, reason, self._clock()))
        elif after is State.HEALTHY and name in self._degraded:
            self._degraded.discard(name)
            self._send(deployment, recovered(name, version, reason, self._clock()))
        elif after is State.EMPTY:
            self._degraded.discard(name)

    def sender_gone(self, server_id: str) -> None:
        """Send what was left to a server that does not answer any more, if it may not have sent it."""
        for name, left in list(self._left.items()):
            if left.leader == server_id:
                del self._left[name]
                if self._clock() - left.at < UNSURE_SECONDS:
                    self._send(left.deployment, left.message)

    def _send(self, deployment: Deployment, message: Message) -> None:
        leader = self.leader()
        if leader == self.own_id:
            self._left.pop(deployment.name, None)
            self._webhooks.send(deployment.settings.webhooks, message)
        else:
            self._left[deployment.name] = _Left(leader, deployment, message, self._clock())
