"""``GET …/current``: seen, waiting, told."""

import asyncio

import pytest

from dagferry_core.deploylog import entry_sha256
from dagferry_server.deploys import deployment as deployments
from dagferry_server.errors import StoreAway
from dagferry_server.fleet.sidecars import Offer
from rewriting import entry_file
from running import A, B, Running, eventually


def waiting(server: Running, deployment: str = "default") -> int:
    return len(server.service.deployments[deployment].waiters)


async def wait_for(server: Running, tag: str, seconds: int = 50, **headers: str):
    return asyncio.create_task(
        server.get("/default/dags/current", If_None_Match=f'"{tag}"', Prefer=f"wait={seconds}", **headers)
    )


async def test_nothing_deployed_yet_is_an_answer(server) -> None:
    answer = await server.get("/default/dags/current")
    assert (answer.status, answer.headers["ETag"], answer.headers["Cache-Control"]) == (
        200,
        '"none"',
        "no-store, no-transform",
    )
    told = answer.json
    assert (told["sequence"], told["version"], told["digest"]) == (0, "", "")
    assert len(told["log_id"]) == 32


async def test_the_current_deploy(server) -> None:
    deployed = await server.deploy(A)
    answer = await server.get("/default/dags/current")
    told = answer.json
    assert answer.headers["ETag"] == f'"{deployed["version"]}"'
    assert {name: told[name] for name in ("version", "digest", "sequence", "added")} == {
        name: deployed[name] for name in ("version", "digest", "sequence", "added")
    }
    assert (told["kind"], told["actor"], told["description"]) == ("upload", "anonymous", "")


async def test_what_was_seen_is_304_without_a_body(server) -> None:
    answer = await server.get("/default/dags/current", If_None_Match='"none"')
    assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", '"none"')
    version = (await server.deploy(A))["version"]
    answer = await server.get("/default/dags/current", If_None_Match=f'"{version}"')
    assert (answer.status, answer.headers["ETag"]) == (304, f'"{version}"')


async def test_a_waiting_request_is_notified_of_the_change(server) -> None:
    waiter = await wait_for(server, "none")
    await eventually("the waiter", lambda: waiting(server) == 1)
    version = (await server.deploy(A))["version"]
    answer = await waiter
    assert (answer.status, answer.json["version"]) == (200, version)
    assert waiting(server) == 0


async def test_who_has_seen_something_else_does_not_wait(server) -> None:
    version = (await server.deploy(A))["version"]
    assert (await (await wait_for(server, "20200101T000000Z-000009"))).json["version"] == version


async def test_a_wait_that_ends_without_a_change_is_304(server, monkeypatch) -> None:
    monkeypatch.setattr("dagferry_server.http.long_poll.MAX_WAIT_SECONDS", 0.01)
    assert (await (await wait_for(server, "none"))).status == 304


async def test_the_same_content_again_wakes_nobody(server) -> None:
    version = (await server.deploy(A))["version"]
    waiter = await wait_for(server, version)
    await eventually("the waiter", lambda: waiting(server) == 1)
    await server.deploy(A)
    assert waiting(server) == 1
    await server.deploy(B)
    assert (await waiter).status == 200


async def test_another_deployments_change_wakes_nobody(start) -> None:
    server = await start("--deployments", "default,prod")
    waiter = await wait_for(server, "none")
    await eventually("the waiter", lambda: waiting(server) == 1)
    await server.deploy(A, "prod")
    assert waiting(server) == 1
    await server.deploy(A)
    assert (await waiter).json["sequence"] == 1


async def test_no_change_is_ever_missed_by_those_who_ask_again_and_again(server) -> None:
    seen: list[list[int]] = [[] for _ in range(5)]

    async def follow(mine: list[int]) -> None:
        tag = "none"
        while not mine or mine[-1] < 20:
            answer = await server.get("/default/dags/current", If_None_Match=f'"{tag}"', Prefer="wait=50")
            assert answer.status == 200
            tag = answer.json["version"]
            mine.append(answer.json["sequence"])

    followers = [asyncio.create_task(follow(mine)) for mine in seen]
    for number in range(20):
        await server.deploy({"dag.py": b"n = %d\n" % number})
    await asyncio.wait_for(asyncio.gather(*followers), 30)
    for mine in seen:
        assert mine == sorted(set(mine))


async def test_who_hangs_up_waits_no_longer(server) -> None:
    waiter = await wait_for(server, "none")
    await eventually("the waiter", lambda: waiting(server) == 1)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    await eventually("the waiter to be gone", lambda: waiting(server) == 0)
    assert not server.state.busy._count


