"""Which changes of a fleet are messages."""

import pytest

from dagferry_server.deploys.announcer import UNSURE_SECONDS, Announcer
from dagferry_server.fleet.status import State
from dagferry_server.webhooks.delivery import Webhooks
from dagferry_server.webhooks.messages import Message
from dagferry_server.webhooks.settings import Webhook
from running import A


class Recorded(Webhooks):
    """Webhooks that only remember what they were given, and to whom it goes."""

    def __init__(self) -> None:
        self.sent: list[tuple[tuple[Webhook, ...], Message]] = []

    def send(self, webhooks, message) -> None:
        self.sent.append((tuple(webhooks), message))


@pytest.mark.parametrize(
    ("states", "events"),
    [
        (["DEPLOYING", "HEALTHY", "DEPLOYING", "HEALTHY"], []),
        (["DEGRADED"], ["degraded"]),
        (["DEGRADED", "HEALTHY"], ["degraded", "recovered"]),
        (["DEGRADED", "DEPLOYING", "HEALTHY"], ["degraded", "recovered"]),
        (["DEGRADED", "DEPLOYING", "DEGRADED", "UNKNOWN", "DEGRADED"], ["degraded"]),
        (["DEGRADED", "HEALTHY", "DEGRADED", "HEALTHY"], ["degraded", "recovered", "degraded", "recovered"]),
        (["UNKNOWN", "HEALTHY"], []),
        (["DEGRADED", "EMPTY", "DEPLOYING", "HEALTHY"], ["degraded"]),
    ],
)
async def test_a_fleet_that_degrades_is_told_once_and_again_when_all_is_well(server, states, events) -> None:
    await server.deploy(A)
    webhooks = Recorded()
    announcer, deployment = Announcer(webhooks, lambda: 100.0), server.service.deployments["default"]
    for before, after in zip(["UNKNOWN", *states], states, strict=False):
        announcer.changed(deployment, State(before), State(after), f"it is {after}")
    assert [message.event for _, message in webhooks.sent] == events
    for _, message in webhooks.sent:
        assert (message.deployment, message.time) == ("default", 100)
        assert message.facts["version"] == deployment.current.version


async def test_deployments_are_apart(start) -> None:
    server = await start("--deployments", "prod,staging")
    webhooks = Recorded()
    announcer = Announcer(webhooks, lambda: 100.0)
    prod, staging = (server.service.deployments[name] for name in ("prod", "staging"))
    announcer.changed(prod, State.DEPLOYING, State.DEGRADED, "worker-3 is behind")
    announcer.changed(staging, State.DEPLOYING, State.HEALTHY, "")
    ((_, message),) = webhooks.sent
    assert (message.deployment, message.facts["reason"]) == ("prod", "worker-3 is behind")


class Several:
    """An announcer on one of several servers, of which another one may send the messages."""

    def __init__(self, deployment) -> None:
        self.now = 100.0
        self.webhooks = Recorded()
        self.deployment = deployment
        self.announcer = Announcer(self.webhooks, lambda: self.now)
        self.announcer.own_id, self.announcer.leader = "me", lambda: self.leader
        self.leader = "another"

    def degrade(self) -> None:
        self.announcer.changed(self.deployment, State.HEALTHY, State.DEGRADED, "a pod is failing")

    def recover(self) -> None:
        self.announcer.changed(self.deployment, State.DEGRADED, State.HEALTHY, "all is well")

    @property
    def events(self) -> list[str]:
        return [message.event for _, message in self.webhooks.sent]


async def test_what_another_server_sends_is_not_sent_twice(server) -> None:
    several = Several(server.service.deployments["default"])
    several.degrade()
    assert several.events == []
    several.leader = "me"
    several.recover()
    assert several.events == ["recovered"], "the other one has sent the first message"


async def test_the_next_leader_sends_what_the_last_one_may_not_have_sent(server) -> None:
    several = Several(server.service.deployments["default"])
    several.degrade()
    several.announcer.sender_gone("a third one")
    assert several.events == []
    several.leader = "me"
    several.announcer.sender_gone("another")
    several.announcer.sender_gone("another")
    assert several.events == ["degraded"]


async def test_what_was_sent_long_ago_is_not_sent_again(server) -> None:
    several = Several(server.service.deployments["default"])
    several.degrade()
    several.now += UNSURE_SECONDS
    several.leader = "me"
    several.announcer.sender_gone("another")
    assert several.events == []
