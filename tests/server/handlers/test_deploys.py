"""``GET …/deploys``: the deploy log in pages."""

import pytest

from dagferry_server import deployments


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
