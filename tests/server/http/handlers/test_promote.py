"""``POST …/promote``: what one deployment has is deployed to another, without an upload."""

import asyncio
import os
from pathlib import Path

from credentials import TokensFile
from dagferry_core.limits import MIB
from running import A, B

BOTH = ("--deployments", "prod,staging")


def stored(tmp_path: Path, deployment: str, digest: str) -> bytes:
    return (tmp_path / "data" / deployment / "bundles" / (digest.removeprefix("sha256:") + ".tar.zst")).read_bytes()


async def test_a_promote_makes_the_same_bundle_current_elsewhere(start, tmp_path) -> None:
    server = await start(*BOTH)
    files = {**A, "model.bin": os.urandom(3 * MIB)}
    await server.deploy(B, "prod")
    first = await server.deploy(files, "staging")
    told = (await server.promote("staging", "prod", description="ship it")).json
    assert (told["digest"], told["kind"], told["sequence"]) == (first["digest"], "promote", 2)
    assert (told["added_paths"], told["changed_paths"]) == (["model.bin"], ["shop.py"])
    entry = (await server.get(f"/prod/dags/deploys/{told['version']}")).json
    assert (entry["kind"], entry["source"], entry["description"]) == (
        *("promote", f"staging@{first['version']}", "ship it"),
    )
    assert stored(tmp_path, "prod", told["digest"]) == stored(tmp_path, "staging", first["digest"])
    patch = await server.get(f"/prod/dags/versions/{told['version']}")
    assert patch.body == stored(tmp_path, "prod", told["digest"])


async def test_what_sources_import_is_copied_and_not_looked_for_again(start, monkeypatch) -> None:
    server = await start(*BOTH)
    await server.deploy(A, "staging")

    def never(source: bytes) -> None:
        raise AssertionError(source)

    monkeypatch.setattr("dagferry_server.deploys.bundles.imported_names", never)
    old = (await server.promote("staging", "prod")).json
    monkeypatch.undo()
    await server.deploy(B, "staging")
    new = (await server.promote("staging", "prod")).json
    patch = await server.get(f"/prod/dags/versions/{new['version']}?from={old['version']}")
    assert b"touch" not in patch.body  # it is compressed
    assert patch.headers["Content-Type"] == "application/vnd.dagferry.patch"


async def test_an_older_version_can_be_promoted(start) -> None:
    server = await start(*BOTH)
    first = await server.deploy(A, "staging")
    await server.deploy(B, "staging")
    told = (await server.promote("staging", "prod", version=first["version"])).json
    assert told["digest"] == first["digest"]


async def test_promoting_what_is_there_changes_nothing(start) -> None:
    server = await start(*BOTH)
    await server.deploy(A, "staging")
    first = (await server.promote("staging", "prod")).json
    again = (await server.promote("staging", "prod")).json
    assert (again["unchanged"], again["version"]) == (True, first["version"])


async def test_a_dry_run_writes_nothing(start) -> None:
    server = await start(*BOTH)
    first = await server.deploy(A, "staging")
    told = (await server.promote("staging", "prod", "?dry_run=1")).json
    assert (told["version"], told["sequence"], told["digest"], told["added"]) == ("", 0, first["digest"], 3)
    assert await asyncio.to_thread(server.service.store.bundles, "prod") == {}


async def test_a_damaged_bundle_is_not_promoted(start, tmp_path) -> None:
    server = await start(*BOTH)
    first = await server.deploy({**A, "model.bin": os.urandom(3 * MIB)}, "staging")
    path = tmp_path / "data" / "staging" / "bundles" / (first["digest"].removeprefix("sha256:") + ".tar.zst")
    content = path.read_bytes()
    path.write_bytes(content[:-1000] + bytes(100) + content[-900:])
    answer = await server.promote("staging", "prod")
    assert (answer.status, answer.json["code"]) == (503, "store_damaged")
    assert await asyncio.to_thread(server.service.store.bundles, "prod") == {}


