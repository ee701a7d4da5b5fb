"""``POST …/rollback``: an older content is deployed again, without an upload."""

import asyncio
import logging
import os

import pytest

from dagferry_core.limits import MIB
from running import A, B, Running

C = {**A, "shop.py": b"rate = 3\n", "new.py": b"pass\n"}


def bundle_of(tmp_path, digest: str):
    return tmp_path / "data" / "default" / "bundles" / (digest.removeprefix("sha256:") + ".tar.zst")


async def three(server: Running) -> list[dict]:
    return [await server.deploy(files) for files in (A, B, C)]


async def test_a_rollback_is_a_new_deploy_of_the_old_bundle(server) -> None:
    first, _, third = await three(server)
    answer = await server.rollback(first["version"], description="back to the first")
    assert answer.status == 200
    told = answer.json
    assert told == {
        "version": told["version"],
        "digest": first["digest"],
        "sequence": 4,
        "kind": "rollback",
        "under": "",
        "dry_run": False,
        "unchanged": False,
        "added": 0,
        "changed": 1,
        "removed": 1,
        "warnings": [],
        "excluded": 0,
        "excluded_paths": [],
        "added_paths": [],
        "changed_paths": ["shop.py"],
        "removed_paths": ["new.py"],
        "cut": False,
    }
    entry = (await server.get(f"/default/dags/deploys/{told['version']}")).json
    assert (entry["kind"], entry["source"], entry["description"], entry["flags"], entry["under"]) == (
        *("rollback", first["version"], "back to the first", [], ""),
    )
    assert entry["details"]["removed_paths"] == ["new.py"]
    # The patch that every sidecar asks for.
    patch = await server.get(f"/default/dags/versions/{told['version']}?from={third['version']}")
    assert patch.headers["Content-Type"] == "application/vnd.dagferry.patch"


