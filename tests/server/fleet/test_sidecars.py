"""What the server remembers of sidecars."""

import logging

import pytest

from dagferry_server.fleet import sidecars
from dagferry_server.fleet.sidecars import LOST_AFTER_SECONDS, LOST_SHOWN_SECONDS, Ended, Offer, Report, Sidecars

V1, V2 = Offer("log", "v1"), Offer("log", "v2")


def report(
    instance: str = "pod-0", live: str = "v1", error: str = "", volume: str = "a", *, deregister: bool = False
) -> Report:
    return Report(instance, "worker", live, error, deregister, volume)


async def test_the_last_report_counts() -> None:
    known = Sidecars("prod")
    known.record(report(live="v1"), 1.0)
    known.record(report(live="v2", error="volume_failed: full"), 2.0)
    (sidecar,) = known.known.values()
    assert (sidecar.instance, sidecar.volume, sidecar.component) == ("pod-0", "a", "worker")
    assert (sidecar.live, sidecar.error) == ("v2", "volume_failed: full")
    assert (sidecar.first_seen, sidecar.seen) == (1.0, 2.0)


async def test_a_deregistered_sidecar_is_forgotten() -> None:
    known = Sidecars("prod")
    known.record(report(), 1.0)
    assert known.record(report(deregister=True), 2.0) is None
    assert known.known == {}


async def test_it_is_remembered_which_sidecars_ended_last_and_when(monkeypatch) -> None:
    monkeypatch.setattr(sidecars, "MAX_ENDED", 2)
    known = Sidecars("prod")
    for second, name in enumerate(["a", "b", "c"]):
        known.record(report(name), second)
        known.record(report(name, deregister=True), second + 0.5)
    known.record(report("d", deregister=True), 9.0)
    ended = [Ended(*one[:3]) for one in known.ended]
    assert ended == [Ended("worker", 1.5, 1.0), Ended("worker", 2.5, 2.0)], "nobody knew the last"


async def test_two_pods_of_one_name_are_two_and_a_restarted_container_is_the_same() -> None:
    known = Sidecars("prod")
    first = known.record(report(volume="a"), 1.0)
    second = known.record(report(volume="b"), 2.0)
    assert known.record(report(volume="a"), 3.0) is first
    assert known.known == {("pod-0", "b"): second, ("pod-0", "a"): first}
    known.record(report(volume="c", deregister=True), 4.0)
    assert len(known.known) == 2, "who does not know the id on a volume cannot take its pod away"


async def test_beyond_the_limit_the_one_that_was_silent_for_longest_is_forgotten_and_that_is_known(monkeypatch) -> None:
    monkeypatch.setattr(sidecars, "MAX_SIDECARS", 3)
    known = Sidecars("prod")
    for second, name in enumerate(["a", "b", "c", "a"]):
        known.record(report(name), second)
    assert known.crowded_until == 0
    known.record(report("d"), 4)
    assert [name for name, _ in known.known] == ["c", "a", "d"]
    assert known.crowded_until == 4 + LOST_SHOWN_SECONDS


async def test_a_claim_is_confirmed_only_by_a_report_after_the_offer_of_that_very_version() -> None:
    known = Sidecars("prod")
    sidecar = known.record(report(live="v1"), 1.0)
    assert sidecar is not None
    assert sidecar.confirmed is None, "it was never offered"
    sidecar.offered = V1
    assert sidecar.confirmed is None, "it has not said so since"
    known.record(report(live="v1"), 2.0)
    assert sidecar.confirmed == V1
    sidecar.offered = V2
    known.record(report(live="v1"), 3.0)
    assert sidecar.confirmed == V1, "it still has that one"
    known.record(report(live="v3"), 4.0)
    assert sidecar.confirmed is None
    known.record(report(live="v2"), 5.0)
    assert sidecar.confirmed == V2
    sidecar.offered = Offer("another log", "v2")
    known.record(report(live="v2"), 6.0)
    assert sidecar.confirmed == ("another log", "v2")


async def test_a_version_of_another_log_confirms_nothing_though_it_has_the_same_name() -> None:
    known = Sidecars("prod")
    sidecar = known.record(report(live="v1")._replace(log_id="other"), 1.0)
    assert sidecar is not None
    sidecar.offered = V1
    known.record(report(live="v1")._replace(log_id="other"), 2.0)
    assert sidecar.confirmed is None
    known.record(report(live="v1")._replace(log_id="log"), 3.0)
    assert sidecar.confirmed == V1
    known.record(report(live="v1")._replace(log_id="other"), 4.0)
    assert sidecar.confirmed is None


