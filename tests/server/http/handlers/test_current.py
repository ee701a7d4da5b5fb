"""``GET …/current``: seen, waiting, told."""

import asyncio

import pytest

from dagferry_server.http.handlers.current import MAX_WAIT_SECONDS, wait_seconds
from running import A, B, Running, eventually


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("wait=30", 30), ("wait=0", 0), ("respond-async, wait=7", 7), ("WAIT = 7", 7), ('wait="7"', 7), ("wait=7; a=b", 7),
     ("wait=51", MAX_WAIT_SECONDS), ("wait=999999", MAX_WAIT_SECONDS)],
)  # fmt: skip
def test_a_preferred_wait_is_taken_up_to_50_s(header, seconds) -> None:
    assert wait_seconds(header) == seconds


@pytest.mark.parametrize(
    "header", ["", "wait", "wait=", "wait=-1", "wait=1.5", "wait=x", "await=5", "wait=5s", "wait=" + "9" * 20]
)
def test_what_is_no_wait_is_ignored(header) -> None:
    assert wait_seconds(header) == 0


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
    monkeypatch.setattr("dagferry_server.http.handlers.current.MAX_WAIT_SECONDS", 0.01)
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
    who = {"Dagferry_Instance": "pod-0", "Dagferry_Component": "worker", "Dagferry_Live": "v1"}
    await server.get("/default/dags/current", **who)
    known = server.service.deployments["default"].sidecars.known
    assert (known["pod-0"].component, known["pod-0"].live) == ("worker", "v1")
    assert await server.metric('known_sidecars{deployment="default"}') == 1
    # It is answered at once, whatever it says of waiting.
    assert (await (await wait_for(server, "none", Dagferry_Deregister="1", **who))).status == 304
    assert known == {}


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