async def test_a_rollback_writes_no_bundle(server, monkeypatch) -> None:
    first, *_ = await three(server)

    def never(*arguments: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr(server.service.store, "put_bundle", never)
    assert (await server.rollback(first["version"])).json["sequence"] == 4
    assert len(await asyncio.to_thread(server.service.store.bundles, "default")) == 3


async def test_a_rollback_to_the_current_content_changes_nothing_so_a_lost_answer_does_no_harm(server) -> None:
    first, *_ = await three(server)
    told = (await server.rollback(first["version"])).json
    again = (await server.rollback(first["version"])).json
    assert (again["version"], again["unchanged"], again["kind"]) == (told["version"], True, "rollback")
    assert (again["added"], again["changed_paths"]) == (0, [])
    same = (await server.rollback(told["version"])).json
    assert (same["version"], same["unchanged"]) == (told["version"], True)


async def test_a_content_keeps_the_git_that_it_came_with(server) -> None:
    query = "?git=" + '{"commit": "3b18e51", "branch": "main"}'
    first = (await server.call("POST", "/default/dags/upload" + query, data=_packed(A))).json
    await server.deploy(B)
    told = (await server.rollback(first["version"])).json
    entry = (await server.get(f"/default/dags/deploys/{told['version']}")).json
    assert entry["git"] == {"commit": "3b18e51", "branch": "main"}


def _packed(files):
    from harness import pack

    return pack(files)


async def test_a_version_that_never_was_is_404_and_one_that_cannot_be_is_400(server) -> None:
    await three(server)
    never = await server.rollback("20200101T000000Z-000001")
    assert (never.status, never.json["code"]) == (404, "version_not_found")
    invalid = await server.rollback("latest")
    assert (invalid.status, invalid.json["code"]) == (400, "request_invalid")
    assert await current(server) == 3


async def current(server: Running) -> int:
    return (await server.get("/default/dags/current")).json["sequence"]


async def test_a_bundle_that_retention_removed_is_410(server, tmp_path) -> None:
    first, *_ = await three(server)
    await asyncio.to_thread(server.service.store.delete_bundle, "default", first["digest"])
    for query in ("", "?dry_run=1"):
        gone = await server.rollback(first["version"], query=query)
        assert (gone.status, gone.json["code"]) == (410, "bundle_gone")
        assert first["version"] in gone.json["message"]
    assert await current(server) == 3


async def test_a_damaged_bundle_is_not_deployed_again(server, tmp_path) -> None:
    large = {**A, "model.bin": os.urandom(3 * MIB)}
    first = await server.deploy(large)
    await server.deploy(B)
    path = bundle_of(tmp_path, first["digest"])
    content = path.read_bytes()
    path.write_bytes(content[:-1000] + bytes(100) + content[-900:])
    for query in ("?dry_run=1", ""):
        damaged = await server.rollback(first["version"], query=query)
        assert (damaged.status, damaged.json["code"]) == (503, "store_damaged")
        assert first["version"] in damaged.json["message"]
        assert "Choose another version" in damaged.json["hint"]
    assert await current(server) == 2
    # The content itself brings it back.
    await server.deploy(large)
    await server.deploy(B)
    assert (await server.rollback(first["version"])).status == 200


async def test_a_rollback_to_a_bundle_of_today_is_possible_though_the_current_one_is_lost(server, tmp_path) -> None:
    first, _, third = await three(server)
    bundle_of(tmp_path, third["digest"]).unlink()
    told = (await server.rollback(first["version"])).json
    assert (told["sequence"], told["added"]) == (4, 3)


async def test_a_dry_run_says_what_would_change_and_stores_nothing(server, tmp_path) -> None:
    first, _, third = await three(server)
    told = (await server.rollback(first["version"], query="?dry_run=1")).json
    assert (told["dry_run"], told["version"], told["sequence"], told["digest"]) == (
        *(True, third["version"], 3, first["digest"]),
    )
    assert (told["changed_paths"], told["removed_paths"]) == (["shop.py"], ["new.py"])
    assert await current(server) == 3
    assert len(list((tmp_path / "data" / "default" / "deploys").iterdir())) == 6


async def test_a_disabled_deployment_accepts_no_rollback(start, tmp_path) -> None:
    file = tmp_path / "deployments.toml"
    file.write_text('deployments = [{ name = "default" }]')
    server = await start("--deployments-file", str(file))
    first, *_ = await three(server)
    deployment = server.service.deployments["default"]
    deployment.configure(deployment.settings.model_copy(update={"disabled": "moving"}))
    refused = await server.rollback(first["version"])
    assert (refused.status, refused.json["code"]) == (409, "deployment_disabled")
    assert "moving" in refused.json["message"]


async def test_a_rollback_is_logged(server, caplog) -> None:
    caplog.set_level(logging.INFO)
    first, *_ = await three(server)
    told = (await server.rollback(first["version"])).json
    lines = [record.fields for record in caplog.records if record.message == "Deployed"]
    assert (lines[-1]["kind"], lines[-1]["source"], lines[-1]["version"]) == (
        *("rollback", first["version"], told["version"]),
    )
    audited = [record.fields for record in caplog.records if record.message == "Audit"]
    assert (audited[-1]["request"], audited[-1]["outcome"]) == ("POST /{deployment}/dags/rollback", "ok")


async def test_rollbacks_and_uploads_at_once_leave_a_gap_free_log_and_each_is_told_its_own(server) -> None:
    versions = [each["version"] for each in await three(server)]
    uploads = [server.deploy({"dag.py": b"n = %d\n" % number}) for number in range(12)]
    rollbacks = [server.rollback(versions[number % 3]) for number in range(12)]
    told = await asyncio.gather(*uploads, *rollbacks)
    sequences = [each["sequence"] if isinstance(each, dict) else each.json["sequence"] for each in told]
    new = [each if isinstance(each, dict) else each.json for each in told]
    made = sorted(each["sequence"] for each in new if not each["unchanged"])
    assert made == list(range(4, 4 + len(made)))
    assert max(sequences) == await current(server)
    log = (await server.get("/default/dags/deploys?limit=200")).json["deploys"]
    by_sequence = {entry["sequence"]: entry for entry in log}
    for each in new:
        entry = by_sequence[each["sequence"]]
        assert (entry["version"], entry["digest"]) == (each["version"], each["digest"])
        assert each["unchanged"] or entry["kind"] == each["kind"]


@pytest.mark.parametrize("keep", ["1"])
async def test_retention_does_not_delete_what_a_rollback_is_about_to_name(start, monkeypatch, keep) -> None:
    server = await start("--keep-deploys", keep, "--keep-days", "0")
    monkeypatch.setattr(server.service.retention, "request", lambda: None)
    first = await server.deploy(A)
    await server.deploy(B)
    store, real = server.service.store, server.service.store.create_entry
    loop = asyncio.get_running_loop()

    def create_entry(*arguments: object) -> bool:
        # The pass waits for the lock of the deployment; what it saw before is old by then.
        asyncio.run_coroutine_threadsafe(_started(server), loop).result(30)
        return real(*arguments)

    monkeypatch.setattr(store, "create_entry", create_entry)
    told = (await server.rollback(first["version"])).json
    monkeypatch.undo()
    await server.service.retention.run()
    assert set(await asyncio.to_thread(store.bundles, "default")) == {told["digest"]}
    assert (await server.get("/default/dags/download")).status == 200


async def _started(server: Running) -> None:
    server.service.background.spawn(server.service.retention.run())
    await asyncio.sleep(0.05)
