"""A rollback shows what it would change, and happens only as it was shown."""

import asyncio
import re

import pytest

from credentials import TokensFile
from harness import pack
from running import A, B, Running

PAGE = "/-/ui/deployments/default/rollback"
OWN = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def server(start) -> Running:
    return await start(web=True)


def form_of(text: str) -> dict[str, str]:
    form = re.search(r'<form class="card confirm".*?</form>', text, re.DOTALL)[0]
    return dict(re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)">', form))


async def shown(server: Running, query: str, **headers: str) -> str:
    answer = await server.get(f"{PAGE}?{query}", **headers)
    assert answer.status == 200, answer.body
    return answer.body.decode()


async def send(server: Running, fields: dict[str, str], **headers: str):
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return await server.call("POST", PAGE, data=fields, headers={**OWN, **more}, allow_redirects=False)


async def test_it_shows_what_would_change_and_then_does_it(server) -> None:
    first = await server.deploy(A)
    await server.deploy({**B, "new.py": b"x = 1\n"})
    text = await shown(server, "to=1")
    assert "Roll back default to #1?" in text
    assert "2 files</strong> would change" in text
    assert ">new.py</bdi>" in text
    answer = await send(server, {**form_of(text), "description": "It broke"})
    assert (answer.status, answer.headers["Location"]) == (303, "../../deployments/default")
    [newest, *_] = (await server.get("/default/dags/deploys")).json["deploys"]
    assert (newest["kind"], newest["source"], newest["description"]) == ("rollback", first["version"], "It broke")
    assert newest["digest"] == first["digest"]
    assert await server.metric('deploys_total{deployment="default",kind="rollback",outcome="ok"}') == 1


async def test_nothing_happens_if_somebody_deployed_meanwhile(server) -> None:
    await server.deploy(A)
    await server.deploy(B)
    fields = form_of(await shown(server, "to=1"))
    current = await server.deploy({**B, "c.py": b""})
    answer = await send(server, fields)
    assert (answer.status, b"has version" in answer.body) == (412, True)
    assert (await server.get("/default/dags/current")).json["version"] == current["version"]


async def test_the_same_form_twice_rolls_back_once(server) -> None:
    await server.deploy(A)
    await server.deploy(B)
    fields = form_of(await shown(server, "to=1"))
    assert [(await send(server, fields)).status for _ in range(2)] == [303, 303]
    assert len((await server.get("/default/dags/deploys")).json["deploys"]) == 3


@pytest.mark.parametrize(
    "change", [{"word": "0" * 64}, {"word": ""}, {"expected": ""}, {"version": ""}, {"version": "x"}, {"dry_run": "1"}]
)
async def test_a_form_that_was_changed_is_refused(server, change) -> None:
    await server.deploy(A)
    current = await server.deploy(B)
    answer = await send(server, {**form_of(await shown(server, "to=1")), **change})
    assert answer.status in {400, 403}
    assert (await server.get("/default/dags/current")).json["version"] == current["version"]


async def test_there_is_no_form_if_nothing_would_change_or_the_content_is_gone(server) -> None:
    await server.deploy(A)
    second = await server.deploy(B)
    await server.deploy(A)
    text = await shown(server, "to=1")
    assert ("Nothing would change" in text, "<form" in text) == (True, False)
    await asyncio.to_thread(server.service.store.delete_bundle, "default", second["digest"])
    text = await shown(server, "to=2")
    assert ("removed by retention" in text, "<form" in text) == (True, False)


async def test_a_version_that_does_not_exist_is_an_error_in_html(server) -> None:
    await server.deploy(A)
    for query, status in (("to=5", 404), ("to=x", 400), ("", 400), ("to=0", 404)):
        answer = await server.get(f"{PAGE}?{query}")
        assert (answer.status, b"That did not work" in answer.body) == (status, True)


async def test_who_may_deploy_one_folder_rolls_back_that(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    all_, team = (
        {"Authorization": f"Bearer {tokens.add(name, ['deploy'], prefixes=prefixes)}"}
        for name, prefixes in (("all", []), ("team", ["a/", "b/"]))
    )
    server = await start("--tokens-file", str(tokens.path), web=True)
    old, new = {"a/x.py": b"1", "b/y.py": b"1", "c.py": b"1"}, {"a/x.py": b"2", "b/y.py": b"2", "c.py": b"2"}
    for files in (old, new):
        await server.call("POST", "/default/dags/upload", data=pack(files), headers=all_)
    text = await shown(server, "to=1", **team)
    assert "1 file</strong> would change below <code>a/</code>" in text
    assert ">a/x.py</bdi>" in text
    assert "c.py" not in text
    assert (await server.get(f"{PAGE}?to=1&under=c/", **team)).status == 403
    fields = form_of(await shown(server, "to=1&under=b/", **team))
    assert (await send(server, {**fields, "under": "c/"}, **team)).status == 403
    assert (await send(server, fields, **team)).status == 303
    answer = await server.call("GET", "/default/dags/diff?from=" + fields["expected"], headers=all_)
    assert [file["path"] for file in answer.json["changed"]] == ["b/y.py"]


async def test_a_freeze_is_overridden_only_by_who_may_and_says_so(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    deploy, override = (
        {"Authorization": f"Bearer {tokens.add(name, scopes)}"}
        for name, scopes in (("d", ["deploy"]), ("o", ["deploy", "override", "admin"]))
    )
    server = await start("--tokens-file", str(tokens.path), web=True)
    for files in (A, B):
        await server.call("POST", "/default/dags/upload", data=pack(files), headers=deploy)
    fields = form_of(await shown(server, "to=1", **deploy))
    await server.call("POST", "/default/dags/freeze", json={"reason": "x"}, headers=override)
    assert "Nothing can be rolled back now. It is frozen." in await shown(server, "to=1", **deploy)
    assert (await send(server, fields, **deploy)).status == 423
    assert (await send(server, {**fields, "override_freeze": "1"}, **deploy)).status == 403
    text = await shown(server, "to=1", **override)
    assert 'name="override_freeze" value="1" required' in text
    assert (await send(server, form_of(text), **override)).status == 423
    assert (await send(server, {**form_of(text), "override_freeze": "1"}, **override)).status == 303
    [newest, *_] = (await server.call("GET", "/default/dags/deploys", headers=override)).json["deploys"]
    assert newest["flags"] == ["override_freeze"]
