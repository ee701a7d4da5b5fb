"""Servers on one store learn of each other's changes, and go on while it is away."""

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from dagferry_core.deploylog import decode
from dagferry_server.deploys import following
from dagferry_server.deploys.created import READERS
from dagferry_server.deploys.lifecycle import CREATED, DELETED, Lifecycle, write_lifecycle
from dagferry_server.errors import StoreAway
from dagferry_server.store.base import BundleSource
from harness import PATIENCE_SECONDS, pack
from running import A, B, Running, eventually
from shared_stores import PARAMETERS, SharedFolder, lose_bundle, shared_store
from stores import StoreUnderTest

C = {**A, "shop.py": b"rate = 3\n"}
OFTEN = ("--store-poll", "0.1")
SELDOM = ("--store-poll", "60")
"""Such a server learns of nothing by itself while a test runs."""
AWAY = (503, "store_unavailable")

Open = Callable[..., Awaitable[Running]]


@pytest.fixture(params=PARAMETERS)
def shared(request, tmp_path) -> Iterator[StoreUnderTest]:
    found = shared_store(request.param, tmp_path)
    yield found
    found.close()


@pytest.fixture
def folder(tmp_path) -> Iterator[SharedFolder]:
    found = SharedFolder(tmp_path)
    yield found
    found.close()


@pytest.fixture
def join(start, tmp_path, monkeypatch) -> Open:
    """Start one more server on a shared store; it looks for the first time after a whole period."""
    monkeypatch.setattr(following.random, "random", lambda: 1.0)
    numbers = iter(range(1, 10))

    async def join(shared: StoreUnderTest, *flags: str) -> Running:
        store = await asyncio.to_thread(shared.open)
        return await start("--data-dir", str(tmp_path / f"data{next(numbers)}"), *flags, store=store)

    return join


async def code(server: Running, path: str) -> tuple[int, str]:
    answer = await server.get(path)
    return answer.status, answer.json.get("code", "")


def highest(server: Running, deployment: str = "default") -> int:
    return server.service.deployments[deployment].highest


async def waiting(server: Running, version: str) -> "asyncio.Task":
    """A request of a sidecar that has ``version`` and waits for the next one."""
    headers = {"If-None-Match": f'"{version}"', "Prefer": "wait=50"}
    task = asyncio.create_task(server.call("GET", "/default/dags/current", headers=headers))
    await eventually("the waiter", lambda: len(server.service.deployments["default"].waiters) == 1)
    return task


# --- deploys ---------------------------------------------------------------------------------------------------------


async def test_a_deploy_reaches_those_who_wait_at_another_server(join, shared) -> None:
    one, other = await join(shared, *SELDOM), await join(shared, *OFTEN)
    first = await one.deploy(A)
    await eventually("the first deploy", lambda: highest(other) == 1)
    waiter = await waiting(other, first["version"])
    second = await one.deploy(B)
    answer = await asyncio.wait_for(waiter, PATIENCE_SECONDS)
    assert (answer.status, answer.json["version"]) == (200, second["version"])
    assert (await other.get("/default/dags/download")).status == 200


async def test_a_pod_can_start_at_a_server_that_nobody_has_asked_for_the_bundle_before_the_store_was_away(
    join, shared
) -> None:
    one, other = await join(shared, *SELDOM), await join(shared, *OFTEN)
    digest = (await one.deploy(A))["digest"]
    await eventually("the bundle", lambda: other.service.following.brought == {"default": digest})
    with shared.away():
        assert (await other.get("/default/dags/download")).status == 200


async def test_a_bundle_that_cannot_be_brought_is_tried_again_when_the_store_is_back(join, folder, monkeypatch) -> None:
    one, other = await join(folder, *SELDOM), await join(folder, *OFTEN)
    store = other.service.store
    found, failed = store.open_bundle, []

    def fail(*arguments: str) -> None:
        failed.append(arguments)
        raise StoreAway("The bucket does not answer.")

    monkeypatch.setattr(store, "open_bundle", fail)
    digest = (await one.deploy(A))["digest"]
    await eventually("it to be tried", lambda: len(failed) > 1)
    monkeypatch.setattr(store, "open_bundle", found)
    await eventually("the bundle", lambda: other.service.following.brought == {"default": digest})