async def test_what_cannot_be_promoted_is_refused(start) -> None:
    server = await start(*BOTH)
    nothing = await server.promote("staging", "prod")
    assert (nothing.status, nothing.json["code"]) == (404, "nothing_deployed")
    assert "staging" in nothing.json["message"]
    first = await server.deploy(A, "staging")
    itself = await server.promote("staging", "staging")
    assert (itself.status, itself.json["code"]) == (400, "request_invalid")
    assert "roll back" in itself.json["hint"]
    unknown = await server.promote("nowhere", "prod")
    assert (unknown.status, unknown.json["code"]) == (404, "deployment_not_found")
    await server.deploy(B, "staging")
    await asyncio.to_thread(server.service.store.delete_bundle, "staging", first["digest"])
    gone = await server.promote("staging", "prod", version=first["version"])
    assert (gone.status, gone.json["code"]) == (410, "bundle_gone")
    assert "of staging" in gone.json["message"]


async def test_the_caller_must_be_allowed_to_read_the_other_deployment(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    blind = {"Authorization": tokens.add("blind", ["deploy"], ["prod"])}
    follower = {"Authorization": tokens.add("follower", ["sync"], ["staging"])}
    ci = {"Authorization": tokens.add("ci", ["deploy"], ["prod", "staging"])}
    server = await start(*BOTH, "--tokens-file", str(tokens.path))

    async def promote(headers: dict[str, str], origin: str = "staging") -> tuple[int, str]:
        path = "/prod/dags/promote"
        answer = await server.call("POST", path, headers=headers, json={"from": origin})
        return answer.status, answer.json.get("code", "")

    assert await promote(blind) == (404, "deployment_not_found")
    assert await promote(blind) == await promote(blind, "nowhere")
    assert await promote(follower) == (404, "deployment_not_found")  # which may not even see prod
    assert await promote(ci) == (404, "nothing_deployed")
    both = {"Authorization": tokens.add("both", ["sync"], ["staging"])}
    assert both


async def test_the_limits_of_the_deployment_it_goes_to_are_those_of_an_upload(start, tmp_path) -> None:
    file = tmp_path / "deployments.toml"
    file.write_text(
        'deployments = [{ name = "staging", allow-empty = true }, '
        '{ name = "prod", max-files = 4, max-expanded-bytes = 1_000_000 }]\n'
    )
    server = await start("--deployments-file", str(file))
    fits = await server.deploy(dict.fromkeys(("a.py", "b.py", "c.py"), b"x = 1\n"), "staging")
    assert (await server.promote("staging", "prod")).status == 200
    for files, code in (
        (dict.fromkeys(("a.py", "b.py", "c.py", "d.py"), b""), "too_many_files"),
        ({"a.py": b"", "in/b.py": b"", "c.py": b""}, "too_many_files"),  # a folder counts
        ({"a.csv": bytes(1_000_001)}, "expanded_too_large"),
        ({}, "bundle_empty"),
    ):
        await server.deploy(files, "staging")
        for query in ("", "?dry_run=1"):
            answer = await server.promote("staging", "prod", query)
            assert (answer.status, answer.json["code"]) == (422 if code == "bundle_empty" else 413, code)
    current = (await server.get("/prod/dags/current")).json
    assert (current["sequence"], current["digest"]) == (1, fits["digest"])
    assert list(await asyncio.to_thread(server.service.store.bundles, "prod")) == [fits["digest"]]


async def test_a_rollback_may_exceed_limits_that_were_lowered_since(start) -> None:
    server = await start(*BOTH)
    first = await server.deploy(A, "prod")
    await server.deploy(B, "prod")
    deployment = server.service.deployments["prod"]
    deployment.configure(deployment.settings.model_copy(update={"max_files": 1}))
    assert (await server.call("POST", "/prod/dags/rollback", json={"version": first["version"]})).status == 200
