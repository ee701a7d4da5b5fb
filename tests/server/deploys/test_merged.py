"""Uploads of what changed: what comes out, and what is refused."""

import random

import aiohttp
import pytest

from changing import change, content
from dagferry_core.bundle import frames
from dagferry_core.bundle.manifest import Manifest
from dagferry_server.deploys import merged
from harness import pack
from running import A, B
from treemaker import manifest_of


async def test_a_change_replaces_adds_and_removes_files(server) -> None:
    told = await server.deploy(A)
    expected = {"etl.py": A["etl.py"], "shop.py": b"rate = 2\n", "new/a.py": b"x = 1\n"}
    files = {"shop.py": b"rate = 2\n", "new/a.py": b"x = 1\n"}
    answer = await change(server, told["version"], manifest_of(expected).digest, files, ["sql/load.sql"])
    assert answer.status == 200, answer.body
    lists = {name: answer.json[f"{name}_paths"] for name in ("added", "changed", "removed")}
    assert lists == {"added": ["new/a.py"], "changed": ["shop.py"], "removed": ["sql/load.sql"]}
    assert (answer.json["kind"], answer.json["sequence"]) == ("upload", 2)
    assert await content(server) == expected


async def test_the_result_is_the_bundle_that_a_complete_upload_makes(start, tmp_path) -> None:
    server = await start("--deployments", "default,other")
    told = await server.deploy(A)
    changed = await change(server, told["version"], manifest_of(B).digest, {"shop.py": B["shop.py"]})
    complete = await server.deploy(B, "other")
    assert changed.json["digest"] == complete["digest"]
    stored = [path.read_bytes() for path in tmp_path.glob(f"data/*/bundles/{complete['digest'][7:]}.tar.zst")]
    assert len(stored) == 2
    assert stored[0] == stored[1]


async def test_only_removals_and_only_a_mode_are_changes(server) -> None:
    told = await server.deploy(A)
    fewer = {path: body for path, body in A.items() if path != "etl.py"}
    answer = await change(server, told["version"], manifest_of(fewer).digest, {}, ["etl.py"])
    assert (answer.status, answer.json["removed"]) == (200, 1)
    executable = manifest_of(fewer, {"shop.py": 0o755})
    answer = await change(
        server, answer.json["version"], executable.digest, {"shop.py": A["shop.py"]}, modes={"shop.py": 0o755}
    )
    assert (answer.status, answer.json["changed_paths"]) == (200, ["shop.py"])
    files = (await server.get(f"/default/dags/versions/{answer.json['version']}/files")).json["files"]
    assert [(each["path"], each["mode"]) for each in files] == [("shop.py", 0o755), ("sql/load.sql", 0o644)]


async def test_contents_come_from_the_base_also_if_it_is_not_the_current_version(server) -> None:
    first = await server.deploy(A)
    await server.deploy({"other.py": b"y = 1\n"})
    answer = await change(server, first["version"], manifest_of(B).digest, {"shop.py": B["shop.py"]})
    assert answer.status == 200, answer.body
    assert await content(server) == B


async def test_the_whole_archive_is_the_change_also_if_all_of_it_is_in_a_folder_dags(server) -> None:
    told = await server.deploy({**A, "dags/a.py": b"1\n"})
    files = {**A, "dags/a.py": b"2\n"}
    answer = await change(server, told["version"], manifest_of(files).digest, {"dags/a.py": b"2\n"})
    assert (answer.status, answer.json["changed_paths"]) == (200, ["dags/a.py"])