async def test_the_own_current_content_is_new_again_after_another_servers_deploy(join, shared) -> None:
    one, other = await join(shared, *SELDOM), await join(shared, *SELDOM)
    await other.deploy(B)
    await one.deploy(C)
    told = await other.deploy(B)
    assert (told["sequence"], told["unchanged"]) == (3, False)


async def test_a_follower_that_has_a_newer_version_from_another_server_is_never_sent_back(join, shared) -> None:
    one, other = await join(shared, *SELDOM), await join(shared, *SELDOM)
    await one.deploy(A)
    await other.deploy(B)
    third = await one.deploy(C)
    answer = await other.get("/default/dags/current", If_None_Match=f'"{third["version"]}"')
    assert answer.status == 304
    assert highest(other) == 3


async def test_a_version_that_another_server_has_just_made_can_be_fetched_rolled_back_to_and_listed(
    join, shared
) -> None:
    one, other, third = [await join(shared, *SELDOM) for _ in range(3)]
    version = (await one.deploy(A))["version"]
    assert (await other.get(f"/default/dags/versions/{version}")).status == 200
    assert (await other.get(f"/default/dags/versions/{version}/files")).status == 200
    assert (await third.rollback(version)).json["unchanged"] is True


async def test_while_the_store_is_away_a_follower_that_knows_more_gets_no_older_deploy(join, shared) -> None:
    one, other = await join(shared, *SELDOM), await join(shared, *SELDOM)
    await other.deploy(A)
    newer = await one.deploy(B)
    with shared.away():
        answer = await other.get("/default/dags/current", If_None_Match=f'"{newer["version"]}"')
        assert (answer.status, answer.json["code"]) == AWAY
        assert (await other.get("/default/dags/current")).json["sequence"] == 1
        assert await code(other, f"/default/dags/versions/{newer['version']}") == AWAY


async def test_a_commit_in_progress_does_not_delay_the_news(join, folder, monkeypatch) -> None:
    one, other = await join(folder, *SELDOM), await join(folder, *OFTEN)
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    real = other.service.store.put_bundle

    def slow(*arguments: object) -> None:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(PATIENCE_SECONDS)
        real(*arguments)

    monkeypatch.setattr(other.service.store, "put_bundle", slow)
    upload = asyncio.create_task(other.deploy(B))
    await eventually("the commit", other.service.deployments["default"].lock.locked)
    await one.deploy(A)
    await eventually("the news", lambda: highest(other) == 1)
    gate.set()
    assert (await upload)["sequence"] == 2


async def test_a_failed_read_of_the_newest_entry_does_not_make_an_older_deploy_current(join, folder) -> None:
    one, other = await join(folder, *SELDOM), await join(folder, *OFTEN)
    await one.deploy(A)
    await eventually("the first deploy", lambda: highest(other) == 1)
    store = other.service.store
    store.failing = {1, 2}
    newest = await one.deploy(B)
    await eventually("a failed look", lambda: not other.service.following.reaches_store)
    assert (await other.get("/default/dags/current")).json["sequence"] == 1
    # A server that starts meanwhile is not ready, and becomes ready by itself.
    late_store = folder.open()
    late_store.failing = {2}
    late = await join(_Opened(late_store), *OFTEN)
    assert await code(late, "/readyz") == AWAY
    assert await code(late, "/default/dags/current") == AWAY
    store.failing = late_store.failing = set()
    for server in (other, late):
        await eventually("the newest", lambda server=server: server.service.deployments["default"].fault is None)
        await eventually("it", lambda server=server: highest(server) == 2)
        assert (await server.get("/default/dags/current")).json["version"] == newest["version"]
        assert await code(server, "/readyz") == (200, "")


class _Opened(SharedFolder):
    """A store that was opened before."""

    def __init__(self, store) -> None:
        self._store = store

    def open(self):
        return self._store


async def test_a_damaged_entry_of_another_server_is_reported_and_one_that_is_restored_is_found(join, folder) -> None:
    one, other = await join(folder, *SELDOM), await join(folder, *OFTEN)
    await one.deploy(A)
    await asyncio.to_thread(folder.open().create_entry, "default", 2, b"half")
    await eventually("the entry", lambda: highest(other) == 2)
    assert await code(other, "/default/dags/current") == (503, "store_damaged")
    assert await code(other, "/readyz") == (200, "")
    assert (await other.deploy(B))["sequence"] == 3


