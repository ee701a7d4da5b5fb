"""The first page has the deployments that the visitor may see, with their states."""

from credentials import TokensFile
from harness import pack
from running import A


async def test_only_what_the_visitor_may_see_is_there(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    ann, pods = tokens.add("ann", ["deploy"], ["prod"]), tokens.add("pods", ["sync"], ["*"])
    server = await start("--tokens-file", str(tokens.path), "--deployments", "prod,secret", web=True)
    query = "/prod/dags/upload?description=Fix%20%3Cb%3E"
    await server.call("POST", query, data=pack(A), headers={"Authorization": f"Bearer {ann}"})
    text = (await server.get("/-/ui/", Authorization=f"Bearer {ann}")).body.decode()
    assert "secret" not in text
    assert 'href="./deployments/prod">prod</a>' in text
    assert "Fix &lt;b&gt;" in text
    assert "#1" in text
    text = (await server.get("/-/ui/", Authorization=f"Bearer {pods}")).body.decode()
    assert text.count("You may not read this deployment.") == 2
    assert "#1" not in text


async def test_who_may_see_nothing_is_told_what_to_ask_for(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    nobody = tokens.add("nobody", ["read"], ["elsewhere"])
    server = await start("--tokens-file", str(tokens.path), web=True)
    text = (await server.get("/-/ui/", Authorization=f"Bearer {nobody}")).body.decode()
    assert "There is no deployment that you may see." in text


async def test_a_freeze_and_a_disabled_deployment_are_marked(start, tmp_path) -> None:
    (tmp_path / "d.toml").write_text('deployments = [ { name = "a", disabled = "moving" }, { name = "b" } ]')
    server = await start("--deployments-file", str(tmp_path / "d.toml"), web=True)
    await server.call("POST", "/b/dags/freeze", json={"reason": "x"})
    text = (await server.get("/-/ui/")).body.decode()
    assert (text.count(">disabled</span>"), text.count(">frozen</span>")) == (1, 1)


async def test_there_is_a_place_that_says_that_the_page_is_out_of_date(start) -> None:
    assert b'<p id="connection"' in (await (await start(web=True)).get("/-/ui/")).body
