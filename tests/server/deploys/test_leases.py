"""Leases keep the bundles that DAG runs need, for as long as they are renewed, and no longer than a day."""

import asyncio
import json
import os
import threading
import time
from pathlib import Path

import pytest

from dagferry_server.deploys import leases, retention
from dagferry_server.deploys.leases import (
    MAX_HOLDERS,
    MAX_READ_LEASES,
    MAX_VERSIONS,
    RENEW_SECONDS,
    REPLACED_SECONDS,
    VALID_SECONDS,
    Leases,
    leased_digests,
    newest_versions,
    stored_leases,
)
from dagferry_server.errors import StoreAway, StoreDamaged
from dagferry_server.store.base import LEASES, NoteKind
from dagferry_server.store.local import LocalStore
from running import Running

KEEP_ONE = ("--keep-deploys", "1", "--keep-days", "0")


def tree(number: int) -> dict[str, bytes]:
    return {"dag.py": b"n = %d\n" % number}


async def stored(server: Running) -> set[str]:
    return set(await asyncio.to_thread(server.service.store.bundles, "default"))


async def deploy(server: Running, number: int) -> dict[str, str]:
    """Deploy, and wait for the retention that this starts."""
    answer = await server.deploy(tree(number))
    await server.service.settled()
    return answer


async def renew(server: Running, *versions: str, holder: str = "bundle-0") -> None:
    await server.service.leases.renew("default", holder, versions)


async def write_by_hand(server: Running, holder: str, data: bytes) -> None:
    await asyncio.to_thread(server.service.store.write_note, "default", LEASES, holder, data)


def encoded(*versions: str) -> bytes:
    return json.dumps({"versions": versions}).encode()


async def digests(server: Running) -> set[str]:
    """What leases keep, if no entry is known."""
    return await asyncio.to_thread(leased_digests, server.service.store, "default", [])


def lease_file(server: Running, holder: str = "bundle-0"):
    return os.path.join(server.service.folder.root, "default/leases", holder)


def make_older(server: Running, seconds: float, holder: str = "bundle-0") -> None:
    now = time.time() - seconds
    os.utime(lease_file(server, holder), (now, now))


# --- what retention keeps --------------------------------------------------------------------------------------------


async def test_a_version_with_a_lease_keeps_its_bundle_through_any_number_of_deploys(start) -> None:
    server = await start(*KEEP_ONE, "--max-store-bytes", "1")
    first = await deploy(server, 1)
    await renew(server, first["version"])
    for number in range(2, 6):
        newest = await deploy(server, number)
    assert await stored(server) == {first["digest"], newest["digest"]}
    assert (await server.get(f"/default/dags/versions/{first['version']}")).status == 200
    await renew(server, newest["version"])
    assert await stored(server) == {first["digest"], newest["digest"]}, "nothing says that it is needed no more"


async def test_when_no_run_needs_it_any_more_it_goes(start, monkeypatch) -> None:
    server = await start(*KEEP_ONE)
    first = await deploy(server, 1)
    await renew(server, first["version"])
    second = await deploy(server, 2)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0)
    await renew(server, second["version"])
    await server.service.retention.run()
    assert await stored(server) == {second["digest"]}


async def test_a_lease_that_was_not_renewed_for_a_day_ends(start) -> None:
    server = await start(*KEEP_ONE)
    first = await deploy(server, 1)
    await renew(server, first["version"])
    second = await deploy(server, 2)
    make_older(server, VALID_SECONDS - 600)
    await server.service.retention.run()
    assert await stored(server) == {first["digest"], second["digest"]}
    make_older(server, VALID_SECONDS + 1)
    await server.service.retention.run()
    assert await stored(server) == {second["digest"]}


async def test_a_lease_that_comes_between_the_two_looks_of_retention_still_counts(start, monkeypatch) -> None:
    server = await start(*KEEP_ONE)
    first = await server.deploy(tree(1))
    await server.service.settled()
    looked, proceed = threading.Event(), threading.Event()
    kept_bundles = retention.kept_bundles

    def meanwhile(*of):
        kept = kept_bundles(*of)
        looked.set()
        assert proceed.wait(10)
        return kept

    monkeypatch.setattr(retention, "kept_bundles", meanwhile)
    second = await server.deploy(tree(2))
    assert await asyncio.to_thread(looked.wait, 10)
    await renew(server, first["version"])
    proceed.set()
    await server.service.settled()
    assert await stored(server) == {first["digest"], second["digest"]}


@pytest.mark.parametrize("phase", [1, 2])
async def test_where_leases_cannot_be_read_nothing_is_deleted(start, monkeypatch, phase) -> None:
    server = await start(*KEEP_ONE)
    first = await deploy(server, 1)
    calls = []

    def away(self, deployment, kind):
        if kind == LEASES:
            calls.append(deployment)
        if len(calls) >= phase:
            raise StoreAway("The volume does not answer.")
        return {}

    monkeypatch.setattr(LocalStore, "notes", away)
    second = await deploy(server, 2)
    assert len(calls) == phase
    assert await stored(server) == {first["digest"], second["digest"]}
    monkeypatch.undo()
    await server.service.retention.run()
    assert await stored(server) == {second["digest"]}


