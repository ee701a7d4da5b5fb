"""``dagferry status`` shows whether every pod has the newest deploy, and which one has not."""

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import harness
from recorded_answers import LISTED, STATUS, import_check, import_failure, parsed, sidecar
from terminals import Terminal

VERSION = STATUS["version"]


def test_a_healthy_deployment_is_shown_with_its_pods(at, server) -> None:
    server.answer("GET /prod/dags/status", STATUS, ETag='"1"')
    done = at("status")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "prod: HEALTHY All 2 pods have the newest deploy."
    assert lines[1].startswith(f"{VERSION}, deployed ")
    assert lines[1].endswith("days ago (1970-01-01 00:00:00 UTC)")
    assert lines[2] == "Expected: 1 scheduler, 1 worker"
    assert lines[3].split() == ["POD", "COMPONENT", "STATE", "LIVE", "SEEN", "LAG", "ERROR"]
    assert lines[4].split()[:4] == ["scheduler-0", "scheduler", "live", VERSION]


def test_a_pod_that_is_behind_is_shown_with_its_lag_and_its_error(at, server) -> None:
    behind = sidecar("worker-0", state="failing", lag_seconds=61.5, error="volume_failed: no space\x1b]0;x\x07")
    server.answer("GET /prod/dags/status", {**STATUS, "state": "DEGRADED", "sidecars": [behind]})
    row = at("status").out.splitlines()[-1]
    assert " failing " in row
    assert row.endswith("62 s  volume_failed: no space?]0;x?")


def test_old_trees_that_tasks_use_have_a_column_where_there_are_some(at, server) -> None:
    server.answer("GET /prod/dags/status", {**STATUS, "sidecars": [sidecar("a"), sidecar("b", in_use=2)]})
    head, first, second = at("status").out.splitlines()[-3:]
    assert head.endswith("LAG  TREES IN USE  ERROR")
    assert (first.split()[-1], second.split()[-1]) == ("0", "2")


def test_what_is_closed_and_who_did_not_answer_is_said(at, server) -> None:
    server.answer(
        "GET /prod/dags/status",
        {
            **STATUS,
            "frozen": {"reason": "audit", "until": None, "actor": "ann"},
            "disabled": "moved",
            "servers": {"asked": 3, "answered": 2},
        },
    )
    out = at("status").out
    assert "\nDisabled: moved\nFrozen by ann: audit\nOnly 2 of 3 servers answered.\n" in out


AIRFLOW = {
    "parsed": parsed(error_count=1, errors=[import_failure(new=False)], hindrances=["It waits."]),
    "leases": {"versions": {VERSION: ["bundle-dag-processor-0-1"]}, "holders": 1},
    "import_check": import_check(),
}


@pytest.mark.parametrize("more", [{}, AIRFLOW])
def test_json_has_what_the_server_says(at, server, more) -> None:
    server.answer("GET /prod/dags/status", {**STATUS, **more})
    assert at("status", "--json").json == {**STATUS, **more}


def test_what_airflow_reports_is_shown_before_the_pods(at, server) -> None:
    server.answer("GET /prod/dags/status", {**STATUS, **AIRFLOW})
    lines = at("status").out.splitlines()
    assert lines[3].startswith("Airflow: parsed, 120 DAG files, 200 DAGs, 1 import error, 4.1 s after the deploy (")
    assert lines[4:8] == [
        "  etl.py: NameError: rate",
        "  Delayed: It waits.",
        f"Kept for DAG runs: {VERSION}",
        "Import check: block, by checker-0 (Airflow 3.3.2, Python 3.11.7)",
    ]
    assert lines[8].startswith("POD ")


def test_a_server_that_knows_nothing_of_airflow_is_understood(at, server) -> None:
    older = {name: value for name, value in STATUS.items() if name not in AIRFLOW}
    server.answer("GET /prod/dags/status", older)
    done = at("status", "--json")
    assert done.json == {**older, **dict.fromkeys(AIRFLOW)}


def test_each_line_of_watch_says_what_is_parsed(at, server) -> None:
    server.answer("GET /prod/dags/status", {**STATUS, **AIRFLOW}, ETag='"1"')
    server.answer("GET /prod/dags/status", {"code": "forbidden", "message": "No more.", "hint": "Ask."}, 403)
    [line] = at("status", "--watch").out.splitlines()
    assert " Airflow: parsed, 120 DAG files, 200 DAGs, 1 import error, 4.1 s after the deploy. (" in line


def test_watch_prints_each_change_and_waits_for_the_next(at, server) -> None:
    server.answer("GET /prod/dags/status", {**STATUS, "state": "DEPLOYING"}, ETag='"1"')
    server.answer("GET /prod/dags/status", b"", 304, ETag='"1"')
    server.answer("GET /prod/dags/status", STATUS, ETag='"2"')
    server.answer("GET /prod/dags/status", {"code": "forbidden", "message": "No more.", "hint": "Ask."}, 403)
    done = at("status", "--watch")
    assert done.code == 4
    assert [line.split()[1] for line in done.out.splitlines() if line.startswith("prod: ")] == ["DEPLOYING", "HEALTHY"]
    waits = [(one.headers.get("If-None-Match"), one.headers.get("Prefer")) for one in server.requests]
    assert waits == [(None, None), ('"1"', "wait=50"), ('"1"', "wait=50"), ('"2"', "wait=50")]


