"""A store that cannot be read for a while: what is known stays known, and an older deploy is never the current one."""

import asyncio
import errno
import logging
import os
from collections.abc import Iterable

import pytest

from dagferry_server.errors import StoreAway
from dagferry_server.store.base import storage_errors
from dagferry_server.store.local import LocalStore
from harness import PATIENCE_SECONDS, pack
from running import A, B, Running, eventually

C = {**A, "shop.py": b"rate = 3\n"}
D = {**A, "shop.py": b"rate = 4\n"}


def unreadable() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


class Failing(LocalStore):
    """The local store on a disk that cannot read or write some entries, or list them, as long as it is told so."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.failing: set[int] = set()
        self.lists = True

    def _read(self, deployment: str, sequence: int) -> bytes:
        if sequence in self.failing:
            raise unreadable()
        return super()._read(deployment, sequence)

    def create_entry(self, deployment: str, sequence: int, data: bytes) -> bool:
        with storage_errors("Writing"):
            if sequence in self.failing:
                raise unreadable()
        return super().create_entry(deployment, sequence, data)

    def _deploys(self, deployment: str) -> str:
        if not self.lists:
            raise unreadable()
        return super()._deploys(deployment)

    def fail(self, *sequences: int, lists: bool = True) -> None:
        self.failing, self.lists = set(sequences), lists


@pytest.fixture
def store(tmp_path) -> Failing:
    (tmp_path / "data").mkdir()
    return Failing(str(tmp_path / "data"))


async def status(server: Running, path: str) -> tuple[int, str]:
    answer = await server.get(path)
    return answer.status, answer.json.get("code", "")


async def sequences(server: Running) -> list[int]:
    return [deploy["sequence"] for deploy in (await server.get("/default/dags/deploys")).json["deploys"]]


async def deploy_all(server: Running, contents: Iterable[dict[str, bytes]]) -> list[dict]:
    return [await server.deploy(files) for files in contents]


async def healed(server: Running) -> None:
    await eventually("the log to be known", lambda: not server.service.deployments["default"].unsettled)


AWAY = (503, "store_unavailable")


async def test_deploys_are_not_forgotten_when_an_upload_meets_a_volume_that_cannot_be_read(
    start, store, caplog
) -> None:
    server = await start(store=store)
    *_, last = await deploy_all(server, (A, B, C))
    store.fail(3, 4)
    assert (await server.upload(pack(D))).status == 503
    for path in ("/default/dags/current", "/default/dags/download", "/readyz"):
        assert await status(server, path) == AWAY, path
    assert await sequences(server) == [3, 2, 1]
    assert (await server.get(f"/default/dags/versions/{last['version']}")).status == 200
    # Repeating this in the log would hide the cause.
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.message for record in told] == ["The deploy log cannot be read; it is tried again"]
    store.fail()
    await healed(server)
    assert (await server.get("/default/dags/current")).json["version"] == last["version"]
    assert await status(server, "/readyz") == (200, "")
    assert (await server.deploy(D))["sequence"] == 4


async def test_an_entry_that_was_written_when_the_write_failed_is_found_as_soon_as_it_can_be_read(
    start, store, monkeypatch
) -> None:
    server = await start(store=store)
    await server.deploy(A)
    real = store.create_entry

    def written_and_failed(*arguments: object) -> bool:
        real(*arguments)
        store.fail(2)
        raise StoreAway("The answer got lost.")

    monkeypatch.setattr(store, "create_entry", written_and_failed)
    assert (await server.upload(pack(B))).status == 503
    assert await status(server, "/default/dags/current") == AWAY
    store.fail()
    await healed(server)
    assert (await server.get("/default/dags/current")).json["sequence"] == 2
    again = await server.deploy(B)
    assert (again["sequence"], again["unchanged"]) == (2, True)
    assert (await server.get("/default/dags/download")).status == 200


@pytest.mark.parametrize("how", [{"lists": False}, {"sequences": (2,)}, {"sequences": (1, 2)}])
async def test_a_start_while_the_log_cannot_be_read_is_not_ready_and_becomes_ready_by_itself(start, store, how) -> None:
    server = await start(store=store)
    *_, last = await deploy_all(server, (A, B))
    await server.close()
    store.fail(*how.get("sequences", ()), lists=how.get("lists", True))
    server = await start(store=store)
    assert await status(server, "/healthz") == (200, "")
    for path in ("/default/dags/current", "/default/dags/download", "/default/dags/deploys", "/readyz"):
        assert await status(server, path) == AWAY, path
    assert await status(server, f"/default/dags/versions/{last['version']}") == AWAY
    assert (await server.upload(pack(C))).status == 503
    store.fail()
    await healed(server)
    assert await status(server, "/readyz") == (200, "")
    assert (await server.get("/default/dags/current")).json["version"] == last["version"]
    assert await sequences(server) == [2, 1]
    assert (await server.deploy(C))["sequence"] == 3


async def test_an_older_entry_that_cannot_be_read_is_no_gap_in_the_log(start, store) -> None:
    server = await start(store=store)
    told = await deploy_all(server, (A, B, C))
    await server.close()
    store.fail(2)
    server = await start(store=store)
    assert (await server.get("/default/dags/current")).json["sequence"] == 3
    assert await status(server, "/readyz") == (200, "")
    assert await server.metric('unreadable_deploys{deployment="default"}') == 1
    assert await status(server, "/default/dags/deploys") == AWAY
    assert await status(server, f"/default/dags/versions/{told[1]['version']}") == AWAY
    store.fail()
    await healed(server)
    assert await sequences(server) == [3, 2, 1]
    assert list(server.service.deployments["default"].recent) == [1, 2, 3]
    assert await server.metric('unreadable_deploys{deployment="default"}') == 0


@pytest.mark.parametrize("how", [{"lists": False}, {"sequences": (2,)}])
async def test_retention_deletes_nothing_while_the_log_cannot_be_read(start, store, how) -> None:
    server = await start(store=store)
    told = await deploy_all(server, (A, B))
    await server.close()
    store.fail(*how.get("sequences", ()), lists=how.get("lists", True))
    server = await start("--keep-deploys", "1", "--keep-days", "0", store=store)
    await server.service.retention.run()
    stored = await asyncio.to_thread(store.bundles, "default")
    assert set(stored) == {each["digest"] for each in told}


async def test_nothing_new_is_no_answer_while_there_may_be_something_new(start, store) -> None:
    server = await start(store=store)
    version = (await server.deploy(A))["version"]
    deployment = server.service.deployments["default"]
    headers = {"If-None-Match": f'"{version}"', "Prefer": "wait=1"}
    waiter = asyncio.create_task(server.call("GET", "/default/dags/current", headers=headers))
    await eventually("the waiter", lambda: len(deployment.waiters) == 1)
    store.fail(2)
    assert (await server.upload(pack(B))).status == 503
    assert (await waiter).status == 503


async def test_a_waiting_sidecar_is_notified_of_the_deploy_that_was_found_later(start, store, monkeypatch) -> None:
    server = await start(store=store)
    version = (await server.deploy(A))["version"]
    other = LocalStore(store._root)
    entry = await asyncio.to_thread(other.read_entry, "default", 1)
    headers = {"If-None-Match": f'"{version}"', "Prefer": "wait=50"}
    waiter = asyncio.create_task(server.call("GET", "/default/dags/current", headers=headers))
    deployment = server.service.deployments["default"]
    await eventually("the waiter", lambda: len(deployment.waiters) == 1)
    newer = entry.replace(b'"sequence":1', b'"sequence":2').replace(b"Z-000001", b"Z-000002")
    assert await asyncio.to_thread(other.create_entry, "default", 2, newer)
    async with deployment.lock:
        await deployment.refresh()
    assert (await waiter).json["sequence"] == 2


async def test_a_damaged_newest_entry_that_is_put_back_is_found_by_itself(start, store, tmp_path, caplog) -> None:
    server = await start(store=store)
    *_, last = await deploy_all(server, (A, B))
    await server.close()
    path = tmp_path / "data" / "default" / "deploys" / "000000000002.json"
    content = path.read_bytes()
    path.write_bytes(b"{")
    server = await start(store=store)
    looks = []
    real = store.newer
    store.newer = lambda *arguments: looks.append(arguments) or real(*arguments)
    await eventually("two looks", lambda: len(looks) > 1)
    assert await status(server, "/default/dags/current") == (503, "store_damaged")
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1
    path.write_bytes(content)
    await healed(server)
    assert (await server.get("/default/dags/current")).json["version"] == last["version"]


async def test_a_bundle_that_cannot_be_read_for_a_moment_makes_no_file_count_as_new(start, store, monkeypatch) -> None:
    server = await start(store=store)
    await server.deploy(A)
    real, failures = store.open_bundle, [StoreAway("Input/output error")]

    def once(*arguments: str) -> object:
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(store, "open_bundle", once)
    told = await server.deploy(B)
    assert not failures
    assert (told["added"], told["changed"]) == (0, 1)


async def test_a_bundle_that_can_never_be_read_ends_no_deploys(start, store, monkeypatch) -> None:
    server = await start(store=store)
    first = await server.deploy(A)
    real = store.open_bundle

    def fail(deployment: str, digest: str) -> object:
        if digest == first["digest"]:
            raise StoreAway("Input/output error")
        return real(deployment, digest)

    monkeypatch.setattr(store, "open_bundle", fail)
    assert (await server.deploy(B))["sequence"] == 2


async def test_a_server_ends_while_its_store_is_away(start, store) -> None:
    store.fail(lists=False)
    server = await start(store=store)
    await asyncio.wait_for(server.close(), PATIENCE_SECONDS)


async def test_an_old_bundle_that_an_entry_names_anew_stays_while_that_entry_cannot_be_read(start, store) -> None:
    server = await start(store=store)
    told = await deploy_all(server, (A, B, A))
    await server.close()
    store.fail(3)
    server = await start("--keep-deploys", "1", "--keep-days", "0", store=store)
    await server.service.retention.run()
    assert told[2]["digest"] in await asyncio.to_thread(store.bundles, "default")
    store.fail()
    await eventually("the entry to be read", lambda: server.service.deployments["default"].highest == 3)
    await eventually("it to be current", lambda: server.service.deployments["default"].fault is None)
    assert (await server.get("/default/dags/download")).status == 200
