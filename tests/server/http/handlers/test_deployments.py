"""``GET /-/deployments``: what a caller sees of each deployment. What is created: ``deploys/test_created.py``."""

from credentials import TokensFile
from running import A


async def test_each_deployment_is_shown_with_its_state(start, tmp_path) -> None:
    file = tmp_path / "deployments.toml"
    file.write_text(
        'deployments = [ { name = "prod", tiers = 2 }, { name = "old", tiers = 1, disabled = "it moves" } ]'
    )
    server = await start("--deployments-file", str(file))
    told = await server.deploy(A, "prod")
    deployed_at = (await server.get("/prod/dags/deploys")).json["deploys"][0]["time"]
    everything = ["deploy", "override", "sync", "read", "check", "admin"]
    assert (await server.get("/-/deployments")).json == {
        "deployments": [
            {
                "name": "old",
                "state": "EMPTY",
                "version": "",
                "deployed_at": None,
                "disabled": "it moves",
                "frozen": None,
                "created_by": None,
                "scopes": everything,
                "upload_limit_bytes": 15 << 20,
            },
            {
                "name": "prod",
                "state": "UNKNOWN",
                "version": told["version"],
                "deployed_at": deployed_at,
                "disabled": None,
                "frozen": None,
                "created_by": None,
                "scopes": everything,
                "upload_limit_bytes": 30 << 20,
            },
        ]
    }


async def test_a_caller_sees_its_own_deployments_and_scopes(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    token = tokens.add("pods", ["sync"], ["team-*"])
    server = await start("--tokens-file", str(tokens.path), "--deployments", "prod,team-b,team-a")
    rows = (await server.get("/-/deployments", Authorization=token)).json["deployments"]
    assert [(row["name"], row["scopes"]) for row in rows] == [("team-a", ["sync"]), ("team-b", ["sync"])]


async def test_a_deployment_whose_newest_deploy_is_not_known_shows_no_older_one(start, tmp_path) -> None:
    server = await start()
    await server.deploy(A)
    await server.close()
    (tmp_path / "data/default/deploys/000000000001.json").write_bytes(b"{")
    server = await start()
    (row,) = (await server.get("/-/deployments")).json["deployments"]
    assert (row["version"], row["deployed_at"]) == ("", None)