async def test_an_entry_beyond_a_gap_is_found_by_the_audit(join, folder) -> None:
    one, other = await join(folder, *OFTEN), await join(folder, *SELDOM)
    await one.deploy(A)
    await other.service.following.look("default")
    data = await asyncio.to_thread(one.service.store.read_entry, "default", 1)
    entry = {**json.loads(data), "sequence": 3}
    entry["version"] = entry["version"].replace("-000001", "-000003")
    written = json.dumps(entry).encode()
    assert decode(written, 3).sequence == 3
    assert await asyncio.to_thread(one.service.store.create_entry, "default", 3, written)
    await other.service.following.look("default")
    assert highest(other) == 1
    await other.service.following.audit()
    assert highest(other) == 3
    assert (await other.deploy(B))["sequence"] == 4


async def test_many_who_ask_for_a_look_share_few_requests(join, folder) -> None:
    server = await join(folder, *SELDOM)
    store = server.service.store
    store.calls.clear()
    await asyncio.gather(*(server.service.following.look("default") for _ in range(100)))
    assert 1 <= store.calls["newer"] <= 2
    await asyncio.gather(*(server.service.following.look("no-such") for _ in range(100)))
    assert 1 <= store.calls["state_tag"] <= 4
    assert "no-such" not in server.service.following._looks


async def test_a_look_that_finds_nothing_costs_one_request(join, folder) -> None:
    server = await join(folder, *SELDOM)
    await server.service.following.look(None)
    await eventually("the looks that this starts", lambda: not server.service.following._tasks)
    server.service.store.calls.clear()
    await server.service.following.look(None)
    await server.service.following.look("default")
    assert server.service.store.calls == {"state_tag": 1, "newer": 1}


# --- deployments, freezes, log ids -----------------------------------------------------------------------------------


async def test_a_deployment_that_one_server_created_is_there_on_the_others_at_once(join, shared) -> None:
    one, other, third = [await join(shared, *SELDOM) for _ in range(3)]
    assert (await one.call("POST", "/-/deployments/preview")).json["created"] is True
    assert (await other.deploy(A, "preview"))["sequence"] == 1
    again = (await third.call("POST", "/-/deployments/preview")).json
    assert (again["created"], again["created_by"]) == (False, "anonymous")
    assert (await third.get("/preview/dags/current")).status == 200
    assert await code(third, "/nothing/dags/current") == (404, "deployment_not_found")


async def test_a_deployment_that_is_created_and_deleted_elsewhere_comes_and_goes(join, shared) -> None:
    one, other = await join(shared, *SELDOM), await join(shared, *OFTEN)
    await one.call("POST", "/-/deployments/preview")
    await eventually("it to be there", lambda: "preview" in other.service.deployments)
    await one.deploy(A, "preview")
    await eventually("its deploy", lambda: highest(other, "preview") == 1)
    waiter = asyncio.create_task(
        other.call("GET", "/preview/dags/current", headers={"If-None-Match": '"none"', "Prefer": "wait=50"})
    )
    assert (await waiter).status == 200
    assert (await one.call("DELETE", "/-/deployments/preview")).json["deleted"] is True
    await eventually("it to be gone", lambda: "preview" not in other.service.deployments)
    assert await code(other, "/preview/dags/current") == (404, "deployment_not_found")
    assert (await other.call("DELETE", "/-/deployments/preview")).json["deleted"] is False


async def test_a_deployment_is_found_among_so_many_that_reading_all_takes_longer_than_a_request_may(
    join, folder, monkeypatch
) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.25)
    server = await join(folder, *OFTEN)
    store = await asyncio.to_thread(folder.open)
    read = store.read_state

    def read_slowly(deployment: str, key: str) -> bytes | None:
        threading.Event().wait(0.1)
        return read(deployment, key)

    def create(number: int) -> None:
        store.prepare(f"old-{number}")
        write_lifecycle(store, f"old-{number}", Lifecycle(DELETED if number else CREATED, "alice", 1))

    monkeypatch.setattr(folder.opened[0], "read_state", read_slowly)
    for number in reversed(range(5 * READERS)):
        await asyncio.to_thread(create, number)
    await eventually("the deployment", lambda: "old-0" in server.service.deployments)


