"""The page of a deployment says what is current, who made it, which pod is behind; its live part follows."""

import asyncio
import re

import pytest

from credentials import TokensFile
from harness import pack
from running import A, B, Running, eventually

PAGE = "/-/ui/deployments/default"


@pytest.fixture
async def server(start) -> Running:
    return await start(web=True)


async def text_of(server: Running, path: str = PAGE, **headers: str) -> str:
    answer = await server.get(path, **headers)
    assert answer.status == 200, answer.body
    return answer.body.decode()


async def pod(server: Running, name: str, live: str = "", error: str = "", component: str = "worker") -> None:
    headers = {
        "Dagferry-Instance": name,
        "Dagferry-Live": live,
        "Dagferry-Component": component,
        "Dagferry-Volume": name,
    }
    log_id = server.service.deployments["default"].log_id
    headers |= {"Dagferry-Error": error, "Dagferry-Log": log_id}
    for _ in range(2):  # a version counts after it was offered
        assert (await server.get("/default/dags/current", **headers)).status == 200


async def test_before_the_first_deploy_it_says_so_and_how_to_deploy(server) -> None:
    text = await text_of(server)
    assert "Nothing is deployed yet" in text
    assert 'href="../deployments/default/guide"' in text


async def test_it_shows_the_current_deploy_and_a_way_to_undo_it(server) -> None:
    first = await server.deploy(A)
    answer = await server.upload(pack(B), "/default/dags/upload?description=Raise%20the%20rate")
    text = await text_of(server)
    assert f"deployments/default/deploys/{answer.json['version']}" in text
    assert "Raise the rate" in text
    assert "0 files added" in text
    assert "1 changed" in text
    assert f'href="../deployments/default/rollback?to={first["version"]}">Undo: back to #1<' in text


async def test_pods_are_listed_the_worst_first_with_their_errors(server) -> None:
    old = (await server.deploy(A))["version"]
    new = (await server.deploy(B))["version"]
    await pod(server, "a-live", new)
    await pod(server, "b-behind", old)
    await pod(server, "c-failing", old, "disk%20is%20full")
    text = await text_of(server)
    assert re.findall(r"<bdi>([abc]-[a-z]+)</bdi>", text) == ["c-failing", "b-behind", "a-live"]
    assert "disk is full" in text
    assert "1 of 3" in text
    assert re.findall(r"<bdi>([abc]-[a-z]+)</bdi>", await text_of(server, PAGE + "?state=behind")) == ["b-behind"]


async def test_many_pods_are_paged(server) -> None:
    new = (await server.deploy(A))["version"]
    for number in range(60):
        await pod(server, f"w{number:02}", new)
    text = await text_of(server)
    assert (text.count("<tr><td"), "1 to 50 of 60" in text) == (50, True)
    assert re.findall(r"<bdi>(w[0-9]+)</bdi>", await text_of(server, PAGE + "?pod=50")) == [
        f"w{n}" for n in range(50, 60)
    ]


async def test_the_live_part_comes_when_the_status_changes(server) -> None:
    await server.deploy(A)
    text = await text_of(server)
    tag = re.search(r'data-tag="([0-9a-f]+)"', text)[1]
    assert f'data-live="../live/default"' in text  # noqa: F541
    headers = {"If_None_Match": f'"{tag}"', "Prefer": "wait=30"}
    waiting = asyncio.create_task(server.get("/-/ui/live/default", **headers))
    fleet = server.service.deployments["default"].fleet
    await eventually("it to wait", lambda: len(fleet.waiters))
    await pod(server, "w0", "")
    answer = await waiting
    assert answer.status == 200
    assert answer.headers["ETag"] != f'"{tag}"'
    part = answer.body.decode()
    parts = re.findall(r'<(?:div|section) id="([a-z]+)"', part)
    assert parts == ["state", "current", "parsed", "fleet", "checks", "history"]
    assert "w0" in part
    assert "word" not in part


async def test_the_live_part_of_what_was_seen_is_not_sent_again(server) -> None:
    first = await server.get("/-/ui/live/default")
    again = await server.get("/-/ui/live/default", If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("query", ["state=wrong", "pod=x", "pod=-1", "x=1"])
async def test_a_wrong_parameter_is_an_error_in_html(server, query) -> None:
    answer = await server.get(f"{PAGE}?{query}")
    assert (answer.status, b"That did not work" in answer.body) == (400, True)


async def test_refused_deploys_are_shown_with_why(start) -> None:
    server = await start("--gate", "enforce", "--airflow-python", "3.11", web=True)
    assert "has refused no deploy since it started" in await text_of(server)
    await server.upload(pack({"etl.py": b"from airflow import DAG\ndef f(:\n"}))
    assert "etl.py" in await text_of(server)
    assert "etl.py" in await text_of(server, PAGE + "/refusals")


async def test_who_may_only_read_sees_no_button(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    held = {scope: {"Authorization": f"Bearer {tokens.add(scope, [scope])}"} for scope in ("read", "deploy", "admin")}
    read_admin = {"Authorization": f"Bearer {tokens.add('both', ['read', 'admin'])}"}
    server = await start("--tokens-file", str(tokens.path), web=True)
    for files in (A, B):
        assert (
            await server.call("POST", "/default/dags/upload", data=pack(files), headers=held["deploy"])
        ).status == 200
    assert "rollback" not in await text_of(server, **held["read"])
    assert "Freeze" not in await text_of(server, **held["deploy"])
    assert "Undo" in await text_of(server, **held["deploy"])
    assert "Freeze default" in await text_of(server, **read_admin)
    assert "rollback" not in await text_of(server, PAGE + "/deploys", **held["read"])


async def test_a_frozen_deployment_says_why_and_offers_no_rollback(server, tmp_path, start) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    deploy = {"Authorization": f"Bearer {tokens.add('deploy', ['deploy'])}"}
    admin = {"Authorization": f"Bearer {tokens.add('admin', ['admin', 'read'])}"}
    override = {"Authorization": f"Bearer {tokens.add('all', ['deploy', 'override'])}"}
    server = await start("--tokens-file", str(tokens.path), "--data-dir", str(tmp_path / "two"), web=True)
    for files in (A, B):
        await server.call("POST", "/default/dags/upload", data=pack(files), headers=deploy)
    body = {"reason": "Quarter end <b>"}
    assert (await server.call("POST", "/default/dags/freeze", json=body, headers=admin)).status == 200
    text = await text_of(server, **deploy)
    assert "Quarter end &lt;b&gt;" in text
    assert "rollback" not in text
    assert "rollback" in await text_of(server, **override)


async def test_what_a_pod_claims_cannot_change_the_direction_of_the_page(server) -> None:
    claimed = "\u202e7 evil".encode().decode("utf-8", "surrogateescape")
    await server.get("/default/dags/current", Dagferry_Instance="p", Dagferry_Live=claimed, Dagferry_Volume="v" * 20)
    text = await text_of(server)
    assert "⟨U+202E⟩7 evil" in text
    assert "\u202e" not in text


async def test_it_shows_how_many_versions_are_kept_for_dag_runs(server) -> None:
    first, second = (await server.deploy(A))["version"], (await server.deploy(B))["version"]
    await pod(server, "dag-processor-0", second, component="bundle")
    assert "kept for DAG runs" not in await text_of(server)
    await server.service.leases.renew("default", "bundle-0", [second])
    assert "1 version is kept for DAG runs." in await text_of(server)
    await server.service.leases.renew("default", "bundle-0", [first, second])
    assert "2 versions are kept for DAG runs." in await text_of(server)
