"""Deployments that requests create and delete: what they are like, and what survives what."""

import asyncio
import contextlib
import json
import logging
from pathlib import Path

import pytest

from credentials import TokensFile
from dagferry_follow.choose import Condition, Refuse, choose
from dagferry_follow.deploy_ref import DeployRef
from dagferry_server.config import watched
from dagferry_server.deploys import created
from dagferry_server.errors import StoreAway
from dagferry_server.store.base import storage_errors
from dagferry_server.store.local import LocalStore
from harness import pack
from running import A, Answer, B, Running, eventually


async def create(server: Running, name: str = "preview-1") -> Answer:
    return await server.call("POST", f"/-/deployments/{name}")


async def delete(server: Running, name: str = "preview-1") -> Answer:
    return await server.call("DELETE", f"/-/deployments/{name}")


async def names(server: Running) -> list[str]:
    return [row["name"] for row in (await server.get("/-/deployments")).json["deployments"]]


async def current(server: Running, name: str = "preview-1") -> Answer:
    return await server.get(f"/{name}/dags/current")


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json.get("code", "")


def ref(answer: Answer) -> DeployRef:
    told = answer.json
    return DeployRef(told["log_id"], told["sequence"], told["version"], told["digest"])


async def stored_bundles(server: Running, name: str = "preview-1") -> int:
    return len(await asyncio.to_thread(server.service.store.bundles, name))


async def test_a_created_deployment_is_like_any_other(server) -> None:
    assert code(await current(server)) == (404, "deployment_not_found")
    answer = await create(server)
    assert (answer.status, answer.json["created"], answer.json["created_by"]) == (200, True, "anonymous")
    assert (await current(server)).json["sequence"] == 0
    told = await server.deploy(A, "preview-1")
    assert (await current(server)).json["version"] == told["version"]
    assert await names(server) == ["default", "preview-1"]
    assert (await server.get("/preview-1/dags/download")).status == 200


async def test_to_create_one_that_is_there_changes_nothing(server) -> None:
    await create(server)
    told = await server.deploy(A, "preview-1")
    answer = await create(server)
    assert (answer.status, answer.json["created"], answer.json["version"]) == (200, False, told["version"])


async def test_a_deleted_deployment_is_gone_and_to_delete_it_again_changes_nothing(server) -> None:
    await create(server)
    await server.deploy(A, "preview-1")
    assert (await delete(server)).json == {"name": "preview-1", "deleted": True}
    for path in ("current", "download", "deploys"):
        assert code(await server.get(f"/preview-1/dags/{path}")) == (404, "deployment_not_found")
    assert code(await server.upload(pack(A), "/preview-1/dags/upload")) == (404, "deployment_not_found")
    assert await names(server) == ["default"]
    assert (await delete(server)).json == {"name": "preview-1", "deleted": False}


async def test_one_that_never_was_cannot_be_deleted(server) -> None:
    assert code(await delete(server, "neverwas")) == (404, "deployment_not_found")


@pytest.mark.parametrize("name", ["Preview", "a_b", "-a", "a-", "x" * 64, "a.b", "a%20b", "a%00"])
async def test_a_name_that_is_not_one_is_refused(server, name) -> None:
    assert code(await create(server, name)) == (400, "request_invalid")
    assert code(await delete(server, name)) == (404, "deployment_not_found")
    assert await names(server) == ["default"]


async def test_those_of_the_configuration_can_be_neither_created_nor_deleted(start) -> None:
    server = await start("--deployments", "prod,staging")
    told = await server.deploy(A, "prod")
    for answer in (await create(server, "prod"), await delete(server, "prod")):
        assert code(answer) == (409, "deployment_configured")
        assert "prod is in the server's configuration" in answer.json["message"]
    assert (await current(server, "prod")).json["version"] == told["version"]
    rows = (await server.get("/-/deployments")).json["deployments"]
    assert [row["created_by"] for row in rows] == [None, None]


