"""Retention leaves the bundles of candidates that wait for a checker, and deletes them when nobody needs them."""

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from bucket_in_memory import Bucket, shared_store
from dagferry_server.deploys import candidates
from dagferry_server.deploys.candidates import CANDIDATE_SECONDS, Candidate, add_candidate
from dagferry_server.deploys.deployer import Begun, DeployResult
from dagferry_server.errors import DeploymentNotFound
from dagferry_server.store.base import CANDIDATES, DELETION_PAUSE_SECONDS
from harness import pack
from running import A, B, Running
from scripted_checker import ScriptedChecker, problem

FLAGS = ("--import-check", "block", "--keep-deploys", "1", "--keep-days", "0")
PATH = "/default/dags/upload"


async def stored(server: Running, deployment: str = "default") -> set[str]:
    return set(await asyncio.to_thread(server.service.store.bundles, deployment))


def needed(server: Running) -> set[str]:
    return server.service.deployments["default"].checking.needed


async def held(server: Running, files) -> tuple[ScriptedChecker, dict, "asyncio.Task[object]"]:
    checker = ScriptedChecker()
    await checker.poll(server)
    upload = asyncio.create_task(server.upload(pack(files)))
    return checker, await checker.next(server), upload


async def test_the_bundle_of_a_candidate_stays_until_its_verdict(start) -> None:
    server = await start(*FLAGS)
    checker, candidate, upload = await held(server, A)
    await server.service.retention.run()
    assert await stored(server) == {candidate["digest"]}
    await checker.say(server, candidate, problem("etl.py"))
    assert (await upload).status == 422
    await server.service.settled()
    assert await stored(server) == set()


async def test_it_stays_after_the_verdict_until_the_deploy_that_waited_is_committed(start) -> None:
    server = await start(*FLAGS)
    checker, candidate, upload = await held(server, A)
    places = server.service.deployer._checking
    async with places, places:  # others are checked meanwhile
        await checker.say(server, candidate)
        await server.service.retention.run()
        assert await stored(server) == {candidate["digest"]}
    assert (await upload).status == 200
    assert needed(server) == set()


async def test_it_stays_if_the_verdict_is_there_before_the_deploy_begins_to_wait(start, monkeypatch) -> None:
    server = await start(*FLAGS)
    deployer, goes_on = server.service.deployer, asyncio.Event()
    finish = deployer.finish

    async def late(begun: Begun) -> DeployResult:
        await goes_on.wait()
        return await finish(begun)

    monkeypatch.setattr(deployer, "finish", late)
    checker, candidate, upload = await held(server, A)
    await checker.say(server, candidate)
    await server.service.retention.run()
    assert await stored(server) == {candidate["digest"]}
    goes_on.set()
    assert (await upload).status == 200
    assert needed(server) == set()


async def test_it_is_kept_before_a_deletion_can_begin(start, monkeypatch) -> None:
    server = await start(*FLAGS)
    lock, seen = server.service.deployments["default"].lock, []
    release = lock.release

    def noted() -> None:
        seen.append(needed(server))
        release()

    monkeypatch.setattr(lock, "release", noted)
    checker, candidate, upload = await held(server, A)
    assert seen[-1] == {candidate["digest"]}
    await checker.say(server, candidate)
    assert (await upload).status == 200


async def test_it_is_not_kept_for_a_deploy_that_ended_before_it_waited(start, monkeypatch) -> None:
    server = await start(*FLAGS)
    goes_on = asyncio.Event()

    async def away(begun: Begun) -> DeployResult:
        await goes_on.wait()
        raise DeploymentNotFound("It was removed.")

    monkeypatch.setattr(server.service.deployer, "finish", away)
    _, candidate, upload = await held(server, A)
    assert needed(server) == {candidate["digest"]}
    goes_on.set()
    assert (await upload).status == 404
    assert needed(server) == set()


# --- bundles that nobody needs ----------------------------------------------------------------------------------------


async def test_uploads_that_find_too_many_candidates_leave_no_bundle(start, monkeypatch) -> None:
    monkeypatch.setattr(candidates, "MAX_CANDIDATES", 0)
    server = await start(*FLAGS)
    await ScriptedChecker().poll(server)
    for number in range(3):
        answer = await server.upload(pack({**A, "shop.py": b"%d\n" % number}))
        assert (answer.status, answer.json["code"]) == (503, "too_many_uploads")
    await server.service.settled()
    assert await stored(server) == set()


