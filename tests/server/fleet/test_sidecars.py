"""What the server remembers of sidecars."""

import logging

import pytest

from dagferry_server.fleet import sidecars
from dagferry_server.fleet.sidecars import (
    Report,
    Sidecar,
    Sidecars,
)


def report(instance: str = "pod-0", live: str = "v1", error: str = "", *, deregister: bool = False) -> Report:
    return Report(instance, "worker", live, error, deregister)


async def test_the_last_report_counts() -> None:
    known = Sidecars("prod")
    known.record(report(live="v1"), 1.0)
    known.record(report(live="v2", error="volume_failed: full"), 2.0)
    assert known.known == {"pod-0": Sidecar("worker", "v2", "volume_failed: full", 2.0)}


async def test_a_deregistered_sidecar_is_forgotten() -> None:
    known = Sidecars("prod")
    known.record(report(), 1.0)
    known.record(report(deregister=True), 2.0)
    assert known.known == {}


async def test_beyond_the_limit_the_one_that_was_silent_for_longest_is_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(sidecars, "MAX_SIDECARS", 3)
    known = Sidecars("prod")
    for second, name in enumerate(["a", "b", "c", "a", "d"]):
        known.record(report(name), second)
    assert list(known.known) == ["c", "a", "d"]


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