async def test_one_that_is_created_again_is_empty_and_goes_on_where_its_log_ended(server) -> None:
    await create(server)
    for files in (A, B):
        await server.deploy(files, "preview-1")
    before = await current(server)
    await delete(server)
    await server.service.settled()
    assert (await create(server)).json["version"] == ""
    again = await current(server)
    assert (again.json["sequence"], again.json["log_id"]) == (0, before.json["log_id"])
    assert code(await server.get("/preview-1/dags/download")) == (404, "nothing_deployed")
    # A pod that still runs the last deploy keeps it until the next one.
    assert isinstance(choose(ref(before), Condition.INTACT, ref(again)), Refuse)
    told = await server.deploy(B, "preview-1")
    assert (told["sequence"], told["unchanged"], told["added"]) == (3, False, 3)
    assert not isinstance(choose(ref(before), Condition.INTACT, ref(await current(server))), Refuse)
    log = (await server.get("/preview-1/dags/deploys")).json["deploys"]
    assert [deploy["sequence"] for deploy in log] == [3, 2, 1]


async def test_it_is_empty_after_a_restart_too_and_never_older_than_the_log(start) -> None:
    server = await start()
    await create(server)
    await server.deploy(A, "preview-1")
    log_id = (await current(server)).json["log_id"]
    await delete(server)
    await server.close()
    server = await start()
    assert code(await current(server)) == (404, "deployment_not_found")
    await create(server)
    await server.close()
    server = await start()
    told = (await current(server)).json
    assert (told["sequence"], told["log_id"]) == (0, log_id)
    assert (await server.deploy(A, "preview-1"))["sequence"] == 2
    await server.close()
    server = await start()
    assert (await current(server)).json["sequence"] == 2


async def test_what_was_created_survives_a_restart(start) -> None:
    server = await start()
    row = {**(await create(server)).json, "created": False}
    told = await server.deploy(A, "preview-1")
    await server.close()
    server = await start()
    assert (await current(server)).json["version"] == told["version"]
    again = (await create(server)).json
    assert {**again, "version": "", "deployed_at": None, "state": "EMPTY"} == row


async def test_retention_removes_the_bundles_of_a_deleted_deployment_and_their_details(server, tmp_path) -> None:
    await create(server)
    for files in (A, B):
        await server.deploy(files, "preview-1")
    await server.deploy(A)
    await server.service.settled()
    await delete(server)
    await server.service.settled()
    assert await stored_bundles(server) == 0
    assert await stored_bundles(server, "default") == 1
    left = {path.name for path in (tmp_path / "data/preview-1").rglob("*") if path.is_file()}
    entries = {"000000000001.json", "000000000002.json"}
    assert left == {"log.json", "lifecycle.state", "commit.lock", *entries}
    assert server.service.deployments.created.to_empty == set()


async def test_what_retention_did_not_get_to_it_removes_after_a_restart(start, monkeypatch) -> None:
    server = await start()
    await create(server)
    await server.deploy(A, "preview-1")
    await server.service.settled()
    monkeypatch.setattr(server.service.retention, "request", lambda: None)
    await delete(server)
    assert await stored_bundles(server) == 1
    await server.close()
    server = await start()  # and its first run of retention
    assert await stored_bundles(server) == 0


async def test_retention_waits_for_a_commit_of_another_server_and_spares_one_that_is_created_again(
    server, monkeypatch
) -> None:
    await create(server)
    await server.deploy(A, "preview-1")
    await server.service.settled()
    with monkeypatch.context() as patched:
        patched.setattr(server.service.retention, "request", lambda: None)
        await delete(server)
    other = LocalStore(server.service.folder.root)
    with contextlib.ExitStack() as held:
        await asyncio.to_thread(held.enter_context, other.committing("preview-1"))
        await server.service.retention.run()
        assert await stored_bundles(server) == 1
    # Another server created it again, and this one does not know of that yet.
    await asyncio.to_thread(created.CreatedDeployments(other).create, "preview-1", "ann", 1.0)
    await server.service.retention.run()
    assert await stored_bundles(server) == 1


async def test_who_waits_for_a_deployment_that_is_deleted_learns_it(server) -> None:
    await create(server)
    told = await server.deploy(A, "preview-1")
    waiting = asyncio.create_task(
        server.get("/preview-1/dags/current", If_None_Match=f'"{told["version"]}"', Prefer="wait=50")
    )
    await eventually("somebody to wait", lambda: len(server.service.deployments.find("preview-1").waiters))
    await delete(server)
    assert (await waiting).status == 304
    assert (await current(server)).status == 404


async def test_an_upload_to_a_deployment_that_is_deleted_meanwhile_is_not_found(server) -> None:
    await create(server)
    body = pack(A)
    may_go_on = asyncio.Event()

    async def slowly():
        yield body[:50]
        await may_go_on.wait()
        yield body[50:]

    uploading = asyncio.create_task(server.upload(slowly(), "/preview-1/dags/upload"))
    await eventually("the upload", lambda: len(server.state.upload_slots))
    await delete(server)
    may_go_on.set()
    assert code(await uploading) == (404, "deployment_not_found")
    assert await stored_bundles(server) == 0


