"""A deploy is waited for until every pod has it; nothing else counts as success."""

import click
import pytest

from clocks import Clock
from dagferry_client import converge
from dagferry_client.api import Api, Status
from dagferry_client.converge import Seconds, live_sentence, wait_until_live
from dagferry_client.decode import decode
from dagferry_client.deploy_log import Deployed
from dagferry_client.errors import ConnectionLost, NotConverged, RequestNotAllowed, ServerUnavailable
from recorded_answers import DEPLOYED, STATUS, VERSION, sidecar

OURS = decode(Deployed, DEPLOYED)
OLD = {"version": "20261120T064400Z-000041", "sequence": 41}
NONE = {"known": 0, "live": 0, "behind": 0, "lost": 0, "failing": 0}
SOME = {"known": 3, "live": 1, "behind": 1, "lost": 0, "failing": 1}


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(converge, "time", clock)
    return clock


@pytest.fixture
def waited(clock):
    """Wait while the server says these statuses, one after another and then the last one without an end."""

    def wait(*answers, seconds: float = 60) -> tuple[Status, list[str], list[int]]:
        left, said, waits = list(answers), [], []
        wait.said = said

        class Scripted(Api):
            def __init__(self) -> None:
                """Without a server."""

            def status(self, deployment: str, *, tag: str = "", wait: int = 0, **_: object):
                assert deployment == "prod"
                waits.append(wait)
                answer = left.pop(0) if len(left) > 1 else left[0]
                if isinstance(answer, Exception):
                    raise answer
                if tag and answer is answers[-1] and len(waits) > len(answers):
                    clock.now += wait  # nothing changes any more
                    return None, tag
                return decode(Status, {**STATUS, **answer}), f'"{len(waits)}"'

        return wait_until_live(Scripted(), "prod", OURS, seconds, said.append), said, waits

    return wait


def test_a_healthy_fleet_with_this_version_is_live(waited) -> None:
    status, said, waits = waited({})
    assert (status.version, said, waits) == (VERSION, [], [0])
    assert live_sentence(status).startswith(f"{VERSION} is live in all 2 pods. Airflow shows changed DAGs when ")


def test_the_way_there_is_said_once_for_each_change(waited) -> None:
    deploying = {"state": "DEPLOYING", "counts": SOME}
    _, said, waits = waited({**OLD}, deploying, deploying, {})
    assert said == [f"The server does not show {VERSION} yet.", "DEPLOYING: 1 of 3 pods live, 1 behind, 1 failing."]
    assert waits == [0, 50, 50, 50]


@pytest.mark.parametrize("state", ["DEPLOYING", "DEGRADED", "EMPTY", "LATER"])
def test_any_other_state_is_no_success_and_the_pods_are_named(waited, clock, state) -> None:
    pods = [
        sidecar("worker-0"),
        sidecar("worker-1", state="failing", error="volume_failed: full"),
        sidecar("w", live=""),
    ]
    with pytest.raises(NotConverged) as caught:
        waited({"state": state, "reason": "One pod is failing.", "counts": SOME, "sidecars": pods}, seconds=70)
    assert caught.value.exit_code == 7
    assert caught.value.message == (
        f"{VERSION} was deployed to prod, but is not live in every pod after 70 s: One pod is failing. "
        "worker-1 (failing: volume_failed: full), w (live)."
    )
    assert 70 <= clock.now < 72


def test_servers_that_did_not_answer_are_said_and_get_more_time(waited, clock) -> None:
    partial = {
        "state": "UNKNOWN",
        "reason": "1 of 3 servers does not answer, and may know of more pods.",
        "counts": SOME,
        "servers": {"asked": 3, "answered": 2},
    }
    status, said, _ = waited(partial, {})
    assert status.version == VERSION
    counted = "UNKNOWN: 1 of 3 pods live, 1 behind, 1 failing. Only 2 of 3 servers answered."
    assert said == [counted]
    longer = f"Not all pods are known yet: waiting for up to {converge.WARM_UP_SECONDS} s more."
    with pytest.raises(NotConverged, match="1 of 3 servers does not answer"):
        waited(partial)
    assert waited.said == [counted, longer]
    assert clock.now >= 60 + converge.WARM_UP_SECONDS


