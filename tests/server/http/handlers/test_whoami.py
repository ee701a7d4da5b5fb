"""``GET /-/whoami``: who asks, and what they may do."""

from credentials import SCOPES, TokensFile


async def test_a_caller_learns_its_name_its_end_and_its_scopes(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    token = tokens.add("ci", ["deploy", "override"], ["prod", "team-*"], expires="2100-01-01T00:00:00Z")
    server = await start("--tokens-file", str(tokens.path), "--deployments", "prod,staging,team-b,team-a")
    answer = await server.get("/-/whoami", Authorization=token)
    scopes = ["deploy", "override", "read"]
    assert (answer.status, answer.json) == (
        200,
        {
            "actor": "token:ci",
            "expires": 4_102_444_800,
            "deployments": [{"name": name, "scopes": scopes, "prefixes": []} for name in ("prod", "team-a", "team-b")],
        },
    )


async def test_a_caller_that_may_deploy_to_some_folders_learns_which(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    token = tokens.add("team", ["deploy"], ["default"])
    tokens.entries[-1] = tokens.entries[-1].removesuffix(" },") + ', prefixes = ["team-b/", "team-a/"] },'
    tokens.write()
    server = await start("--tokens-file", str(tokens.path))
    (row,) = (await server.get("/-/whoami", Authorization=token)).json["deployments"]
    assert row == {"name": "default", "scopes": ["deploy", "read"], "prefixes": ["team-a/", "team-b/"]}


async def test_without_credentials_everybody_may_do_everything(server) -> None:
    assert (await server.get("/-/whoami")).json == {
        "actor": "anonymous",
        "expires": None,
        "deployments": [{"name": "default", "scopes": sorted(SCOPES, key=SCOPES.index), "prefixes": []}],
    }


async def test_a_query_parameter_is_refused(server) -> None:
    answer = await server.get("/-/whoami?verbose=1")
    assert (answer.status, answer.json["code"]) == (400, "request_invalid")
