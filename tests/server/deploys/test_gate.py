"""What is refused, what is warned of, and what none of that may cost: at each level, for each kind of deploy."""

import asyncio
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from dagferry_core.bundle.frames import RangeRead
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.errors import EXIT_USAGE
from dagferry_gate.check import Gate
from dagferry_gate.errors import RuffMissing
from dagferry_gate.ruff import Ruff, find_ruff
from dagferry_server import service as service_module
from dagferry_server.auth.access import Caller, Grant
from dagferry_server.deploys import gate as gate_module
from dagferry_server.deploys.gate import MAX_REMOVED_PATHS, MAX_WARNED_PROBLEMS, DeployGate
from dagferry_server.deploys.request import DeployRequest
from dagferry_server.deploys.tree import Tree
from dagferry_server.errors import StoreAway, StoreDamaged
from harness import pack
from running import Running

GOOD = b"from airflow import DAG\n"
BAD = b"from airflow import DAG\nx = (\n"
FIVE = {f"{name}.py": GOOD + b"# " + name.encode() for name in "abcde"}
PYTHON = ("--airflow-python", "3.11")
UPLOAD = "/default/dags/upload"


def use_ruff(server: Running, ruff: Ruff) -> None:
    """Let the server's gate run another ruff."""
    gate = DeployGate(Gate(ruff, server.service.folder.root), server.service.metrics)
    server.service.deployer._gate = server.service.deployer._committer._judge = gate


def fake_ruff(folder: Path, script: str, **limits: float) -> Ruff:
    path = folder / "ruff"
    path.write_text(f"#!{sys.executable}\n{script}\n")
    path.chmod(0o755)
    return Ruff(str(path), **limits)


async def refusals(server: Running, code: str) -> float | None:
    return await server.metric(f'refusals_total{{deployment="default",outcome="{code}"}}')


# --- what does not parse ----------------------------------------------------------------------------------------------


async def test_with_a_python_a_dag_file_that_does_not_parse_is_refused_and_nothing_is_stored(start) -> None:
    server = await start(*PYTHON)
    answer = await server.upload(pack({"a.py": GOOD, "team/b.py": BAD}))
    assert (answer.status, answer.json["code"]) == (422, "gate_refused")
    assert answer.json["message"] == (
        "Airflow could not load what this would deploy to default, with Python 3.11: "
        "team/b.py:3:1: unexpected EOF while parsing."
    )
    assert answer.json["problems"] == [
        {"path": "team/b.py", "line": 3, "column": 1, "message": "unexpected EOF while parsing"}
    ]
    assert answer.json["problem_count"] == 1
    assert (await server.get("/default/dags/current")).json["sequence"] == 0
    assert await asyncio.to_thread(server.service.store.bundles, "default") == {}
    assert await refusals(server, "gate_refused") == 1


async def test_the_log_says_who_was_refused_where_and_what_was_checked(start, caplog) -> None:
    caplog.set_level("INFO")
    server = await start(*PYTHON)
    await server.upload(pack({"a.py": BAD}))
    said = {record.message: record.fields for record in caplog.records if hasattr(record, "fields")}
    refused = said["Deploy refused"]
    assert refused == {
        "deployment": "default",
        "actor": "anonymous",
        "kind": "upload",
        "dry_run": False,
        "code": "gate_refused",
        "problems": 1,
        "first": "a.py:3:1: unexpected EOF while parsing",
    }
    assert said["DAG files checked"].keys() == {"deployment", "digest", "seconds", "problems"}


async def test_of_many_problems_the_first_are_listed_and_all_are_counted(start) -> None:
    server = await start(*PYTHON)
    answer = await server.upload(pack({f"{number:02}.py": BAD for number in range(30)}))
    assert (len(answer.json["problems"]), answer.json["problem_count"]) == (20, 30)
    assert answer.json["message"].endswith("; and 27 more.")


async def test_the_python_of_the_deployment_decides(start) -> None:
    newer = {"a.py": GOOD + b"type X = int\n"}
    server = await start("--airflow-python", "3.12")
    assert (await server.deploy(newer))["warnings"] == []
    server = await start(*PYTHON, "--data-dir", server.service.folder.root + "-2")
    assert (await server.upload(pack(newer))).json["code"] == "gate_refused"


