"""Which bundles are deleted, and which never."""

import asyncio
import os
import random
import threading

import pytest

from dagferry_core.bundle.manifest import Changes
from dagferry_core.deploylog import next_deploy
from dagferry_server.deploys import retention
from dagferry_server.deploys.verify import Verification
from dagferry_server.errors import StoreAway, StoreFull
from dagferry_server.store.local import LocalStore
from running import A, B, Running

DAY = 86400
FAULTS = pytest.mark.parametrize("fault", [StoreAway, StoreFull])


async def stored(server: Running, deployment: str = "default") -> set[str]:
    return set(await asyncio.to_thread(server.service.store.bundles, deployment))


async def settled(server: Running) -> None:
    """Wait for the retention that a deploy starts."""
    await server.service.settled()


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_the_newest_deploys_and_the_young_ones_keep_their_bundles_and_the_log_stays(start) -> None:
    clock = Clock()
    server = await start("--keep-deploys", "2", "--keep-days", "10", clock=clock)
    told = []
    for number in range(5):
        told.append((await server.deploy({"dag.py": b"n = %d\n" % number}))["digest"])
        clock.now += 4 * DAY
    await server.service.retention.run()
    # They are 20, 16, 12, 8 and 4 days old.
    assert await stored(server) == set(told[3:])
    clock.now += 100 * DAY
    await server.service.retention.run()
    assert await stored(server) == set(told[3:])
    assert len((await server.get("/default/dags/deploys")).json["deploys"]) == 5


async def test_it_runs_after_each_deploy_and_at_the_start(start) -> None:
    server = await start("--keep-deploys", "1", "--keep-days", "0", clock=(clock := Clock()))
    await server.deploy(A)
    clock.now += DAY
    new = await server.deploy(B)
    await settled(server)
    assert await stored(server) == {new["digest"]}
    assert await server.metric('stored_bundles{deployment="default"}') == 1
    stored_bytes = await asyncio.to_thread(server.service.store.bundles, "default")
    assert await server.metric('stored_bytes{deployment="default"}') == sum(stored_bytes.values())


async def test_beyond_max_store_bytes_only_the_newest_stay(start) -> None:
    server = await start("--keep-deploys", "2", "--max-store-bytes", "1")
    told = [(await server.deploy({"dag.py": b"n = %d\n" % number}))["digest"] for number in range(4)]
    await settled(server)
    assert await stored(server) == set(told[2:])


async def test_an_old_bundle_that_a_new_deploy_names_again_stays(start) -> None:
    clock = Clock()
    server = await start("--keep-deploys", "1", "--keep-days", "0", clock=clock)
    first = await server.deploy(A)
    await settled(server)
    clock.now += DAY
    async with server.service.deployments["default"].lock:
        again = asyncio.create_task(server.deploy(B))
        await asyncio.sleep(0.01)
    await again
    clock.now += DAY
    assert (await server.deploy(A))["digest"] == first["digest"]
    await settled(server)
    assert await stored(server) == {first["digest"]}
    assert (await server.get("/default/dags/download")).status == 200


async def test_a_bundle_that_no_deploy_names_goes(server) -> None:
    digest = "sha256:" + "a" * 64
    await asyncio.to_thread(server.service.store.put_bundle, "default", digest, lambda _: b"")
    await server.service.retention.run()
    assert await stored(server) == set()


async def test_with_an_unreadable_entry_a_bundle_that_no_deploy_names_stays(server) -> None:
    digest = "sha256:" + "a" * 64
    await asyncio.to_thread(server.service.store.put_bundle, "default", digest, lambda _: b"")
    server.service.deployments["default"].unreadable.add(7)
    await server.service.retention.run()
    assert await stored(server) == {digest}


async def test_with_an_unreadable_entry_a_bundle_that_an_old_deploy_names_goes(start) -> None:
    clock = Clock()
    server = await start("--keep-deploys", "1", "--keep-days", "0", clock=clock)
    unnamed = "sha256:" + "a" * 64
    await asyncio.to_thread(server.service.store.put_bundle, "default", unnamed, lambda _: b"")
    server.service.deployments["default"].unreadable.add(7)
    await server.deploy(A)
    clock.now += DAY
    new = await server.deploy(B)
    await settled(server)
    assert await stored(server) == {new["digest"], unnamed}


async def test_as_long_as_the_log_cannot_be_read_nothing_goes(server) -> None:
    deployment, digest = server.service.deployments["default"], "sha256:" + "a" * 64
    await asyncio.to_thread(server.service.store.put_bundle, "default", digest, lambda _: b"")
    deployment._unlisted = StoreAway("The disk is on fire.")
    assert deployment.away
    await server.service.retention.run()
    assert await stored(server) == {digest}
    deployment._unlisted = None
    await server.service.retention.run()
    assert await stored(server) == set()


