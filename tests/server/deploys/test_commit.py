"""From checked content to an entry of the log: what is stored, in which order, and what happens if that fails."""

import asyncio

import pytest

from dagferry_server.errors import StoreDamaged
from running import A, B


def bundle_of(tmp_path, digest: str):
    return tmp_path / "data" / "default" / "bundles" / (digest.removeprefix("sha256:") + ".tar.zst")


async def downloadable(server) -> bool:
    return (await server.get("/default/dags/download")).status == 200


@pytest.mark.parametrize("damage", ["lost", "cut", "scrambled"])
async def test_the_same_content_again_brings_back_a_bundle_that_was_lost_or_damaged(server, tmp_path, damage) -> None:
    told = await server.deploy(A)
    path = bundle_of(tmp_path, told["digest"])
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-30] if damage == "cut" else b"x" * 500)
    assert not await downloadable(server)
    again = await server.deploy(A)
    assert (again["unchanged"], again["version"]) == (True, told["version"])
    assert await downloadable(server)


@pytest.mark.parametrize("damage", ["lost", "scrambled"])
async def test_a_lost_or_damaged_current_bundle_hinders_no_deploy_and_is_reported(
    server, tmp_path, damage, caplog
) -> None:
    told = await server.deploy(A)
    path = bundle_of(tmp_path, told["digest"])
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(b"x" * 500)
    new = await server.deploy(B)
    assert new["sequence"] == 2
    assert any(record.message == "The bundle of the current deploy cannot be read" for record in caplog.records)
    answer = await server.get(f"/default/dags/versions/{new['version']}?from={told['version']}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zstd")


async def test_a_patch_that_cannot_be_made_hinders_no_deploy(server, monkeypatch) -> None:
    def fail(*arguments: object) -> None:
        raise StoreDamaged("A stored bundle is damaged.")

    monkeypatch.setattr("dagferry_server.deploys.commit.patch_between", fail)
    await server.deploy(A)
    assert (await server.deploy(B))["sequence"] == 2


async def test_going_back_to_an_old_content_is_a_new_deploy_of_the_old_bundle(server) -> None:
    first = await server.deploy(A)
    await server.deploy(B)
    again = await server.deploy(A)
    assert (again["sequence"], again["digest"], again["unchanged"]) == (3, first["digest"], False)
    stored = await asyncio.to_thread(server.service.store.bundles, "default")
    assert len(stored) == 2