async def test_without_a_python_it_is_a_warning(server) -> None:
    reason = "Invalid git pattern: '\\\\')."
    told = await server.deploy({"a.py": BAD, "lib/h.py": b"x = (\n", "t/.airflowignore": b"\\\n"})
    assert told["warnings"] == [
        "t/.airflowignore:1:1: the pattern is invalid: Airflow cannot read it, and finds no DAGs (" + reason,
        "a.py:3:1: unexpected EOF while parsing. Python 3.14 cannot load this DAG file.",
        "lib/h.py:2:1: unexpected EOF while parsing. Airflow does not load this file itself, but a DAG may import it.",
    ]
    many = await server.deploy({f"{number:02}.py": BAD for number in range(30)})
    assert len(many["warnings"]) == MAX_WARNED_PROBLEMS + 1
    assert many["warnings"][-1] == "20 more problems in DAG files."


async def test_off_says_nothing_and_starts_nothing(start, caplog) -> None:
    server = await start("--gate", "off", *PYTHON)
    use_ruff(server, Ruff("/nonexistent"))
    assert (await server.deploy({"a.py": BAD}))["warnings"] == []
    assert "could not be checked" not in caplog.text


async def test_a_broken_airflowignore_is_a_problem(start) -> None:
    server = await start(*PYTHON)
    answer = await server.upload(pack({"a.py": GOOD, ".airflowignore": b"ok\n!\n"}))
    assert answer.json["problems"][0]["path"] == ".airflowignore"
    assert answer.json["problems"][0]["line"] == 2


async def test_what_airflow_3_removed_is_a_warning_where_airflow_3_runs(start) -> None:
    server = await start(*PYTHON, "--airflow", "3")
    told = await server.deploy({"a.py": GOOD + b"DAG('a', schedule_interval='@daily')\n"})
    assert len(told["warnings"]) == 1
    assert "`schedule_interval` is removed in Airflow 3" in told["warnings"][0]


async def test_skip_gate_makes_it_a_warning_that_the_log_remembers(start) -> None:
    server = await start(*PYTHON)
    answer = await server.upload(pack({"a.py": BAD}), UPLOAD + "?skip_gate=1")
    assert answer.status == 200
    assert len(answer.json["warnings"]) == 1
    entry = (await server.get(f"/default/dags/deploys/{answer.json['version']}")).json
    assert entry["flags"] == ["skip_gate"]
    assert entry["details"]["warnings"] == answer.json["warnings"]


async def test_a_rollback_is_only_warned_of_and_a_promote_is_refused(start) -> None:
    server = await start("--deployments", "a,b", "--gate", "warn")
    bad = await server.deploy({"a.py": BAD}, "a")
    await server.deploy({"a.py": GOOD}, "a")
    for name in "ab":
        deployment = server.service.deployments[name]
        deployment.configure(deployment.settings.model_copy(update={"gate": "enforce"}))
    assert (await server.promote("a", "b", version=bad["version"])).json["code"] == "gate_refused"
    answer = await server.rollback(bad["version"], "a")
    assert answer.status == 200
    assert "unexpected EOF" in answer.json["warnings"][0]


async def test_a_dry_run_is_refused_too_but_not_counted(start) -> None:
    server = await start(*PYTHON)
    answer = await server.upload(pack({"a.py": BAD}), UPLOAD + "?dry_run=1")
    assert answer.json["code"] == "gate_refused"
    assert await refusals(server, "gate_refused") == 0


@pytest.mark.parametrize(("level", "status"), [("off", 200), ("warn", 200), ("enforce", 422), (None, 422)])
async def test_a_caller_s_own_level_counts(start, monkeypatch, level, status) -> None:
    server = await start(*PYTHON)
    caller = Caller("ci", (Grant(frozenset({"deploy"}), ("*",), gate=level),))
    monkeypatch.setattr(server.service.authenticator, "authenticate", _always(caller))
    answer = await server.upload(pack({"a.py": BAD}))
    assert answer.status == status
    if status == 200:
        assert len(answer.json["warnings"]) == (level == "warn")


def _always(caller: Caller):
    async def authenticate(*_: object) -> Caller:
        return caller

    return authenticate


# --- when ruff fails --------------------------------------------------------------------------------------------------

FAILURES = [
    ("import time; time.sleep(60)", "took too long"),
    ("import os; os.kill(os.getpid(), 9)", "killed by signal 9"),
]