async def test_a_damaged_lease_protects_everything_until_it_ends(start) -> None:
    server = await start(*KEEP_ONE)
    first = await deploy(server, 1)
    await renew(server, first["version"])
    await write_by_hand(server, "bundle-0", b"\xff")
    second = await deploy(server, 2)
    third = await deploy(server, 3)
    assert await stored(server) == {one["digest"] for one in (first, second, third)}
    make_older(server, VALID_SECONDS + 1)
    await server.service.retention.run()
    assert await stored(server) == {third["digest"]}


async def test_a_leased_version_that_is_too_old_for_the_memory_is_looked_up_in_the_store(start) -> None:
    server = await start(*KEEP_ONE)
    first, second = await deploy(server, 1), await deploy(server, 2)
    for version in (first["version"], "20200101T000000Z-000002", "20200101T000000Z-000099"):
        await write_by_hand(server, f"holder-{version[-6:]}", encoded(version))
    assert await digests(server) == {first["digest"]}
    await write_by_hand(server, "holder-000002", encoded(second["version"]))
    assert await digests(server) == {first["digest"], second["digest"]}


async def test_a_version_of_another_log_with_the_sequence_of_one_of_this_keeps_nothing(start) -> None:
    server = await start(*KEEP_ONE)
    await deploy(server, 1)
    await renew(server, "20200101T000000Z-000001")
    newest = await deploy(server, 2)
    assert await stored(server) == {newest["digest"]}


async def test_an_entry_that_cannot_be_read_now_lets_nothing_be_deleted(start, monkeypatch) -> None:
    server = await start(*KEEP_ONE)
    first = await deploy(server, 1)
    store = server.service.store
    await write_by_hand(server, "one", encoded(first["version"]))
    monkeypatch.setattr(store, "read_entry", lambda *_: (_ for _ in ()).throw(StoreAway("It does not answer.")))
    with pytest.raises(StoreAway):
        await digests(server)
    monkeypatch.setattr(store, "read_entry", lambda *_: (_ for _ in ()).throw(StoreDamaged("It is damaged.")))
    assert await digests(server) == set()


