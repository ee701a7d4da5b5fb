"""Deploys of one folder of the tree: all else stays, no matter who deploys it."""

import asyncio
import json

import pytest

from changing import change, content
from credentials import TokensFile
from dagferry_core.bundle.manifest import Manifest
from dagferry_server.deploys import contents, merged
from dagferry_server.deploys.gate import DeployGate
from dagferry_server.store.local import LocalStore
from harness import pack
from running import Answer, Running
from treemaker import manifest_of

ONE = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n"}
TWO = {**ONE, "shop.py": b"rate = 2\n"}
OTHER = {"team-b/job.py": b"import os\n", "common.py": b"x = 1\n"}


def below(files: dict[str, bytes], folder: str = "team-a/") -> dict[str, bytes]:
    return {folder + path: body for path, body in files.items()}


async def put(server: Running, files: dict[str, bytes], under: str = "team-a/", more: str = "", **options) -> Answer:
    return await server.call("POST", f"/default/dags/upload?under={under}{more}", data=pack(files), **options)


async def test_an_upload_of_a_folder_replaces_it_and_nothing_else(server) -> None:
    await server.deploy({**OTHER, **below({"old.py": b""})})
    answer = await put(server, ONE)
    assert answer.status == 200, answer.body
    assert (answer.json["under"], answer.json["added"], answer.json["removed"]) == ("team-a/", 2, 1)
    assert answer.json["removed_paths"] == ["team-a/old.py"]
    assert await content(server) == {**OTHER, **below(ONE)}
    entry = (await server.get("/default/dags/deploys")).json["deploys"][0]
    assert (entry["kind"], entry["under"], entry["digest"]) == ("upload", "team-a/", answer.json["digest"])
    assert answer.json["digest"] == manifest_of({**OTHER, **below(ONE)}).digest


@pytest.mark.parametrize("under", ["team-a", "team-a/", "./team-a/"])
async def test_the_first_deploy_may_be_that_of_a_folder(server, under) -> None:
    assert (await put(server, ONE, under)).json["under"] == "team-a/"
    assert await content(server) == below(ONE)


async def test_a_folder_whose_name_only_begins_alike_is_another_one(server) -> None:
    await server.deploy({"team-a2/x.py": b"", "team-a.py": b"", **below({"old.py": b""})})
    await put(server, ONE)
    assert await content(server) == {"team-a2/x.py": b"", "team-a.py": b"", **below(ONE)}


async def test_the_same_folder_again_is_unchanged_whatever_others_did(server) -> None:
    first = await put(server, ONE)
    other = await put(server, {"job.py": b""}, "team-b/")
    again = await put(server, ONE)
    assert (again.json["unchanged"], again.json["version"]) == (True, other.json["version"])
    assert again.json["version"] != first.json["version"]
    assert (await server.get("/default/dags/current")).json["sequence"] == 2


async def test_a_dry_run_of_a_folder_says_what_would_change(server) -> None:
    await server.deploy({**OTHER, **below(ONE)})
    answer = await put(server, TWO, more="&dry_run=1")
    assert (answer.json["changed_paths"], answer.json["sequence"]) == (["team-a/shop.py"], 1)
    assert answer.json["digest"] == manifest_of({**OTHER, **below(TWO)}).digest
    assert await content(server) == {**OTHER, **below(ONE)}


@pytest.mark.parametrize("under", ["", "/", ".", "..", "../", "../team-a/", "/etc/", "team-a//x", "a/../../b"])
async def test_what_cannot_be_a_folder_is_refused(server, under) -> None:
    await server.deploy(OTHER)
    answer = await put(server, ONE, under)
    assert (answer.status, answer.json["code"]) == (400, "request_invalid")
    assert await content(server) == OTHER


@pytest.mark.parametrize("under", ["common.py/", "team-b/job.py", "common.py/deeper/"])
async def test_a_folder_where_a_file_is_is_refused(server, under) -> None:
    await server.deploy(OTHER)
    answer = await put(server, ONE, under)
    assert (answer.status, answer.json["code"]) == (422, "path_conflict")
    assert await content(server) == OTHER


@pytest.mark.parametrize("under", ["__pycache__", "team-a/.git/", ".git/x"])
async def test_a_folder_that_the_server_excludes_is_refused(server, under) -> None:
    answer = await put(server, ONE, under)
    assert (answer.status, answer.json["code"]) == (400, "request_invalid")
    assert "excludes" in answer.json["message"]


