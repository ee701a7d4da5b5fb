"""``GET …/versions/{version}``: whole bundles and patches."""

import asyncio
import io
import logging
import random
import threading

import pytest

from dagferry_core.bundle.manifest import Manifest
from dagferry_core.bundle.patch import Patch
from dagferry_core.bundle.reader import BundleFile, decompressed, read_tar
from dagferry_server.deploys import patches
from running import A, B, Running

WHOLE, PATCH = "application/zstd", "application/vnd.dagferry.patch"


def unpacked(body: bytes) -> tuple[Manifest, dict[str, bytes]]:
    manifest, files = read_tar(decompressed(io.BytesIO(body).read))
    return manifest, {entry.path: b"".join(pieces) for entry, pieces in files}


async def version(server: Running, version: str, old: str | None = None, deployment: str = "default"):
    return await server.get(f"/{deployment}/dags/versions/{version}" + (f"?from={old}" if old else ""))


async def test_a_whole_bundle_is_what_was_deployed(server) -> None:
    told = await server.deploy(A)
    answer = await version(server, told["version"])
    manifest, files = unpacked(answer.body)
    assert (answer.status, answer.headers["Content-Type"]) == (200, WHOLE)
    assert files == A
    assert answer.headers["Dagferry-Digest"] == told["digest"] == manifest.digest


async def test_it_is_sent_as_it_is_stored_whatever_the_client_accepts(server) -> None:
    told = await server.deploy(A)
    for accepted in ("gzip", "zstd, br", "identity"):
        answer = await server.get(
            f"/default/dags/versions/{told['version']}", Accept_Encoding=accepted, Range="bytes=5-"
        )
        assert "Content-Encoding" not in answer.headers
        assert "ETag" not in answer.headers
        assert (answer.status, int(answer.headers["Content-Length"])) == (200, len(answer.body))
        assert answer.headers["Cache-Control"] == "no-store, no-transform"
        assert unpacked(answer.body)[1] == A


async def test_a_patch_leads_from_the_old_bundle_to_the_new(server) -> None:
    old, new = await server.deploy(A), await server.deploy(B)
    answer = await version(server, new["version"], old["version"])
    assert answer.headers["Content-Type"] == PATCH
    patch = Patch.parse(answer.body)
    manifest, _ = unpacked((await version(server, old["version"])).body)
    assert patch.apply_to(manifest).digest == new["digest"] == answer.headers["Dagferry-Digest"]
    contents = {entry.path: content for entry, content in patch.contents(manifest, A.__getitem__)}
    assert contents == {"shop.py": B["shop.py"]}
    assert patch.touch == ["etl.py"]


async def test_a_patch_leads_backwards_too_and_over_several_versions(server) -> None:
    deploys = [await server.deploy({**A, "n.py": b"n = %d\n" % number}) for number in range(4)]
    for old in deploys:
        for new in deploys:
            answer = await version(server, new["version"], old["version"])
            manifest, _ = unpacked((await version(server, old["version"])).body)
            assert Patch.parse(answer.body).apply_to(manifest).digest == new["digest"]


@pytest.mark.parametrize("old", ["20200101T000000Z-000001", "20200101T000000Z-000099", "nonsense", "seed", "empty"])
async def test_an_unknown_version_to_come_from_gets_the_whole_bundle(server, old) -> None:
    told = await server.deploy(A)
    answer = await version(server, told["version"], old)
    assert (answer.status, answer.headers["Content-Type"]) == (200, WHOLE)


async def test_a_patch_that_is_of_no_use_gets_the_whole_bundle(server, monkeypatch) -> None:
    monkeypatch.setattr(patches, "MAX_PATCH_BYTES", 10)
    old, new = await server.deploy(A), await server.deploy(B)
    assert (await version(server, new["version"], old["version"])).headers["Content-Type"] == WHOLE