async def test_bundles_are_deleted_under_the_lock_of_the_deployment(server, monkeypatch) -> None:
    store, deployment = server.service.store, server.service.deployments["default"]
    await asyncio.to_thread(store.put_bundle, "default", "sha256:" + "a" * 64, lambda _: b"")
    locked = []
    delete = store.delete_bundle
    monkeypatch.setattr(store, "delete_bundle", lambda *of: locked.append(deployment.lock.locked()) or delete(*of))
    await server.service.retention.run()
    assert locked == [True]


async def test_while_another_server_commits_nothing_goes(server) -> None:
    store, digest = server.service.store, "sha256:" + "a" * 64
    await asyncio.to_thread(store.put_bundle, "default", digest, lambda _: b"")
    commit = LocalStore(server.service.folder.root).committing("default")
    await asyncio.to_thread(commit.__enter__)
    await server.service.retention.run()
    assert await stored(server) == {digest}
    await asyncio.to_thread(commit.__exit__, None, None, None)
    await server.service.retention.run()
    assert await stored(server) == set()


async def test_a_bundle_that_an_entry_names_since_the_pass_began_stays(server, monkeypatch) -> None:
    store, digest = server.service.store, "sha256:" + "a" * 64
    await asyncio.to_thread(store.put_bundle, "default", digest, lambda _: b"")
    entry = next_deploy(
        None,
        0,
        digest=digest,
        kind="upload",
        description="",
        actor="",
        now=0,
        changes=Changes([], [], []),
        nonce="0" * 16,
    )
    kept_bundles = retention.kept_bundles
    looked = []

    def meanwhile(*of: object) -> dict[str, set[str]]:
        looked.append(kept_bundles(*of))
        assert store.create_entry("default", 1, entry.encode())
        return looked[0]

    monkeypatch.setattr(retention, "kept_bundles", meanwhile)
    await server.service.retention.run()
    assert looked == [{"default": set()}]
    assert await stored(server) == {digest}


async def test_of_a_deployment_that_is_removed_during_a_pass_nothing_goes_and_no_metric_comes_back(
    start, monkeypatch
) -> None:
    server = await start("--deployments", "one,two")
    service, digest = server.service, "sha256:" + "a" * 64
    for name in ("one", "two"):
        await asyncio.to_thread(service.store.put_bundle, name, digest, lambda _: b"")
    kept_bundles = retention.kept_bundles

    def meanwhile(*of: object) -> dict[str, set[str]]:
        del service.deployments._by_name["two"]
        for gauge in (service.metrics.stored_bytes, service.metrics.stored_bundles):
            gauge.remove("two")
        return kept_bundles(*of)

    monkeypatch.setattr(retention, "kept_bundles", meanwhile)
    await service.retention.run()
    assert [await stored(server, name) for name in ("one", "two")] == [set(), {digest}]
    assert await server.metric('stored_bundles{deployment="one"}') == 0
    assert await server.metric('stored_bundles{deployment="two"}') is None
    assert await server.metric('stored_bytes{deployment="two"}') is None


@FAULTS
async def test_what_cannot_be_deleted_is_reported_and_hinders_no_other_deployment(
    start, monkeypatch, caplog, fault
) -> None:
    server = await start("--deployments", "one,two")
    store, digest = server.service.store, "sha256:" + "a" * 64
    for name in ("one", "two"):
        await asyncio.to_thread(store.put_bundle, name, digest, lambda _: b"")
    delete = store.delete_bundle

    def fail(name: str, digest: str) -> None:
        if name == "one":
            raise fault("The folder is on fire.")
        delete(name, digest)

    monkeypatch.setattr(store, "delete_bundle", fail)
    await server.service.retention.run()
    assert [await stored(server, name) for name in ("one", "two")] == [{digest}, set()]
    failed = [record for record in caplog.records if record.message == "Retention failed"]
    assert [record.fields["deployment"] for record in failed] == ["one"]
    assert await server.metric('stored_bundles{deployment="one"}') == 1


async def test_a_bundle_that_is_being_sent_is_sent_to_its_end(start) -> None:
    clock = Clock()
    server = await start("--keep-deploys", "1", "--keep-days", "0", clock=clock)
    files = {"noise": random.Random(1).randbytes(9_000_000)}
    old = await server.deploy(files)
    path = f"/default/dags/versions/{old['version']}"
    async with server.session.get(path) as response:
        clock.now += DAY
        await server.deploy(B)
        await settled(server)
        assert await stored(server) == {(await server.get("/default/dags/current")).json["digest"]}
        body = await response.read()
    assert len(body) == int(response.headers["Content-Length"])