async def test_paths_outside_of_the_folder_cannot_be_reached(server) -> None:
    await server.deploy(OTHER)
    answer = await server.call("POST", "/default/dags/upload?under=team-a/", data=pack({"../common.py": b""}, ""))
    assert (answer.status, answer.json["code"]) == (422, "path_refused")
    current = (await server.get("/default/dags/current")).json["version"]
    for removed in ("../common.py", "common.py", "team-b/job.py", "/common.py"):
        answer = await change(server, current, Manifest(()).digest, {}, [removed], more="&under=team-a/")
        assert (answer.status, answer.json["code"]) == (422, "change_mismatch")
    assert await content(server) == OTHER


async def test_the_limits_hold_for_the_whole(start) -> None:
    server = await start("--max-files", "6")
    await server.deploy({"a.py": b"", "b.py": b""})
    answer = await put(server, {"c.py": b"", "d.py": b"", "e.py": b""})
    assert (answer.status, answer.json["code"]) == (413, "too_many_files")
    assert (await put(server, {"c.py": b"", "d.py": b""})).status == 200


async def test_names_are_warned_of_by_their_places_in_the_whole(server) -> None:
    answer = await put(server, {"json.py": b"", "conf/.env": b""})
    assert len(answer.json["warnings"]) == 1
    assert "team-a/conf/.env" in answer.json["warnings"][0]


# --- removing a folder -----------------------------------------------------------------------------------------------


async def test_an_empty_archive_removes_a_folder_only_if_that_is_said(server) -> None:
    await server.deploy({**OTHER, **below(ONE)})
    refused = await put(server, {})
    assert (refused.status, refused.json["code"]) == (422, "bundle_empty")
    answer = await put(server, {}, more="&allow_removals=1")
    assert (answer.status, answer.json["removed"]) == (200, 2)
    assert await content(server) == OTHER
    entry = (await server.get("/default/dags/deploys")).json["deploys"][0]
    assert (entry["under"], entry["flags"]) == ("team-a/", ["allow_removals"])


async def test_a_change_removes_a_folder_by_naming_its_files(server) -> None:
    told = await server.deploy({**OTHER, **below(ONE)})
    answer = await change(server, told["version"], Manifest(()).digest, {}, sorted(ONE), more="&under=team-a/")
    assert (answer.status, answer.json["removed"]) == (200, 2)
    assert await content(server) == OTHER


async def test_the_last_folder_is_not_removed_and_the_whole_not_emptied(server) -> None:
    await put(server, ONE)
    for query in ("?under=team-a&allow_removals=1", "?allow_removals=1"):
        answer = await server.upload(pack({}), f"/default/dags/upload{query}")
        assert (answer.status, answer.json["code"]) == (422, "bundle_empty")
    assert await content(server) == below(ONE)


# --- changes of a folder ---------------------------------------------------------------------------------------------


async def test_a_change_of_a_folder_is_relative_to_it_and_leaves_newer_files_of_others(server) -> None:
    base = await server.deploy({**OTHER, **below({**ONE, "old.py": b""})})
    await put(server, {"job.py": b"new\n"}, "team-b/")
    answer = await change(
        server, base["version"], manifest_of(TWO).digest, {"shop.py": TWO["shop.py"]}, ["old.py"], more="&under=team-a"
    )
    assert answer.status == 200, answer.body
    lists = [answer.json[f"{name}_paths"] for name in ("added", "changed", "removed")]
    assert lists == [[], ["team-a/shop.py"], ["team-a/old.py"]]
    assert await content(server) == {"common.py": b"x = 1\n", "team-b/job.py": b"new\n", **below(TWO)}


async def test_a_change_of_a_folder_is_judged_by_the_digest_of_that_folder(server) -> None:
    told = await server.deploy({**OTHER, **below(ONE)})
    whole = manifest_of({**OTHER, **below(TWO)}).digest
    answer = await change(server, told["version"], whole, {"shop.py": TWO["shop.py"]}, more="&under=team-a/")
    assert (answer.status, answer.json["code"]) == (422, "change_mismatch")


async def test_a_repeated_change_of_a_folder_is_unchanged_also_without_its_base(server, tmp_path) -> None:
    told = await server.deploy({**OTHER, **below(ONE)})
    for _ in range(2):
        answer = await change(
            server, told["version"], manifest_of(TWO).digest, {"shop.py": TWO["shop.py"]}, more="&under=team-a/"
        )
        assert answer.status == 200, answer.body
        for path in (tmp_path / "data" / "default" / "bundles").glob(f"{told['digest'][7:]}.*"):
            path.unlink()
    assert (answer.json["unchanged"], answer.json["sequence"]) == (True, 2)


