"""A hook hears of the newest live deploy, is tried again when it fails, and holds up nobody."""

import threading

import pytest

from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import HookFailed
from dagferry_sidecar.hooks import AfterSwap
from harness import eventually

ONE, TWO, THREE = (DeployRef("log", number, f"v-{number}", "sha256:0") for number in (1, 2, 3))
WAIT_SECONDS = 30


class Recorded:
    """A hook that fails as often as it is told, and waits at a gate."""

    name = "recorded"

    def __init__(self) -> None:
        self.ran: list[DeployRef] = []
        self.failures: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.stopped = False

    def run(self, deploy: DeployRef) -> None:
        self.ran.append(deploy)
        self.gate.wait(WAIT_SECONDS)
        if self.failures:
            raise self.failures.pop(0)

    def stop(self) -> None:
        self.stopped = True
        self.gate.set()


@pytest.fixture
def hook():
    return Recorded()


@pytest.fixture
def outcomes():
    return []


@pytest.fixture
def after(hook, outcomes):
    after = AfterSwap(hook, outcomes.append, first_pause_seconds=0.001)
    yield after
    after.stop(WAIT_SECONDS)


def test_each_swap_runs_the_hook_once(hook, after, outcomes) -> None:
    for number, deploy in enumerate((ONE, TWO, ONE), 1):
        after.swapped(deploy)
        eventually("the hook to run", lambda number=number: len(outcomes) == number)
    assert hook.ran == [ONE, TWO, ONE]
    assert outcomes == ["ok"] * 3


def test_the_newest_wins_while_the_hook_is_at_work(hook, after, outcomes) -> None:
    hook.gate.clear()
    after.swapped(ONE)
    eventually("the hook to begin", lambda: hook.ran)
    after.swapped(TWO)
    after.swapped(THREE)
    hook.gate.set()
    eventually("the hook to run again", lambda: len(outcomes) == 2)
    assert hook.ran == [ONE, THREE]


def test_a_failure_is_tried_again_until_it_works(hook, after, outcomes) -> None:
    hook.failures = [HookFailed("no"), HookFailed("no"), ValueError("a defect")]
    after.swapped(ONE)
    eventually("the hook to work", lambda: outcomes[-1:] == ["ok"])
    assert hook.ran == [ONE] * 4
    assert outcomes == ["hook_failed", "hook_failed", "internal", "ok"]


def test_a_newer_deploy_ends_the_pause_after_a_failure(hook, outcomes) -> None:
    after = AfterSwap(hook, outcomes.append, first_pause_seconds=1000)
    hook.failures = [HookFailed("no")]
    after.swapped(ONE)
    eventually("the failure", lambda: outcomes)
    after.swapped(TWO)
    eventually("the newer one", lambda: outcomes[-1:] == ["ok"])
    assert hook.ran == [ONE, TWO]
    after.stop(WAIT_SECONDS)


def test_a_hook_at_work_is_stopped(hook, after) -> None:
    hook.gate.clear()
    after.swapped(ONE)
    eventually("the hook to begin", lambda: hook.ran)
    after.stop(WAIT_SECONDS)
    assert hook.stopped
    after.swapped(TWO)
    assert hook.ran == [ONE]
