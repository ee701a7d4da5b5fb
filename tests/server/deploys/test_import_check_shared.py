"""Several servers on one store: the checker asks one of them, and deploys come to all."""

import asyncio
import threading
from pathlib import Path

import pytest

from dagferry_server.deploys.candidates import Candidate
from dagferry_server.deploys.import_check import LOOK_SECONDS, Waiting
from dagferry_server.deploys.request import ImportCheck
from dagferry_server.errors import ImportCheckPending, ShuttingDown
from harness import PATIENCE_SECONDS, pack
from running import A, Answer, Running, eventually
from scripted_checker import ScriptedChecker, problem
from shared_stores import SharedLocalStore

UPLOAD = "/default/dags/upload"
DIGEST = "sha256:" + "0" * 64
FLAGS = ("--single-server", "--import-check", "block", "--store-poll", "0.1")


@pytest.fixture
async def two(start, tmp_path: Path) -> list[Running]:
    (tmp_path / "shared").mkdir()
    servers = []
    for number in (1, 2):
        store = await asyncio.to_thread(SharedLocalStore, str(tmp_path / "shared"))
        servers.append(await start("--data-dir", str(tmp_path / f"data-{number}"), *FLAGS, store=store))
    return servers


def deploying(server: Running, query: str = "") -> "asyncio.Task[Answer]":
    return asyncio.create_task(server.upload(pack(A), UPLOAD + query))


def waiting(server: Running) -> int:
    return server.service.deployments["default"].checking.waiting


async def tend(server: Running) -> None:
    """Do at once what a server does every ten seconds."""
    await server.service.checks._tend(server.service.deployments["default"], expires=True)


async def test_a_deploy_to_one_server_is_checked_through_another(two) -> None:
    first, second = two
    checker = ScriptedChecker()
    await checker.poll(first)
    upload = deploying(second)
    await checker.check(first, problem("etl.py"))
    answer = await upload
    assert (answer.status, answer.json["code"]) == (422, "import_check_refused")


async def test_the_same_content_joins_the_check_of_another_server(two) -> None:
    first, second = two
    checker = ScriptedChecker()
    await checker.poll(first)
    uploads = [deploying(first), deploying(second)]
    await eventually("both wait", lambda: waiting(first) and waiting(second))
    checker.tag = '"seen before"'
    found = await checker.poll(second)
    assert len(found["candidates"]) == 1
    await checker.say(second, found["candidates"][0])
    answers = [await upload for upload in uploads]
    assert [answer.status for answer in answers] == [200, 200]
    assert sorted(answer.json["unchanged"] for answer in answers) == [False, True]


async def test_the_first_verdict_counts_whatever_another_checker_finds_later(two, monkeypatch) -> None:
    first, second = two
    one, other = ScriptedChecker("one"), ScriptedChecker("other")
    await one.poll(first)
    await other.poll(second)
    upload = deploying(second)
    candidate = await other.next(second)
    assert (await one.next(first))["id"] == candidate["id"]

    async def look_at_nothing(*_) -> None:
        pass

    with monkeypatch.context() as patch:
        patch.setattr(second.service.checks, "look", look_at_nothing)  # it does not know yet of the first
        assert (await one.say(first, candidate, problem("etl.py"))).status == 200
        sent = await other.send(second, candidate, {"instance": "other", "failed": "No space left."})
        assert sent.status == 200
    answer = await upload
    assert (answer.status, answer.json["code"]) == (422, "import_check_refused")


async def test_of_two_verdicts_at_once_one_counts(start, monkeypatch) -> None:
    server = await start(*FLAGS)
    checkers = ScriptedChecker("one"), ScriptedChecker("other")
    for checker in checkers:
        await checker.poll(server)
    upload = deploying(server)
    candidate = await checkers[0].next(server)
    reading, both = threading.Semaphore(0), threading.Event()
    read_note = server.service.store.read_note

    def read_and_pause(*arguments):
        found = read_note(*arguments)
        if arguments[2].endswith(".verdict") and found is None:
            reading.release()
            both.wait(PATIENCE_SECONDS)
        return found

    monkeypatch.setattr(server.service.store, "read_note", read_and_pause)
    says = [asyncio.create_task(checkers[0].say(server, candidate, problem("etl.py")))]
    await eventually("the first is being written", lambda: reading.acquire(blocking=False))
    sent = {"instance": "other", "failed": "No space left."}
    says.append(asyncio.create_task(checkers[1].send(server, candidate, sent)))
    deciding = server.service.deployments["default"].checking.deciding
    await eventually("the second waits for it", lambda: deciding._waiters)
    both.set()
    assert [(await say).status for say in says] == [200, 200]
    assert (await upload).status == 422


