"""``GET …/status``: a fleet as it is, and told of when it changes."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import jsonschema
import pytest

from dagferry_server.deploys.deployments_file import Configured
from dagferry_server.errors import StoreAway
from dagferry_server.fleet import fleet as fleets
from dagferry_server.fleet.sidecars import LOST_AFTER_SECONDS, Offer, Report
from dagferry_server.http.models import FleetStatusAnswer
from running import A, Answer, B, Running, eventually

STATUS = "/default/dags/status"
CURRENT = "/default/dags/current"
PODS = 1000


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleets, "COALESCE_SECONDS", 0.01)


class Clock:
    """The fleet's clock, which stands still until the test moves it on."""

    def __init__(self, server: Running, deployment: str = "default") -> None:
        self._fleet = server.service.deployments[deployment].fleet
        self._now = self._fleet.clock()
        self._fleet.clock = lambda: self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds
        self._fleet.mark()


async def ask(server: Running, instance: str = "worker-0", live: str = "", **headers: str) -> Answer:
    said = {"Dagferry_Instance": instance, "Dagferry_Component": "worker", "Dagferry_Volume": "0123456789", **headers}
    return await server.get(CURRENT, **said, **({"Dagferry_Live": live} if live else {}))


async def follow(server: Running, instance: str = "worker-0", **headers: str) -> str:
    """Ask as a sidecar, apply what comes, and say so."""
    version = (await ask(server, instance, **headers)).json["version"]
    await ask(server, instance, version, **headers)
    return version


async def shown(server: Running) -> tuple[str, str]:
    told = (await server.get(STATUS)).json
    return told["state"], told["reason"]


async def wait_for(server: Running, tag: str, seconds: int = 50) -> "asyncio.Task[Answer]":
    return asyncio.create_task(server.get(STATUS, If_None_Match=tag, Prefer=f"wait={seconds}"))


def watching(server: Running) -> int:
    return len(server.service.deployments["default"].fleet.waiters)


async def settled(server: Running) -> str:
    """The tag of the status when nothing changes any more."""
    fleet = server.service.deployments["default"].fleet
    await eventually("the status to settle", lambda: fleet._settled is not None and not fleet._stale)
    return (await server.get(STATUS)).headers["ETag"]


async def test_a_fleet_from_nothing_to_green(server) -> None:
    assert await shown(server) == ("EMPTY", "Nothing was deployed to default yet.")
    deployed = await server.deploy(A)
    assert await shown(server) == ("UNKNOWN", "No pod follows default, as far as this server knows.")
    await ask(server)
    assert await shown(server) == ("DEPLOYING", f"worker-0 has not reported {deployed['version']} as live yet.")
    await ask(server, "worker-0", deployed["version"])
    assert await shown(server) == ("HEALTHY", f"The only pod has {deployed['version']} live.")
    await server.deploy(B)
    assert (await shown(server))[0] == "DEPLOYING"
    await follow(server)
    assert (await shown(server))[0] == "HEALTHY"


async def test_what_is_told(server) -> None:
    deployed = await server.deploy(A)
    version = await follow(server, Dagferry_In_Use="3")
    answer = await server.get(STATUS)
    told = answer.json
    jsonschema.validate(told, FleetStatusAnswer.model_json_schema())
    current = (await server.get(CURRENT)).json
    seen = told["sidecars"][0].pop("seen")
    assert abs(seen - server.service.clock()) < 60
    assert told == {
        "deployment": "default",
        "log_id": current["log_id"],
        "state": "HEALTHY",
        "reason": f"The only pod has {version} live.",
        "version": version,
        "sequence": 1,
        "deployed_at": current["time"],
        "converge_seconds": 60,
        "disabled": None,
        "frozen": None,
        "expected": {},
        "counts": {"known": 1, "live": 1, "behind": 0, "failing": 0, "lost": 0, "claims_unknown": 0},
        "sidecars": [
            {
                "instance": "worker-0",
                "id": "01234567",
                "component": "worker",
                "live": deployed["version"],
                "state": "live",
                "error": "",
                "lag_seconds": 0,
                "in_use": 3,
            }
        ],
        "servers": {"asked": 1, "answered": 1},
        "leases": {"versions": {}, "holders": 0},
        "parsed": None,
        "import_check": None,
    }