@pytest.mark.parametrize(("script", "words"), FAILURES)
async def test_at_enforce_a_ruff_that_fails_is_a_503_and_nothing_is_stored(start, tmp_path, script, words) -> None:
    server = await start(*PYTHON)
    use_ruff(server, fake_ruff(tmp_path, script, max_seconds=0.5))
    answer = await server.upload(pack({"a.py": GOOD}))
    assert (answer.status, answer.json["code"]) == (503, "gate_unavailable")
    assert words in answer.json["message"]
    assert answer.headers["Retry-After"]
    assert await asyncio.to_thread(server.service.store.bundles, "default") == {}
    assert await refusals(server, "gate_unavailable") == 1
    use_ruff(server, find_ruff())
    assert (await server.deploy({"a.py": GOOD}))["sequence"] == 1


@pytest.mark.parametrize(("script", "words"), FAILURES)
async def test_at_warn_it_is_a_warning_and_it_is_not_tried_twice(server, tmp_path, script, words) -> None:
    count = f"open({str(tmp_path / 'runs')!r}, 'a').write('x')\n"
    use_ruff(server, fake_ruff(tmp_path, count + script, max_seconds=0.5))
    (warning,) = (await server.deploy({"a.py": GOOD}))["warnings"]
    assert words in warning
    assert (tmp_path / "runs").read_text() == "x"


async def test_a_rollback_does_not_wait_for_ruff(server, tmp_path) -> None:
    one = await server.deploy({"a.py": GOOD})
    await server.deploy({"a.py": GOOD, "b.py": GOOD + b"x = 1\n"})
    runs = tmp_path / "runs"
    use_ruff(server, fake_ruff(tmp_path, f"open({str(runs)!r}, 'a').write('x')"))
    answer = await server.rollback(one["version"])
    assert (
        answer.json["warnings"][0] == "Whether the DAG files parse is not known. Not all of them were checked before."
    )
    assert not runs.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="limits from outside are Linux's")
async def test_a_file_that_takes_too_long_does_not_hide_the_mistake_of_another_team(server, monkeypatch) -> None:
    monkeypatch.setattr("dagferry_gate.ruff.MAX_SOURCE_SECONDS", 1)
    bomb = GOOD + b"lambda:" * 2000 + b"[" + b"x," * 400_000 + b"]"
    answer = await server.upload(pack({"bomb.py": bomb}), UPLOAD + "?under=team-a")
    (slow,) = answer.json["warnings"]
    assert slow.startswith("team-a/bomb.py:1:1: cannot be checked: it takes more than")
    answer = await server.upload(pack({"b.py": BAD}), UPLOAD + "?under=team-b")
    assert answer.json["warnings"][0] == slow
    assert "team-b/b.py:3:1: unexpected EOF" in answer.json["warnings"][1]


async def test_a_disk_that_cannot_hold_the_files_is_the_same(start, monkeypatch) -> None:
    server = await start(*PYTHON)
    use_ruff(server, find_ruff())
    monkeypatch.setattr("tempfile.mkdtemp", _full)
    answer = await server.upload(pack({"a.py": GOOD}))
    assert (answer.status, answer.json["code"]) == (503, "gate_unavailable")
    assert "No space left on device" in answer.json["message"]


def _full(*_: object, **__: object) -> str:
    raise OSError(28, "No space left on device")


async def test_without_ruff_the_server_does_not_start(start, monkeypatch) -> None:
    def missing() -> Ruff:
        raise RuffMissing("The gate needs ruff, which is not installed.")

    monkeypatch.setattr(service_module, "find_ruff", missing)
    with pytest.raises(RuffMissing) as caught:
        await start("--gate", "off")
    assert caught.value.exit_code == EXIT_USAGE


# --- what it may cost -------------------------------------------------------------------------------------------------


async def test_a_whole_upload_is_checked_once_and_before_the_lock(server) -> None:
    deployment = server.service.deployments["default"]
    gate = server.service.deployer._gate
    seen = []
    real = gate._gate.check

    def check(*arguments, **options):
        seen.append(deployment.lock.locked())
        return real(*arguments, **options)

    gate._gate.check = check
    await server.deploy(FIVE)
    await server.deploy({**FIVE, "a.py": GOOD})
    assert seen == [False, False]