async def test_a_promote_that_finds_too_many_candidates_leaves_no_bundle(start, monkeypatch) -> None:
    monkeypatch.setattr(candidates, "MAX_CANDIDATES", 0)
    server = await start("--deployments", "default,staging", *FLAGS)
    await server.upload(pack(A), PATH + "?skip_import_check=1")
    await ScriptedChecker(deployment="staging").poll(server)
    answer = await server.promote("default", "staging")
    assert (answer.status, answer.json["code"]) == (503, "too_many_uploads")
    await server.service.settled()
    assert await stored(server, "staging") == set()


async def test_a_deploy_that_is_refused_for_another_reason_after_its_verdict_leaves_no_bundle(start) -> None:
    server = await start(*FLAGS)
    checker, candidate, upload = await held(server, A)
    await server.call("POST", "/default/dags/freeze", json={"reason": "the release"})
    await checker.say(server, candidate)
    assert (await upload).status == 423
    await server.service.settled()
    assert await stored(server) == set()


async def test_a_deploy_whose_check_failed_leaves_no_bundle(start) -> None:
    server = await start(*FLAGS, "--import-check-away", "closed")
    checker, candidate, upload = await held(server, A)
    await checker.send(server, candidate, {"instance": "checker-0", "failed": "No space left."})
    assert (await upload).json["code"] == "checker_away"
    await server.service.settled()
    assert await stored(server) == set()


async def test_the_bundle_of_one_that_was_checked_when_nobody_waited_is_gone_after_the_next(start) -> None:
    server = await start(*FLAGS, "--check-seconds", "1")
    checker, first, upload = await held(server, A)
    assert (await upload).json["code"] == "import_check_pending"
    await checker.say(server, first, problem("etl.py"))
    _, second, upload = await held(server, B)
    assert (await upload).json["code"] == "import_check_pending"
    await server.service.settled()
    assert await stored(server) == {second["digest"]}


# --- candidates that come or go meanwhile -----------------------------------------------------------------------------


async def test_a_candidate_that_comes_before_a_deletion_keeps_its_bundle(start, monkeypatch) -> None:
    server = await start(*FLAGS)
    old = (await server.upload(pack(A), PATH + "?skip_import_check=1")).json
    await server.service.settled()
    store = server.service.store
    may_delete = store.may_delete

    def late(name: str, digests: "Collection[str]") -> "set[str]":
        add_candidate(store, name, Candidate("c" * 32, "", old["digest"], "ann", "", 1))
        return may_delete(name, digests)

    monkeypatch.setattr(store, "may_delete", late)
    new = (await server.upload(pack(B), PATH + "?skip_import_check=1")).json
    await server.service.settled()
    assert await stored(server) == {old["digest"], new["digest"]}


async def test_on_a_shared_store_it_stays_through_both_steps_of_a_deletion(start, tmp_path: Path) -> None:
    bucket = Bucket()
    store = await asyncio.to_thread(shared_store, bucket)
    more = ("--single-server", "--store-poll", "0.1", "--check-seconds", "1")
    server = await start(*FLAGS, *more, store=store)
    bucket.now += 10
    _, candidate, upload = await held(server, A)
    for _ in range(2):
        await server.service.retention.run()
        assert not any(key.endswith(".doomed") for key in bucket.objects)
        bucket.now += CANDIDATE_SECONDS / 2 - 10
    assert await stored(server) == {candidate["digest"]}
    assert (await upload).status == 503
    bucket.now += 30  # now nobody waits for it any more
    await server.service.retention.run()
    assert any(key.endswith(".doomed") for key in bucket.objects)
    bucket.now += DELETION_PAUSE_SECONDS + 1
    await server.service.retention.run()
    assert await stored(server) == set()


@pytest.mark.parametrize("kind", ["json", "verdict"])
async def test_a_deleted_deployment_has_no_candidates(start, kind) -> None:
    server = await start("--import-check", "off")
    await server.service.deployments.create("preview", "anna", 1.0)
    note = "c" * 32 + "." + kind
    await asyncio.to_thread(server.service.store.write_note, "preview", CANDIDATES, note, b"{}")
    await server.service.deployments.delete("preview", "anna", 2.0)
    await server.service.retention.run()
    assert await asyncio.to_thread(server.service.store.notes, "preview", CANDIDATES) == {}