async def test_a_deployment_that_is_created_again_elsewhere_has_none_of_its_old_deploys(join, shared) -> None:
    one, other = await join(shared, *SELDOM), await join(shared, *SELDOM)
    await one.call("POST", "/-/deployments/preview")
    await other.deploy(A, "preview")
    await one.call("DELETE", "/-/deployments/preview")
    await one.call("POST", "/-/deployments/preview")
    # The other server knows nothing of all this.
    told = await other.deploy(A, "preview")
    assert (told["sequence"], told["unchanged"], told["added"]) == (2, False, 3)
    await other.service.following.look(None)
    assert (await other.get("/preview/dags/current")).json["sequence"] == 2
    assert (await one.get(f"/preview/dags/versions/{told['version']}")).status == 200


async def test_an_upload_to_a_deployment_that_another_server_deletes_meanwhile_does_not_come_back_with_it(
    join, folder
) -> None:
    one, other = await join(folder, *SELDOM), await join(folder, *SELDOM)
    await one.call("POST", "/-/deployments/preview")
    await other.deploy(A, "preview")
    deployment = other.service.deployments["preview"]
    async with deployment.lock:  # the upload is received, and waits
        upload = asyncio.create_task(other.upload(pack(B), "/preview/dags/upload"))
        await eventually("it to wait", lambda: deployment.lock._waiters)
        await one.call("DELETE", "/-/deployments/preview")
    answer = await upload
    assert (answer.status, answer.json["code"]) == (404, "deployment_not_found")
    await one.call("POST", "/-/deployments/preview")
    assert await asyncio.to_thread(folder.open().sequences, "preview") == [1]
    await other.service.following.look(None)
    for server in (one, other):
        assert (await server.get("/preview/dags/current")).json["version"] == ""


async def test_of_two_servers_that_create_a_deployment_again_neither_loses_the_first_deploy(
    join, folder, monkeypatch
) -> None:
    one, other = await join(folder, *SELDOM), await join(folder, *SELDOM)
    await one.call("POST", "/-/deployments/preview")
    await one.deploy(A, "preview")
    await one.call("DELETE", "/-/deployments/preview")
    real, loop, beaten = other.service.store.sequences, asyncio.get_running_loop(), []

    async def first() -> None:
        await one.call("POST", "/-/deployments/preview")
        beaten.append(await one.deploy(B, "preview"))

    def late(name: str) -> list[int]:
        if not beaten:
            asyncio.run_coroutine_threadsafe(first(), loop).result(PATIENCE_SECONDS)
        return real(name)

    monkeypatch.setattr(other.service.store, "sequences", late)
    answer = await other.call("POST", "/-/deployments/preview")
    assert (answer.json["created"], answer.json["version"]) == (False, beaten[0]["version"])
    await one.service.following.look(None)
    assert (await one.get("/preview/dags/current")).json["version"] == beaten[0]["version"]


async def test_a_deployment_of_the_configuration_that_another_server_deletes_comes_back_without_its_deploys(
    join, folder
) -> None:
    one, other = await join(folder, *OFTEN, "--deployments", "default,prod"), await join(folder, *SELDOM)
    await other.call("POST", "/-/deployments/preview")
    third = await join(folder, *OFTEN, "--deployments", "default,preview")
    await third.deploy(A, "preview")
    assert (await other.call("DELETE", "/-/deployments/preview")).json["deleted"] is True
    await eventually("it to be back", lambda: third.service.deployments["preview"].floor == 1)
    assert (await third.get("/preview/dags/current")).json["version"] == ""
    assert (await third.deploy(A, "preview"))["sequence"] == 2
    assert "prod" in one.service.deployments


async def test_a_freeze_holds_on_every_server_at_once_and_so_does_its_end(join, shared) -> None:
    one, other = await join(shared, *SELDOM), await join(shared, *SELDOM)
    assert (await one.call("POST", "/default/dags/freeze", json={"reason": "audit"})).status == 200
    answer = await other.upload(pack(A))
    assert (answer.status, answer.json["code"]) == (423, "deployment_frozen")
    assert (await one.call("DELETE", "/default/dags/freeze")).status == 200
    assert (await other.deploy(A))["sequence"] == 1


async def test_a_freeze_is_shown_by_the_others_within_a_poll(join, shared) -> None:
    one, other = await join(shared, *SELDOM), await join(shared, *OFTEN)
    await one.call("POST", "/default/dags/freeze", json={"reason": "audit"})
    await eventually("the freeze", lambda: other.service.deployments["default"].freeze is not None)
    await one.call("DELETE", "/default/dags/freeze")
    await eventually("its end", lambda: other.service.deployments["default"].freeze is None)


