"""Waiting succeeds only if the server says that every pod has exactly this deploy; everything else is a failure."""

import itertools
from typing import Any

import click
import pytest

from dagferry_client import converge
from dagferry_client.api import Status
from dagferry_client.converge import NOT_PARSED, WAIT_OPTION, Awaited, wait_until_live
from dagferry_client.decode import decode
from dagferry_client.errors import ConnectionLost, NotConverged
from dagferry_client.output import Output
from dagferry_core.protocol import MAX_WAIT_SECONDS
from recorded_answers import STATUS, VERSION, sidecar

DEPLOY = Awaited("prod", VERSION, 42)
OLD = "20261120T064459Z-000041"
NEW = "20261120T064503Z-000043"
BEHIND: dict[str, Any] = {
    "state": "DEPLOYING",
    "reason": "1 pod is behind.",
    "counts": {"known": 2, "live": 1, "behind": 1, "lost": 0, "failing": 0},
    "sidecars": [sidecar("scheduler-0"), sidecar("worker-0", state="behind", live=OLD)],
}
NOBODY: dict[str, Any] = {
    "state": "UNKNOWN",
    "reason": "No pod is known.",
    "counts": {"known": 0, "live": 0, "behind": 0, "lost": 0, "failing": 0},
    "sidecars": [],
}


class Clock:
    """Time that passes only while somebody waits."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Server:
    """Answers in the order of a script: statuses, ``None`` for a wait without news, and errors; then no news."""

    def __init__(self, clock: Clock, *script: Any, lets_wait: bool = True) -> None:
        self.clock = clock
        self.script = list(script)
        self.waits: list[int] = []
        self.lets_wait = lets_wait

    def status(self, deployment: str, *, tag: str = "", wait: int = 0) -> tuple[Status | None, str]:
        assert deployment == "prod"
        self.waits.append(wait)
        said = self.script.pop(0) if self.script else None
        if isinstance(said, Exception):
            raise said
        if said is None:
            self.clock.now += wait if self.lets_wait else 0
            return None, tag
        self.clock.now += 0.5 if wait else 0
        return decode(Status, {**STATUS, **said}), "tag"


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(converge, "time", made)
    return made


@pytest.fixture
def wait(clock):
    def run(*script: Any, seconds: int = 60, lets_wait: bool = True) -> tuple[Status, Server]:
        server = Server(clock, *script, lets_wait=lets_wait)
        return wait_until_live(server, DEPLOY, seconds, Output()), server

    return run


def fails(wait, *script: Any, **options: Any) -> str:
    with pytest.raises(NotConverged) as caught:
        wait(*script, **options)
    assert caught.value.exit_code == 7
    return str(caught.value)


def test_it_ends_when_every_pod_has_the_deploy_and_says_what_that_does_not_mean(wait, capsys) -> None:
    status, server = wait(BEHIND, {})
    assert status.counts.live == 2
    assert server.waits == [0, MAX_WAIT_SECONDS]
    assert capsys.readouterr() == (
        "",
        f"Live in 1 of 2 pods. 1 pod is behind.\nLive in all 2 pods, after 0.5 s. {NOT_PARSED}\n",
    )


def test_an_older_version_that_is_live_everywhere_is_waited_out(wait) -> None:
    status, _ = wait({"version": OLD, "sequence": 41}, {})
    assert status.version == VERSION


@pytest.mark.parametrize("state", ["EMPTY", "UNKNOWN", "DEPLOYING", "DEGRADED", "NEWER"])
def test_no_other_state_counts_as_live(wait, state) -> None:
    assert "60 s" in fails(wait, {"state": state})


def test_no_pod_is_a_failure_even_if_the_server_calls_it_healthy(wait) -> None:
    for state in ("UNKNOWN", "HEALTHY"):
        assert "no pod of prod is known" in fails(wait, {**NOBODY, "state": state})


def test_a_pod_that_appears_later_counts(wait, capsys) -> None:
    wait(NOBODY, {"counts": {**NOBODY["counts"], "known": 1, "live": 1}})
    err = capsys.readouterr().err
    assert "Waiting for a pod to appear: No pod is known." in err
    assert "Live in the only pod, after" in err


def test_a_later_deploy_is_a_failure_whether_it_is_live_or_not(wait) -> None:
    assert f"superseded by {NEW}" in fails(wait, BEHIND, {"version": NEW, "sequence": 43})
    assert f"superseded by {NEW}" in fails(wait, {**BEHIND, "version": NEW, "sequence": 43})


def test_the_pods_that_lack_it_are_named_with_their_errors(wait) -> None:
    pods = [sidecar(f"worker-{n}", state="failing", error="volume_full: no space") for n in range(7)]
    said = fails(wait, {**BEHIND, "state": "DEGRADED", "sidecars": [sidecar("ok-0"), *pods]}, seconds=90)
    assert (
        "after 90 s prod is DEGRADED, with 1 of 2 pods live. 1 pod is behind. Not live: worker-0 (volume_full:" in said
    )
    assert said.endswith("worker-4 (volume_full: no space) and 2 more.")


def test_a_server_that_does_not_know_the_deploy_in_time_is_a_failure(wait) -> None:
    assert "status does not show it" in fails(wait, {"version": OLD, "sequence": 41})


def test_a_server_that_does_not_answer_any_more_leaves_the_deploy_unknown(wait) -> None:
    said = fails(wait, BEHIND, ConnectionLost("It does not answer."))
    assert said == f"{VERSION} was deployed, but whether it is live is not known: It does not answer."


def test_no_wait_is_longer_than_the_time_that_is_left(wait, clock) -> None:
    server = Server(clock, BEHIND, None)
    with pytest.raises(NotConverged):
        wait_until_live(server, DEPLOY, 70, Output())
    assert server.waits == [0, 50, 20]
    assert clock.now == 1070


def test_something_on_the_way_that_does_not_let_it_wait_is_not_asked_all_the_time(wait, clock) -> None:
    server = Server(clock, BEHIND, None, lets_wait=False)
    with pytest.raises(NotConverged):
        wait_until_live(server, DEPLOY, 20, Output())
    assert 20 <= len(server.waits) <= 22


def test_of_many_changes_few_are_said_without_a_terminal(wait, capsys) -> None:
    changes = [
        {**BEHIND, "reason": f"{n} pods are behind.", "counts": {**STATUS["counts"], "known": 99, "live": 99 - n}}
        for n in range(99, 0, -1)
    ]
    wait(*changes, {})
    lines = capsys.readouterr().err.splitlines()
    assert 20 <= len(lines) <= 30
    assert lines[0] == "Live in 0 of 99 pods. 99 pods are behind."


def test_on_a_terminal_there_is_one_line(wait, capsys, monkeypatch) -> None:
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    wait(BEHIND, {})
    assert "Live in 1 of 2 pods. 1 pod is behind." in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("90", 90), ("5m", 300), ("2min", 120), ("1h", 3600)])
def test_times_have_units(text, seconds) -> None:
    assert parsed(f"--wait={text}") == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "1.5s", "2h", "3601", "60 s", "s", "1d", "٣"])
def test_other_times_are_refused(text) -> None:
    with pytest.raises(click.BadParameter, match="60s"):
        parsed(f"--wait={text}")


def parsed(*arguments: str) -> Any:
    seen = []

    @click.command()
    @WAIT_OPTION
    def command(wait_seconds: int | None) -> None:
        seen.append(wait_seconds)

    command.main(list(arguments), standalone_mode=False)
    return next(itertools.chain(seen))


def test_without_it_there_is_no_wait() -> None:
    assert parsed() is None