def test_that_no_pod_is_known_says_little_while_a_server_does_not_answer(waited) -> None:
    partial = {"state": "UNKNOWN", "reason": "1 of 2 servers does not answer.", "counts": NONE, "sidecars": []}
    with pytest.raises(NotConverged, match=r"1 of 2 servers does not answer\."):
        waited({**partial, "servers": {"asked": 2, "answered": 1}})


def test_health_with_an_older_version_is_no_success(waited) -> None:
    with pytest.raises(NotConverged):
        waited(OLD)


def test_a_fleet_without_a_pod_is_no_success(waited) -> None:
    with pytest.raises(NotConverged, match="no pod is known") as caught:
        waited({"state": "UNKNOWN", "counts": NONE, "sidecars": []})
    assert "Does a sidecar or a DAG bundle follow" in caught.value.hint


def test_a_newer_deploy_ends_the_wait_at_once(waited, clock) -> None:
    newer = {"version": "20261120T064600Z-000043", "sequence": 43}
    with pytest.raises(NotConverged, match="000043 was deployed after it") as caught:
        waited({"state": "DEPLOYING"}, newer)
    assert (caught.value.exit_code, clock.now) == (7, 0)


def test_a_server_that_is_away_for_a_while_is_asked_again(waited, clock) -> None:
    away = [ConnectionLost("It is away."), ServerUnavailable("It starts.", retry_after=0)]
    status, _, _ = waited(*away, {})
    assert status.version == VERSION
    assert clock.now == 2


def test_a_server_that_stays_away_is_the_error(waited, clock) -> None:
    with pytest.raises(ConnectionLost, match="away"):
        waited({"state": "DEPLOYING"}, ConnectionLost("It is away."), seconds=5)
    assert clock.now == 5


def test_a_refusal_ends_the_wait_at_once(waited, clock) -> None:
    with pytest.raises(RequestNotAllowed):
        waited(RequestNotAllowed("No."))
    assert clock.now == 0


@pytest.mark.parametrize(("text", "seconds"), [("60", 60), ("60s", 60), ("5m", 300), ("1s", 1), ("60m", 3600)])
def test_a_time_is_written_in_seconds_or_minutes(text, seconds) -> None:
    assert Seconds().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["0", "0s", "-1s", "1h", "1.5s", "61m", "3601", "", "s", "99999999s"])
def test_anything_else_is_no_time(text) -> None:
    with pytest.raises(click.BadParameter, match="such as 60s"):
        Seconds().convert(text, None, None)


def test_healthy_without_a_pod_is_no_success(waited) -> None:
    with pytest.raises(NotConverged, match="no pod is known"):
        waited({"counts": NONE})


def test_a_server_that_is_kept_from_waiting_is_not_asked_all_the_time(clock) -> None:
    asked = []

    class Hurried(Api):
        def __init__(self) -> None:
            """Without a server."""

        def status(self, _: str, *, tag: str = "", wait: int = 0, **_more: object):
            asked.append(wait)
            return (None, tag) if tag else (decode(Status, {**STATUS, "state": "DEPLOYING"}), '"1"')

    with pytest.raises(NotConverged):
        wait_until_live(Hurried(), "prod", OURS, 20, lambda _: None)
    assert 20 <= len(asked) <= 23


STARTED = {
    "state": "UNKNOWN",
    "reason": "The server has not run for 75 s yet.",
    "counts": {**NONE, "known": 1, "live": 1},
}


def test_a_server_that_has_just_started_gets_the_time_to_hear_from_all_pods(waited, clock) -> None:
    with pytest.raises(NotConverged, match=r"not live in every pod after 140 s: The server has not run") as caught:
        waited(STARTED)
    assert not caught.value.is_known
    assert clock.now == 60 + converge.WARM_UP_SECONDS


def test_a_pod_that_lacks_it_is_known_and_a_fleet_without_pods_is_not(waited, clock) -> None:
    for status, known in (({"state": "DEGRADED", "counts": SOME}, True), ({"state": "UNKNOWN", "counts": NONE}, False)):
        clock.now = 0.0
        with pytest.raises(NotConverged) as caught:
            waited(status)
        assert (caught.value.is_known, clock.now) == (known, 60)
