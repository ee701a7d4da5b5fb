"""From checked content to an entry of the log: what is stored, in which order, and what happens if that fails."""

import asyncio
import hashlib
import json
import random

import pytest

from dagferry_core.bundle.reader import BundleFile
from dagferry_core.limits import MIB
from dagferry_server.deploys import commit as committing
from dagferry_server.deploys import patches
from dagferry_server.errors import StoreAway, StoreDamaged, StoreError
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


async def test_a_bundle_of_an_older_deploy_is_stored_anew_though_its_damage_is_far_behind_its_manifest(
    server, tmp_path
) -> None:
    large = {**A, "model.bin": random.Random(1).randbytes(4 * MIB)}
    told = await server.deploy(large)
    await server.deploy(B)
    path = bundle_of(tmp_path, told["digest"])
    content = path.read_bytes()
    path.write_bytes(content[:-1000] + bytes(100) + content[-900:])
    await server.deploy(large)
    assert path.read_bytes() == content


class Patching:
    """Counts the patches that are made, and fails as often as it is told with an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        self.errors: list[StoreError] = []
        self._real = committing.patch_between
        for module in (committing, patches):
            monkeypatch.setattr(module, "patch_between", self._make)

    def _make(self, old: BundleFile, new: BundleFile, *, bare: bool = False) -> bytes | None:
        self.made += 1
        if self.errors:
            raise self.errors.pop()
        return self._real(old, new, bare=bare)


@pytest.mark.parametrize(
    ("error", "made", "kind"),
    [
        (None, 1, "application/vnd.dagferry.patch"),
        (StoreDamaged("A block is bad."), 1, "application/zstd"),
        (StoreAway("The disk is slow."), 2, "application/vnd.dagferry.patch"),
    ],
    ids=["made", "never to be made", "to be made later"],
)
async def test_a_patch_is_made_once_unless_it_may_be_made_later(server, monkeypatch, error, made, kind) -> None:
    patching = Patching(monkeypatch)
    first = await server.deploy(A)
    patching.errors = [error] if error else []
    second = await server.deploy(B)
    for _ in range(3):
        answer = await server.get(f"/default/dags/versions/{second['version']}?from={first['version']}")
        assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert patching.made == made


async def test_an_entry_has_the_hash_of_its_details(server) -> None:
    told = await server.deploy(A)
    store = server.service.store
    entry = json.loads(await asyncio.to_thread(store.read_entry, "default", 1))
    details = await asyncio.to_thread(store.read_details, "default", told["sequence"], entry["nonce"])
    assert entry["details"] == hashlib.sha256(details).hexdigest()