async def test_a_new_log_id_reaches_running_servers_and_those_who_wait(join, shared) -> None:
    one, other = await join(shared, *SELDOM), await join(shared, *OFTEN)
    version = (await one.deploy(A))["version"]
    await eventually("the deploy", lambda: highest(other) == 1)
    waiter = await waiting(other, version)
    log_id = await asyncio.to_thread((await asyncio.to_thread(shared.open)).new_log_id, "default")
    assert (await asyncio.wait_for(waiter, PATIENCE_SECONDS)).status == 304
    assert other.service.deployments["default"].log_id == log_id
    assert (await other.get("/default/dags/current")).json["log_id"] == log_id
    # A commit finds it without a look.
    assert (await one.deploy(B))["sequence"] == 2
    assert one.service.deployments["default"].log_id == log_id


async def test_a_record_is_found_though_its_writer_was_killed_before_it_told(join, folder, monkeypatch) -> None:
    server = await join(folder, *SELDOM)
    await server.service.following.look(None)
    silent = folder.open()
    monkeypatch.setattr(silent, "_tell", lambda: None)
    freeze = b'{"reason": "audit", "until": null, "actor": "ops", "time": 1}'
    await asyncio.to_thread(silent.write_state, "default", "freeze", freeze)
    await server.service.following.look(None)
    assert server.service.deployments["default"].freeze is None
    await server.service.following.audit()
    assert server.service.deployments["default"].freeze.reason == "audit"


# --- a lost bundle ---------------------------------------------------------------------------------------------------


async def test_a_lost_bundle_of_the_current_deploy_degrades_the_fleet_until_the_content_is_deployed_again(
    join, shared, caplog
) -> None:
    server = await join(shared, *SELDOM)
    told = await server.deploy(A)
    await server.service.following.audit()
    assert not server.service.deployments["default"].lost_bundle
    await asyncio.to_thread(lose_bundle, shared, "default", told["digest"])
    await server.service.following.audit()
    status = (await server.get("/default/dags/status")).json
    assert status["state"] == "DEGRADED"
    assert "lost the bundle" in status["reason"]
    (record,) = [each for each in caplog.records if "bundle is missing" in each.message]
    assert record.fields["key"] == f"default/bundles/{told['digest'].removeprefix('sha256:')}"
    again = await server.deploy(A)
    assert (again["unchanged"], again["version"]) == (True, told["version"])
    await server.service.following.audit()
    assert (await server.get("/default/dags/status")).json["state"] != "DEGRADED"
    other = await join(shared, *SELDOM)
    assert (await other.get("/default/dags/download")).status == 200


# --- a store that is away --------------------------------------------------------------------------------------------


async def test_while_the_store_is_away_uploads_are_503_and_everything_known_is_served(join, shared) -> None:
    one, other = await join(shared, *OFTEN), await join(shared, *OFTEN)
    version = (await one.deploy(A))["version"]
    assert (await one.get(f"/default/dags/versions/{version}")).status == 200
    assert await code(one, "/readyz") == (200, "")
    with shared.away():
        await eventually("it to be noticed", lambda: not one.service.following.reaches_store)
        answer = await one.upload(pack(B))
        assert (answer.status, answer.json["code"]) == AWAY
        assert int(answer.headers["Retry-After"]) > 0
        assert (await one.get("/default/dags/current")).json["version"] == version
        assert (await one.get(f"/default/dags/versions/{version}")).status == 200
        assert (await one.get("/default/dags/deploys")).json["deploys"][0]["version"] == version
        assert await code(one, "/readyz") == (200, "")
        assert await code(one, "/unknown/dags/current") == AWAY
        assert await one.metric("store_reachable") == 0
        assert await one.metric("store_failed_looks_total") > 0
        waiter = await waiting(one, version)
    second = await other.deploy(B)
    assert (await asyncio.wait_for(waiter, PATIENCE_SECONDS)).json["version"] == second["version"]
    await eventually("it to be noticed", lambda: one.service.following.reaches_store)
    assert await one.metric("store_reachable") == 1
    assert (await one.deploy(C))["sequence"] == 3


