"""``dagferry status`` shows whether every pod has the newest deploy, and which one has not."""

from recorded_answers import LISTED, STATUS, sidecar

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


def test_json_has_what_the_server_says(at, server) -> None:
    server.answer("GET /prod/dags/status", STATUS)
    assert at("status", "--json").json == STATUS


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
