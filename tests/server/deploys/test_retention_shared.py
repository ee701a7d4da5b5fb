"""Retention on a store that several servers share: when it runs, what it leaves to others, and whose clock counts."""

import asyncio
from pathlib import Path

import pytest

from bucket_in_memory import DAY, Bucket, shared_store
from dagferry_server.deploys import retention
from dagferry_server.errors import StoreAway
from dagferry_server.store.base import DELETION_PAUSE_SECONDS, LEASES
from running import A, B, Running, eventually

LONG = DELETION_PAUSE_SECONDS + 1
RULES = ("--keep-deploys", "1", "--keep-days", "0")


class Clock:
    """The clock of the servers; that of the bucket is its own."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
async def two(start, tmp_path: Path, bucket: Bucket, clock: Clock) -> tuple[Running, Running]:
    first, second = [
        await start(
            *RULES, "--data-dir", str(tmp_path / name), store=await asyncio.to_thread(shared_store, bucket), clock=clock
        )
        for name in ("first", "second")
    ]
    return first, second


def stored(bucket: Bucket, deployment: str = "default") -> set[str]:
    parts = [key.split("/") for key in bucket.objects if key.startswith(f"{deployment}/bundles/")]
    kinds = {
        hex_digest: {last.partition(".")[2] for _, _, found, last in parts if found == hex_digest}
        for _, _, hex_digest, _ in parts
    }
    return {f"sha256:{hex_digest}" for hex_digest, found in kinds.items() if {"tar.zst", "index"} <= found}


def objects(bucket: Bucket, kind: str) -> list[str]:
    return [name for name in bucket.objects if name.endswith(kind)]


async def swept(bucket: Bucket, *servers: Running) -> None:
    """Let each server mark and, more than an hour later, delete."""
    for _ in range(2):
        bucket.now += LONG
        for server in servers:
            await server.service.retention.run()


async def test_what_another_server_has_stored_and_not_named_yet_stays_and_goes_two_hours_later(
    two, bucket, monkeypatch
):
    first, second = two

    def fail(*_: object) -> bool:
        raise StoreAway("The bucket does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(first.service.store, "create_entry", fail)
        with pytest.raises(AssertionError, match="does not answer"):
            await first.deploy(A)
    await first.service.settled()
    told = await second.deploy(B)
    await second.service.retention.run()
    assert len(stored(bucket)) == 2
    await swept(bucket, second)
    assert stored(bucket) == {told["digest"]}
    assert objects(bucket, ".doomed") == []


async def test_the_clock_of_a_server_does_not_matter(two, bucket, clock) -> None:
    first, second = two
    old = await first.deploy(A)
    clock.now += 2 * 3600  # the second server's clock is two hours fast
    new = await second.deploy(B)
    for _ in range(3):
        await second.service.retention.run()
        clock.now += DAY
    assert stored(bucket) == {old["digest"], new["digest"]}
    await swept(bucket, second)
    assert stored(bucket) == {new["digest"]}


async def test_an_old_bundle_that_is_marked_and_deployed_again_is_stored_again_and_stays(two, bucket, clock) -> None:
    first, second = two
    old = await first.deploy(A)
    clock.now += 1
    await first.deploy(B)
    bucket.now += LONG
    await second.service.retention.run()
    assert len(objects(bucket, ".doomed")) == 1
    clock.now += 1
    again = await first.deploy(A)
    assert again["digest"] == old["digest"]
    assert len(objects(bucket, ".tar.zst")) == 3
    await swept(bucket, second, first)
    assert stored(bucket) == {old["digest"]}
    assert (await second.get("/default/dags/download")).status == 200


async def test_a_server_that_does_not_know_the_newest_deploy_does_not_mark_its_bundle(two, bucket) -> None:
    first, second = two
    told = await first.deploy(A)
    bucket.now += LONG
    assert second.service.deployments["default"].highest == 0
    await second.service.retention.run()
    assert second.service.deployments["default"].highest == 1
    assert objects(bucket, ".doomed") == []
    assert stored(bucket) == {told["digest"]}


async def test_while_the_log_cannot_be_read_nothing_is_marked(two, bucket) -> None:
    first, second = two
    await first.deploy(A)
    bucket.now += LONG

    def fail(operation: str, name: str) -> None:
        if operation == "get" and "/deploys/" in name:
            raise StoreAway("The bucket does not answer.")

    bucket.before = fail
    await second.service.retention.run()
    bucket.before = lambda *_: None
    assert objects(bucket, ".doomed") == []


async def test_a_deploy_starts_no_pass_and_the_timer_starts_the_next_one(two, bucket, monkeypatch) -> None:
    first, _ = two
    passes: list[int] = []
    monkeypatch.setattr(first.service.retention, "_pass", lambda: passes.append(1) or asyncio.sleep(0))
    first.service.retention.request()
    await first.service.settled()
    assert len(passes) == 1  # the first after the start
    await first.deploy(A)
    await first.deploy(B)
    await first.service.settled()
    assert len(passes) == 1
    monkeypatch.setattr(retention, "PASS_SECONDS", 0.01)
    async with first.service.kept_fresh():
        await eventually("the timer", lambda: len(passes) >= 3)
    await first.service.settled()
    ended = len(passes)
    await asyncio.sleep(0.05)
    assert len(passes) == ended


async def test_a_pass_that_fails_is_not_the_last(two, monkeypatch) -> None:
    first, _ = two
    passes: list[int] = []

    async def fail() -> None:
        passes.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(first.service.retention, "_pass", fail)
    monkeypatch.setattr(retention, "PASS_SECONDS", 0.01)
    async with first.service.kept_fresh():
        await eventually("the timer", lambda: len(passes) >= 2)


async def test_on_a_local_disk_there_is_no_timer(server, monkeypatch) -> None:
    monkeypatch.setattr(retention, "PASS_SECONDS", 0.0)
    await asyncio.wait_for(server.service.retention.run_regularly(), 5)


async def test_a_pass_over_what_needs_nothing_asks_for_seven_lists_a_deployment(two, bucket) -> None:
    first, _ = two
    await first.deploy(A)
    await first.service.settled()
    bucket.asked.clear()
    await first.service.retention.run()
    lists = [name for operation, name in bucket.asked.elements() if operation == "list"]
    assert len(lists) <= 7, lists
    assert not any(name.startswith("default/deploys/") for name in lists)


async def test_a_deleted_deployment_is_emptied_in_two_steps(two, bucket) -> None:
    first, _ = two
    await first.service.deployments.create("preview", "anna", 1.0)
    await first.deploy(A, "preview")
    await first.service.deployments.delete("preview", "anna", 2.0)
    await first.service.retention.run()
    assert len(stored(bucket, "preview")) == 1
    await swept(bucket, first)
    assert stored(bucket, "preview") == set()
    assert [name for name in bucket.objects if name.startswith("preview/") and name.endswith(".details")] == []


async def test_a_deployment_that_exists_again_keeps_what_is_deployed_to_it(two, bucket) -> None:
    first, _ = two
    await first.service.deployments.create("preview", "anna", 1.0)
    told = await first.deploy(A, "preview")
    await first.service.deployments.delete("preview", "anna", 2.0)
    bucket.now += LONG
    await first.service.retention.run()
    await first.service.deployments.create("preview", "anna", 3.0)
    assert (await first.deploy(A, "preview"))["digest"] == told["digest"]
    await swept(bucket, first)
    assert stored(bucket, "preview") == {told["digest"]}
    assert (await first.get("/preview/dags/download")).status == 200


async def test_one_that_is_created_while_it_is_emptied_keeps_its_bundles(two, bucket, monkeypatch) -> None:
    first, _ = two
    deployments, store = first.service.deployments, first.service.store
    await deployments.create("preview", "anna", 1.0)
    await first.deploy(A, "preview")
    await deployments.delete("preview", "anna", 2.0)
    bucket.now += LONG
    await first.service.retention.run()
    bucket.now += LONG
    allow = store.may_delete

    def created_meanwhile(deployment: str, digests: object) -> set[str]:
        allowed = allow(deployment, digests)
        if deployment == "preview":
            other = shared_store(bucket)
            other.write_state("preview", "lifecycle", b'{"change": "created", "actor": "bo", "time": 3, "floor": 1}')
        return allowed

    monkeypatch.setattr(store, "may_delete", created_meanwhile)
    await first.service.retention.run()
    assert len(stored(bucket, "preview")) == 1


async def test_what_vanished_behind_the_servers_back_is_stored_anew_by_the_next_upload(two, bucket) -> None:
    first, _ = two
    told = await first.deploy(A)
    for name in objects(bucket, ".tar.zst"):
        del bucket.objects[name]  # as a lifecycle rule does
    assert stored(bucket) == set()
    again = await first.deploy(A)
    assert again["unchanged"]
    assert stored(bucket) == {told["digest"]}


async def test_a_server_that_starts_removes_nothing_of_an_upload_to_another_one(two, bucket, monkeypatch) -> None:
    first, second = two
    put = bucket.put

    def put_and_start(name: str, data: bytes) -> None:
        put(name, data)
        if name.endswith((".tar.zst", ".index", ".details")):
            second.service.store.prepare("default")
            second.service.store.may_delete("default", [])

    monkeypatch.setattr(bucket, "put", put_and_start)
    told = await first.deploy(A)
    assert stored(bucket) == {told["digest"]}
    assert (await first.get("/default/dags/download")).status == 200
    assert (await first.get(f"/default/dags/versions/{told['version']}")).status == 200


# --- leases ----------------------------------------------------------------------------------------------------------


async def lease(server: Running, version: str) -> None:
    await server.service.leases.renew("default", "bundle-0", [version])


async def test_a_version_with_a_lease_on_any_server_stays(two, bucket, clock) -> None:
    first, second = two
    old = await first.deploy(A)
    await lease(second, old["version"])
    new = await first.deploy(B)
    clock.now += DAY
    await swept(bucket, first, second)
    assert stored(bucket) == {old["digest"], new["digest"]}
    assert objects(bucket, ".doomed") == []


async def test_a_lease_that_comes_after_the_mark_still_keeps_it(two, bucket, clock) -> None:
    first, second = two
    old = await first.deploy(A)
    new = await first.deploy(B)
    clock.now += DAY
    bucket.now += LONG
    await first.service.retention.run()
    assert len(objects(bucket, ".doomed")) == 1
    bucket.now += LONG
    await lease(second, old["version"])
    await first.service.retention.run()
    await second.service.retention.run()
    assert stored(bucket) == {old["digest"], new["digest"]}


async def test_a_lease_that_comes_after_the_first_look_of_the_deleting_pass_keeps_it(two, bucket, clock) -> None:
    first, second = two
    old = await first.deploy(A)
    new = await first.deploy(B)
    clock.now += DAY
    bucket.now += LONG
    await first.service.retention.run()
    bucket.now += LONG
    late = b'{"versions": ["%s"]}' % old["version"].encode()
    looks = []

    def before(operation: str, key: str) -> None:
        if (operation, key) == ("list", "default/leases"):
            looks.append(key)
            if len(looks) == 2:
                second.service.store.write_note("default", LEASES, "bundle-0", late)

    bucket.before = before
    await first.service.retention.run()
    assert len(looks) == 2
    assert stored(bucket) == {old["digest"], new["digest"]}


async def test_a_lease_ends_by_the_clock_of_the_bucket(two, bucket, clock) -> None:
    first, second = two
    old = await first.deploy(A)
    await lease(first, old["version"])
    new = await first.deploy(B)
    clock.now += 2 * DAY
    await swept(bucket, first, second)
    assert stored(bucket) == {old["digest"], new["digest"]}
    bucket.now += DAY
    await swept(bucket, first, second)
    assert stored(bucket) == {new["digest"]}


async def test_the_leases_of_a_deleted_deployment_go_with_it(two, bucket) -> None:
    first, _ = two
    await first.service.deployments.create("preview", "anna", 1.0)
    told = await first.deploy(A, "preview")
    await first.service.leases.renew("preview", "bundle-0", [told["version"]])
    await first.service.deployments.delete("preview", "anna", 2.0)
    await swept(bucket, first)
    assert stored(bucket, "preview") == set()
    assert [name for name in bucket.objects if name.startswith("preview/leases/")] == []
