"""A data folder that an older server left is served as it is, and goes on: see tests/golden/README.md."""

import json
import shutil
from pathlib import Path

import pytest

from dagferry_core.deploylog import entry_sha256
from harness import tree
from running import A, B

GOLDEN = Path(__file__).parent.parent / "golden" / "format1"


@pytest.fixture
def data(tmp_path) -> Path:
    shutil.copytree(GOLDEN / "data", tmp_path / "data")
    return tmp_path / "data"


async def test_what_was_deployed_to_an_older_server_is_all_there(start, data) -> None:
    server = await start("--deployments", "prod")
    before = json.loads((GOLDEN / "current.json").read_text())
    now = (await server.get("/prod/dags/current")).json
    assert {name: now[name] for name in before} == before
    log = (await server.get("/prod/dags/deploys")).json["deploys"]
    assert [deploy["sequence"] for deploy in log] == [4, 3, 2, 1]
    for deploy in log:
        assert (await server.get(f"/prod/dags/versions/{deploy['version']}")).status == 200
        assert (await server.get(f"/prod/dags/deploys/{deploy['version']}")).json == {**deploy, "details": None}
    assert (await server.deploy(A, "prod"))["unchanged"] is True
    assert (await server.get("/metrics")).body.count(b'unreadable_deploys{deployment="prod"} 0.0') == 1


async def test_the_next_deploy_continues_an_older_log_and_leaves_it_as_it_is(start, data) -> None:
    server = await start("--deployments", "prod")
    told = await server.deploy(B, "prod")
    assert (told["sequence"], told["changed"]) == (5, 1)
    deploys = data / "prod" / "deploys"
    entry = json.loads((deploys / "000000000005.json").read_bytes())
    assert entry["previous"] == entry_sha256((deploys / "000000000004.json").read_bytes())
    now, before = tree(data / "prod"), tree(GOLDEN / "data" / "prod")
    assert {path: now[path] for path in before} == before
