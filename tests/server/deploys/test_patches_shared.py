"""Patches where several servers share a store: the one that commits makes it, and the others read it."""

import asyncio
import random
from pathlib import Path

import pytest

from bucket_in_memory import Bucket, shared_store
from dagferry_core.bundle.patch import Patch
from dagferry_core.deploylog import decode
from dagferry_server.deploys import commit, following
from dagferry_server.errors import StoreAway
from dagferry_server.store.base import MAX_COMMIT_SECONDS
from harness import pack
from running import A, Answer, B, Running
from stores import ObjectStoreUnderTest, store_under_test

PATCH = "application/vnd.dagferry.patch"


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
async def two(start, tmp_path: Path, bucket: Bucket, monkeypatch) -> tuple[Running, Running]:
    monkeypatch.setattr(following.random, "random", lambda: 1.0)  # no server looks by itself during a test
    first, second = [
        await start(
            "--data-dir",
            str(tmp_path / name),
            "--store-poll",
            "60",
            store=await asyncio.to_thread(shared_store, bucket),
        )
        for name in ("first", "second")
    ]
    return first, second


async def follow(server: Running, old: dict[str, str], new: dict[str, str], **headers: str) -> Answer:
    """Ask a server that did not commit for a patch, as a sidecar does."""
    deployment = server.service.deployments["default"]
    async with deployment.lock:
        await deployment.refresh()
    return await server.get(f"/default/dags/versions/{new['version']}?from={old['version']}", **headers)


def gets(bucket: Bucket) -> list[str]:
    """Which of bundles and patches were read. A server reads small objects at any time, to learn what is new."""
    names = [name.split("/") for operation, name in bucket.asked.elements() if operation == "get"]
    return [parts[1] for parts in names if parts[0] == "default" and parts[1] in ("bundles", "patches")]


async def test_another_server_reads_the_patch_and_no_bundle(two, bucket) -> None:
    first, second = two
    old, new = await first.deploy(A), await first.deploy(B)
    bucket.asked.clear()
    answer = await follow(second, old, new)
    assert gets(bucket) == ["patches"]
    assert answer.status == 200
    assert answer.body == (await follow(first, old, new)).body
    assert Patch.parse(answer.body).digest == new["digest"]
    await follow(second, old, new)
    assert gets(bucket) == ["patches"]  # it is kept


async def test_it_is_there_before_the_entry(two, bucket, monkeypatch) -> None:
    first, _ = two
    await first.deploy(A)
    there: list[bool] = []

    def note(operation: str, name: str) -> None:
        if operation == "create" and "/deploys/" in name:
            there.append(any("/patches/" in other for other in bucket.objects))

    monkeypatch.setattr(bucket, "before", note)
    await first.deploy(B)
    assert there == [True]


async def test_a_sidecar_that_has_the_tree_still_gets_one_without_contents(two, bucket) -> None:
    first, second = two
    large = {**A, "model.bin": random.Random(3).randbytes(300_000)}
    old, new = await first.deploy(A), await first.deploy(large)
    bucket.asked.clear()
    bare = await follow(second, old, new, Dagferry_Retained=new["digest"])
    assert set(gets(bucket)) == {"patches"}
    assert bare.body == (await follow(first, old, new, Dagferry_Retained=new["digest"])).body
    assert Patch.parse(bare.body).parts == []


async def test_that_a_patch_is_of_no_use_is_told_too(two, bucket, monkeypatch) -> None:
    first, second = two
    monkeypatch.setattr(commit, "worth_a_patch", lambda _: False)
    old, new = await first.deploy(A), await first.deploy(B)
    bucket.asked.clear()
    answer = await follow(second, old, new)
    assert answer.headers["Content-Type"] != PATCH
    # The whole bundle is sent; the old one is not needed.
    assert gets(bucket).count("patches") == 1
    assert not [name for _, name in bucket.asked if old["digest"].removeprefix("sha256:") in name and "bundles" in name]