async def test_a_deploy_that_is_under_way_is_completed_before_the_deployment_is_deleted(server) -> None:
    await create(server)
    deployment = server.service.deployments.find("preview-1")
    async with deployment.lock:
        deleting = asyncio.create_task(delete(server))
        await eventually("the request", server.service.deployments._changing.locked)
        assert (await current(server)).status == 200
    assert (await deleting).json["deleted"]


async def test_there_are_no_more_than_allowed(server, monkeypatch) -> None:
    monkeypatch.setattr(created, "MAX_CREATED_DEPLOYMENTS", 2)
    monkeypatch.setattr(created, "MAX_DELETED_DEPLOYMENTS", 3)
    assert [(await create(server, name)).status for name in ("a", "b")] == [200, 200]
    assert code(await create(server, "c")) == (409, "too_many_deployments")
    assert (await create(server, "a")).status == 200
    await delete(server, "a")
    assert (await create(server, "c")).status == 200
    await delete(server, "c")
    # Three names are known by now, and their logs are kept.
    answer = await create(server, "d")
    assert code(answer) == (409, "too_many_deployments")
    assert "deleted" in answer.json["hint"]
    assert (await create(server, "a")).status == 200


async def test_the_paths_that_name_no_deployment_mean_the_configured_one_as_before(start) -> None:
    server = await start("--deployments", "prod")
    await create(server)
    assert (await server.upload(pack(A), "/upload")).status == 200
    assert (await current(server, "prod")).json["sequence"] == 1


async def test_metrics_show_a_deployment_while_it_exists(server) -> None:
    await create(server)
    assert await server.metric('uploads_total{deployment="preview-1",outcome="ok"}') == 0
    await server.deploy(A, "preview-1")
    assert code(await server.upload(b"junk", "/preview-1/dags/upload"))[0] == 422
    assert await server.metric('current_sequence{deployment="preview-1"}') == 1
    await delete(server)
    await server.service.settled()
    text = (await server.get("/metrics")).body.decode()
    assert "preview-1" not in text
    assert 'dagferry_server_uploads_total{deployment="default",outcome="ok"} 0.0' in text


async def test_a_token_creates_and_deletes_what_its_patterns_cover(start, tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO)
    tokens = TokensFile(tmp_path / "tokens.toml")
    admin = {"Authorization": tokens.add("previews", ["admin", "deploy"], ["preview-*"])}
    deployer = {"Authorization": tokens.add("ci", ["deploy", "override", "read", "sync"], ["*"])}
    server = await start("--tokens-file", str(tokens.path))
    for headers, method, name, expected in (
        (deployer, "POST", "preview-1", (403, "forbidden")),
        (admin, "POST", "prod-2", (403, "forbidden")),
        (admin, "POST", "default", (403, "forbidden")),
        (admin, "POST", "preview-1", (200, "")),
        (deployer, "DELETE", "preview-1", (403, "forbidden")),
        (admin, "DELETE", "default", (404, "deployment_not_found")),
        (admin, "DELETE", "preview-1", (200, "")),
    ):
        assert code(await server.call(method, f"/-/deployments/{name}", headers=headers)) == expected
    audit = [record.fields for record in caplog.records if record.message == "Audit"]
    assert [(line["actor"], line["deployment"], line["outcome"]) for line in audit] == [
        ("token:ci", "preview-1", "forbidden"),
        ("token:previews", "prod-2", "forbidden"),
        ("token:previews", "default", "forbidden"),
        ("token:previews", "preview-1", "ok"),
        ("token:ci", "preview-1", "forbidden"),
        ("token:previews", "default", "deployment_not_found"),
        ("token:previews", "preview-1", "ok"),
    ]
    assert audit[3]["request"] == "POST /-/deployments/{name}"


async def test_a_freeze_does_not_outlive_its_deployment(server) -> None:
    await create(server)
    headers = {"Content-Type": "application/json"}
    body = b'{"reason": "release"}'
    answer = await server.call("POST", "/preview-1/dags/freeze", data=body, headers=headers)
    assert answer.json["frozen"]["reason"] == "release"
    await delete(server)
    assert (await create(server)).json["frozen"] is None
    assert (await server.deploy(A, "preview-1"))["sequence"] == 1


