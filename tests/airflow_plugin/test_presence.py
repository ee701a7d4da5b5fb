"""What the bundle in a dag processor says of itself, when, and that nothing it cannot say stops the DAGs."""

import itertools
import json
import logging
import os
import socket

import pytest

from dagferry_airflow.presence import (
    ASK_SECONDS,
    COMPONENT,
    MAX_PAUSE_SECONDS,
    Identity,
    Presence,
    instance_name,
    kept_id,
    newest_versions,
    versions_on_disk,
)
from dagferry_core.protocol import MAX_REPORTED_VERSIONS, REPORT_SECONDS
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import ServerRefused, ServerUnreachable
from dagferry_follow.remote.connection import Timeouts

ID = "0123456789abcdef" * 2
TIMEOUTS = Timeouts(1, 1, 1)


def live(number: int) -> DeployRef:
    return DeployRef("log-1", number, f"20261120T064501Z-{number:06d}", f"sha256:{number:064x}")


ONE, TWO, THREE = (live(number) for number in (1, 2, 3))


class Server:
    """Takes what it is told; ``error`` is raised instead, if there is one."""

    def __init__(self) -> None:
        self.told: list[dict[str, object]] = []
        self.deregistered: list[str] = []
        self.error: Exception | None = None
        self.answer = b"{}"
        self.asked = 0

    def send_report(self, body: str) -> bytes:
        self.asked += 1
        if self.error:
            raise self.error
        self.told.append(json.loads(body))
        return self.answer

    def deregister(self, report) -> None:
        if self.error:
            raise self.error
        self.deregistered.append(report.live)

    def close(self) -> None:
        pass


class Process:
    """A dag processor with the bundle in ``folder``; ``needed`` are the versions that its Airflow needs."""

    def __init__(self, folder) -> None:
        self.server, self.now = Server(), 1000.0
        self.needed: list[str] | Exception = [ONE.version]
        self.asked = 0
        self.presence = Presence(
            str(folder), Identity("dag-processor-0", ID), lambda _: self.server, self._versions, clock=lambda: self.now
        )

    def _versions(self) -> list[str]:
        self.asked += 1
        if isinstance(self.needed, Exception):
            raise self.needed
        return self.needed

    def report(self, deploy: DeployRef | None, after: float = 0.0) -> int:
        """Refresh so much later; return how many reports were tried."""
        self.now += after
        before = self.server.asked
        self.presence.report(deploy, TIMEOUTS)
        return self.server.asked - before

    def leases(self) -> list[str]:
        return self.server.told[-1]["leases"]["versions"]


@pytest.fixture
def process(tmp_path):
    process = Process(tmp_path)
    yield process
    process.presence.leave()


def test_a_report_says_who_has_what_and_needs_what(process, tmp_path) -> None:
    for path in (f"versions/{ONE.version}", f"live/.trees/{'a' * 16}/{TWO.version}", "live/.trees/lock", "versions/x"):
        (tmp_path / path).mkdir(parents=True)
    process.report(TWO)
    assert process.server.told == [
        {
            "instance": "dag-processor-0",
            "id": ID,
            "component": COMPONENT,
            "log_id": "log-1",
            "leaving": False,
            "versions": [TWO.version, ONE.version],
            "leases": {"versions": [TWO.version, ONE.version]},
            "parsed": None,
        }
    ]


def test_it_is_sent_at_once_when_something_is_new_and_else_every_half_minute(process) -> None:
    assert [process.report(ONE, after=5) for _ in range(7)] == [1, 0, 0, 0, 0, 0, 1]
    assert process.report(TWO, after=5) == 1
    assert process.leases() == [TWO.version, ONE.version], "the live version has its lease before there is a run on it"
    process.needed = [THREE.version]
    assert process.report(TWO, after=5) == 0
    assert process.report(TWO, after=ASK_SECONDS) == 1
    assert process.leases() == [THREE.version, TWO.version]


def test_the_database_is_asked_every_half_minute_and_when_another_version_is_live(process) -> None:
    for _ in range(6):
        process.report(ONE, after=5)
    assert process.asked == 1
    process.report(TWO, after=1)
    assert process.asked == 2


def test_before_anything_is_live_there_is_nothing_to_say(process) -> None:
    assert process.report(None) == process.report(DeployRef("log-1", 0, "empty", "")) == 0