@pytest.mark.parametrize("fault", ["away", "damaged", "another", "none"])
async def test_without_a_stored_patch_the_server_makes_one(two, bucket, monkeypatch, fault) -> None:
    first, second = two
    old, new = await first.deploy(A), await first.deploy(B)
    [name] = [name for name in bucket.objects if "/patches/" in name]
    if fault == "away":

        def fail(*_: str) -> bytes:
            raise StoreAway("The bucket does not answer.")

        monkeypatch.setattr(second.service.store, "read_patch", fail)
    elif fault == "none":
        del bucket.objects[name]
    elif fault == "damaged":
        bucket.put(name, b"\xff" * 100)
    else:
        third = await first.deploy({**A, "shop.py": b"rate = 3\n"})
        [other] = [found for found in bucket.objects if f"-{third['digest'].removeprefix('sha256:')}" in found]
        bucket.put(name, bucket.objects[other].data)
    answer = await follow(second, old, new)
    assert answer.body == (await follow(first, old, new)).body
    assert Patch.parse(answer.body).digest == new["digest"]


async def test_a_patch_that_cannot_be_stored_does_not_prevent_the_deploy(two, monkeypatch) -> None:
    first, second = two

    def fail(*_: object) -> None:
        raise StoreAway("The bucket does not answer.")

    monkeypatch.setattr(first.service.store, "put_patch", fail)
    old, new = await first.deploy(A), await first.deploy(B)
    assert Patch.parse((await follow(second, old, new)).body).digest == new["digest"]


async def test_a_commit_that_a_suspended_machine_made_too_long_is_not_completed(two, monkeypatch) -> None:
    first, _ = two
    wall = commit.time.time
    put = first.service.store.put_bundle

    def suspended(*arguments: object) -> None:
        put(*arguments)
        monkeypatch.setattr(commit.time, "time", lambda: wall() + MAX_COMMIT_SECONDS + 1)

    monkeypatch.setattr(first.service.store, "put_bundle", suspended)
    with pytest.raises(AssertionError, match="took longer than 600 s"):
        await first.deploy(A)
    assert first.service.deployments["default"].highest == 0


async def test_a_deploy_whose_server_was_paused_until_its_bundle_was_deleted_is_no_success(two, monkeypatch) -> None:
    first, _ = two
    store, wall = first.service.store, commit.time.time
    create = store.create_entry

    def paused(*arguments: object) -> bool:
        monkeypatch.setattr(commit.time, "time", lambda: wall() + MAX_COMMIT_SECONDS + 1)
        for meta in list(store._objects.list("default/bundles")):
            store._objects.delete(meta.key)
        return create(*arguments)

    monkeypatch.setattr(store, "create_entry", paused)
    answer = await first.upload(pack(A))
    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    monkeypatch.setattr(commit.time, "time", wall)
    again = await first.deploy(A)
    assert (again["sequence"], again["unchanged"]) == (1, True)
    assert await asyncio.to_thread(store.keeps_bundle, "default", again["digest"])


async def test_an_entry_that_arrives_late_has_its_details(two, monkeypatch) -> None:
    first, _ = two
    store, late = first.service.store, []
    create = store.create_entry

    def lost(*arguments: object) -> bool:
        late.append(arguments)
        raise StoreAway("The answer got lost.")

    monkeypatch.setattr(store, "create_entry", lost)
    assert (await first.upload(pack(A))).status == 503
    await asyncio.to_thread(create, *late[0])
    entry = decode(late[0][2], 1)
    assert await asyncio.to_thread(store.read_details, "default", 1, entry.nonce)


@pytest.mark.slow
async def test_in_a_real_store_no_bundle_is_downloaded_for_it_either(start, tmp_path) -> None:
    store = await asyncio.to_thread(store_under_test, "versitygw", tmp_path)
    assert isinstance(store, ObjectStoreUnderTest)
    try:
        stores = [await asyncio.to_thread(store.open, proxy) for proxy in store.proxies]
        first, second = [
            await start("--data-dir", str(tmp_path / f"server-{number}"), store=one)
            for number, one in enumerate(stores)
        ]
        old, new = await first.deploy(A), await first.deploy(B)
        await second.service.settled()
        store.proxies[1].resume()
        answer = await follow(second, old, new)
        assert Patch.parse(answer.body).digest == new["digest"]
        asked = [request.key for request in store.proxies[1].requests]
        assert sum("/patches/" in key for key in asked) == 2  # a list, and what it has
        assert not [key for key in asked if "/bundles/" in key]
    finally:
        store.close()