# --- and the deployments file ----------------------------------------------------------------------------------------


class File:
    """A deployments file; it is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.flags = ("--deployments-file", str(path))

    def write(self, entries: str) -> None:
        aside = self.path.with_suffix(".new")
        aside.write_text(f"defaults = {{ max-files = 7 }}\ndeployments = [ {entries} ]\n")
        aside.replace(self.path)


@pytest.fixture
def file(tmp_path: Path, monkeypatch) -> File:
    monkeypatch.setattr(watched, "LOOK_EVERY_SECONDS", 0.01)
    file = File(tmp_path / "deployments.toml")
    file.write('{ name = "prod" }')
    return file


async def test_it_has_the_defaults_of_the_file_also_when_they_change(start, file) -> None:
    server = await start(*file.flags)
    await create(server)
    assert server.service.deployments["preview-1"].settings.max_files == 7
    await asyncio.to_thread(file.path.write_text, 'defaults = { max-files = 8 }\ndeployments = [ { name = "prod" } ]\n')
    await eventually("the change", lambda: server.service.deployments["preview-1"].settings.max_files == 8)
    assert await names(server) == ["preview-1", "prod"]


async def test_the_file_wins_as_long_as_it_names_it(start, file) -> None:
    server = await start(*file.flags)
    await create(server)
    told = await server.deploy(A, "preview-1")
    before = server.service.deployments["preview-1"]
    await asyncio.to_thread(file.write, '{ name = "prod" }, { name = "preview-1", max-files = 3 }')
    await eventually("the change", lambda: before.settings.max_files == 3)
    assert code(await delete(server)) == (409, "deployment_configured")
    rows = (await server.get("/-/deployments")).json["deployments"]
    assert [(row["name"], row["created_by"]) for row in rows] == [("preview-1", None), ("prod", None)]
    assert (await current(server)).json["version"] == told["version"]
    await asyncio.to_thread(file.write, '{ name = "prod" }')
    await eventually("the change", lambda: before.settings.max_files == 7)
    assert server.service.deployments["preview-1"] is before
    assert (await delete(server)).json["deleted"]


async def test_a_deleted_deployment_that_the_file_names_comes_back_empty_and_stays(start, file, tmp_path) -> None:
    server = await start(*file.flags)
    await create(server)
    await server.deploy(A, "preview-1")
    log_id = (await current(server)).json["log_id"]
    await delete(server)
    await server.service.settled()
    await asyncio.to_thread(file.write, '{ name = "prod" }, { name = "preview-1" }')
    await eventually("the deployment", lambda: "preview-1" in server.service.deployments)
    told = (await current(server)).json
    assert (told["sequence"], told["log_id"]) == (0, log_id)
    assert (await server.deploy(A, "preview-1"))["sequence"] == 2
    await server.close()
    server = await start(*file.flags)
    assert (await current(server)).json["sequence"] == 2
    assert await stored_bundles(server) == 1
    # It was not created by a request: without the file it is gone, as any other of the file is.
    await asyncio.to_thread(file.write, '{ name = "prod" }')
    await eventually("the change", lambda: "preview-1" not in server.service.deployments)
    assert code(await delete(server)) == (404, "deployment_not_found")
    # And to create it brings back what it had.
    assert (await create(server)).json["version"]
    assert (await current(server)).json["sequence"] == 2


async def test_a_deployment_that_came_back_empty_stays_so_until_the_next_deploy(start, file) -> None:
    server = await start(*file.flags)
    await create(server)
    await server.deploy(A, "preview-1")
    await delete(server)
    for entries in ('{ name = "prod" }, { name = "preview-1" }', '{ name = "prod" }'):
        await server.close()
        await asyncio.to_thread(file.write, entries)
        server = await start(*file.flags)
    assert (await create(server)).json["version"] == ""
    await server.close()
    server = await start(*file.flags)
    assert (await current(server)).json["sequence"] == 0
    assert (await server.deploy(A, "preview-1"))["sequence"] == 2


async def test_one_that_the_file_names_after_a_restart_without_it_comes_back_too(start, file) -> None:
    server = await start(*file.flags)
    await create(server)
    await server.deploy(A, "preview-1")
    await delete(server)
    await server.close()
    file.write('{ name = "prod" }, { name = "preview-1" }')
    server = await start(*file.flags)
    assert (await current(server)).json["sequence"] == 0
    assert (await server.deploy(A, "preview-1"))["sequence"] == 2
    await server.service.retention.run()
    assert await stored_bundles(server) == 1


# --- and a store that fails ------------------------------------------------------------------------------------------


class Unlisted(LocalStore):
    """A store whose deployments cannot be listed for a while."""

    broken = True

    def deployments(self) -> list[str]:
        with storage_errors("Listing the deployments"):
            if self.broken:
                raise OSError(5, "Input/output error")
        return super().deployments()


async def test_while_it_is_not_known_which_there_are_none_is_not_found(start, tmp_path, monkeypatch) -> None:
    server = await start()
    await create(server)
    told = await server.deploy(A, "preview-1")
    await server.close()
    store = Unlisted(str(tmp_path / "data"))
    server = await start(store=store)
    assert (await server.deploy(A))["sequence"] == 1
    for answer in (
        await current(server),
        await create(server),
        await create(server, "preview-2"),
        await delete(server),
        await server.get("/-/deployments"),
        await server.get("/-/whoami"),
        await server.get("/readyz"),
    ):
        assert code(answer) == (503, "store_unavailable")
    store.broken = False
    await eventually("the deployment", lambda: "preview-1" in server.service.deployments)
    assert (await current(server)).json["version"] == told["version"]
    assert (await server.get("/readyz")).status == 200


@pytest.mark.parametrize("method", ["write_state", "prepare"])
async def test_one_that_cannot_be_stored_is_not_created_and_can_be_later(server, monkeypatch, method) -> None:
    def fail(*_: object) -> None:
        raise StoreAway("The disk is on fire.")

    with monkeypatch.context() as broken:
        broken.setattr(server.service.store, method, fail)
        assert code(await create(server)) == (503, "store_unavailable")
    assert await names(server) == ["default"]
    assert (await create(server)).json["created"]


async def test_one_whose_end_cannot_be_stored_goes_on(server, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise StoreAway("The disk is on fire.")

    await create(server)
    with monkeypatch.context() as broken:
        broken.setattr(server.service.store, "write_state", fail)
        assert code(await delete(server)) == (503, "store_unavailable")
    assert (await server.deploy(A, "preview-1"))["sequence"] == 1
    assert (await delete(server)).json["deleted"]


async def test_a_damaged_record_is_reported_and_hinders_no_other_and_to_create_it_again_helps(
    start, tmp_path, caplog
) -> None:
    server = await start()
    for name in ("preview-1", "preview-2"):
        await create(server, name)
        await server.deploy(A, name)
    await server.close()
    (tmp_path / "data/preview-1/lifecycle.state").write_bytes(b"{")
    server = await start()
    errors = [record.fields for record in caplog.records if record.levelno == logging.ERROR]
    assert [(fields["code"], fields["deployment"]) for fields in errors] == [("store_damaged", "preview-1")]
    assert code(await current(server)) == (404, "deployment_not_found")
    assert (await current(server, "preview-2")).json["sequence"] == 1
    assert await stored_bundles(server) == 1, "nobody said that it was deleted"
    assert (await create(server)).json["version"] == ""
    assert (await server.deploy(A, "preview-1"))["sequence"] == 2


async def test_a_damaged_record_of_a_configured_deployment_hinders_nothing(start, tmp_path) -> None:
    server = await start()
    told = await server.deploy(A)
    await server.close()
    (tmp_path / "data/default/lifecycle.state").write_bytes(b"{")
    server = await start()
    assert (await current(server, "default")).json["version"] == told["version"]


async def test_a_deployment_that_is_deleted_while_its_log_cannot_be_read_stays_deleted(
    start, tmp_path, monkeypatch
) -> None:
    server = await start()
    await create(server)
    store, broken = server.service.store, True
    prepare = store.prepare
    await server.close()

    def fail(name: str) -> None:
        if broken and name == "preview-1":
            raise StoreAway("The disk is on fire.")
        prepare(name)

    monkeypatch.setattr(LocalStore, "prepare", lambda _, name: fail(name))
    server = await start()
    assert code(await current(server)) == (503, "store_unavailable")
    assert (await delete(server)).json["deleted"]
    broken = False
    await eventually("the end of the retries", lambda: not server.service.deployments._retries)
    lifecycle = json.loads((tmp_path / "data/preview-1/lifecycle.state").read_bytes())
    assert lifecycle["change"] == "deleted"