async def test_a_failure_is_reported_and_stops_nothing(server, monkeypatch, caplog) -> None:
    def fail(deployment: str) -> None:
        raise StoreAway("The disk is on fire.")

    monkeypatch.setattr(server.service.store, "bundles", fail)
    await server.service.retention.run()
    assert [record.message for record in caplog.records] == ["Retention failed"]


def counted(monkeypatch, store: LocalStore) -> list[str]:
    """The deployments whose bundles are listed from now on."""
    listed: list[str] = []
    bundles = store.bundles
    monkeypatch.setattr(store, "bundles", lambda name: listed.append(name) or bundles(name))
    return listed


async def test_one_pass_lists_each_deployment_once(start, monkeypatch) -> None:
    server = await start("--deployments", "one,two,three")
    listed = counted(monkeypatch, server.service.store)
    await server.service.retention.run()
    assert listed == ["one", "two", "three"]


async def test_who_asks_during_a_pass_shares_the_next(start, monkeypatch) -> None:
    server = await start("--deployments", "one,two,three")
    store = server.service.store
    listed = counted(monkeypatch, store)
    may_go_on = threading.Event()
    bundles = store.bundles
    monkeypatch.setattr(store, "bundles", lambda name: may_go_on.wait(10) and bundles(name))
    for number in range(5):
        await server.deploy({"dag.py": b"n = %d\n" % number}, "one")
    assert listed == []
    may_go_on.set()
    await settled(server)
    assert listed == ["one", "two", "three"] * 2
    assert len(await stored(server, "one")) == 5


async def test_the_rules_are_looked_at_beside_the_event_loop(server, monkeypatch) -> None:
    threads = set()
    real = retention.kept_bundles
    monkeypatch.setattr(
        retention, "kept_bundles", lambda *of, **more: threads.add(threading.get_ident()) or real(*of, **more)
    )
    await server.service.retention.run()
    assert threads
    assert threading.get_ident() not in threads


@FAULTS
async def test_what_one_deployment_cannot_list_hinders_no_other(start, monkeypatch, caplog, fault) -> None:
    server = await start(
        "--deployments", "one,two", "--keep-deploys", "1", "--keep-days", "0", clock=(clock := Clock())
    )
    store = server.service.store
    for name in ("one", "two"):
        await server.deploy(A, name)
        await settled(server)
    bundles = store.bundles

    def fail(name: str) -> dict[str, int]:
        if name == "one":
            raise fault("The folder is on fire.")
        return bundles(name)

    monkeypatch.setattr(store, "bundles", fail)
    clock.now += DAY
    new = await server.deploy(B, "two")
    await settled(server)
    assert await stored(server, "two") == {new["digest"]}
    failed = [record for record in caplog.records if record.message == "Retention failed"]
    assert [record.fields["deployment"] for record in failed] == ["one"]


async def test_when_the_server_stops_a_pass_ends_with_the_deployment_it_is_at(start, monkeypatch) -> None:
    server = await start("--deployments", "one,two,three")
    store = server.service.store
    digests = [f"sha256:{number:064x}" for number in range(5)]
    monkeypatch.setattr(retention, "BATCH_BUNDLES", 2)
    for name in ("one", "two"):
        for digest in digests:
            await asyncio.to_thread(store.put_bundle, name, digest, lambda _: b"")
    listed = counted(monkeypatch, store)
    server.service.background.stopping = True
    await server.service.retention.run()
    assert listed == ["one"]
    assert [len(await stored(server, name)) for name in ("one", "two")] == [3, 5]
    server.service.background.stopping = False
    await server.service.retention.run()
    assert [len(await stored(server, name)) for name in ("one", "two")] == [0, 0]


async def test_details_go_with_the_bundle(start) -> None:
    server = await start("--keep-deploys", "1", "--keep-days", "0")
    told = [await server.deploy({"dag.py": b"n = %d\n" % number, ".env": b"KEY=1\n"}) for number in range(3)]
    await settled(server)
    await server.service.retention.run()
    names = await asyncio.to_thread(os.listdir, f"{server.service.folder.root}/default/deploys")
    assert [name[:12] for name in names if name.endswith(".details")] == ["000000000003"]
    answers = [(await server.get(f"/default/dags/deploys/{each['version']}")).json for each in told]
    assert [bool(answer["details"]) for answer in answers] == [False, False, True]
    assert await asyncio.to_thread(lambda: list(Verification(server.service.store, "default").problems())) == []