# --- rolling a folder back -------------------------------------------------------------------------------------------


async def test_a_rollback_of_a_folder_leaves_newer_files_of_others(server) -> None:
    first = await server.deploy({**OTHER, **below(ONE)})
    await put(server, TWO)
    await put(server, {"job.py": b"new\n"}, "team-b/")
    answer = await server.rollback(first["version"], under="team-a")
    assert answer.status == 200, answer.body
    assert (answer.json["kind"], answer.json["under"]) == ("rollback", "team-a/")
    assert answer.json["changed_paths"] == ["team-a/shop.py"]
    assert await content(server) == {"common.py": b"x = 1\n", "team-b/job.py": b"new\n", **below(ONE)}
    entry = (await server.get("/default/dags/deploys")).json["deploys"][0]
    assert (entry["kind"], entry["under"], entry["source"]) == ("rollback", "team-a/", first["version"])


async def test_a_rollback_of_a_folder_that_is_as_it_was_is_unchanged(server) -> None:
    first = await server.deploy({**OTHER, **below(ONE)})
    await put(server, {"job.py": b"new\n"}, "team-b/")
    answer = await server.rollback(first["version"], under="team-a/")
    assert (answer.status, answer.json["unchanged"], answer.json["sequence"]) == (200, True, 2)


async def test_a_rollback_to_before_a_folder_was_removes_it(server) -> None:
    first = await server.deploy(OTHER)
    await put(server, ONE)
    answer = await server.rollback(first["version"], under="team-a/")
    assert (answer.status, answer.json["removed"]) == (200, 2)
    assert await content(server) == OTHER


async def test_a_rollback_of_a_folder_keeps_the_git_of_deploys_of_it_only(server) -> None:
    git = json.dumps({"commit": "abc"})
    first = await put(server, ONE, more=f"&git={git}")
    second = await put(server, {"job.py": b""}, "team-b/", more='&git={"commit":"def"}')
    await put(server, TWO)
    for version, expected in ((second, None), (first, {"commit": "abc"})):
        await server.rollback(version.json["version"], under="team-a/")
        found = (await server.get("/default/dags/deploys")).json["deploys"][0]
        assert (found["source"], found["git"]) == (version.json["version"], expected)
        await put(server, TWO)


@pytest.mark.parametrize("under", ["", "..", "/"])
async def test_a_rollback_of_what_is_no_folder_is_refused(server, under) -> None:
    told = await server.deploy(OTHER)
    answer = await server.rollback(told["version"], under=under)
    assert (answer.status, answer.json["code"]) == (400, "request_invalid")


async def test_a_version_whose_bundle_is_gone_or_damaged_gives_no_folder_back(server, tmp_path) -> None:
    first = await server.deploy({**OTHER, **below(ONE)})
    await put(server, TWO)
    path = tmp_path / "data" / "default" / "bundles" / f"{first['digest'][7:]}.tar.zst"
    path.write_bytes(b"x" * 500)
    answer = await server.rollback(first["version"], under="team-a/")
    assert (answer.status, answer.json["code"]) == (503, "store_damaged")
    assert "cannot be deployed again" in answer.json["message"]
    path.unlink()
    answer = await server.rollback(first["version"], under="team-a/")
    assert (answer.status, answer.json["code"]) == (410, "bundle_gone")


# --- what is merged into ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["bundle", "entry"])
async def test_nothing_is_merged_into_a_tree_that_cannot_be_read(server, tmp_path, what) -> None:
    await server.deploy(OTHER)
    told = await server.deploy({**OTHER, **below(ONE)})
    if what == "bundle":
        path = tmp_path / "data" / "default" / "bundles" / f"{told['digest'][7:]}.tar.zst"
        path.write_bytes(b"x" * 500)
    else:
        next((tmp_path / "data" / "default" / "deploys").glob("*2.json")).write_bytes(b"{}")
        server.service.deployments["default"].recent.pop(2)
        server.service.deployments["default"].unreadable.add(2)
        server.service.deployments["default"]._show()
    answer = await put(server, TWO)
    assert (answer.status, answer.json["code"]) == (503, "store_damaged")
    assert "current tree" in answer.json["message"]
    assert (await server.deploy(OTHER))["sequence"] == 3