@pytest.mark.parametrize(
    ("files", "removed", "why"),
    [
        ({"shop.py": b"rate = 3\n"}, [], "leads to sha256:"),
        ({"shop.py": B["shop.py"]}, ["etl.py"], "leads to sha256:"),
        ({"shop.py": B["shop.py"], "a.pyc": b""}, [], "exclude rules matched files of the upload: 'a.pyc'"),
        ({"shop.py": B["shop.py"]}, ["gone.py"], "removes 'gone.py', which is not there"),
        ({"shop.py": B["shop.py"]}, ["../etl.py"], "removes '../etl.py', which is not there"),
        ({"shop.py": B["shop.py"]}, ["/etc/passwd"], "removes '/etc/passwd', which is not there"),
        ({"shop.py": B["shop.py"]}, ["sql"], "removes 'sql', which is not there"),
        ({"shop.py": B["shop.py"]}, ["shop.py"], "removes 'shop.py' and contains it too"),
    ],
)
async def test_a_change_that_does_not_lead_to_the_digest_is_refused(server, files, removed, why) -> None:
    told = await server.deploy(A)
    expected = manifest_of({**B, "a.pyc": b""} if "a.pyc" in files else B).digest
    answer = await change(server, told["version"], expected, files, removed)
    assert (answer.status, answer.json["code"]) == (422, "change_mismatch"), answer.body
    assert why in answer.json["message"]
    assert (await server.get("/default/dags/current")).json["version"] == told["version"]
    assert await content(server) == A


async def test_a_lie_about_the_digest_of_the_current_version_is_found(server) -> None:
    told = await server.deploy(A)
    for more in ("", "&dry_run=1"):
        answer = await change(server, told["version"], told["digest"], {"shop.py": b"rate = 9\n"}, more=more)
        assert (answer.status, answer.json["code"]) == (422, "change_mismatch")


async def test_a_change_that_makes_a_file_of_a_folder_is_refused(server) -> None:
    told = await server.deploy(A)
    digest = manifest_of({**A, "sql": b""}).digest
    answer = await change(server, told["version"], digest, {"sql": b""})
    assert (answer.status, answer.json["code"]) == (422, "path_conflict")


async def test_a_change_that_removes_everything_is_refused_unless_a_setting_allows_it(start) -> None:
    server = await start()
    told = await server.deploy({"a.py": b""})
    answer = await change(server, told["version"], Manifest(()).digest, {}, ["a.py"])
    assert (answer.status, answer.json["code"]) == (422, "bundle_empty")
    await server.close()
    server = await start("--allow-empty")
    answer = await change(server, told["version"], Manifest(()).digest, {}, ["a.py"])
    assert (answer.status, answer.json["removed"]) == (200, 1)


async def test_the_limits_hold_for_the_result(start) -> None:
    server = await start("--max-files", "4")
    told = await server.deploy({"a.py": b"", "b.py": b""})
    files = {f"{name}.py": b"" for name in "abcd"}
    answer = await change(server, told["version"], manifest_of(files).digest, {"c.py": b"", "d.py": b""})
    assert (answer.status, answer.json["code"]) == (413, "too_many_files")


async def test_a_base_that_is_gone_is_named_with_the_current_version(start, tmp_path) -> None:
    server = await start("--deployments", "default,other")
    first = await server.deploy(A)
    second = await server.deploy({"b.py": b""})
    elsewhere = await server.deploy({"a.py": b""}, "other")
    (tmp_path / "data" / "default" / "bundles" / f"{first['digest'][7:]}.tar.zst").unlink()
    for base in (first["version"], elsewhere["version"], "20261120T064501Z-000009"):
        answer = await change(server, base, manifest_of(B).digest, {"shop.py": B["shop.py"]})
        assert (answer.status, answer.json["code"]) == (409, "base_gone"), answer.body
        assert answer.json["version"] == second["version"]
        assert second["version"] in answer.json["message"]
        assert base in answer.json["message"]


async def test_the_base_of_another_deployment_is_no_base_even_with_the_same_version(start) -> None:
    server = await start("--deployments", "default,other", clock=lambda: 1_800_000_000.0)
    here = await server.deploy(A)
    there = await server.deploy({"secret.py": b"x"}, "other")
    assert here["version"] == there["version"]
    stolen = manifest_of({"secret.py": b"x", "mine.py": b""}).digest
    answer = await change(server, there["version"], stolen, {"mine.py": b""})
    assert (answer.status, answer.json["code"]) == (422, "change_mismatch")


async def test_a_damaged_base_is_gone(server, tmp_path, caplog) -> None:
    first = await server.deploy(A)
    await server.deploy({"b.py": b""})
    path = tmp_path / "data" / "default" / "bundles" / f"{first['digest'][7:]}.tar.zst"
    path.write_bytes(b"x" * 500)
    answer = await change(server, first["version"], manifest_of(B).digest, {"shop.py": B["shop.py"]})
    assert (answer.status, answer.json["code"]) == (409, "base_gone")
    assert "cannot be read" in answer.json["message"]
    assert any("based on cannot be read" in record.message for record in caplog.records)