async def test_a_sidecar_is_known_by_what_it_says_until_it_deregisters(server) -> None:
    who = {"Dagferry_Instance": "pod-0", "Dagferry_Component": "worker", "Dagferry_Live": "v1", "Dagferry_Volume": "a"}
    await server.get("/default/dags/current", **who)
    known = server.service.deployments["default"].fleet.sidecars.known
    sidecar = known["pod-0", "a"]
    assert (sidecar.component, sidecar.live) == ("worker", "v1")
    assert await server.metric('known_sidecars{deployment="default"}') == 1
    # It is answered at once, whatever it says of waiting.
    assert (await (await wait_for(server, "none", Dagferry_Deregister="1", **who))).status == 304
    assert known == {}


async def test_a_sidecar_that_runs_once_is_nobody(server) -> None:
    await server.get("/default/dags/current", Dagferry_Instance="pod-0", Dagferry_Once="1")
    assert server.service.deployments["default"].fleet.sidecars.known == {}


async def test_who_claims_the_current_version_is_offered_it_once_though_it_has_seen_it(server) -> None:
    version = (await server.deploy(A))["version"]
    who = {"Dagferry_Instance": "pod-0", "Dagferry_Live": version, "If_None_Match": f'"{version}"'}
    told = await server.get("/default/dags/current", **who)
    assert (told.status, told.json["version"]) == (200, version)
    assert (await server.get("/default/dags/current", **who)).status == 304
    other = await server.get("/default/dags/current", **{**who, "Dagferry_Volume": "b"})
    assert other.status == 200, "another pod of that name was not"
    anonymous = await server.get("/default/dags/current", If_None_Match=f'"{version}"', Dagferry_Live=version)
    assert anonymous.status == 304, "who does not name a pod is none"


async def test_a_sidecar_is_present_while_its_request_waits(server) -> None:
    version = (await server.deploy(A))["version"]
    who = {"Dagferry_Instance": "pod-0", "Dagferry_Live": version}
    await server.get("/default/dags/current", **who)
    (sidecar,) = server.service.deployments["default"].fleet.sidecars.known.values()
    assert sidecar.open == 0
    waiter = await wait_for(server, version, **who)
    await eventually("the waiter", lambda: waiting(server) == 1)
    assert sidecar.open == 1
    second = (await server.deploy(B))["version"]
    assert (await waiter).json["version"] == second
    await eventually("the end of the request", lambda: sidecar.open == 0)
    assert sidecar.offered == Offer(server.service.deployments["default"].log_id, second)


async def test_who_waits_is_counted(server) -> None:
    waiters = [await wait_for(server, "none") for _ in range(3)]
    await eventually("the waiters", lambda: waiting(server) == 3)
    assert await server.metric('waiting_sidecars{deployment="default"}') == 3
    await server.deploy(A)
    await asyncio.gather(*waiters)
    assert await server.metric('waiting_sidecars{deployment="default"}') == 0


async def test_a_deployment_that_is_not_there_is_404(server) -> None:
    for name in ("other", "Default", "..", "a" * 64):
        answer = await server.get(f"/{name}/dags/current")
        assert answer.status == 404


# --- the entry of what a follower has live ---------------------------------------------------------------------------


async def three_deploys(server: Running) -> list[str]:
    return [(await server.deploy(files))["version"] for files in (A, B, A)]


async def stored(server: Running, sequence: int) -> str:
    return entry_sha256(await asyncio.to_thread(server.service.store.read_entry, "default", sequence))


async def asked(server: Running, live: str, *, log: str = "", **headers: str):
    log_id = log or server.service.deployments["default"].log_id
    return await server.get("/default/dags/current", Dagferry_Live=live, Dagferry_Log=log_id, **headers)


async def test_the_hash_of_the_current_entry_is_in_the_answer_and_is_that_of_its_bytes(server) -> None:
    assert (await server.get("/default/dags/current")).json["entry_sha256"] == ""
    for sequence in range(1, 4):
        await server.deploy(A if sequence % 2 else B)
        told = (await server.get("/default/dags/current")).json
        assert (told["sequence"], told["entry_sha256"]) == (sequence, await stored(server, sequence))


async def test_a_follower_is_told_the_entry_of_what_it_has_live_also_if_it_is_several_deploys_behind(server) -> None:
    for sequence, version in enumerate(await three_deploys(server), 1):
        answer = await asked(server, version)
        assert (answer.status, answer.headers["Dagferry-Entry"]) == (
            200,
            f"{sequence} {await stored(server, sequence)}",
        )


