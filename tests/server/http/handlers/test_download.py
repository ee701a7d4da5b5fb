"""``GET …/download``: a bundle for people."""

import asyncio
import io
import os
import tarfile

import aiohttp
import pytest

from dagferry_core.bundle.frames import RangeRead
from dagferry_core.bundle.walk import walk
from dagferry_server.errors import StoreDamaged
from running import A, B


def listed(body: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


async def test_it_is_the_current_bundle_under_dags(server) -> None:
    await server.deploy(B)
    told = await server.deploy(A)
    answer = await server.get("/default/dags/download")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/gzip")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="default-{told["version"]}.tar.gz"'
    assert "Content-Encoding" not in answer.headers
    assert listed(answer.body) == {f"dags/{path}": content for path, content in A.items()}


async def test_it_can_be_deployed_again_and_is_the_same(server) -> None:
    files = {**A, "x" * 200 + "/größer.py": b"", "big.bin": os.urandom(700_000)}
    told = await server.deploy(files)
    packed = (await server.get("/default/dags/download")).body
    again = (await server.upload(packed)).json
    assert (again["unchanged"], again["digest"]) == (True, told["digest"])


async def test_any_version_that_is_kept_can_be_had_and_deployed_again(server) -> None:
    told = [await server.deploy(files) for files in (A, B)]
    for files, each in ((A, told[0]), (B, told[1])):
        answer = await server.get(f"/default/dags/download?version={each['version']}")
        assert listed(answer.body) == {f"dags/{path}": content for path, content in files.items()}
        assert answer.headers["Dagferry-Digest"] == each["digest"]
        assert each["version"] in answer.headers["Content-Disposition"]
    old = (await server.get(f"/default/dags/download?version={told[0]['version']}")).body
    again = (await server.upload(old)).json
    assert (again["digest"], again["sequence"], again["changed"]) == (told[0]["digest"], 3, 1)


@pytest.mark.parametrize(("version", "status"), [("20200101T000000Z-000001", 404), ("latest", 400), ("", 400)])
async def test_a_version_that_is_not_in_the_log_is_refused(server, version, status) -> None:
    await server.deploy(A)
    assert (await server.get(f"/default/dags/download?version={version}")).status == status


async def test_a_version_whose_bundle_was_removed_is_410(server) -> None:
    told = [await server.deploy(files) for files in (A, B)]
    await asyncio.to_thread(server.service.store.delete_bundle, "default", told[0]["digest"])
    answer = await server.get(f"/default/dags/download?version={told[0]['version']}")
    assert (answer.status, answer.json["code"]) == (410, "bundle_gone")
    assert told[0]["version"] in answer.json["message"]


async def test_its_files_have_the_time_of_the_deploy(server) -> None:
    await server.deploy(A)
    deploy = server.service.deployments["default"].current
    packed = (await server.get("/default/dags/download")).body
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        assert {(member.mtime, member.mode) for member in archive} == {(deploy.time, 0o644)}


async def test_nothing_deployed_is_404(server) -> None:
    answer = await server.get("/default/dags/download")
    assert (answer.status, answer.json["code"]) == (404, "nothing_deployed")


async def test_a_lost_bundle_is_said_before_anything_is_sent(server) -> None:
    told = await server.deploy(A)
    await asyncio.to_thread(server.service.store.delete_bundle, "default", told["digest"])
    answer = await server.get("/default/dags/download")
    assert (answer.status, answer.json["code"]) == (410, "bundle_gone")


async def test_a_bundle_that_turns_out_damaged_on_the_way_is_aborted_not_ended(server, monkeypatch) -> None:
    await server.deploy({"a": os.urandom(700_000), "b": b"x"})

    def fails(read: RangeRead, frames: list[int]):
        for entry, content in walk(read, frames):
            if entry.path == "b":
                raise StoreDamaged("damaged")
            yield entry, content

    monkeypatch.setattr("dagferry_server.deploys.bundles.walk", fails)
    with pytest.raises(aiohttp.ClientPayloadError):
        await server.get("/default/dags/download")