async def test_after_a_lost_race_the_folder_is_merged_again(start) -> None:
    lost = []

    class Contended(LocalStore):
        def create_entry(self, deployment: str, sequence: int, data: bytes) -> bool:
            if sequence == 2 and not lost:
                lost.append(sequence)
                other = json.loads(data)
                previous = self.read_entry(deployment, 1)
                super().create_entry(deployment, 2, rival(other, previous))
            return super().create_entry(deployment, sequence, data)

    def rival(entry, previous: bytes) -> bytes:
        """The entry of another server that put back the first tree with a file of its own: its bundle is there."""
        return json.dumps({**entry, "digest": third["digest"], "actor": "rival", "under": ""}).encode()

    server = await start("--deployments", "default,other")
    store = Contended(server.service.folder.root)
    await server.close()
    server = await start("--deployments", "default,other", store=store)
    await server.deploy(OTHER)
    newer = {**OTHER, "team-b/job.py": b"newer\n"}
    third = await server.deploy(newer, "other")
    await server.service.settled()  # retention would delete a bundle that no entry names
    for suffix in (".tar.zst", ".index"):
        name = f"{third['digest'][7:]}{suffix}"
        source = server.service.folder.root + f"/other/bundles/{name}"
        await asyncio.to_thread(_copy, source, server.service.folder.root + f"/default/bundles/{name}")
    answer = await put(server, ONE)
    assert (answer.status, answer.json["sequence"], lost) == (200, 3, [2])
    assert answer.json["added_paths"] == sorted(below(ONE))
    assert await content(server) == {**newer, **below(ONE)}


def _copy(source: str, target: str) -> None:
    with open(source, "rb") as old, open(target, "wb") as new:
        new.write(old.read())


# --- If-Match --------------------------------------------------------------------------------------------------------


async def test_if_match_of_a_folder_passes_as_long_as_nobody_deployed_that_folder(server) -> None:
    first = await put(server, ONE)
    await put(server, {"job.py": b"1"}, "team-b/")
    second = await put(server, TWO, headers={"If-Match": f'"{first.json["version"]}"'})
    assert second.status == 200, second.body
    await put(server, {"job.py": b"2"}, "team-b/")
    refused = await put(server, ONE, headers={"If-Match": f'"{first.json["version"]}"'})
    assert (refused.status, refused.json["code"]) == (412, "version_mismatch")
    assert refused.json["version"] == second.json["version"]
    assert "team-a/ of default" in refused.json["message"]


@pytest.mark.parametrize(
    ("between", "status"),
    [("team-b/", 200), ("team-a2/", 200), ("team-a/sub/", 412), ("team-a/", 412), (None, 412)],
)
async def test_if_match_of_a_folder_counts_deploys_that_overlap_it(server, between, status) -> None:
    first = await server.deploy({"team-a/x/old.py": b"", "b.py": b""})
    if between:
        await put(server, {"job.py": b"1"}, between)
    else:
        await server.deploy({"team-a/x/old.py": b"", "b.py": b"2"})
    answer = await put(server, ONE, "team-a/", headers={"If-Match": f'"{first["version"]}"'})
    assert answer.status == status, answer.body


async def test_if_match_of_the_whole_counts_every_deploy(server) -> None:
    first = await server.deploy(OTHER)
    await put(server, ONE)
    answer = await server.call(
        "POST", "/default/dags/upload", data=pack(OTHER), headers={"If-Match": f'"{first["version"]}"'}
    )
    assert answer.status == 412


# --- a repeated request ----------------------------------------------------------------------------------------------