async def test_so_is_one_that_has_the_newest(server) -> None:
    newest = (await three_deploys(server))[-1]
    answer = await asked(server, newest, If_None_Match=f'"{newest}"')
    assert (answer.status, answer.headers["Dagferry-Entry"]) == (304, f"3 {await stored(server, 3)}")


async def test_so_is_one_that_has_waited(server) -> None:
    version = (await server.deploy(A))["version"]
    waiter = asyncio.create_task(asked(server, version, If_None_Match=f'"{version}"', Prefer="wait=50"))
    await eventually("the waiter", lambda: waiting(server) == 1)
    await server.deploy(B)
    assert (await waiter).headers["Dagferry-Entry"] == f"1 {await stored(server, 1)}"


async def test_an_entry_that_is_older_than_memory_is_read(server, monkeypatch) -> None:
    monkeypatch.setattr(deployments, "MEMORY_DEPLOYS", 1)
    oldest, *_ = await three_deploys(server)
    assert list(server.service.deployments["default"].recent) == [3]
    assert (await asked(server, oldest)).headers["Dagferry-Entry"] == f"1 {await stored(server, 1)}"


async def test_no_other_entry_is_read(server, monkeypatch) -> None:
    versions = await three_deploys(server)
    monkeypatch.setattr(type(server.service.store), "read_entries", None)
    monkeypatch.setattr(type(server.service.store), "read_entry", None)
    for version in versions:
        assert "Dagferry-Entry" in (await asked(server, version)).headers


async def test_of_an_entry_that_cannot_be_read_nothing_is_told(server, monkeypatch) -> None:
    monkeypatch.setattr(deployments, "MEMORY_DEPLOYS", 1)
    oldest, *_ = await three_deploys(server)

    def away(*_: object) -> list[object]:
        return [StoreAway("not now")]

    monkeypatch.setattr(server.service.store, "read_entries", away)
    answer = await asked(server, oldest)
    assert (answer.status, answer.headers.get("Dagferry-Entry")) == (200, None)


async def test_where_the_log_ends_before_it_the_newest_entry_is_told(server) -> None:
    assert (await asked(server, "20261120T064501Z-000042")).headers["Dagferry-Entry"] == "0"
    await three_deploys(server)
    assert (await asked(server, "20261120T064501Z-000042")).headers["Dagferry-Entry"] == f"3 {await stored(server, 3)}"


async def test_a_server_that_is_not_alone_says_so_then_and_only_then(server, monkeypatch) -> None:
    monkeypatch.setattr(server.service.store, "shared", True)
    assert (await asked(server, "20261120T064501Z-000042")).headers["Dagferry-Entry"] == "0 shared"
    newest = (await three_deploys(server))[-1]
    answer = await asked(server, "20261120T064501Z-000042")
    assert answer.headers["Dagferry-Entry"] == f"3 {await stored(server, 3)} shared"
    assert (await asked(server, newest)).headers["Dagferry-Entry"] == f"3 {await stored(server, 3)}"


@pytest.mark.parametrize("headers", [{"log": "another"}, {"live": "seed"}, {"live": ""}, {"live": "20261120T0-x"}])
async def test_who_has_nothing_of_this_log_live_is_told_nothing(server, headers) -> None:
    [_, _, newest] = await three_deploys(server)
    answer = await asked(server, **{"live": newest, **headers})
    assert "Dagferry-Entry" not in answer.headers
    assert "Dagferry-Entry" not in (await server.get("/default/dags/current")).headers


async def test_a_damaged_entry_is_not_told_so_pods_that_have_it_follow_what_is_deployed_next(start, tmp_path) -> None:
    server = await start()
    [_, _, newest] = await three_deploys(server)
    await server.close()
    entry_file(tmp_path / "data", 3).write_bytes(b"{damaged")
    again = await start()
    assert (await asked(again, newest)).status == 503
    await again.deploy(B)
    answer = await asked(again, newest)
    assert (answer.status, answer.json["sequence"], answer.headers.get("Dagferry-Entry")) == (200, 4, None)


async def test_a_version_of_another_log_that_has_the_name_of_the_current_one_was_not_seen(server) -> None:
    told = await server.deploy(A)
    seen = {"If-None-Match": f'"{told["version"]}"', "Dagferry-Live": told["version"]}
    log_id = (await server.get("/default/dags/current")).json["log_id"]
    for log, status in ((log_id, 304), ("", 304), ("another", 200)):
        answer = await server.get("/default/dags/current", **seen, **({"Dagferry-Log": log} if log else {}))
        assert answer.status == status