# --- who has a lease -------------------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Writes(LocalStore):
    """Notes what is written."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.written: list[tuple[str, list[str]]] = []

    def write_note(self, deployment: str, kind: NoteKind, name: str, data: bytes) -> None:
        super().write_note(deployment, kind, name, data)
        self.written.append((name, json.loads(data)["versions"]))


@pytest.fixture
async def site(start):
    """A deployment, its leases with a clock of their own, and a store that notes what is written."""
    server = await start()
    store, clock = Writes(server.service.folder.root), Clock()
    deployment = server.service.deployments["default"]
    return Leases(store, server.service.deployments, clock=clock), store, clock, deployment


async def there(store: LocalStore) -> set[str]:
    return set(await asyncio.to_thread(store.notes, "default", LEASES))


V = [f"20260101T000000Z-{number:06d}" for number in range(1, 400)]


async def test_an_unchanged_lease_is_written_again_only_after_minutes(site) -> None:
    held, store, clock, _ = site
    for _ in range(3):
        await held.renew("default", "a", V[:2])
    assert store.written == [("a", [V[1], V[0]])]
    clock.now += RENEW_SECONDS
    await held.renew("default", "a", V[:2])
    await held.renew("default", "a", V[1:2])
    assert len(store.written) == 2
    await held.renew("default", "a", V[1:3])
    assert store.written[2:] == [("a", [V[2], V[1]])], "a new version has its lease at once"
    clock.now += RENEW_SECONDS
    await held.renew("default", "a", [])
    await held.renew("default", "b", [])
    assert store.written[3:] == [("a", [])]


async def test_after_a_failure_the_next_report_tries_again(site, monkeypatch) -> None:
    held, store, _, deployment = site
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "write_note", lambda *_: (_ for _ in ()).throw(StoreAway("It does not answer.")))
        with pytest.raises(StoreAway):
            await held.renew("default", "a", V[:1])
    assert deployment.leases.holders == 0
    await held.renew("default", "a", V[:1])
    assert store.written == [("a", V[:1])]


async def test_a_restarted_server_knows_the_leases_and_when_they_were_written(site) -> None:
    held, store, clock, deployment = site
    await held.renew("default", "a", V[:1])
    again = Leases(store, {"default": deployment}, clock=clock)
    await again.renew("default", "a", V[:1])
    await again.renew("default", "b", V[:1])
    assert store.written == [("a", V[:1]), ("b", V[:1])]
    assert deployment.leases.versions == {V[0]: ["a", "b"]}


async def test_a_holder_has_its_newest_versions_and_what_is_no_version_is_ignored(site) -> None:
    held, store, _, deployment = site
    await held.renew("default", "a", [*V, "live", "", "../x", *V[:3], None])
    assert store.written == [("a", V[: -MAX_VERSIONS - 1 : -1])]
    assert len(deployment.leases.versions) == MAX_VERSIONS
    assert newest_versions(["20260101T000000Z-000002", "20260102T000000Z-000001"])[0] == "20260101T000000Z-000002"


async def test_there_are_not_more_holders_than_allowed_and_those_that_are_heard_stay(site, caplog) -> None:
    held, store, clock, deployment = site
    for number in range(MAX_HOLDERS):
        await held.renew("default", f"h{number}", V[:1])
        clock.now += 1
    await held.renew("default", "one-too-many", V[:1])
    assert deployment.leases.holders == MAX_HOLDERS
    assert len(await there(store)) == MAX_HOLDERS
    assert "too many holders" in caplog.text
    clock.now += REPLACED_SECONDS
    await held.renew("default", "h0", V[:1])
    await held.renew("default", "another", V[:1])
    names = await there(store)
    assert {"h0", "another"} <= names
    assert "h1" not in names
    assert len(names) == MAX_HOLDERS


@pytest.mark.parametrize("holder", ["", "../../etc", "a/b", "A", "x" * 101, "a\n"])
async def test_a_hostile_name_of_a_holder_is_refused(site, holder) -> None:
    held, store, _, _ = site
    with pytest.raises(ValueError, match="among the leases"):
        await held.renew("default", holder, V[:1])
    assert store.written == []


async def test_a_deployment_that_is_not_there_has_no_leases(site) -> None:
    held, store, _, _ = site
    await held.renew("nowhere", "a", V[:1])
    assert store.written == []


async def test_leases_that_ended_long_ago_are_removed(site) -> None:
    held, store, _, deployment = site
    folder = f"{store._root}/default/leases"
    for holder in ("young", "ended", "old"):
        await asyncio.to_thread(store.write_note, "default", LEASES, holder, encoded(*V[:1]))
    for holder, age in (("ended", VALID_SECONDS + 1), ("old", 2 * VALID_SECONDS + 1)):
        os.utime(f"{folder}/{holder}", (time.time() - age,) * 2)
    await held.look(deployment)
    assert deployment.leases == ({V[0]: ["young"]}, 1)
    assert await there(store) == {"young", "ended"}


async def test_of_very_many_leases_the_newest_are_read(site) -> None:
    _, store, _, _ = site
    folder = f"{store._root}/default/leases"
    await asyncio.to_thread(store.write_note, "default", LEASES, "newest", encoded(*V[:1]))
    for number in range(MAX_READ_LEASES):
        await asyncio.to_thread(Path(folder, str(number)).write_bytes, b"old")
        os.utime(f"{folder}/{number}", (number, number))
    found = await asyncio.to_thread(stored_leases, store, "default")
    assert [lease.holder for lease in found] == ["newest", *map(str, range(MAX_READ_LEASES - 1, 0, -1))]
    assert (found[0].data, found[1].data) == (encoded(*V[:1]), b"old")
    assert 0 <= found[0].age < 3600
    assert found[1].age > found[0].age


async def test_a_lease_from_the_future_has_no_negative_age(site) -> None:
    held, store, _, _ = site
    await held.renew("default", "a", V[:1])
    os.utime(f"{store._root}/default/leases/a", (time.time() + 3600,) * 2)
    assert [lease.age for lease in await asyncio.to_thread(stored_leases, store, "default")] == [0]


# --- what is shown ---------------------------------------------------------------------------------------------------


async def test_the_status_shows_the_leases_and_a_change_wakes_who_waits(start) -> None:
    server = await start()
    first = await deploy(server, 1)
    answer = await server.get("/default/dags/status")
    assert answer.json["leases"] == {"versions": {}, "holders": 0}
    tag = answer.headers["ETag"]
    waits = asyncio.create_task(server.get("/default/dags/status", **{"If-None-Match": tag, "Prefer": "wait=20"}))
    await renew(server, first["version"])
    woken = await waits
    while woken.status == 304:
        woken = await server.get("/default/dags/status")
    assert woken.json["leases"] == {"versions": {first["version"]: ["bundle-0"]}, "holders": 1}
    assert await server.metric('leased_versions{deployment="default"}') == 1


async def test_what_other_servers_wrote_is_shown(start) -> None:
    server = await start()
    await write_by_hand(server, "theirs", encoded(*V[:2]))
    await server.service.leases.look(server.service.deployments["default"])
    assert (await server.get("/default/dags/status")).json["leases"]["versions"] == {V[1]: ["theirs"], V[0]: ["theirs"]}