async def test_a_repeated_upload_of_a_folder_that_undoes_a_deploy_of_it_is_warned_of(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    ann, bob = ({"headers": {"Authorization": tokens.add(name, ["deploy"])}} for name in ("ann", "bob"))
    server = await start("--tokens-file", str(tokens.path))
    first = await put(server, ONE, **ann)
    other = await put(server, TWO, "team-b/", **bob)
    assert other.json["warnings"] == []
    second = await put(server, TWO, **bob)
    told = await put(server, ONE, **ann)
    assert told.json["sequence"] == 4
    (warning,) = told.json["warnings"]
    assert first.json["version"] in warning
    assert second.json["version"] in warning
    assert "'token:bob'" in warning


# --- credentials -----------------------------------------------------------------------------------------------------


async def test_a_token_for_folders_deploys_and_rolls_back_below_them_only(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    team = {"headers": {"Authorization": tokens.add("team", ["deploy"], prefixes=["team-a/"])}}
    ops = {"headers": {"Authorization": tokens.add("ops", ["deploy"])}}
    server = await start("--tokens-file", str(tokens.path), "--deployments", "default,other")
    whole = await server.call("POST", "/default/dags/upload", data=pack(OTHER), **ops)
    await server.call("POST", "/other/dags/upload", data=pack(OTHER), **ops)
    version = whole.json["version"]

    async def rollback(**body: str) -> int:
        body = {"version": version, **body}
        return (await server.call("POST", "/default/dags/rollback", json=body, **team)).status

    async def promote() -> int:
        return (await server.call("POST", "/default/dags/promote", json={"from": "other"}, **team)).status

    assert (await put(server, ONE, **team)).status == 200
    assert (await put(server, ONE, "team-a/sub/", **team)).status == 200
    assert [(await put(server, ONE, under, **team)).status for under in ("team-b/", "team-a2/", "team")] == [403] * 3
    assert (await server.call("POST", "/default/dags/upload", data=pack(OTHER), **team)).status == 403
    change_whole = f"/default/dags/upload?base={version}&digest={whole.json['digest']}"
    assert (await server.call("POST", change_whole, data=pack({}), **team)).status == 403
    assert await rollback() == 403
    assert await rollback(under="team-b/") == 403
    assert await rollback(under="team-a2/") == 403
    assert await rollback(under="team-a/") == 200
    assert await promote() == 403
    assert (await put(server, {}, more="&allow_removals=1", **team)).status == 403
    answer = await server.call("GET", "/default/dags/deploys", **team)
    assert [each["under"] for each in answer.json["deploys"]] == ["team-a/", "team-a/sub/", "team-a/", ""]


# --- DAG ids ---------------------------------------------------------------------------------------------------------


async def test_a_dag_id_in_two_folders_is_warned_of_on_deploys_of_a_folder(server) -> None:
    job = {"job.py": b"dag = DAG('nightly')\n"}
    assert (await put(server, job, "team-b/")).json["warnings"] == []
    for more in ("&dry_run=1", ""):
        answer = await put(
            server, {"mine.py": b"@dag('nightly')\ndef f(): ...\n", "own.py": b"DAG('own')\n"}, more=more
        )
        (warning,) = answer.json["warnings"]
        assert all(text in warning for text in ("'nightly'", "'team-a/mine.py'", "'team-b/job.py'"))
    details = (await server.get(f"/default/dags/deploys/{answer.json['version']}")).json["details"]
    assert details["warnings"] == [warning]
    whole = await server.deploy({"team-a/x.py": b"DAG('nightly')\n", "team-b/y.py": b"DAG('nightly')\n"})
    assert whole["warnings"] == []


async def test_ids_are_looked_for_once_in_each_content(server, monkeypatch) -> None:
    await server.deploy({"team-b/job.py": b"DAG('nightly')\n"})
    await put(server, {"mine.py": b"DAG('nightly')\n"})
    read = []
    real = merged.ids_by_path

    def noted(tree, bundles):
        reads = tree._replace(open_content=lambda entry: read.append(entry.path) or tree.open_content(entry))
        return real(reads, bundles)

    monkeypatch.setattr(merged, "ids_by_path", noted)
    answer = await put(server, {"mine.py": b"DAG('nightly')\n", "new.py": b"DAG('new')\n"})
    assert len(answer.json["warnings"]) == 1
    assert read == ["team-a/new.py"]


async def test_before_the_commit_only_the_folder_is_looked_at(start, monkeypatch) -> None:
    server = await start("--airflow-python", "3.11")
    first = (await server.deploy({**OTHER, **below(ONE)}))["version"]
    await put(server, TWO)
    looked = []
    real = DeployGate.check_early
    monkeypatch.setattr(
        DeployGate,
        "check_early",
        lambda gate, on, tree, new: looked.append([*tree.manifest.files]) or real(gate, on, tree, new),
    )
    await put(server, {"new.py": b"x = 2\n"})
    body = {"version": first, "under": "team-a/"}
    assert (await server.call("POST", "/default/dags/rollback", json=body)).status == 200
    assert looked == [["new.py"], ["etl.py", "shop.py"]]


@pytest.mark.parametrize(("level", "opened"), [("off", 2), ("warn", 2)])
async def test_a_rollback_of_a_folder_opens_the_old_bundle_no_oftener_than_needed(
    start, monkeypatch, level, opened
) -> None:
    server = await start("--airflow-python", "3.11", "--gate", level)
    first = await server.deploy({**OTHER, **below(ONE)})
    await put(server, TWO)
    seen = []
    real = contents.open_bundle
    monkeypatch.setattr(contents, "open_bundle", lambda *some, **more: seen.append(some[2]) or real(*some, **more))
    body = {"version": first["version"], "under": "team-a/"}
    assert (await server.call("POST", "/default/dags/rollback", json=body)).status == 200
    assert seen == [first["digest"]] * opened