async def test_the_settings_of_the_deployment_are_shown_and_judged_by(start, tmp_path: Path) -> None:
    file = tmp_path / "deployments.toml"
    entry = 'name = "default", expected = { worker = 2 }, converge-seconds = 90, disabled = "moving"'
    await asyncio.to_thread(file.write_text, f"deployments = [ {{ {entry} }} ]\n")
    server = await start("--deployments-file", str(file))
    told = (await server.get(STATUS)).json
    assert (told["expected"], told["converge_seconds"], told["disabled"]) == ({"worker": 2}, 90, "moving")
    entry = 'name = "default", expected = { worker = 2 }'
    await asyncio.to_thread(file.write_text, f"deployments = [ {{ {entry} }} ]\n")
    await eventually("the file", lambda: not server.service.deployments["default"].settings.disabled, 30)
    await server.deploy(A)
    await follow(server)
    assert await shown(server) == ("DEGRADED", "1 of 2 expected pods of worker is there.")
    await follow(server, "worker-1")
    assert (await shown(server))[0] == "HEALTHY"


async def test_ages_follow_the_monotonic_clock_whatever_the_time_of_day_does(start) -> None:
    now = [2_000_000_000.0]
    server = await start(clock=lambda: now[0])
    clock = Clock(server)
    await server.deploy(A)
    await follow(server)
    await ask(server, "worker-1")
    for second, step in enumerate((-86_400 * 400, 86_400 * 800)):
        now[0] += step
        told = (await server.get(STATUS)).json
        assert told["state"] == "DEPLOYING"
        assert [pod["lag_seconds"] for pod in told["sidecars"]] == [0, second]
        assert all(abs(pod["seen"] - now[0]) <= 10 for pod in told["sidecars"])
        clock.advance(1)  # a status is judged once a second
    clock.advance(58)
    told = (await server.get(STATUS)).json
    assert (told["state"], [pod["lag_seconds"] for pod in told["sidecars"]]) == ("DEGRADED", [0, 60])
    clock.advance(LOST_AFTER_SECONDS)
    assert (await shown(server))[1] == "worker-0 and worker-1 have vanished without deregistering."


async def test_a_server_that_was_restarted_does_not_know_yet(start) -> None:
    server = await start()
    await server.deploy(A)
    await follow(server)
    await server.close()
    server = await start()
    assert (await shown(server))[0] == "UNKNOWN"
    clock = Clock(server)
    version = await follow(server)
    assert await shown(server) == (
        "UNKNOWN",
        "The server has not run for 75 s yet, so it may not know all pods.",
    )
    clock.advance(LOST_AFTER_SECONDS - 5)
    await ask(server, "worker-0", version)
    assert (await shown(server))[0] == "UNKNOWN"
    clock.advance(5)
    assert (await shown(server))[0] == "HEALTHY"


async def test_a_newest_deploy_that_is_not_known_is_told_as_that(server) -> None:
    await server.deploy(A)
    await follow(server)
    deployment = server.service.deployments["default"]
    deployment._unlisted = StoreAway("The disk is on fire.")
    told = (await server.get(STATUS)).json
    assert told["state"] == "UNKNOWN"
    assert told["reason"].endswith("is not known. The disk is on fire.")
    assert (told["version"], told["sequence"], told["deployed_at"]) == ("", 0, 0)
    assert told["counts"]["live"] == 0, "nobody is known to have the newest"


# --- waiting ---------------------------------------------------------------------------------------------------------


async def test_a_status_that_was_seen_is_304_and_ages_are_no_news(server) -> None:
    await server.deploy(A)
    await follow(server)
    clock = Clock(server)
    answer = await server.get(STATUS)
    clock.advance(7)
    later = await server.get(STATUS)
    assert later.json["sidecars"][0]["seen"] < answer.json["sidecars"][0]["seen"] + 5
    assert later.headers["ETag"] == answer.headers["ETag"]
    again = await server.get(STATUS, If_None_Match=answer.headers["ETag"])
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", answer.headers["ETag"])
    assert (await server.get(STATUS, If_None_Match='"other"')).status == 200


@pytest.mark.parametrize("change", ["deploy", "report", "error", "goodbye", "another pod"])
async def test_a_waiting_request_is_told_of_any_change(server, change) -> None:
    version = (await server.deploy(A))["version"]
    await follow(server)
    waiter = await wait_for(server, await settled(server))
    await eventually("the waiter", lambda: watching(server) == 1)
    changes: dict[str, Callable[[], Awaitable[object]]] = {
        "deploy": lambda: server.deploy(B),
        "report": lambda: ask(server, "worker-0", "20200101T000000Z-000001"),
        "error": lambda: ask(server, "worker-0", version, Dagferry_Error="volume_failed: full"),
        "goodbye": lambda: ask(server, "worker-0", version, Dagferry_Deregister="1"),
        "another pod": lambda: ask(server, "worker-1"),
    }
    await changes[change]()
    answer = await waiter
    assert answer.status == 200
    assert answer.json["state"] != "HEALTHY"


