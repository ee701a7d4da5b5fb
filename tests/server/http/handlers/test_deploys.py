"""``GET …/deploys``: the deploy log in pages."""

import hashlib
import json

import aiohttp
import pytest

from dagferry_core.names import make_version
from dagferry_server.deploys import deployment as deployments
from harness import pack
from running import A, B


async def test_newest_first_in_pages(server) -> None:
    for number in range(5):
        await server.deploy({"dag.py": b"n = %d\n" % number})
    first = (await server.get("/default/dags/deploys?limit=2")).json
    assert [deploy["sequence"] for deploy in first["deploys"]] == [5, 4]
    second = (await server.get(f"/default/dags/deploys?limit=2&before={first['next']}")).json
    assert [deploy["sequence"] for deploy in second["deploys"]] == [3, 2]
    third = (await server.get(f"/default/dags/deploys?limit=2&before={second['next']}")).json
    assert [deploy["sequence"] for deploy in third["deploys"]] == [1]
    assert third["next"] is None
    whole = (await server.get("/default/dags/deploys?limit=5")).json
    assert (len(whole["deploys"]), whole["next"]) == (5, None)


async def test_an_empty_log_is_an_empty_page(server) -> None:
    assert (await server.get("/default/dags/deploys")).json == {"deploys": [], "next": None}


async def test_deploys_that_memory_no_longer_has_are_read_from_the_store(start, monkeypatch) -> None:
    monkeypatch.setattr(deployments, "MEMORY_DEPLOYS", 2)
    server = await start()
    told = [await server.deploy({"dag.py": b"n = %d\n" % number}) for number in range(5)]
    assert list(server.service.deployments["default"].recent) == [4, 5]
    page = (await server.get("/default/dags/deploys")).json
    assert [deploy["version"] for deploy in page["deploys"]] == [deploy["version"] for deploy in reversed(told)]
    first = await server.get(f"/default/dags/versions/{told[0]['version']}")
    assert first.status == 410


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "limit=-1", "limit=", "before=0", "before=x", "before=" + "9" * 30]
)
async def test_a_bad_number_is_400(server, query) -> None:
    answer = await server.get(f"/default/dags/deploys?{query}")
    assert (answer.status, answer.json["code"]) == (400, "request_invalid")


async def test_one_deploy_has_its_warnings_and_paths(server) -> None:
    await server.deploy(A)
    files = {**B, ".env": b"KEY=1\n", "x.pyc": b"", "new.py": b""}
    del files["etl.py"]
    told = await server.deploy(files)
    answer = (await server.get(f"/default/dags/deploys/{told['version']}")).json
    details = answer.pop("details")
    assert [answer] == (await server.get("/default/dags/deploys?limit=1")).json["deploys"]
    assert details == {
        "warnings": told["warnings"],
        "excluded_paths": ["dags/x.pyc"],
        "added_paths": [".env", "new.py"],
        "changed_paths": ["shop.py"],
        "removed_paths": ["etl.py"],
        "cut": False,
    }
    assert len(details["warnings"]) == 1


async def test_the_entry_vouches_for_its_details(server, tmp_path) -> None:
    await server.deploy(A)
    folder = tmp_path / "data" / "default" / "deploys"
    entry = json.loads((folder / "000000000001.json").read_bytes())
    details = (folder / f"000000000001.{entry['nonce']}.details").read_bytes()
    assert entry["details"] == hashlib.sha256(details).hexdigest()
    assert entry["format"] == 2


async def test_a_deploy_whose_details_are_lost_is_shown_without_them(server, tmp_path, caplog) -> None:
    caplog.set_level("WARNING")
    told = await server.deploy(A)
    next((tmp_path / "data" / "default" / "deploys").glob("*.details")).unlink()
    answer = await server.get(f"/default/dags/deploys/{told['version']}")
    assert (answer.status, answer.json["details"]) == (200, None)
    assert [record.message for record in caplog.records] == ["The details of a deploy cannot be read"]


@pytest.mark.parametrize(("version", "status"), [(make_version(0, 1), 404), (make_version(0, 0), 404), ("latest", 400)])
async def test_a_version_that_is_not_in_the_log_is_refused(server, version, status) -> None:
    await server.deploy(A)
    assert (await server.get(f"/default/dags/deploys/{version}")).status == status


async def test_warnings_are_in_the_log_for_clients_that_show_none(server, caplog) -> None:
    caplog.set_level("WARNING")
    told = await server.deploy({**A, ".env": b"KEY=1\n"})
    (record,) = caplog.records
    assert (record.message, record.levelname) == ("Upload has warnings", "WARNING")
    assert record.fields["warnings"] == told["warnings"]
    assert (record.fields["version"], record.fields["count"]) == (told["version"], 1)


async def test_the_log_has_the_first_warnings_only_and_the_start_of_each(server, caplog, monkeypatch) -> None:
    monkeypatch.setattr("dagferry_server.deploys.deployer.secret_warnings", lambda _: ["w" * 5000] * 100)
    await server.deploy(A)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.fields["count"] == 100
    assert record.fields["warnings"] == ["w" * 500] * 20


@pytest.mark.parametrize("length", [1001, 1500, 15_000])
async def test_a_truncated_description_is_a_warning(server, length) -> None:
    data = aiohttp.FormData()
    data.add_field("description", "\N{GRINNING FACE}" * length)
    data.add_field("file", pack(A), filename="dags.tar.gz")
    told = (await server.upload(data)).json
    (warning,) = told["warnings"]
    assert "longer than 1000 characters" in warning
    answer = (await server.get(f"/default/dags/deploys/{told['version']}")).json
    assert (answer["description"], answer["details"]["warnings"]) == ("\N{GRINNING FACE}" * 1000, [warning])


async def test_a_description_that_fits_causes_no_warning(server) -> None:
    path = "/default/dags/upload?description=" + "x" * 1000
    assert (await server.upload(pack(A), path)).json["warnings"] == []


async def test_a_description_that_is_dropped_with_an_unchanged_content_is_a_warning(server) -> None:
    path = "/default/dags/upload?description="
    assert (await server.upload(pack(A), path + "first")).json["warnings"] == []
    told = (await server.upload(pack(A), path + "second")).json
    (warning,) = told["warnings"]
    assert "description was dropped" in warning
    assert told["unchanged"] is True
    # Somebody whose answer got lost says the same again, or nothing.
    for same in (path + "first", "/default/dags/upload"):
        assert (await server.upload(pack(A), same)).json["warnings"] == []