async def test_who_sends_nothing_for_long_is_lost_but_not_while_a_request_waits() -> None:
    known = Sidecars("prod")
    sidecar = known.record(report(), 100.0)
    assert sidecar is not None
    end = 100.0 + LOST_AFTER_SECONDS
    assert (sidecar.is_lost(end - 0.1), sidecar.is_lost(end)) == (False, True)
    sidecar.open = 1
    assert not sidecar.is_lost(end + 1000)
    assert sidecar.lost_at(500.0) == 500.0 + LOST_AFTER_SECONDS


async def test_a_lost_one_is_remembered_for_15_minutes() -> None:
    known = Sidecars("prod")
    known.record(report("gone"), 0.0)
    waiting = known.record(report("waits"), 0.0)
    assert waiting is not None
    waiting.open = 1
    known.record(report("late"), 10.0)
    end = LOST_AFTER_SECONDS + 900
    known.forget_lost(end - 0.1)
    assert len(known.known) == 3
    known.forget_lost(end)
    assert [name for name, _ in known.known] == ["waits", "late"]


async def test_what_the_status_depends_on_is_told_and_nothing_else() -> None:
    moments: list[float] = []
    known = Sidecars("prod", moments.append)

    def told(now: float, said: Report) -> bool:
        moments.clear()
        known.record(said, now)
        assert moments in ([], [now])
        return bool(moments)

    assert told(1.0, report()), "a new one"
    assert not told(2.0, report()), "the same"
    assert told(3.0, report(live="v2"))
    assert told(4.0, report(live="v2", error="e: 1"))
    assert told(5.0, report(live="v2", error="e: 2"))
    assert told(6.0, report(live="v2"))
    known.known["pod-0", "a"].offered = V2
    assert told(7.0, report(live="v2")), "it is confirmed"
    assert not told(8.0, report(live="v2"))
    assert told(8.0, report(live="v2")._replace(log_id="other"))
    assert told(8.0, report(live="v2"))
    assert told(8.0 + LOST_AFTER_SECONDS, report(live="v2")), "it was lost"
    assert told(100.0, report(deregister=True))
    assert not told(101.0, report(deregister=True)), "nobody knew it"
    known.record(report(), 200.0)
    moments.clear()
    known.forget_lost(2000.0)
    assert moments == [2000.0]
    known.forget_lost(2001.0)
    assert moments == [2000.0]


async def test_a_pod_that_moves_back_and_says_what_it_said_before_is_a_change_after_what_it_said_elsewhere() -> None:
    told: list[float] = []
    known, other = Sidecars("prod", told.append), Sidecars("prod")
    known.elsewhere = other.known.get
    known.record(report(), 1.0)
    other.record(report(error="no_space: full"), 2.0)
    known.record(report(), 3.0)
    assert told == [1.0, 3.0]
    known.record(report(), 4.0)
    assert told == [1.0, 3.0]


async def test_changes_are_logged_and_repetitions_are_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    known = Sidecars("prod")
    for live, error in [("v1", ""), ("v1", ""), ("v1", "e: 1"), ("v1", "e: 1"), ("v2", "")]:
        known.record(report(live=live, error=error), 1.0)
    told = [(record.message, record.fields["version"]) for record in caplog.records]
    assert told == [("Sidecar is live", "v1"), ("Sidecar reports an error", "v1"), ("Sidecar is live", "v2")]
    assert all(
        record.fields["deployment"] == "prod" and record.fields["instance"] == "pod-0" for record in caplog.records
    )


async def test_made_up_names_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    known = Sidecars("prod")
    for number in range(15_000):
        known.record(report(f"{number}" + "x" * 248, error="e" * 300), 1.0)
        known.record(report(f"{number}" + "x" * 248, deregister=True), 1.0)
    assert len(caplog.records) == sidecars.MAX_LINES
    known.flush()
    (left,) = caplog.records[sidecars.MAX_LINES :]
    assert left.fields == {"deployment": "prod", "suppressed": 3 * 15_000 - sidecars.MAX_LINES}
    known.record(report("another"), 2.0)
    assert caplog.records[-1].fields["instance"] == "another"
    known.flush()