async def test_a_waiting_request_is_told_when_time_alone_makes_a_difference(server) -> None:
    await server.deploy(A)
    await follow(server)
    waiter = await wait_for(server, await settled(server))
    await eventually("the waiter", lambda: watching(server) == 1)
    clock = Clock(server)
    clock.advance(LOST_AFTER_SECONDS)
    assert (await waiter).json["state"] == "DEGRADED"


async def test_what_changes_nothing_wakes_but_answers_nobody(server) -> None:
    version = (await server.deploy(A))["version"]
    await follow(server)
    waiter = await wait_for(server, await settled(server))
    await eventually("the waiter", lambda: watching(server) == 1)
    server.service.deployments["default"].fleet.mark()
    await ask(server, "worker-0", version)
    await asyncio.sleep(0.1)
    assert not waiter.done()
    await eventually("it to wait on", lambda: watching(server) == 1)
    await server.deploy(B)
    assert (await waiter).status == 200


async def test_a_wait_that_ends_without_a_change_is_304(server, monkeypatch) -> None:
    monkeypatch.setattr("dagferry_server.http.long_poll.MAX_WAIT_SECONDS", 0.01)
    tag = (await server.get(STATUS)).headers["ETag"]
    assert (await (await wait_for(server, tag))).status == 304


async def test_further_requests_than_may_wait_are_answered_at_once(server, monkeypatch) -> None:
    fleet = server.service.deployments["default"].fleet
    monkeypatch.setattr(fleet.waiters, "_most", 1)
    tag = await settled(server)
    waiter = await wait_for(server, tag)
    await eventually("the waiter", lambda: watching(server) == 1)
    assert (await (await wait_for(server, tag))).status == 304
    await server.deploy(A)
    assert (await waiter).status == 200


async def test_who_waits_is_answered_when_the_server_stops(start) -> None:
    server = await start()
    waiter = await wait_for(server, await settled(server))
    await eventually("the waiter", lambda: watching(server) == 1)
    server.service.stop()
    assert (await waiter).status == 304


async def test_who_waits_for_a_deployment_that_is_removed_is_told(start) -> None:
    server = await start("--deployments", "default,prod")
    waiter = await wait_for(server, await settled(server))
    await eventually("the waiter", lambda: watching(server) == 1)
    deployments = server.service.deployments
    common = deployments["prod"].settings
    await deployments.configure(Configured({"prod": common}, common), log_settings=False)
    assert (await waiter).status == 404
    both = dict.fromkeys(("default", "prod"), common)
    await deployments.configure(Configured(both, common), log_settings=False)
    await server.deploy(A)
    assert (await shown(server))[1].startswith("The server has not run for 75 s"), "its pods got 404 for a while"


async def test_a_deployment_that_is_deleted_forgets_its_pods_and_begins_again_when_it_is_created_again(server) -> None:
    path, status = "/-/deployments/preview", "/preview/dags/status"
    assert (await server.call("POST", path)).status == 200
    await server.deploy(A, "preview")
    assert (await server.get(status)).json["state"] == "UNKNOWN"
    assert (await server.get(status)).json["reason"].startswith("No pod follows"), "its log is new"
    who = {"Dagferry_Instance": "pod-0", "Dagferry_Volume": "a"}
    await server.get("/preview/dags/current", **who)
    told = await server.get(status)
    assert told.json["counts"]["known"] == 1
    fleet = server.service.deployments["preview"].fleet
    waiter = asyncio.create_task(server.get(status, If_None_Match=told.headers["ETag"], Prefer="wait=50"))
    await eventually("the waiter", lambda: len(fleet.waiters) == 1)
    assert (await server.call("DELETE", path)).status == 200
    assert (await waiter).status == 404
    assert (await server.call("POST", path)).status == 200
    told = (await server.get(status)).json
    assert (told["state"], told["counts"]["known"]) == ("EMPTY", 0)
    await server.deploy(B, "preview")
    assert (await server.get(status)).json["reason"].startswith("The server has not run for 75 s")