def test_all_has_a_line_for_each_deployment(at, server) -> None:
    listed = [{**LISTED, "name": name} for name in ("prod", "staging")]
    for arguments in ((), ("--json",)):
        server.answer("GET /-/deployments", {"deployments": listed})
        server.answer("GET /prod/dags/status", STATUS)
        server.answer("GET /staging/dags/status", {**STATUS, "deployment": "staging", "deployed_at": None})
        done = at("status", "--all", *arguments)
        assert done.code == 0
        if arguments:
            assert [one["deployment"] for one in done.json["deployments"]] == ["prod", "staging"]
        else:
            rows = [line.split() for line in done.out.splitlines()]
            assert [row[:5] for row in rows[1:]] == [[name, "HEALTHY", "2", "of", "2"] for name in ("prod", "staging")]


def test_all_and_watch_do_not_go_together(at, server) -> None:
    done = at("status", "--all", "--watch")
    assert done.code == 2
    assert "--watch and --all" in done.err


def test_elsewhere_than_on_a_terminal_watch_has_a_line_for_each_change(at, server) -> None:
    frozen = {"reason": "audit", "until": None, "actor": "ann"}
    server.answer("GET /prod/dags/status", {**STATUS, "state": "DEGRADED", "frozen": frozen}, ETag='"1"')
    server.answer("GET /prod/dags/status", {"code": "forbidden", "message": "No more.", "hint": "Ask."}, 403)
    [line] = at("status", "--watch").out.splitlines()
    start = "prod: DEGRADED 2 of 2 pods live. All 2 pods have the newest deploy. Frozen by ann: audit ("
    assert line.startswith(start)
    assert line.endswith(" UTC)")


def test_watch_with_json_has_an_object_in_each_line(at, server) -> None:
    server.answer("GET /prod/dags/status", {**STATUS, "state": "DEPLOYING"}, ETag='"1"')
    server.answer("GET /prod/dags/status", STATUS, ETag='"2"')
    server.answer("GET /prod/dags/status", {"code": "forbidden", "message": "No more.", "hint": "Ask."}, 403)
    lines = at("status", "--watch", "--json").out.splitlines()
    assert [json.loads(line) for line in lines] == [{**STATUS, "state": "DEPLOYING"}, STATUS]


def test_watch_goes_on_while_a_server_restarts(at, server, pauses) -> None:
    server.answer("GET /prod/dags/status", STATUS, ETag='"1"')
    for _ in range(6):
        server.answer("GET /prod/dags/status", b"", 502)
    server.answer("GET /prod/dags/status", {**STATUS, "state": "UNKNOWN"}, ETag='"2"')
    server.answer("GET /prod/dags/status", {"code": "forbidden", "message": "No more.", "hint": "Ask."}, 403)
    done = at("status", "--watch")
    assert [line.split()[1] for line in done.out.splitlines()] == ["HEALTHY", "UNKNOWN"]
    assert done.err.count("Trying again in") == 6


@pytest.fixture
def watching(server, project):
    """``dagferry status --watch`` at a terminal."""

    def start(*arguments: str, **options: Any) -> Terminal:
        command = (sys.executable, "-m", "dagferry_client", "status", "--watch", *arguments)
        return Terminal(*command, folder=project, DAGFERRY_SERVER=server.url, DAGFERRY_DEPLOYMENT="prod", **options)

    return start


def held(server) -> Callable[[], None]:
    """The next question waits, as while nothing changes; returns a function that waits until it was asked."""
    asked = threading.Event()

    def hold(handler) -> None:
        asked.set()
        handler.connection.recv(1)

    server.act("GET /prod/dags/status", hold)

    def wait() -> None:
        assert asked.wait(harness.PATIENCE_SECONDS)

    return wait


def test_on_a_terminal_watch_draws_over_what_was_and_ends_with_130(watching, server) -> None:
    server.answer("GET /prod/dags/status", {**STATUS, "state": "DEPLOYING"}, ETag='"1"')
    server.answer("GET /prod/dags/status", STATUS, ETag='"2"')
    wait = held(server)
    terminal = watching()
    terminal.shows("DEPLOYING").shows("HEALTHY").shows("2 of 2 pods live; unchanged since").shows("Ctrl-C ends this.")
    between = terminal.screen.partition("DEPLOYING")[2].partition("HEALTHY")[0]
    assert "\x1b[1A\x1b[2K" in between, "the lines before were erased"
    wait()
    assert terminal.interrupt() == 130
    assert "Traceback" not in terminal.screen
    assert terminal.screen.rstrip().endswith("\x1b[?25h"), "the cursor is back"


def test_on_a_short_terminal_watch_shows_what_is_not_live(watching, server) -> None:
    pods = [*(sidecar(f"worker-{number}") for number in range(99)), sidecar("worker-99", state="failing", error="bad")]
    server.answer("GET /prod/dags/status", {**STATUS, "sidecars": pods}, ETag='"1"')
    wait = held(server)
    terminal = watching(rows=20).shows("worker-99").shows("failing").shows("worker-9")
    wait()
    assert terminal.interrupt() == 130


def test_a_dumb_terminal_gets_lines(watching, server) -> None:
    server.answer("GET /prod/dags/status", STATUS, ETag='"1"')
    wait = held(server)
    terminal = watching(TERM="dumb").shows("prod: HEALTHY 2 of 2 pods live.")
    wait()
    assert terminal.interrupt() == 130
    assert "\x1b" not in terminal.screen


def test_piped_watch_ends_with_130_and_no_traceback_too(watching, server, tmp_path) -> None:
    server.answer("GET /prod/dags/status", STATUS, ETag='"1"')
    wait = held(server)
    terminal = watching(stdout=tmp_path / "out")
    harness.eventually("a line", lambda: "HEALTHY" in (tmp_path / "out").read_text())
    wait()
    assert terminal.interrupt() == 130
    assert terminal.screen.replace("^C", "").strip() == ""