async def test_the_patch_every_sidecar_will_ask_for_is_there_before_they_are_notified(server, monkeypatch) -> None:
    old, new = await server.deploy(A), await server.deploy(B)

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("it was made again")

    monkeypatch.setattr(patches, "patch_between", never)
    assert (await version(server, new["version"], old["version"])).headers["Content-Type"] == PATCH


async def test_a_patch_that_many_ask_for_at_once_is_made_once(server, monkeypatch) -> None:
    deploys = [await server.deploy({**A, "n.py": b"n = %d\n" % number}) for number in range(3)]
    made = []
    real = patches.patch_between
    monkeypatch.setattr(patches, "patch_between", lambda *pair, **how: made.append(1) or real(*pair, **how))
    asked = [version(server, deploys[2]["version"], deploys[0]["version"]) for _ in range(50)]
    answers = await asyncio.gather(*asked)
    assert {answer.headers["Content-Type"] for answer in answers} == {PATCH}
    assert len({answer.body for answer in answers}) == len(made) == 1


async def test_a_patch_that_comes_too_late_gets_the_whole_bundle(server, monkeypatch) -> None:
    deploys = [await server.deploy({**A, "n.py": b"n = %d\n" % number}) for number in range(3)]
    release = threading.Event()
    real = patches.patch_between

    def slow(*pair: BundleFile, **how: bool) -> bytes | None:
        assert release.wait(20)
        return real(*pair, **how)

    monkeypatch.setattr(patches, "patch_between", slow)
    monkeypatch.setattr(patches, "LATE_SECONDS", 0.05)
    answer = await version(server, deploys[2]["version"], deploys[0]["version"])
    assert answer.headers["Content-Type"] == WHOLE
    assert unpacked(answer.body)[0].digest == deploys[2]["digest"]
    # What every sidecar asks for was made before.
    assert (await version(server, deploys[2]["version"], deploys[1]["version"])).headers["Content-Type"] == PATCH
    release.set()
    monkeypatch.setattr(patches, "LATE_SECONDS", 20)
    assert (await version(server, deploys[2]["version"], deploys[0]["version"])).headers["Content-Type"] == PATCH


async def test_who_asked_first_may_go_away(server, monkeypatch) -> None:
    deploys = [await server.deploy({**A, "n.py": b"n = %d\n" % number}) for number in range(3)]
    key = patches.Key("default", deploys[0]["digest"], deploys[2]["digest"])
    first = asyncio.create_task(server.service.patches.get(key))
    second = asyncio.create_task(server.service.patches.get(key))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert first.cancelled()


async def test_large_patches_are_sent_whole_too(server) -> None:
    noise = random.Random(1).randbytes
    old = await server.deploy({"a": noise(300_000), "b": noise(300_000)})
    new = await server.deploy({"a": noise(300_000), "b": noise(300_000), "c": noise(300_000)})
    kept = await server.deploy({"a": noise(300_000), "b": noise(300_000), "c": noise(300_000), "d": noise(1_000_000)})
    assert (await version(server, new["version"], old["version"])).headers["Content-Type"] == PATCH
    answer = await version(server, kept["version"], new["version"])
    assert len(answer.body) > 1_000_000
    assert answer.status == 200


async def test_a_version_that_is_not_there_is_404_and_none_at_all_is_400(server) -> None:
    await server.deploy(A)
    for name, status, code in [
        ("20200101T000000Z-000001", 404, "version_not_found"),
        ("20200101T000000Z-000007", 404, "version_not_found"),
        ("nonsense", 400, "request_invalid"),
        ("..%2f..%2fetc", 400, "request_invalid"),
    ]:
        answer = await version(server, name)
        assert (answer.status, answer.json["code"]) == (status, code)


async def test_a_version_of_another_deployment_is_not_there(start) -> None:
    server = await start("--deployments", "default,prod")
    told = await server.deploy(A, "prod")
    assert (await version(server, told["version"])).status == 404
    assert (await version(server, told["version"], deployment="prod")).status == 200