async def test_a_verdict_is_remembered_by_all_servers(two) -> None:
    first, second = two
    checker = ScriptedChecker()
    await checker.poll(first)
    upload = deploying(first)
    await checker.check(first, problem("etl.py"))
    assert (await upload).status == 422
    assert (await second.upload(pack(A))).status == 422


async def test_a_verdict_that_came_through_another_server_counts_where_no_checker_is_known(two) -> None:
    first, second = two

    async def look_at_nothing(*_, **__) -> None:
        pass

    second.service.checks._tend = look_at_nothing
    checker = ScriptedChecker()
    await checker.poll(first)
    upload = deploying(first)
    await checker.check(first, problem("etl.py"))
    assert (await upload).status == 422
    checking = second.service.deployments["default"].checking
    checking.started -= 60
    assert (checking.notes.verdicts, checking.connected) == ({}, 0)
    assert (await second.upload(pack(A))).status == 422


async def test_a_checker_of_one_server_is_known_to_the_others_until_it_leaves(two) -> None:
    first, second = two
    checker = ScriptedChecker()
    await checker.poll(first)
    await tend(first)
    await tend(second)
    for server in two:
        [shown] = (await server.get("/default/dags/status")).json["import_check"]["checkers"]
        assert (shown["instance"], shown["airflow"], shown["connected"]) == ("checker-0", "3.3.2", True)
    await checker.ask(first, Dagferry_Deregister="1")
    await tend(second)
    assert (await second.get("/default/dags/status")).json["import_check"]["checkers"] == []


async def test_a_candidate_of_a_server_that_was_killed_is_checked_through_another(two) -> None:
    first, second = two
    checker = ScriptedChecker()
    await checker.poll(first)
    upload = deploying(first)
    candidate = await checker.next(first)
    first.service.checks.decide = None  # it hears of no verdict any more
    checker.tag = '"of the server before"'
    again = await checker.next(second)
    assert again["id"] == candidate["id"]
    await checker.say(second, again)
    answer = await upload  # it looked into the store
    assert answer.status == 200


async def test_while_the_store_is_away_a_deploy_waits_and_then_goes_on(two) -> None:
    first, _ = two
    checker = ScriptedChecker()
    await checker.poll(first)
    upload = deploying(first)
    candidate = await checker.next(first)
    first.service.store.away = True
    assert (await checker.say(first, candidate)).status == 503
    first.service.store.away = False
    assert (await checker.say(first, candidate)).status == 200
    assert (await upload).status == 200


async def held_while_the_store_hangs(server: Running, seconds: float) -> "list[asyncio.Task[ImportCheck]]":
    """Let deploys wait for a verdict, each for ``seconds``, while the store does not answer."""
    deployment = server.service.deployments["default"]
    await ScriptedChecker().poll(server)
    server.service.store.goes_on.clear()
    deadline = deployment.checking.clock() + seconds

    def waiting(number: int) -> Waiting:
        return Waiting(Candidate(f"{number:032x}", "", DIGEST, "ann", "", 1), ImportCheck("block"), deadline)

    waits = [asyncio.create_task(server.service.checks.wait(deployment, waiting(number))) for number in range(8)]
    await eventually("all wait", lambda: deployment.checking.waiting == 8)
    return waits


async def test_while_the_store_hangs_a_deploy_is_held_until_its_deadline_and_no_longer(two) -> None:
    first, _ = two
    try:
        waits = await held_while_the_store_hangs(first, seconds=0.5)
        # A look at the store would take longer.
        answers = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), LOOK_SECONDS / 2)
    finally:
        first.service.store.goes_on.set()
    assert {type(answer) for answer in answers} == {ImportCheckPending}


async def test_while_the_store_hangs_a_stopping_server_answers_at_once(two) -> None:
    first, _ = two
    try:
        waits = await held_while_the_store_hangs(first, seconds=60)
        first.service.stop()
        answers = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), LOOK_SECONDS / 2)
    finally:
        first.service.store.goes_on.set()
    assert {type(answer) for answer in answers} == {ShuttingDown}