async def test_a_start_while_the_store_is_away_is_not_ready_and_becomes_ready_by_itself(join, shared) -> None:
    one = await join(shared, *OFTEN)
    version = (await one.deploy(A))["version"]
    await one.call("POST", "/-/deployments/preview")
    store = await asyncio.to_thread(shared.open)
    with shared.away():
        other = await join(_Opened(store), *OFTEN)
        assert (await other.get("/healthz")).status == 200
        for path in ("/readyz", "/default/dags/current", "/preview/dags/current"):
            assert await code(other, path) == AWAY, path
        assert (await other.upload(pack(A))).status == 503
    deployment = other.service.deployments["default"]
    await eventually("the log", lambda: not deployment.unsettled)
    await eventually("the deployments", lambda: "preview" in other.service.deployments)
    assert await code(other, "/readyz") == (200, "")
    assert (await other.get("/default/dags/current")).json["version"] == version
    assert (await other.deploy(B))["sequence"] == 2


async def test_before_the_log_is_read_nothing_is_concluded_from_a_look_that_asked_for_nothing(
    join, folder, caplog
) -> None:
    caplog.set_level(logging.INFO)
    store = await asyncio.to_thread(folder.open)
    with folder.away():
        server = await join(_Opened(store), *SELDOM)
        following = server.service.following
        with pytest.raises(StoreAway):
            await following.look(None)
        await following.look("default")
        await following.audit()
        assert not following.reaches_store
    assert "The store answers again" not in [each.message for each in caplog.records]


async def test_a_commit_whose_answer_was_lost_is_found_without_a_restart(join, folder, monkeypatch) -> None:
    server = await join(folder, *SELDOM)
    await server.deploy(A)
    store = server.service.store
    real = store.create_entry

    def lost(*arguments: object) -> bool:
        real(*arguments)
        store.away = True
        raise StoreAway("The answer got lost.")

    monkeypatch.setattr(store, "create_entry", lost)
    assert (await server.upload(pack(B))).status == 503
    # There may be a newer deploy, so no older one is the current one.
    assert await code(server, "/default/dags/current") == AWAY
    store.away = False
    await eventually("the log", lambda: not server.service.deployments["default"].unsettled)
    assert (await server.get("/default/dags/current")).json["sequence"] == 2


async def test_failures_are_logged_a_few_times_and_then_counted(join, folder, caplog) -> None:
    caplog.set_level(logging.INFO)
    server = await join(folder, *SELDOM)
    with folder.away():
        for _ in range(5):
            with pytest.raises(StoreAway):
                await server.service.following.look("default")
    failed = [each for each in caplog.records if each.message == "Looking for changes by other servers failed"]
    assert len(failed) == following.MAX_LOGGED
    await server.service.following.look("default")
    await server.close()
    assert [each.fields["count"] for each in caplog.records if each.message.startswith("More looks")] == [2]
    assert "The store answers again" in [each.message for each in caplog.records]


async def test_a_bundle_that_takes_long_to_fetch_holds_up_no_other_one(join, folder, monkeypatch) -> None:
    server = await join(folder, "--deployments", "prod,staging")
    slow, fast = await server.deploy(A, deployment="prod"), await server.deploy(B, deployment="staging")
    [store], fetched = folder.opened, threading.Event()
    opened = store.open_bundle

    def open_bundle(deployment: str, digest: str) -> BundleSource:
        if deployment == "prod":
            fetched.wait(PATIENCE_SECONDS)
        return opened(deployment, digest)

    monkeypatch.setattr(store, "open_bundle", open_bundle)
    waiting = [asyncio.create_task(server.get(f"/prod/dags/versions/{slow['version']}")) for _ in range(20)]
    await asyncio.sleep(0.1)
    assert (await server.get(f"/staging/dags/versions/{fast['version']}")).status == 200
    assert not any(task.done() for task in waiting)
    fetched.set()
    assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}


async def test_a_store_that_hangs_blocks_no_request_that_does_not_need_it_and_no_end(join, folder, monkeypatch) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.2)
    server = await join(folder, *OFTEN, "--deployments", ",".join(["default", *(f"d{n}" for n in range(20))]))
    await server.deploy(A)
    assert await code(server, "/readyz") == (200, "")
    server.service.store.goes_on.clear()
    await eventually("it to be noticed", lambda: not server.service.following.reaches_store)
    assert (await server.get("/default/dags/current")).json["sequence"] == 1
    assert (await server.get("/default/dags/download")).status == 200
    assert await code(server, "/readyz") == (200, "")
    await asyncio.wait_for(server.service.following.close(), PATIENCE_SECONDS)
    server.service.store.goes_on.set()