async def test_a_repeated_change_is_unchanged_even_if_its_base_is_gone_by_then(server, tmp_path) -> None:
    first = await server.deploy(A)
    told = await change(server, first["version"], manifest_of(B).digest, {"shop.py": B["shop.py"]})
    again = await change(server, first["version"], manifest_of(B).digest, {"shop.py": B["shop.py"]})
    assert (again.status, again.json["unchanged"], again.json["version"]) == (200, True, told.json["version"])
    (tmp_path / "data" / "default" / "bundles" / f"{first['digest'][7:]}.tar.zst").unlink()
    again = await change(server, first["version"], manifest_of(B).digest, {"shop.py": B["shop.py"]})
    assert (again.status, again.json["unchanged"], again.json["version"]) == (200, True, told.json["version"])


async def test_a_dry_run_of_a_change_stores_nothing(server) -> None:
    told = await server.deploy(A)
    answer = await change(server, told["version"], manifest_of(B).digest, {"shop.py": B["shop.py"]}, more="&dry_run=1")
    assert (answer.status, answer.json["changed_paths"], answer.json["sequence"]) == (200, ["shop.py"], 1)
    assert answer.json["digest"] == manifest_of(B).digest
    assert (await server.get("/default/dags/current")).json["sequence"] == 1


async def test_a_change_gets_the_warnings_of_a_complete_upload(server) -> None:
    told = await server.deploy({**A, "json.py": b"", "conf/.env": b"", "ETL.py": b""})
    files = {**B, "json.py": b"", "conf/.env": b"", "ETL.py": b""}
    answer = await change(server, told["version"], manifest_of(files).digest, {"shop.py": B["shop.py"]})
    assert answer.status == 200
    assert sorted(answer.json["warnings"]) == sorted(told["warnings"])
    assert len(told["warnings"]) == 3


async def test_removed_paths_without_a_base_and_a_list_that_is_none_are_refused(server) -> None:
    told = await server.deploy(A)
    for query, removed in (("", "[]"), (f"?base={told['version']}&digest={told['digest']}", "etl.py")):
        form = aiohttp.FormData()
        form.add_field("removed", removed)
        form.add_field("file", pack(B), filename="x")
        answer = await server.upload(form, f"/default/dags/upload{query}")
        assert (answer.status, answer.json["code"]) == (400, "request_invalid")
        assert "removed" in answer.json["message"]


async def test_of_the_base_only_the_frames_of_changed_files_are_unpacked(server, monkeypatch) -> None:
    big = {f"data/{number:03}.bin": random.Random(number).randbytes(600_000) for number in range(20)}
    told = await server.deploy({**A, **big})
    unpacked = []
    real = frames.Frames._frame
    monkeypatch.setattr(
        frames.Frames, "_frame", lambda self, number: unpacked.append(self._starts[number]) or real(self, number)
    )
    answer = await change(server, told["version"], manifest_of({**B, **big}).digest, {"shop.py": B["shop.py"]})
    assert answer.status == 200, answer.body
    assert 0 < len(set(unpacked)) <= 5


async def test_a_change_is_applied_once_and_its_base_parsed_once(server, monkeypatch) -> None:
    told = await server.deploy(A)
    applied, parsed = [], []
    real, real_parse = merged.apply_change, Manifest.parse.__func__
    monkeypatch.setattr(merged, "apply_change", lambda *of, **limits: applied.append(1) or real(*of, **limits))

    def parse(cls, text, known=None):
        found = real_parse(cls, text, known)
        if found is not known and found.digest == told["digest"]:
            parsed.append(1)
        return found

    monkeypatch.setattr(Manifest, "parse", classmethod(parse))
    answer = await change(server, told["version"], manifest_of(B).digest, {"shop.py": B["shop.py"]})
    assert answer.status == 200, answer.body
    assert (len(applied), len(parsed)) == (1, 1)
    assert await content(server) == B
