"""``GET …/diff``: which files differ between two versions."""

import asyncio
import hashlib

import pytest

from dagferry_server.deploys import browse
from running import A, B


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


C = {"etl.py": b"import shop\n", "shop.py": b"rate = 22\n", "new/dag.py": b"new\n"}


@pytest.fixture
async def versions(server) -> list[str]:
    return [(await server.deploy(files))["version"] for files in (A, B, C)]


async def test_it_has_what_was_added_changed_and_removed(server, versions) -> None:
    answer = await server.get(f"/default/dags/diff?from={versions[0]}&to={versions[2]}")
    assert answer.status == 200
    assert answer.json == {
        "from": versions[0],
        "to": versions[2],
        "added": [{"path": "new/dag.py", "size": 4, "mode": 420, "sha256": sha(b"new\n")}],
        "changed": [
            {
                "path": "shop.py",
                "old_size": 9,
                "size": 10,
                "old_mode": 420,
                "mode": 420,
                "old_sha256": sha(b"rate = 1\n"),
                "sha256": sha(b"rate = 22\n"),
            }
        ],
        "removed": [{"path": "sql/load.sql", "size": 9, "mode": 420, "sha256": sha(b"select 1\n")}],
        "cut": False,
    }


async def test_without_parameters_it_is_what_the_current_deploy_changed(server, versions) -> None:
    default = (await server.get("/default/dags/diff")).json
    assert (default["from"], default["to"]) == (versions[1], versions[2])
    assert default == (await server.get(f"/default/dags/diff?from={versions[1]}&to={versions[2]}")).json


async def test_from_is_the_deploy_before_to(server, versions) -> None:
    answer = (await server.get(f"/default/dags/diff?to={versions[1]}")).json
    assert (answer["from"], answer["to"]) == (versions[0], versions[1])
    assert [each["path"] for each in answer["changed"]] == ["shop.py"]


async def test_to_is_the_current_one(server, versions) -> None:
    answer = (await server.get(f"/default/dags/diff?from={versions[0]}")).json
    assert (answer["from"], answer["to"]) == (versions[0], versions[2])


async def test_it_may_go_back_in_time(server, versions) -> None:
    answer = (await server.get(f"/default/dags/diff?from={versions[2]}&to={versions[0]}")).json
    assert [[each["path"] for each in answer[kind]] for kind in ("added", "changed", "removed")] == [
        ["sql/load.sql"],
        ["shop.py"],
        ["new/dag.py"],
    ]


async def test_the_first_deploy_added_everything(server, versions) -> None:
    answer = (await server.get(f"/default/dags/diff?to={versions[0]}")).json
    assert (answer["from"], [each["path"] for each in answer["added"]]) == ("", sorted(A))
    assert (answer["changed"], answer["removed"], answer["cut"]) == ([], [], False)


async def test_long_lists_are_cut_and_say_so(server, monkeypatch) -> None:
    monkeypatch.setattr(browse, "MAX_DIFF_FILES", 2)
    await server.deploy(A)
    assert (await server.get("/default/dags/diff")).json["cut"] is True
    await server.deploy({"etl.py": A["etl.py"]})
    answer = (await server.get("/default/dags/diff")).json
    assert ([each["path"] for each in answer["removed"]], answer["cut"]) == (["shop.py", "sql/load.sql"], False)


async def test_nothing_deployed_is_404(server) -> None:
    answer = await server.get("/default/dags/diff")
    assert (answer.status, answer.json["code"]) == (404, "nothing_deployed")


@pytest.mark.parametrize("which", ["from", "to"])
async def test_a_version_that_is_not_there_is_refused(server, versions, which) -> None:
    for version, status in (("20200101T000000Z-000001", 404), ("latest", 400), ("", 400)):
        assert (await server.get(f"/default/dags/diff?{which}={version}")).status == status


@pytest.mark.parametrize("lost", [0, 1])
async def test_a_bundle_that_retention_removed_is_410_and_named(server, versions, lost) -> None:
    first = (await server.get(f"/default/dags/deploys/{versions[lost]}")).json
    await asyncio.to_thread(server.service.store.delete_bundle, "default", first["digest"])
    answer = await server.get(f"/default/dags/diff?from={versions[0]}&to={versions[1]}")
    assert (answer.status, answer.json["code"]) == (410, "bundle_gone")
    assert versions[lost] in answer.json["message"]