async def test_a_change_is_checked_as_the_whole_tree_that_it_leads_to_and_before_the_lock(start) -> None:
    server = await start(*PYTHON)
    base = (await server.deploy({**FIVE, ".airflowignore": b"new.py\n"}))["version"]
    gate, deployment = server.service.deployer._gate, server.service.deployments["default"]
    seen = []
    real = gate._gate.check

    def check(files, *arguments, **options):
        seen.append((len(files), deployment.lock.locked()))
        return real(files, *arguments, **options)

    gate._gate.check = check
    for files, status in (({"new.py": BAD}, 200), ({"late.py": BAD}, 422)):
        current = (await server.get("/default/dags/current")).json["version"]
        changed = {**FIVE, ".airflowignore": b"new.py\n", "new.py": BAD, **files}
        digest = Manifest(
            Entry(path, len(data), 0o644, sha256(data).hexdigest()) for path, data in changed.items()
        ).digest
        answer = await server.upload(pack(files, prefix=""), f"{UPLOAD}?base={current}&digest={digest}")
        assert answer.status == status, answer.body
    assert seen == [(7, False), (8, False)]
    assert base < (await server.get("/default/dags/current")).json["version"]


async def test_unchanged_content_is_not_looked_at(start) -> None:
    server = await start(*PYTHON)
    await server.deploy(FIVE)
    use_ruff(server, Ruff("/nonexistent"))
    assert (await server.deploy(FIVE))["unchanged"] is True


async def test_after_a_rule_changed_in_between_the_new_one_counts(start, monkeypatch) -> None:
    server = await start("--airflow-python", "3.12")
    deployment = server.service.deployments["default"]
    loop = asyncio.get_running_loop()
    real = DeployGate.check_early

    async def reload() -> None:
        deployment.configure(deployment.settings.model_copy(update={"airflow_python": "3.11"}))

    def check_early(self, *arguments):
        checked = real(self, *arguments)
        asyncio.run_coroutine_threadsafe(reload(), loop).result()
        return checked

    monkeypatch.setattr(DeployGate, "check_early", check_early)
    assert (await server.upload(pack({"a.py": GOOD + b"type X = int\n"}))).json["code"] == "gate_refused"


async def test_the_time_it_takes_is_a_metric(server) -> None:
    await server.deploy(FIVE)
    assert await server.metric('gate_seconds_count{deployment="default"}') == 1


# --- what would be gone -----------------------------------------------------------------------------------------------


NONE_LEFT = "No DAG file is left: Airflow will show no DAGs."


def removes(how_many: str, paths: list[str]) -> str:
    """The warning about the runs of DAGs that are removed."""
    whose = "its" if len(paths) == 1 else "their"
    return (
        f"This deploy removes {how_many}: {', '.join(paths)}. Runs of {whose} DAGs that have begun stop after the tasks"
        " that are running, and stay “running”, until the files are deployed again."
    )


REMOVES_FOUR = removes("4 DAG files", ["a.py", "b.py", "d.py", "e.py"])


async def test_an_archive_of_one_dag_over_five_is_refused_with_the_names_of_the_others(server) -> None:
    await server.deploy(FIVE)
    answer = await server.upload(pack({"c.py": FIVE["c.py"]}))
    assert (answer.status, answer.json["code"]) == (422, "removals_refused")
    assert answer.json["message"] == (
        "This deploy would remove or hide 4 of the 5 DAG files of default: a.py, b.py, d.py, e.py. "
        "At most 50 % may go at once (--max-removed-percent)."
    )
    assert answer.json["removed_paths"] == ["a.py", "b.py", "d.py", "e.py"]
    assert answer.json["removed_count"] == 4
    assert (await server.get("/default/dags/current")).json["sequence"] == 1
    assert await refusals(server, "removals_refused") == 1


async def test_hiding_them_is_refused_too(server) -> None:
    await server.deploy(FIVE)
    answer = await server.upload(pack({**FIVE, ".airflowignore": b"[a-d].py\n"}))
    assert answer.json["removed_paths"] == ["a.py", "b.py", "c.py", "d.py"]


async def test_of_many_paths_the_first_are_listed(server) -> None:
    await server.deploy({f"{number:03}.py": GOOD + str(number).encode() for number in range(300)})
    answer = await server.upload(pack({"x.py": GOOD}))
    assert (len(answer.json["removed_paths"]), answer.json["removed_count"]) == (MAX_REMOVED_PATHS, 300)
    assert "000.py, 001.py, 002.py, 003.py, 004.py, and 295 more." in answer.json["message"]


