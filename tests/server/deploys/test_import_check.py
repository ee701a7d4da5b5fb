"""What a checker's verdict does to a deploy, and what becomes of a deploy without one."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from dagferry_server.deploys import checkers as checkers_module
from dagferry_server.deploys import import_check as import_check_module
from dagferry_server.deploys.candidates import MAX_CANDIDATES, Candidate, add_candidate, candidate_id
from dagferry_server.deploys.checkers import AWAY_SECONDS
from harness import pack
from running import A, Answer, B, Running, eventually
from scripted_checker import ScriptedChecker, problem

UPLOAD = "/default/dags/upload"
STATUS = "/default/dags/status"
BLOCK = ("--import-check", "block")
CLOSED = (*BLOCK, "--import-check-away", "closed")
WARN = ("--import-check", "warn")
SHORT = ("--check-seconds", "1")
C = {**A, "shop.py": b"rate = 3\n"}


def deploying(server: Running, files: Mapping[str, bytes], query: str = "") -> "asyncio.Task[Answer]":
    return asyncio.create_task(server.upload(pack(files), UPLOAD + query))


async def connected(server: Running, **headers: str) -> ScriptedChecker:
    checker = ScriptedChecker(**headers)
    await checker.poll(server)
    return checker


async def live(server: Running, deployment: str = "default") -> int:
    return (await server.get(f"/{deployment}/dags/current")).json["sequence"]


async def checked(server: Running, checker: ScriptedChecker, files: Mapping[str, bytes], *problems, query="") -> Answer:
    """Deploy, with this verdict."""
    upload = deploying(server, files, query)
    await checker.check(server, *problems)
    return await upload


def checking(server: Running):
    return server.service.deployments["default"].checking


class Clock:
    """The clock of the checks of a server."""

    def __init__(self, server: Running) -> None:
        self.now = checking(server).clock()
        checking(server).clock = checking(server).checkers._clock = lambda: self.now
        self._waiters = checking(server).uploads

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self._waiters.notify_all()


def be_away(server: Running) -> None:
    """Let the checker be silent for too long."""
    clock = Clock(server)
    checking(server).started = clock.now - 60
    clock.advance(AWAY_SECONDS + 1)


# --- verdicts ---------------------------------------------------------------------------------------------------------


async def test_a_good_candidate_goes_live_after_its_check(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    upload = deploying(server, A)
    candidate = await checker.next(server)
    assert await live(server) == 0
    assert (await checker.content(server, candidate)).status == 200
    await checker.say(server, candidate)
    answer = await upload
    assert (answer.status, answer.json["warnings"]) == (200, [])
    assert answer.json["digest"] == candidate["digest"]


async def test_a_new_problem_is_refused_with_file_line_and_message(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    answer = await checked(server, checker, A, problem("etl.py", line=3))
    assert (answer.status, answer.json["code"]) == (422, "import_check_refused")
    assert answer.json["message"] == (
        "Airflow 3.3.2 could not import what this would deploy to default: "
        "etl.py:3: ModuleNotFoundError: No module named 'acme'."
    )
    [found] = answer.json["problems"]
    assert (found["path"], found["line"], found["kind"], found["trace"]) == ("etl.py", 3, "import", "Traceback …")
    assert answer.json["problem_count"] == 1
    assert await live(server) == 0
    assert await server.metric('refusals_total{deployment="default",outcome="import_check_refused"}') == 1
    assert await server.metric('import_checks_total{deployment="default",outcome="problems"}') == 1


async def test_problems_that_are_only_counted_are_refused(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    upload = deploying(server, A)
    await checker.check(server, problem_count=5, new_problem_count=5)
    answer = await upload
    assert (answer.status, answer.json["problem_count"], answer.json["problems"]) == (422, 5, [])
    assert len((await server.get(STATUS)).json["import_check"]["refused"]) == 1


async def test_a_problem_that_is_live_already_is_no_reason_to_refuse(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    answer = await checked(server, checker, A, problem("etl.py", new=False))
    assert answer.status == 200
    [warning] = answer.json["warnings"]
    assert warning.startswith("1 problems in DAG files are as they were before: etl.py:1: ModuleNotFoundError")


async def test_a_warning_names_each_new_problem_and_what_could_not_be_judged(start) -> None:
    server = await start(*WARN)
    checker = await connected(server)
    upload = deploying(server, A)
    unjudged = [{"path": "shop.py", "message": "KeyError: 'x'", "names": ["variable:x"]}]
    await checker.check(server, problem("etl.py"), unjudged=unjudged)
    answer = await upload
    assert answer.status == 200
    assert answer.json["warnings"] == [
        "etl.py:1: ModuleNotFoundError: No module named 'acme'. Airflow 3.3.2 cannot import this file.",
        "shop.py could not be checked: KeyError: 'x'. It needs variable:x, which the checker does not have.",
    ]


async def test_by_default_a_connected_checker_warns(start) -> None:
    server = await start()
    assert (await server.deploy(A))["warnings"] == []
    checker = await connected(server)
    answer = await checked(server, checker, B, problem("etl.py"))
    assert answer.status == 200
    assert len(answer.json["warnings"]) == 1


async def test_off_asks_nobody(start) -> None:
    server = await start("--import-check", "off")
    checker = await connected(server)
    assert (await server.deploy(A))["warnings"] == []
    assert (await checker.ask(server)).json["candidates"] == []


async def test_unchanged_content_is_not_checked(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    await checked(server, checker, A)
    assert (await server.deploy(A))["unchanged"]


async def test_a_rollback_is_not_checked_and_a_promote_is(start) -> None:
    server = await start("--deployments", "default,staging", *CLOSED)
    checker, other = await connected(server), await connected(server, deployment="staging")
    first = (await server.upload(pack(A), UPLOAD + "?skip_import_check=1")).json  # there is no verdict on it
    await checked(server, checker, B)
    assert (await server.rollback(first["version"])).status == 200
    promote = asyncio.create_task(server.promote("default", "staging"))
    await other.check(server, problem("etl.py"))
    answer = await promote
    assert (answer.status, answer.json["code"]) == (422, "import_check_refused")
    promote = asyncio.create_task(server.promote("default", "staging"))
    answer = await promote  # the verdict is remembered
    assert answer.status == 422


async def test_an_override_skips_the_check_and_the_entry_says_so(start) -> None:
    server = await start(*CLOSED)
    await connected(server)
    answer = await server.upload(pack(A), UPLOAD + "?skip_import_check=1")
    assert answer.status == 200
    [entry] = (await server.get("/default/dags/deploys")).json["deploys"]
    assert entry["flags"] == ["skip_import_check"]


async def test_a_dry_run_is_checked_and_changes_nothing(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    answer = await checked(server, checker, A, query="?dry_run=1")
    assert (answer.status, answer.json["dry_run"]) == (200, True)
    answer = await checked(server, checker, B, problem("etl.py"), query="?dry_run=1")
    assert (answer.status, answer.json["code"]) == (422, "import_check_refused")
    assert await live(server) == 0
    assert (await server.get(STATUS)).json["import_check"]["refused"] == []
    await server.service.settled()
    left = await asyncio.to_thread(server.service.store.bundles, "default")
    assert left == {}  # they are needed no longer


async def test_a_check_that_fails_is_a_warning_or_a_refusal_and_is_tried_again(start) -> None:
    for flags, status in ((WARN, 200), (BLOCK, 200), (CLOSED, 503)):
        server = await start("--deployments", "default", *flags)
        checker = await connected(server)
        upload = deploying(server, {**A, "shop.py": repr(flags).encode()})
        candidate = await checker.next(server)
        sent = await checker.send(server, candidate, {"instance": "checker-0", "failed": "No space left."})
        assert sent.status == 200
        answer = await upload
        assert answer.status == status, answer.body
        if status == 503:
            assert answer.json["code"] == "checker_away"
            assert "the checker could not do it: No space left. Nothing was deployed." in answer.json["message"]
            answer = await checked(server, checker, {**A, "shop.py": repr(flags).encode()})
            assert answer.status == 200
        else:
            [warning] = answer.json["warnings"]
            assert "No space left" in warning
        await server.close()


# --- who waits --------------------------------------------------------------------------------------------------------


async def test_the_same_content_joins_the_check_that_runs(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    uploads = [deploying(server, A) for _ in range(3)]
    await eventually("all wait", lambda: checking(server).waiting == 3)
    [candidate] = (await checker.ask(server)).json["candidates"]
    await checker.say(server, candidate)
    answers = [await upload for upload in uploads]
    assert sorted(answer.json["unchanged"] for answer in answers) == [False, True, True]


async def test_candidates_are_listed_first_in_first_out(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    uploads, digests = [], []
    for number, files in enumerate((A, B, C), 1):
        uploads.append(deploying(server, files))
        await eventually("it is known", lambda number=number: len(checking(server).notes.open) == number)
        listed = (await checker.ask(server)).json["candidates"]
        digests.append(listed[-1]["digest"])
        assert [each["digest"] for each in listed] == digests
        await asyncio.sleep(0.01)  # the times of files are exact to some milliseconds
    for _ in range(3):
        await checker.check(server)
    assert [(await upload).status for upload in uploads] == [200, 200, 200]


async def test_a_deploy_that_waits_has_no_lock_and_no_place(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    upload = deploying(server, A)
    await checker.next(server)
    assert not server.service.deployments["default"].lock.locked()
    assert not server.service.deployer._checking.locked()
    assert server.service.deployer._checking._value == 2
    assert len(server.state.upload_slots) == 0
    assert await server.metric('import_check_waiting{deployment="default"}') == 1
    answer = await server.upload(pack(B), UPLOAD + "?skip_import_check=1")
    assert answer.status == 200
    upload.cancel()


async def test_everything_is_judged_again_after_the_verdict(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    upload = deploying(server, A)
    candidate = await checker.next(server)
    await server.call("POST", "/default/dags/freeze", json={"reason": "the release"})
    await checker.say(server, candidate)
    answer = await upload
    assert (answer.status, answer.json["code"]) == (423, "deployment_frozen")


async def test_if_match_counts_when_it_would_go_live(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    upload = asyncio.create_task(server.call("POST", UPLOAD, data=pack(A), headers={"If-Match": '"none"'}))
    candidate = await checker.next(server)
    await server.upload(pack(B), UPLOAD + "?skip_import_check=1")
    await checker.say(server, candidate)
    assert (await upload).status == 412


async def test_a_client_that_goes_away_does_not_end_the_check(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    upload = deploying(server, A)
    candidate = await checker.next(server)
    upload.cancel()
    await asyncio.gather(upload, return_exceptions=True)
    assert (await checker.content(server, candidate)).status == 200
    await checker.say(server, candidate)
    await eventually("it is live", lambda: server.service.deployments["default"].current)


def age_notes(folder: Path, seconds: float) -> None:
    """Let time pass for the notes about candidates in a data folder."""
    for note in (folder / "default" / "candidates").iterdir():
        written = note.stat().st_mtime - seconds
        os.utime(note, (written, written))


async def test_what_is_refused_is_remembered_until_a_checker_starts_anew(start, tmp_path) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    await checked(server, checker, A, problem("etl.py"))
    assert (await server.upload(pack(A))).status == 422
    checker.tag = ""
    await checker.poll(server)
    assert (await server.upload(pack(A))).status == 422  # who waits for a verdict may not have it yet
    age_notes(tmp_path / "data", import_check_module.RENEW_SECONDS + 1)
    checker.tag = ""
    await checker.poll(server)
    answer = await checked(server, checker, A)
    assert answer.status == 200


async def test_a_checker_that_starts_together_with_its_server_makes_old_verdicts_void(start, tmp_path) -> None:
    server = await start(*BLOCK)
    await checked(server, await connected(server), A, problem("etl.py"))
    await server.close()
    age_notes(tmp_path / "data", import_check_module.RENEW_SECONDS + 1)
    server = await start(*BLOCK)
    checker = ScriptedChecker()
    checker.tag = ""
    await checker.poll(server)
    assert (await checked(server, checker, A)).status == 200


async def test_a_problem_that_another_deploy_has_repaired_meanwhile_is_new(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    broken = deploying(server, B)
    first = await checker.next(server)
    repaired = deploying(server, C)
    await eventually("both wait", lambda: checking(server).waiting == 2)
    await checker.poll(server)
    [_, second] = (await checker.ask(server, If_None_Match="")).json["candidates"]
    await checker.say(server, second)
    assert (await repaired).status == 200
    # Compared with what was live before, it is old. What is live now does not have it.
    await checker.say(server, first, problem("etl.py", new=False))
    answer = await broken
    assert (answer.status, answer.json["code"]) == (422, "import_check_refused")


async def test_where_nobody_knows_what_is_wrong_with_what_is_live_now_it_is_checked_again(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    upload = deploying(server, A)
    first = await checker.next(server)
    told = await server.upload(pack(B), UPLOAD + "?skip_import_check=1")
    await checker.say(server, first)
    second = await checker.check(server, problem("etl.py"))
    assert (second["digest"], second["base"]) == (first["digest"], told.json["version"])
    assert (await upload).status == 422


@pytest.mark.parametrize(
    ("messages", "more"),
    [
        ([f"TypeError: <function load at 0x7f{number:010x}> is not serializable" for number in (1, 2)], {}),
        ([f"ModuleNotFoundError: No module named {name!r}" for name in ("acme", "acme")], {"problem_count": 300}),
    ],
    ids=["another address", "more than are listed"],
)
async def test_what_may_be_an_old_problem_is_checked_again_on_top_of_what_is_live_now(start, messages, more) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    first, second = [problem("etl.py", message, new=False) for message in messages]
    uploads = [deploying(server, B)]
    of_b = await checker.next(server)
    uploads.append(deploying(server, C))
    await eventually("both wait", lambda: len(checking(server).notes.open) == 2)
    found = (await checker.ask(server, If_None_Match="")).json["candidates"]
    [of_c] = [each for each in found if each["id"] != of_b["id"]]
    await checker.say(server, of_b, first, **more)
    assert (await uploads[0]).status == 200
    await checker.say(server, of_c, second, **more)
    again = await checker.check(server, second, **more)
    assert (again["digest"], again["base"]) == (of_c["digest"], (await uploads[0]).json["version"])
    assert (await uploads[1]).status == 200


# --- merges -----------------------------------------------------------------------------------------------------------


async def test_a_folder_is_checked_as_part_of_the_tree_that_it_leads_to(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    whole = (await checked(server, checker, {"a.py": b"1", "team/b.py": b"1"})).json
    upload = deploying(server, {"b.py": b"2"}, "?under=team/")
    candidate = await checker.next(server)
    assert candidate["base"] == whole["version"]
    await checker.say(server, candidate)
    answer = await upload
    assert (answer.status, answer.json["digest"], answer.json["changed"]) == (200, candidate["digest"], 1)


async def test_another_merge_is_checked_again_up_to_three_times(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    await checked(server, checker, {"a.py": b"1", "team/b.py": b"1"})
    upload = deploying(server, {"b.py": b"2"}, "?under=team/")
    seen = []
    for number in range(4):
        candidate = await checker.next(server)
        seen.append(candidate["digest"])
        # Somebody deploys another folder, just before the verdict.
        other = await server.upload(pack({"c.py": str(number).encode()}), UPLOAD + "?under=other/&skip_import_check=1")
        assert other.status == 200
        await checker.say(server, candidate)
    answer = await upload
    assert (answer.status, answer.json["code"]) == (503, "deploy_contended")
    assert len(set(seen)) == 4


async def test_a_merge_that_changed_once_goes_live_after_its_second_check(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    await checked(server, checker, {"a.py": b"1", "team/b.py": b"1"})
    upload = deploying(server, {"b.py": b"2"}, "?under=team/")
    first = await checker.next(server)
    await server.upload(pack({"c.py": b"3"}), UPLOAD + "?under=other/&skip_import_check=1")
    await checker.say(server, first)
    second = await checker.next(server)
    assert second["digest"] != first["digest"]
    await checker.say(server, second)
    answer = await upload
    assert (answer.status, answer.json["digest"]) == (200, second["digest"])


# --- too late, or nobody there ----------------------------------------------------------------------------------------


async def test_after_check_seconds_a_blocked_deploy_is_pending_and_a_retry_joins(start) -> None:
    server = await start(*BLOCK, *SHORT)
    checker = await connected(server)
    answer = await server.upload(pack(A))
    assert (answer.status, answer.json["code"]) == (503, "import_check_pending")
    assert int(answer.headers["Retry-After"]) > 0
    candidate = await checker.next(server)
    await checker.say(server, candidate)
    answer = await server.upload(pack(A))
    assert (answer.status, answer.json["digest"]) == (200, candidate["digest"])


async def test_after_check_seconds_a_deploy_with_warnings_goes_live_with_one_more(start) -> None:
    server = await start(*WARN, *SHORT)
    await connected(server)
    answer = await server.upload(pack(A))
    assert answer.status == 200
    [warning] = answer.json["warnings"]
    assert warning == (
        "The DAG files were not imported by a checker before they went live: importing them was not finished within "
        "1 s."
    )


@pytest.mark.parametrize(("flags", "status"), [(BLOCK, 200), (CLOSED, 503)])
async def test_a_check_that_never_ends_counts_as_no_checker(start, monkeypatch, flags, status) -> None:
    monkeypatch.setattr(import_check_module, "GIVE_UP_SECONDS", -1.0)
    server = await start(*flags, *SHORT)
    await connected(server)
    answer = await server.upload(pack(A))
    assert answer.status == status
    if status == 503:
        assert answer.json["code"] == "import_check_pending"


@pytest.mark.parametrize(
    ("flags", "status", "code"),
    [(WARN, 200, None), (BLOCK, 200, None), (CLOSED, 503, "checker_away"), ((), 200, None)],
    ids=["warn", "block", "closed", "default"],
)
async def test_without_a_checker_a_deploy_goes_live_with_a_warning_or_not(start, flags, status, code) -> None:
    server = await start(*flags)
    checking(server).started -= AWAY_SECONDS
    answer = await server.upload(pack(A))
    assert (answer.status, answer.json.get("code")) == (status, code)
    if flags and status == 200:
        [warning] = answer.json["warnings"]
        assert warning.endswith("no checker is connected.")
    if not flags:
        assert answer.json["warnings"] == []
        assert (await server.get(STATUS)).json["import_check"] is None


async def test_a_checker_is_away_after_thirty_seconds_of_silence(start) -> None:
    server = await start(*CLOSED)
    await connected(server)
    clock = Clock(server)
    checking(server).started = clock.now - 60
    upload = deploying(server, A)
    await eventually("it waits", lambda: checking(server).waiting)
    clock.advance(AWAY_SECONDS + 1)
    answer = await upload
    assert (answer.status, answer.json["code"]) == (503, "checker_away")
    assert "no checker was heard for 30 s" in answer.json["message"]


async def test_a_server_that_has_just_started_gives_checkers_time_to_ask(start) -> None:
    server = await start(*CLOSED)
    upload = deploying(server, A)
    await eventually("it waits", lambda: checking(server).waiting)
    await ScriptedChecker().check(server)
    assert (await upload).status == 200


async def test_a_checker_that_is_warming_holds_nobody(start) -> None:
    server = await start(*WARN)
    checker = await connected(server)
    await checker.ask(server, Dagferry_Checker="warming")
    answer = await server.upload(pack(A))
    assert answer.status == 200
    [warning] = answer.json["warnings"]
    assert warning.endswith("the checker checker-0 is still checking what is live.")


async def test_what_is_known_to_be_broken_is_refused_when_the_checker_is_away(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    await checked(server, checker, A, problem("etl.py"))
    be_away(server)
    answer = await server.upload(pack(A), UPLOAD)
    assert (answer.status, answer.json["code"]) == (422, "import_check_refused")
    assert await live(server) == 0
    assert await server.metric('import_checks_total{deployment="default",outcome="away"}') == 0
    [warning] = (await server.upload(pack(B), UPLOAD)).json["warnings"]  # nothing is known of this one
    assert "no checker was heard for 30 s" in warning
    assert await server.metric('import_checks_total{deployment="default",outcome="away"}') == 1


async def test_what_is_known_to_be_good_goes_live_when_the_checker_is_away(start) -> None:
    server = await start(*CLOSED, *SHORT)
    checker = await connected(server)
    assert (await server.upload(pack(A))).json["code"] == "import_check_pending"
    await checker.check(server)
    be_away(server)
    answer = await server.upload(pack(A), UPLOAD)
    assert (answer.status, answer.json["warnings"]) == (200, [])
    assert (await server.upload(pack(B), UPLOAD)).json["code"] == "checker_away"


async def test_a_checker_that_leaves_is_away_at_once(start) -> None:
    server = await start(*WARN)
    checker = await connected(server)
    await checker.ask(server, 20, Dagferry_Deregister="1")
    [warning] = (await server.deploy(A))["warnings"]
    assert warning.endswith("no checker is connected.")


async def test_a_stopping_server_answers_at_once(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    upload = deploying(server, A)
    await checker.next(server)
    server.service.stop()
    answer = await upload
    assert (answer.status, answer.json["code"]) == (503, "shutting_down")
    assert "Retry-After" in answer.headers


async def test_a_candidate_outlives_its_server_and_the_retry_finds_the_verdict(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    upload = deploying(server, A)
    candidate = await checker.next(server)
    await server.close()
    await asyncio.gather(upload, return_exceptions=True)
    server = await start(*BLOCK)
    checker.tag = '"of the server before"'
    again = await checker.next(server)
    assert again["id"] == candidate["id"]
    assert (await checker.content(server, again)).status == 200
    await checker.say(server, again)
    assert (await server.upload(pack(A))).status == 200


async def test_too_many_candidates_make_room_of_those_that_were_checked_first(start, monkeypatch) -> None:
    server = await start(*BLOCK)
    store, log_id = server.service.store, server.service.deployments["default"].log_id

    def fill() -> None:
        for number in range(MAX_CANDIDATES):
            digest = f"sha256:{number:064x}"
            id_ = candidate_id(log_id, "", digest)
            add_candidate(store, "default", Candidate(id_, "", digest, "ann", "", 1))

    await asyncio.to_thread(fill)
    checker = await connected(server)
    answer = await server.upload(pack(A))
    assert (answer.status, answer.json["code"]) == (503, "too_many_uploads")
    checker.tag = '"seen before"'
    await checker.check(server)
    answer = await checked_last(server, checker)
    assert answer.status == 200


async def checked_last(server: Running, checker: ScriptedChecker) -> Answer:
    upload = deploying(server, A)
    await eventually("it waits", lambda: checking(server).waiting)
    listed = (await checker.ask(server)).json["candidates"]
    assert len(listed) == MAX_CANDIDATES
    await checker.say(server, listed[-1])
    return await upload


def test_the_times_belong_together() -> None:
    assert checkers_module.BEAT_SECONDS * 2 < AWAY_SECONDS
