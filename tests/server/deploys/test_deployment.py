"""What the server knows of a deployment, and how it copes with a damaged log."""

import asyncio
import logging

import pytest

from dagferry_core.deploylog import Deploy
from dagferry_core.names import make_version
from dagferry_server.deploys import deployment as deployments
from dagferry_server.deploys.deployment import Deployment, read_log
from dagferry_server.deploys.deployments_file import common_settings
from dagferry_server.errors import NothingDeployed, RequestError, StoreDamaged, VersionNotFound
from dagferry_server.settings import read_settings
from dagferry_server.store.local import LocalStore
from running import A, B

SETTINGS = common_settings(read_settings([], {}, lambda: (None, None)))


def deploy(sequence: int) -> Deploy:
    moment = 1_800_000_000 + sequence
    return Deploy(
        sequence, make_version(moment, sequence), f"sha256:{sequence:064x}", "upload", "", "me", moment, 1, 0, 0
    )


@pytest.fixture
def store(tmp_path) -> LocalStore:
    store = LocalStore(str(tmp_path))
    store.prepare("prod")
    return store


def fill(store: LocalStore, count: int) -> None:
    for sequence in range(1, count + 1):
        store.create_entry("prod", sequence, deploy(sequence).encode())


def damage(tmp_path, sequence: int) -> None:
    (tmp_path / "prod" / "deploys" / f"{sequence:012d}.json").write_bytes(b'{"sequence": 1')


def test_an_empty_log(store) -> None:
    loaded = read_log(store, "prod")
    assert (loaded.highest, loaded.recent, loaded.unreadable) == (0, {}, set())
    found = Deployment("prod", store, SETTINGS, loaded)
    assert (found.current, found.tag) == (None, "none")
    with pytest.raises(NothingDeployed, match="prod"):
        found.current_deploy()


def test_the_newest_entry_is_current(store) -> None:
    fill(store, 3)
    found = Deployment("prod", store, SETTINGS, read_log(store, "prod"))
    assert (found.current, found.highest, found.tag) == (deploy(3), 3, deploy(3).version)


def test_a_damaged_newest_entry_is_reported_and_no_older_deploy_is_given_for_the_newest(
    store, tmp_path, caplog
) -> None:
    fill(store, 3)
    damage(tmp_path, 3)
    found = Deployment("prod", store, SETTINGS, read_log(store, "prod"))
    assert (found.current, found.highest, found.unreadable) == (deploy(2), 3, {3})
    with pytest.raises(StoreDamaged, match="The newest entry of the deploy log, 3, is damaged"):
        found.current_deploy()
    assert found.away is None
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].fields["sequence"] == 3


async def test_the_next_deploy_follows_the_unreadable_one(start, tmp_path) -> None:
    server = await start()
    await server.deploy(A)
    await server.deploy(B)
    await server.close()
    path = tmp_path / "data" / "default" / "deploys" / "000000000002.json"
    path.write_bytes(path.read_bytes()[:20])
    server = await start()
    answer = await server.get("/default/dags/current")
    assert (answer.status, answer.json["code"]) == (503, "store_damaged")
    assert (await server.get("/default/dags/download")).status == 503
    # The deploy that heals it comes in through what asks whether the server is ready.
    assert (await server.get("/readyz")).status == 200
    assert await server.metric('unreadable_deploys{deployment="default"}') == 1
    # A is no content of the current deploy, which nobody knows.
    told = await server.deploy(A)
    assert (told["sequence"], told["unchanged"]) == (3, False)
    assert [entry["sequence"] for entry in (await server.get("/default/dags/deploys")).json["deploys"]] == [3, 1]


async def test_a_deploy_is_found_by_its_version(store, monkeypatch) -> None:
    monkeypatch.setattr(deployments, "MEMORY_DEPLOYS", 2)
    await asyncio.to_thread(fill, store, 5)
    found = Deployment("prod", store, SETTINGS, await asyncio.to_thread(read_log, store, "prod"))
    assert list(found.recent) == [4, 5]
    for sequence in range(1, 6):
        assert await found.deploy(deploy(sequence).version) == deploy(sequence)
    for missing in (make_version(0, 5), make_version(0, 6), make_version(0, 0)):
        with pytest.raises(VersionNotFound):
            await found.deploy(missing)
    with pytest.raises(RequestError):
        await found.deploy("latest")


async def test_memory_holds_the_newest_deploys_only(store, monkeypatch) -> None:
    monkeypatch.setattr(deployments, "MEMORY_DEPLOYS", 3)
    found = Deployment("prod", store, SETTINGS, await asyncio.to_thread(read_log, store, "prod"))
    for sequence in range(1, 6):
        found.add(deploy(sequence))
    assert list(found.recent) == [3, 4, 5]
    assert found.current == deploy(5)


async def test_adding_a_deploy_notifies_waiting_requests(store) -> None:
    found = Deployment("prod", store, SETTINGS, await asyncio.to_thread(read_log, store, "prod"))
    waiter = asyncio.create_task(found.waiters.wait(50))
    await asyncio.sleep(0)
    found.add(deploy(1))
    await waiter
    assert found.tag == deploy(1).version


async def test_after_an_unclear_write_the_store_is_asked(store) -> None:
    found = Deployment("prod", store, SETTINGS, await asyncio.to_thread(read_log, store, "prod"))
    await asyncio.to_thread(fill, store, 2)
    await found.refresh()
    assert (found.current, found.highest) == (deploy(2), 2)


def test_the_deploys_without_a_gap_end_where_one_cannot_be_read_or_a_deleted_deployment_began(store, tmp_path) -> None:
    fill(store, 5)
    found = Deployment("prod", store, SETTINGS, read_log(store, "prod"))
    assert [each.sequence for each in found.unbroken()] == [5, 4, 3, 2, 1]
    damage(tmp_path, 2)
    found = Deployment("prod", store, SETTINGS, read_log(store, "prod"))
    assert [each.sequence for each in found.unbroken()] == [5, 4, 3]
    found = Deployment("prod", store, SETTINGS, read_log(store, "prod")._replace(floor=4))
    assert [each.sequence for each in found.unbroken()] == [5]
    found = Deployment("prod", store, SETTINGS, read_log(store, "prod")._replace(floor=5))
    assert list(found.unbroken()) == []