async def test_a_bundle_that_retention_removed_is_410(server) -> None:
    old, new = await server.deploy(A), await server.deploy(B)
    await asyncio.to_thread(server.service.store.delete_bundle, "default", old["digest"])
    server.service.patches = patches.Patches(server.service.store)
    gone = await version(server, old["version"])
    assert (gone.status, gone.json["code"]) == (410, "bundle_gone")
    assert old["version"] in gone.json["message"]
    assert (await version(server, new["version"], old["version"])).headers["Content-Type"] == WHOLE


async def test_what_was_sent_is_logged_and_counted(server, caplog) -> None:
    caplog.set_level(logging.INFO)
    old, new = await server.deploy(A), await server.deploy(B)
    path = f"/default/dags/versions/{new['version']}"
    whole = await server.get(path, Dagferry_Instance="pod-0")
    patch = await server.get(f"{path}?from={old['version']}", Dagferry_Instance="pod-0")
    for query in ("", f"?from={old['version']}"):
        assert (await server.call("HEAD", path + query)).status == 200  # nothing is sent
    sent = {record.message: record.fields for record in caplog.records if record.message.endswith(" sent")}
    for message, answer in (("Bundle sent", whole), ("Patch sent", patch)):
        fields = sent[message]
        assert (fields["deployment"], fields["version"], fields["instance"]) == ("default", new["version"], "pod-0")
        assert fields["bytes"] == len(answer.body)
    assert await server.metric('bundle_sent_bytes_total{deployment="default"}') == len(whole.body)
    assert await server.metric('patch_sent_bytes_total{deployment="default"}') == len(patch.body)


async def test_a_sidecar_that_still_has_a_tree_of_the_version_gets_a_patch_without_contents(server) -> None:
    noise = random.Random(3).randbytes(300_000)
    large = {**A, "model.bin": noise}
    first = await server.deploy(large)
    second = await server.deploy(B)
    third = (await server.rollback(first["version"])).json
    path = f"/default/dags/versions/{third['version']}?from={second['version']}"
    ordinary = await server.get(path)
    bare = await server.get(path, Dagferry_Retained=first["digest"])
    assert ordinary.headers["Content-Type"] == bare.headers["Content-Type"] == PATCH
    assert len(ordinary.body) > len(noise)
    assert len(bare.body) < 1000
    patch = Patch.parse(bare.body)
    assert [entry.path for entry in patch.copied] == ["model.bin", "shop.py"]
    assert (patch.written, patch.touch) == ([], ["etl.py"])
    manifest, _ = unpacked((await version(server, second["version"])).body)
    assert patch.apply_to(manifest).digest == first["digest"]
    # Another tree does not help.
    assert (await server.get(path, Dagferry_Retained=second["digest"])).body == ordinary.body
    assert (await server.get(path, Dagferry_Retained="nonsense")).body == ordinary.body


async def test_a_small_patch_is_sent_as_the_commit_made_it_whatever_the_sidecar_still_has(server, monkeypatch) -> None:
    first, second = await server.deploy(A), await server.deploy(B)
    third = (await server.rollback(first["version"])).json

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("another one was made")

    monkeypatch.setattr(patches, "patch_between", never)
    path = f"/default/dags/versions/{third['version']}?from={second['version']}"
    patch = Patch.parse((await server.get(path, Dagferry_Retained=first["digest"])).body)
    assert [entry.path for entry in patch.written] == ["shop.py"]


async def test_where_no_patch_is_small_enough_one_without_contents_is(server, monkeypatch) -> None:
    monkeypatch.setattr(patches, "MAX_PATCH_BYTES", 1000)
    first = await server.deploy({**A, "model.bin": random.Random(3).randbytes(300_000)})
    second = await server.deploy(B)
    third = (await server.rollback(first["version"])).json
    path = f"/default/dags/versions/{third['version']}?from={second['version']}"
    assert (await server.get(path)).headers["Content-Type"] == WHOLE
    assert (await server.get(path, Dagferry_Retained=first["digest"])).headers["Content-Type"] == PATCH