async def test_allow_removals_lets_it_pass_and_the_log_remembers(server) -> None:
    await server.deploy(FIVE)
    answer = await server.upload(pack({"c.py": FIVE["c.py"]}), UPLOAD + "?allow_removals=1")
    assert (answer.status, answer.json["removed"], answer.json["warnings"]) == (200, 4, [REMOVES_FOUR])
    assert (await server.get(f"/default/dags/deploys/{answer.json['version']}")).json["flags"] == ["allow_removals"]


async def test_skip_gate_and_a_level_of_off_do_not_allow_removals(start) -> None:
    server = await start("--gate", "off")
    await server.deploy(FIVE)
    answer = await server.upload(pack({"c.py": FIVE["c.py"]}), UPLOAD + "?skip_gate=1")
    assert answer.json["code"] == "removals_refused"


async def test_a_rollback_may_remove_and_a_promote_may_not(start) -> None:
    server = await start("--deployments", "a,b")
    one = await server.deploy({"c.py": FIVE["c.py"]}, "a")
    for name in "ab":
        await server.deploy(FIVE, name)
    assert (await server.rollback(one["version"], "a")).status == 200
    assert (await server.promote("a", "b")).json["code"] == "removals_refused"


async def test_the_percentage_is_a_setting(start) -> None:
    server = await start("--max-removed-percent", "80")
    await server.deploy(FIVE)
    assert (await server.deploy({"c.py": FIVE["c.py"]}))["sequence"] == 2
    server = await start("--max-removed-percent", "100", "--data-dir", server.service.folder.root + "-2")
    await server.deploy(FIVE)
    assert (await server.deploy({"x.txt": b""}))["warnings"] == [removes("5 DAG files", sorted(FIVE)), NONE_LEFT]


async def test_whatever_removes_dag_files_says_so_and_that_their_runs_stop(start) -> None:
    server = await start("--deployments", "a,b")
    few = await server.deploy({name: FIVE[name] for name in ("a.py", "b.py", "c.py")}, "a")
    assert few["warnings"] == []
    for name in "ab":
        await server.deploy(FIVE, name)
    gone = removes("2 DAG files", ["d.py", "e.py"])
    assert (await server.rollback(few["version"], "a", "?dry_run=1")).json["warnings"] == [gone]
    assert (await server.rollback(few["version"], "a")).json["warnings"] == [gone]
    assert (await server.promote("a", "b")).json["warnings"] == [gone]
    assert (await server.deploy({"a.py": FIVE["a.py"], "b.py": FIVE["b.py"]}, "b"))["warnings"] == [
        removes("1 DAG file", ["c.py"])
    ]
    assert (await server.deploy({"moved.py": FIVE["a.py"], "b.py": FIVE["b.py"]}, "b"))["warnings"] == []


async def test_a_first_deploy_without_a_dag_says_nothing_and_one_that_removes_the_last_warns(server) -> None:
    assert (await server.deploy({"x.txt": b""}))["warnings"] == []
    await server.deploy({"x.txt": b"", "a.py": GOOD})
    assert (await server.deploy({"x.txt": b""}))["warnings"] == [removes("1 DAG file", ["a.py"]), NONE_LEFT]


async def test_where_the_current_bundle_cannot_be_read_the_deploy_is_made_with_a_warning(start, tmp_path) -> None:
    server = await start()
    await server.deploy(FIVE)
    for path in (tmp_path / "data" / "default").rglob("*.tar.zst"):
        path.unlink()
    told = await server.deploy({"c.py": FIVE["c.py"]})
    assert told["warnings"] == [gate_module._LEFT_OPEN]


@pytest.mark.parametrize("error", [StoreDamaged, StoreAway])
async def test_an_old_file_that_cannot_be_read_does_not_prevent_the_next_deploy(server, error) -> None:
    def unreadable(_: Entry) -> RangeRead:
        raise error("Frame 3 cannot be read.")

    await server.deploy(FIVE)
    deployment, gate = server.service.deployments["default"], DeployGate(Gate(find_ruff()), server.service.metrics)
    old = Tree("Old", Manifest(Entry(path, 1, 0o644, "0" * 64) for path in FIVE), unreadable)
    new = Tree("New", Manifest(()), unreadable)
    assert gate(deployment, new, old, DeployRequest("ci")) == [gate_module._LEFT_OPEN]
    assert gate(deployment, new, old, DeployRequest("ci", allow_removals=True)) == []