def test_while_the_database_is_away_what_was_known_is_still_needed(process, caplog) -> None:
    process.report(ONE)
    process.needed = RuntimeError("the database is away")
    process.report(TWO, after=ASK_SECONDS)
    process.report(TWO, after=ASK_SECONDS)
    assert process.leases() == [TWO.version, ONE.version]
    assert caplog.text.count("Which versions DAG runs need is not known: RuntimeError: the database is away") == 1


def test_where_the_database_was_never_reached_the_report_says_so(process) -> None:
    process.needed = RuntimeError("there is none")
    process.report(ONE)
    assert process.server.told[-1]["leases"] is None


def test_after_a_failure_there_are_growing_pauses(process, caplog) -> None:
    process.server.error = ServerUnreachable("It does not answer.")
    tried = [process.now for _ in range(1000) if process.report(ONE, after=5)]
    pauses = [round(after - before) for before, after in itertools.pairwise(tried)]
    assert pauses[:4] == [REPORT_SECONDS * factor for factor in (1, 2, 4, 8)]
    assert set(pauses[4:]) == {MAX_PAUSE_SECONDS}
    assert caplog.text.count("A report of the versions that DAG runs need failed: It does not answer.") == 1
    process.server.error = None
    assert process.report(ONE, after=MAX_PAUSE_SECONDS) == 1
    assert process.report(TWO, after=1) == 1


def test_an_older_server_is_asked_rarely(process, caplog) -> None:
    process.server.error = ServerRefused("The server answered 404.")
    process.server.error.answered = 404
    assert process.report(ONE) == 1
    assert process.report(TWO, after=MAX_PAUSE_SECONDS - 1) == 0
    assert process.report(TWO, after=1) == 1
    assert "it is an older one" in caplog.text


@pytest.mark.parametrize("answer", [b"", b"[]", b"\xff", b'{"ignored": null}', b"null", b"[" * 100_000])
def test_any_answer_is_one(process, answer) -> None:
    process.server.answer = answer
    process.report(ONE)
    assert process.report(ONE, after=REPORT_SECONDS) == 1


def test_what_the_server_ignores_is_logged_once(process, caplog) -> None:
    process.server.answer = b'{"ignored": "The report is about another log."}'
    for _ in range(3):
        process.report(ONE, after=REPORT_SECONDS)
    assert caplog.text.count("The report is about another log.") == 1


def test_a_dag_processor_that_ends_says_so_once(process) -> None:
    process.report(ONE)
    process.presence.leave()
    assert process.server.deregistered == [ONE.version]
    assert [told["leaving"] for told in process.server.told] == [False, True]


def test_one_that_ends_while_the_server_is_away_just_ends(process) -> None:
    process.report(ONE)
    process.server.error = ServerUnreachable("It does not answer.")
    process.presence.leave()


def test_a_child_of_the_dag_processor_says_nothing(process) -> None:
    process.report(ONE)
    child = os.fork()
    if not child:
        process.report(TWO)
        process.presence.leave()
        os._exit(10 + process.server.asked + len(process.server.deregistered))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 11


# --- who it is -------------------------------------------------------------------------------------------------------


def test_the_id_stays_and_a_damaged_one_is_replaced(tmp_path) -> None:
    path = str(tmp_path / "live.id")
    first = kept_id(path)
    assert len(first) == 32
    assert kept_id(path) == first
    for damaged in (b"", b"\xff", b"x" * 32, b"a" * 33):
        (tmp_path / "live.id").write_bytes(damaged)
        other = kept_id(path)
        assert kept_id(path) == other != first
    assert [path.name for path in tmp_path.iterdir()] == ["live.id"]


def test_where_it_cannot_be_kept_it_is_another_one_each_time(tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert kept_id(str(tmp_path / "none/live.id")) != kept_id(str(tmp_path / "none/live.id"))
    assert "cannot be kept" in caplog.text


def test_the_name_is_that_of_the_setting_of_the_sidecars_variable_or_of_the_host() -> None:
    assert instance_name("mine", {"DAGFERRY_INSTANCE": "theirs"}) == "mine"
    assert instance_name(None, {"DAGFERRY_INSTANCE": "theirs"}) == "theirs"
    assert instance_name(None, {}) == socket.gethostname()


def test_of_very_many_versions_the_newest_are_reported(tmp_path) -> None:
    names = [f"20261120T064501Z-{number:06d}" for number in range(1, 300)]
    for name in names:
        (tmp_path / "versions" / name).mkdir(parents=True)
    assert versions_on_disk(str(tmp_path)) == newest_versions(names) == names[: -MAX_REPORTED_VERSIONS - 1 : -1]
    assert versions_on_disk(str(tmp_path / "none")) == []
