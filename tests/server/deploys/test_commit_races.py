"""Two servers on one store: a commit knows what the other one did, and of those who race each gets a place."""

import asyncio
import json

import pytest

from dagferry_core.deploylog import entry_sha256
from dagferry_server.deploys import commit as committing
from dagferry_server.errors import DeployContended
from dagferry_server.store.local import LocalStore
from harness import pack
from running import A, B

C = {**A, "shop.py": b"rate = 3\n", "new.py": b"pass\n"}


class Two:
    """Two servers, each with a data folder of its own, and one store for both."""

    def __init__(self, start, folder) -> None:
        self._start = start
        self._folder = folder
        self.store = LocalStore(str(folder / "shared"))

    async def open(self):
        (self._folder / "shared").mkdir()
        return [
            await self._start("--data-dir", str(self._folder / name), store=LocalStore(str(self._folder / "shared")))
            for name in ("one", "two")
        ]

    def entries(self) -> list[bytes]:
        return [self.store.read_entry("default", sequence) for sequence in self.store.sequences("default")]


@pytest.fixture
def two(start, tmp_path) -> Two:
    return Two(start, tmp_path)


async def test_what_another_server_deployed_makes_the_own_current_content_new_again(two) -> None:
    one, other = await two.open()
    await one.deploy(A)
    await other.deploy(B)
    # To `one` this is still the current content; it must not be answered as unchanged.
    told = await one.deploy(A)
    assert (told["sequence"], told["unchanged"]) == (3, False)
    assert (told["added"], told["changed"], told["removed"]) == (0, 1, 0)
    again = await other.deploy(A)
    assert (again["sequence"], again["unchanged"]) == (3, True)
    for server in (one, other):
        assert (await server.get("/default/dags/current")).json["sequence"] == 3


async def test_a_waiting_request_is_notified_of_another_servers_deploy_as_soon_as_it_is_seen(two) -> None:
    one, other = await two.open()
    await other.deploy(A)
    headers = {"If-None-Match": '"none"', "Prefer": "wait=50"}
    waiter = asyncio.create_task(one.call("GET", "/default/dags/current", headers=headers))
    await asyncio.sleep(0)
    assert (await one.deploy(A))["unchanged"] is True
    assert (await waiter).json["sequence"] == 1


async def test_a_lost_race_counts_the_changes_against_the_winner_and_takes_the_next_sequence(two, monkeypatch) -> None:
    one, other = await two.open()
    await one.deploy(A)
    store = one.service.store
    real = store.create_entry
    loop = asyncio.get_running_loop()
    beaten = []

    def beaten_once(deployment: str, sequence: int, data: bytes) -> bool:
        if not beaten:
            beaten.append(asyncio.run_coroutine_threadsafe(other.deploy(C), loop).result(30))
        return real(deployment, sequence, data)

    monkeypatch.setattr(store, "create_entry", beaten_once)
    told = await one.deploy(B)
    assert (beaten[0]["sequence"], told["sequence"]) == (2, 3)
    assert (told["added"], told["changed"], told["removed"]) == (0, 1, 1)
    assert [deploy["sequence"] for deploy in (await one.get("/default/dags/deploys")).json["deploys"]] == [3, 2, 1]
    # Nothing is left of the attempt that failed.
    folder = two._folder / "shared" / "default" / "deploys"
    assert len(list(folder.glob("*.details"))) == 3
    patch = await one.get(f"/default/dags/versions/{told['version']}?from={beaten[0]['version']}")
    assert patch.headers["Content-Type"] == "application/vnd.dagferry.patch"


async def test_a_race_that_another_server_wins_with_the_same_content_ends_as_unchanged(two, monkeypatch) -> None:
    one, other = await two.open()
    store = one.service.store
    real = store.create_entry
    loop = asyncio.get_running_loop()

    def beaten(deployment: str, sequence: int, data: bytes) -> bool:
        asyncio.run_coroutine_threadsafe(other.deploy(A), loop).result(30)
        return real(deployment, sequence, data)

    monkeypatch.setattr(store, "create_entry", beaten)
    told = await one.deploy(A)
    assert (told["sequence"], told["unchanged"]) == (1, True)


async def test_a_commit_that_loses_all_races_that_it_may_gets_503(two, monkeypatch) -> None:
    one, other = await two.open()
    monkeypatch.setattr(committing, "MAX_RACES", 10)
    monkeypatch.setattr(committing, "RACE_PAUSE_SECONDS", 0)
    store = one.service.store
    real = store.create_entry
    loop = asyncio.get_running_loop()
    tried = []

    def beaten(deployment: str, sequence: int, data: bytes) -> bool:
        tried.append(sequence)
        asyncio.run_coroutine_threadsafe(other.deploy({"dag.py": b"n = %d\n" % sequence}), loop).result(30)
        return real(deployment, sequence, data)

    monkeypatch.setattr(store, "create_entry", beaten)
    answer = await one.upload(pack(B))
    assert (answer.status, answer.json["code"]) == (503, DeployContended.code)
    assert answer.headers["Retry-After"]
    assert tried == list(range(1, 11))
    monkeypatch.undo()
    assert (await one.deploy(B))["sequence"] == 11


async def test_uploads_to_both_at_once_are_all_deployed_in_one_chain(two) -> None:
    servers = await two.open()
    uploads = [
        server.deploy({"dag.py": b"n = %d\n" % (100 * place + number)})
        for number in range(15)
        for place, server in enumerate(servers)
    ]
    told = await asyncio.gather(*uploads)
    assert sorted(each["sequence"] for each in told) == list(range(1, 31))
    entries = await asyncio.to_thread(two.entries)
    previous = ""
    for data in entries:
        assert json.loads(data).get("previous", "") == previous
        previous = entry_sha256(data)
    assert len({json.loads(data)["nonce"] for data in entries}) == 30


async def test_a_bundle_that_is_deleted_before_it_is_named_is_stored_anew(two, monkeypatch) -> None:
    one, other = await two.open()
    await one.deploy(A)
    store = one.service.store
    real = store.put_bundle
    put = []

    def put_and_lost(deployment: str, digest: str, write: object) -> None:
        real(deployment, digest, write)
        put.append(digest)
        if len(put) == 1:
            other.service.store.delete_bundle(deployment, digest)

    monkeypatch.setattr(store, "put_bundle", put_and_lost)
    told = await one.deploy(B)
    assert (put, told["sequence"]) == ([told["digest"]] * 2, 2)
    assert (await one.get("/default/dags/download")).status == 200


async def test_an_answer_of_the_store_that_gets_lost_is_distinguished_from_a_lost_race(server, monkeypatch) -> None:
    store = server.service.store
    real = store.create_entry

    def repeated(*arguments: object) -> bool:
        assert real(*arguments)
        return real(*arguments)

    monkeypatch.setattr(store, "create_entry", repeated)
    told = await server.deploy(A)
    assert (told["sequence"], told["unchanged"]) == (1, False)


async def test_an_entry_that_another_server_damaged_is_followed(two) -> None:
    one, other = await two.open()
    await one.deploy(A)
    assert await asyncio.to_thread(two.store.create_entry, "default", 2, b"half")
    told = await other.deploy(A)
    assert (told["sequence"], told["unchanged"]) == (3, False)
    entry = json.loads(await asyncio.to_thread(two.store.read_entry, "default", 3))
    assert entry["previous"] == entry_sha256(b"half")