async def test_a_freeze_is_shown_and_told(server) -> None:
    tag = await settled(server)
    waiter = await wait_for(server, tag)
    await eventually("the waiter", lambda: watching(server) == 1)
    freeze = "/default/dags/freeze"
    assert (await server.call("POST", freeze, json={"reason": "It is Friday."})).status == 200
    told = await waiter
    assert told.json["frozen"] == {"reason": "It is Friday.", "until": None, "actor": "anonymous"}
    assert (await server.call("DELETE", freeze)).status == 200
    assert (await server.get(STATUS)).headers["ETag"] == tag


async def test_who_hangs_up_waits_no_longer(server) -> None:
    waiter = await wait_for(server, await settled(server))
    await eventually("the waiter", lambda: watching(server) == 1)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    await eventually("the waiter to be gone", lambda: watching(server) == 0)


async def test_a_thousand_pods_that_deploy_answer_a_waiting_request_a_few_times(server, monkeypatch) -> None:
    monkeypatch.setattr(fleets, "COALESCE_SECONDS", 0.2)
    deployment = server.service.deployments["default"]
    fleet = deployment.fleet

    async def everybody_follows() -> None:
        for number in range(PODS):
            for live in ("", deployment.tag):
                with fleet.visit(Report(f"pod-{number:04}", "worker", live, "", False)) as visit:
                    visit.offer(Offer(deployment.log_id, deployment.tag))
                await asyncio.sleep(0)

    await server.deploy(A)
    await everybody_follows()
    await eventually("health", lambda: fleet._settled and fleet._settled.state.value == "HEALTHY")
    told: list[tuple[str, int]] = []

    async def watch() -> None:
        tag = '"none"'
        while told[-1:] != [("HEALTHY", 2)]:
            answer = await server.get(STATUS, If_None_Match=tag, Prefer="wait=50")
            tag = answer.headers["ETag"]
            told.append((answer.json["state"], answer.json["sequence"]))

    watcher = asyncio.create_task(watch())
    await eventually("the first", lambda: told == [("HEALTHY", 1)])
    loop = asyncio.get_running_loop()
    began = loop.time()
    await server.deploy(B)
    await everybody_follows()
    await watcher
    assert len(told) <= (loop.time() - began) / 0.2 + 3


# --- who may ask -----------------------------------------------------------------------------------------------------


async def test_the_whole_id_of_a_volume_is_shown_to_nobody(server) -> None:
    await server.deploy(A)
    await ask(server, Dagferry_Volume="0123456789abcdef0123456789abcdef")
    assert b"0123456789" not in (await server.get(STATUS)).body


async def test_metrics_show_the_fleet_and_how_long_it_took(server) -> None:
    assert await server.metric('fleet_state{deployment="default",state="EMPTY"}') == 1
    await server.deploy(A)
    await follow(server)
    await ask(server, "worker-1")
    for state, number in {"live": 1, "behind": 1, "failing": 0, "lost": 0, "claims_unknown": 0}.items():
        assert await server.metric(f'sidecars{{deployment="default",state="{state}"}}') == number
    assert await server.metric('fleet_state{deployment="default",state="DEPLOYING"}') == 1
    assert await server.metric('fleet_state{deployment="default",state="HEALTHY"}') == 0
    await follow(server, "worker-1")
    fleet = server.service.deployments["default"].fleet
    await eventually("health", lambda: fleet._settled and fleet._settled.state.value == "HEALTHY")
    assert await server.metric('fleet_state{deployment="default",state="HEALTHY"}') == 1
    assert await server.metric('converge_seconds_count{deployment="default"}') == 1


async def test_a_change_of_the_state_is_logged_and_told_once(server, caplog) -> None:
    caplog.set_level("INFO")
    told: list[tuple[str, str, str, str]] = []
    server.service.deployments.on_state.append(
        lambda deployment, before, after, reason: told.append((deployment.name, before.value, after.value, reason))
    )
    await settled(server)
    await server.deploy(A)
    version = await follow(server)
    await eventually("health", lambda: told and told[-1][2] == "HEALTHY")
    await ask(server, "worker-0", version, Dagferry_Error="volume_failed: full")
    await eventually("the error", lambda: told[-1][2] == "DEGRADED")
    assert told[-1] == ("default", "HEALTHY", "DEGRADED", "worker-0 reports an error: volume_failed: full.")
    lines = [record.fields for record in caplog.records if record.message == "Fleet changed"]
    assert [(line["before"], line["state"], line["reason"]) for line in lines] == [line[1:] for line in told]
    assert json.dumps(lines)
