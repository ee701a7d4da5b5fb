"""Changes of the deployments file, while the server runs."""

import asyncio
import os
from pathlib import Path

import pytest

from dagferry_core.errors import SetupError
from dagferry_server.config import watched
from dagferry_server.deploys import retention
from dagferry_server.deploys.deployments_file import Configured
from dagferry_server.errors import StoreAway
from harness import pack
from running import A, B, Running, eventually

RELOADED = 'config_last_reload_successful{file="deployments"}'
RELOADED_AT = 'config_last_reload_success_timestamp_seconds{file="deployments"}'
TWO = '{ name = "prod" }, { name = "staging" }'


class File:
    """A deployments file; it is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.flags = ("--deployments-file", str(path))

    def _write(self, text: str) -> None:
        aside = self.path.with_suffix(".new")
        aside.write_text(text)
        os.replace(aside, self.path)

    async def say(self, entries: str, before: str = "") -> None:
        await asyncio.to_thread(self._write, f"{before}\ndeployments = [ {entries} ]\n")


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "LOOK_EVERY_SECONDS", 0.01)


@pytest.fixture
async def file(tmp_path: Path) -> File:
    file = File(tmp_path / "deployments.toml")
    await file.say(TWO)
    return file


async def refused(server: Running, name: str, files=A) -> tuple[int, str]:
    answer = await server.upload(pack(files), f"/{name}/dags/upload")
    return answer.status, "" if answer.status == 200 else answer.json["code"]


async def test_the_file_says_which_deployments_there_are(start, file) -> None:
    server = await start(*file.flags)
    await server.deploy(A, "prod")
    assert await refused(server, "default") == (404, "deployment_not_found")


async def test_a_deployment_that_is_added_comes_to_life_and_an_old_one_goes_on(start, file) -> None:
    server = await start(*file.flags)
    old = server.service.deployments.find("prod")
    assert await refused(server, "dev") == (404, "deployment_not_found")
    await file.say(TWO + ', { name = "dev" }')
    await eventually("the deployment", lambda: "dev" in server.service.deployments)
    await server.deploy(A, "dev")
    assert server.service.deployments.find("prod") is old
    assert await server.metric('current_sequence{deployment="dev"}') == 1


async def test_a_deployment_that_is_removed_is_not_found_and_loses_nothing(start, file) -> None:
    server = await start(*file.flags)
    told = await server.deploy(A, "staging")
    waiting = asyncio.create_task(
        server.get("/staging/dags/current", If_None_Match=f'"{told["version"]}"', Prefer="wait=50")
    )
    await eventually("somebody to wait", lambda: len(server.service.deployments.find("staging").waiters))
    assert await server.metric('waiting_sidecars{deployment="staging"}') == 1
    await file.say('{ name = "prod" }')
    # Who waits is not left waiting.
    assert (await waiting).status == 304
    assert (await server.get("/staging/dags/current")).status == 404
    assert await refused(server, "staging") == (404, "deployment_not_found")
    assert await server.metric('waiting_sidecars{deployment="staging"}') is None
    for state in ("stored_bundles", "current_unknown", "current_sequence", "unreadable_deploys"):
        assert await server.metric(state + '{deployment="staging"}') is None
    await file.say(TWO)
    await eventually("the deployment", lambda: "staging" in server.service.deployments)
    assert (await server.get("/staging/dags/current")).json["version"] == told["version"]
    assert (await server.get("/staging/dags/download")).status == 200
    assert (await server.deploy(B, "staging"))["sequence"] == 2


async def test_a_removed_deployment_is_the_same_one_after_a_restart(start, file) -> None:
    server = await start(*file.flags)
    told = await server.deploy(A, "staging")
    await file.say('{ name = "prod" }')
    await eventually("the end of it", lambda: "staging" not in server.service.deployments)
    await server.close()
    server = await start(*file.flags)
    assert (await server.get("/staging/dags/current")).status == 404
    await file.say(TWO)
    await eventually("the deployment", lambda: "staging" in server.service.deployments)
    assert (await server.get("/staging/dags/current")).json["version"] == told["version"]


async def test_a_disabled_deployment_refuses_uploads_and_goes_on_answering(start, file) -> None:
    server = await start(*file.flags)
    told = await server.deploy(A, "prod")
    await file.say('{ name = "prod", disabled = "the cluster moves" }, { name = "staging" }')
    await eventually("it to be disabled", lambda: server.service.deployments.find("prod").settings.disabled)
    answer = await server.upload(pack(B), "/prod/dags/upload")
    assert (answer.status, answer.json["code"]) == (409, "deployment_disabled")
    assert "prod is disabled: the cluster moves" in answer.json["message"]
    assert await server.metric('uploads_total{deployment="prod",outcome="deployment_disabled"}') == 1
    assert (await server.get("/prod/dags/current")).json["version"] == told["version"]
    for path in (f"versions/{told['version']}", "download", "deploys"):
        assert (await server.get(f"/prod/dags/{path}")).status == 200
    await server.deploy(B, "staging")
    await file.say(TWO)
    await eventually("it to be enabled", lambda: not server.service.deployments.find("prod").settings.disabled)
    assert (await server.deploy(B, "prod"))["sequence"] == 2


@pytest.mark.parametrize(
    ("entries", "status"), [('{ name = "prod", disabled = "no" }', 409), ('{ name = "staging" }', 404)]
)
async def test_a_deployment_that_is_disabled_or_removed_while_an_upload_comes_in_refuses_it(
    start, file, entries, status
) -> None:
    server = await start(*file.flags)
    body = pack(A)
    may_go_on = asyncio.Event()

    async def slowly():
        yield body[:50]
        await may_go_on.wait()
        yield body[50:]

    uploading = asyncio.create_task(server.upload(slowly(), "/prod/dags/upload"))
    await eventually("the upload", lambda: len(server.state.upload_slots))
    await file.say(entries)
    await eventually("the change", lambda: len(server.service.deployments) == 1)
    may_go_on.set()
    assert (await uploading).status == status
    await file.say(TWO)
    await eventually("it to be there again", lambda: len(server.service.deployments) == 2)
    assert (await server.get("/prod/dags/current")).json["sequence"] == 0


async def test_a_disabled_deployment_keeps_the_bundles_that_retention_would_delete(start, file) -> None:
    now = [1_800_000_000.0]
    server = await start(*file.flags, "--keep-deploys", "1", "--keep-days", "1", clock=lambda: now[0])
    for files in (A, B):
        await server.deploy(files, "prod")
    await file.say('{ name = "prod", disabled = "no" }')
    await eventually("it to be disabled", lambda: server.service.deployments.find("prod").settings.disabled)
    now[0] += 10 * 86400
    await server.service.retention.run()
    bundles = server.service.store.bundles
    assert len(await asyncio.to_thread(bundles, "prod")) == 2
    # Enabled again, the rules are as before, and a change of the file is when they are looked at.
    await file.say('{ name = "prod" }')
    await eventually("it to be enabled", lambda: not server.service.deployments.find("prod").settings.disabled)
    await server.service.settled()
    assert len(await asyncio.to_thread(bundles, "prod")) == 1


async def test_retention_shows_nothing_of_a_deployment_that_is_removed_meanwhile(start, file, monkeypatch) -> None:
    server = await start(*file.flags)
    await server.deploy(A, "staging")
    await server.service.settled()
    loop, look = asyncio.get_running_loop(), retention._look

    def look_slowly(*arguments):
        settings = server.service.deployments.find("prod").settings
        prod = Configured({"prod": settings}, settings)
        asyncio.run_coroutine_threadsafe(server.service.deployments.configure(prod, log_settings=True), loop).result(20)
        return look(*arguments)

    monkeypatch.setattr(retention, "_look", look_slowly)
    await server.service.retention.run()
    assert await server.metric('stored_bundles{deployment="prod"}') == 0
    assert await server.metric('stored_bundles{deployment="staging"}') is None


async def test_each_deployment_has_limits_and_rules_of_its_own(start, file) -> None:
    await file.say(
        '{ name = "few", max-files = 2 }, { name = "small", max-expanded-bytes = 10 }, '
        '{ name = "empty", allow-empty = true }, { name = "less", exclude = ["*.sql"] }, { name = "prod" }'
    )
    server = await start(*file.flags, "--tiers", "2")
    assert await refused(server, "few") == (413, "too_many_files")
    assert await refused(server, "small") == (413, "expanded_too_large")
    assert await refused(server, "prod", {}) == (422, "bundle_empty")
    assert await refused(server, "empty", {}) == (200, "")
    assert (await server.deploy(A, "less"))["excluded"] == 1
    assert (await server.deploy(A, "prod"))["excluded"] == 0
    await file.say('{ name = "small", tiers = 1 }, { name = "prod" }')
    await eventually("the change", lambda: server.service.deployments.find("small").settings.tiers == 1)
    service = server.service
    limits = [service.upload_limit(service.deployments.find(name)).bytes >> 20 for name in ("small", "prod")]
    assert limits == [15, 30]


async def test_each_deployment_keeps_as_many_bundles_as_it_says(start, file) -> None:
    await file.say('{ name = "one", keep-deploys = 1 }, { name = "two", keep-deploys = 2 }')
    now = [1_800_000_000.0]
    server = await start(*file.flags, "--keep-days", "0", clock=lambda: now[0])
    for number in range(3):
        for name in ("one", "two"):
            await server.deploy({"dag.py": b"n = %d\n" % number}, name)
        now[0] += 86400
    await server.service.settled()
    bundles = server.service.store.bundles
    assert [len(await asyncio.to_thread(bundles, name)) for name in ("one", "two")] == [1, 2]


async def test_a_wrong_file_leaves_everything_as_it_was_and_is_seen(start, file, caplog) -> None:
    server = await start(*file.flags)
    before = dict(server.service.deployments)
    taken_at = await server.metric(RELOADED_AT)
    assert await server.metric(RELOADED) == 1
    await file.say('{ name = "prod", disabled = "no" }, { name = "dev", keep-dais = 7 }')
    await eventually("the fault", server.failed_reloads)
    assert server.failed_reloads() == ["deployments"]
    assert (await server.metric(RELOADED), await server.metric(RELOADED_AT)) == (0, taken_at)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "deployment 'dev', cannot be used: keep-dais" in record.fields["error"]
    assert server.service.deployments == before
    await server.deploy(A, "prod")
    await file.say('{ name = "prod" }')
    await eventually("the file to be taken", lambda: list(server.service.deployments) == ["prod"])
    assert await server.metric(RELOADED) == 1
    assert await server.metric(RELOADED_AT) > taken_at


async def test_a_deployment_that_cannot_be_made_yet_is_away_until_it_can_and_holds_up_no_other(
    start, file, monkeypatch, caplog
) -> None:
    server = await start(*file.flags)
    store = server.service.store
    prepare = store.prepare
    broken = True

    def fail(name: str) -> None:
        if broken:
            raise StoreAway("The disk is on fire.")
        prepare(name)

    monkeypatch.setattr(store, "prepare", fail)
    await file.say('{ name = "prod", disabled = "no" }, { name = "dev" }')
    await eventually("the change", lambda: list(server.service.deployments) == ["prod", "dev"])
    assert server.service.deployments.find("prod").settings.disabled
    answer = await server.get("/dev/dags/current")
    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    assert (await server.get("/readyz")).status == 503
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    broken = False
    await eventually("the deployment", lambda: server.service.deployments.find("dev").loaded)
    assert (await server.get("/dev/dags/current")).json["sequence"] == 0


async def test_a_server_does_not_start_with_a_wrong_file(start, file) -> None:
    await file.say('{ name = "prod", keep-dais = 7 }')
    with pytest.raises(SetupError, match="keep-dais"):
        await start(*file.flags)
