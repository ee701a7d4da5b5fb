"""What the ``astro`` CLI is told: each row of its protocol, only to whom it may be told, and its traps."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from credentials import SCOPES, TokensFile
from dagferry_server.errors import StoreFull
from dagferry_server.http.handlers.astro import MAX_QUERY_CHARACTERS, WHAT_TO_PASTE
from dagferry_server.http.json_body import MAX_JSON_BYTES
from running import A, Answer, B, Running

WORKSPACE = {"id": "dagferry", "label": "Dagferry"}
APP_CONFIG = "query AppConfig($clusterId: Uuid) { appConfig(clusterId: $clusterId) { version featureFlags } }"
AUTH_CONFIG = "query GetAuthConfig($redirect: String) { authConfig(redirect: $redirect) { localEnabled } }"
CREATE_TOKEN = (
    "mutation createBasicToken($identity: String, $password: String!) "
    "{ createToken(identity: $identity, password: $password) { user { id } token { value } } }"
)
WORKSPACES = "query GetWorkspaces { workspaces { id label roleBindings { role } } }"
PAGED = "query paginatedWorkspaces($pageNumber: Int) { paginatedWorkspaces(pageNumber: $pageNumber) { id } }"
ONE_WORKSPACE = "query GetWorkspace($workspaceUuid: Uuid!) { workspace(workspaceUuid: $workspaceUuid) { id } }"
DEPLOYMENTS = "query GetDeployment($workspaceId: Uuid!) { workspaceDeployments(workspaceUuid: $workspaceId) { id } }"
ALL_DEPLOYMENTS = "query paginatedDeployments($take: Int) { paginatedDeployments(take: $take) { id } }"
DEPLOYMENT = "query GetDeployment($id: String!) { deployment(where: {id: $id}) { id urls { type url } } }"
NEED_A_TOKEN = {
    "workspaces": (WORKSPACES, None),
    "paginatedWorkspaces": (PAGED, {"pageNumber": 0}),
    "workspace": (ONE_WORKSPACE, {"workspaceUuid": "dagferry"}),
    "workspaceDeployments": (DEPLOYMENTS, {"workspaceId": "dagferry"}),
    "paginatedDeployments": (ALL_DEPLOYMENTS, {"take": 100}),
    "deployment": (DEPLOYMENT, {"id": "prod"}),
}


async def ask(server: Running, query: str, variables: Any = None, token: str = "", **headers: str) -> Answer:
    """What the CLI does: one POST with the bare token, if there is one."""
    sent = {"Accept": "application/json", **({"authorization": token} if token else {}), **headers}
    return await server.call("POST", "/astro", json={"query": query, "variables": variables}, headers=sent)


async def told(server: Running, query: str, variables: Any = None, token: str = "", **headers: str) -> Any:
    """The value of the root field; an answer that succeeds has nothing beside it, not even an empty list of errors."""
    answer = await ask(server, query, variables, token, **headers)
    assert (answer.status, set(answer.json)) == (200, {"data"}), answer.body
    (value,) = answer.json["data"].values()
    return value


async def refused(server: Running, query: str, variables: Any = None, token: str = "", **headers: str) -> str:
    """The text that the CLI prints: an answer that fails has it and no data."""
    answer = await ask(server, query, variables, token, **headers)
    assert (answer.status, set(answer.json)) == (200, {"errors"}), answer.body
    ((key, message),) = [item for error in answer.json["errors"] for item in error.items()]
    assert key == "message"
    assert "\n" not in message
    return message


@pytest.fixture
def tokens(tmp_path: Path) -> TokensFile:
    return TokensFile(tmp_path / "tokens.toml")


@pytest.fixture
def held(tokens) -> dict[str, str]:
    """The secrets of several tokens, by name."""
    return {
        "all": tokens.add("all", SCOPES),
        "reader": tokens.add("reader", ["read"]),
        "ci": tokens.add("ci", ["deploy"], ["prod"]),
        "team": tokens.add("team", ["sync"], ["team-*"]),
        "nobody": tokens.add("nobody", SCOPES, ["neverwas"]),
        "preview": tokens.add("preview", ["deploy", "admin"], ["preview-*"]),
        "old": tokens.add("old", SCOPES, expires="2020-01-01T00:00:00Z"),
    }


@pytest.fixture
async def guarded(start, tokens, held) -> Running:
    """A server with tokens and a few deployments."""
    return await start(
        *("--tokens-file", str(tokens.path), "--deployments", "prod,team-a,team-b", "--astro-cli", "/astro")
    )


# --- the rows ---------------------------------------------------------------------------------------------------------


async def test_app_config_is_open_and_says_that_dags_can_be_deployed(guarded) -> None:
    for variables in (None, {}, {"clusterId": "x"}):
        for token in ("", "no good"):
            assert await told(guarded, APP_CONFIG, variables, token) == {
                "version": "1.0.1",
                "featureFlags": {"dagOnlyDeployment": True},
            }


async def test_auth_config_is_open_and_leads_to_a_token(guarded) -> None:
    found = await told(guarded, AUTH_CONFIG)
    (provider,) = found["providers"]
    assert found["localEnabled"] is False
    assert set(provider) == {"name", "displayName", "url"}
    assert provider["url"] == ""


async def test_a_token_that_is_typed_as_a_password_is_checked_and_given_back(guarded, held) -> None:
    variables = {"identity": "me", "password": held["ci"]}
    assert await told(guarded, CREATE_TOKEN, variables) == {"token": {"value": held["ci"]}}
    for password in ("dgf_" + "x" * 43, "", None, 5, ["x"], "two words", "é", "a\nb: c"):
        assert "astro login houston" in await refused(guarded, CREATE_TOKEN, {"identity": "me", "password": password})
    assert "astro login houston" in await refused(guarded, CREATE_TOKEN)


async def test_there_is_one_workspace(start) -> None:
    server = await start("--astro-cli", "/astro")
    assert await told(server, WORKSPACES) == [WORKSPACE]
    assert await told(server, PAGED, {"pageSize": 2, "pageNumber": 0}) == [WORKSPACE]
    assert await told(server, PAGED, {"pageSize": 2, "pageNumber": 1}) == []
    assert await told(server, ONE_WORKSPACE, {"workspaceUuid": "dagferry"}) == WORKSPACE
    for other in ("ck05r3bor07h40d02y2hw4n4v", "", None, 5, {}):
        assert await told(server, ONE_WORKSPACE, {"workspaceUuid": other}) is None
    assert await told(server, ONE_WORKSPACE) is None


@pytest.mark.parametrize("query", [DEPLOYMENTS, ALL_DEPLOYMENTS], ids=["of the workspace", "all"])
async def test_deployments_are_listed_with_their_live_version(start, query) -> None:
    server = await start("--deployments", "prod,staging", "--astro-cli", "/astro")
    version = (await server.deploy(A, "prod"))["version"]
    assert await told(server, query, {"workspaceId": "dagferry", "take": 100}) == [
        {
            "id": name,
            "label": name,
            "releaseName": name,
            "workspace": {"id": "dagferry"},
            "deployInfo": {"current": current},
        }
        for name, current in (("prod", version), ("staging", ""))
    ]


async def test_a_deployment_says_where_to_upload_to(start) -> None:
    server = await start("--deployments", "prod", "--astro-cli", "/astro", "--public-url", "https://example.com/ferry/")
    assert await told(server, DEPLOYMENT, {"id": "prod"}) == {
        "id": "prod",
        "releaseName": "prod",
        "dagDeployment": {"type": "dag_deploy"},
        "urls": [{"type": "dagserver", "url": "https://example.com/ferry/prod/dags/upload"}],
    }


async def test_what_an_upload_to_that_url_stores_is_listed(start) -> None:
    server = await start("--deployments", "prod", "--astro-cli", "/astro")
    url = (await told(server, DEPLOYMENT, {"id": "prod"}))["urls"][0]["url"]
    assert url == f"http://127.0.0.1:{server.port}/prod/dags/upload"
    assert (await server.upload(b"nothing", url)).status == 422
    await server.deploy(A, "prod")
    (row,) = await told(server, DEPLOYMENTS)
    assert row["deployInfo"]["current"] == server.service.deployments["prod"].current.version


@pytest.mark.parametrize(
    ("field", "instead"),
    [
        ("deploymentConfig", "astro deploy --dags"),
        ("runtimeReleases", "astro deploy --dags"),
        ("updateDeploymentImage", "no images, so nothing was deployed: type astro deploy --dags"),
        ("upsertDeployment", "astro deploy --dags"),
        ("updateDeployment", "astro deploy --dags"),
        ("createDeployment", "dagferry deployments"),
        ("deleteDeployment", "dagferry deployments"),
        ("users", "Dagferry does not have 'users'"),
        ("__schema", "dagferry --help"),
        ("_" * 10_000, "Dagferry does not have '" + "_" * 63 + "'"),
    ],
    ids=lambda text: text[:30],
)
async def test_everything_else_is_refused_in_one_sentence_that_says_what_to_type(guarded, field, instead) -> None:
    for query in (f"query {{ {field} {{ x }} }}", f"mutation M($a: Int) {{ {field}(a: $a) {{ x }} }}"):
        message = await refused(guarded, query, {"a": 1})
        assert instead in message
        assert len(message) < 300
        assert message.count(". ") == 0
        assert message.endswith(".")


async def test_the_page_that_login_shows_is_one_sentence(guarded) -> None:
    answer = await guarded.get("/astro/token")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.body.decode() == WHAT_TO_PASTE
    assert "dagferry-server token new" in WHAT_TO_PASTE


# --- who is told ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", NEED_A_TOKEN)
async def test_all_else_needs_a_token_and_the_cli_says_what_to_do_without(guarded, held, field) -> None:
    query, variables = NEED_A_TOKEN[field]
    for token, reason in (
        ("", "The request has no token."),
        ("dgf_" + "x" * 43, "does not know this token"),
        (held["old"], "The token 'old' expired at 2020-01-01"),
        ("Basic YTpi", "must be a token"),
    ):
        message = await refused(guarded, query, variables, token)
        assert reason in message
        assert "Type astro login houston, and paste a token" in message
    for token in (held["reader"], f"Bearer {held['reader']}"):
        assert await told(guarded, query, variables, token)


async def test_a_token_sees_the_deployments_that_it_covers_and_no_others(guarded, held) -> None:
    for query in (DEPLOYMENTS, ALL_DEPLOYMENTS):
        assert [row["id"] for row in await told(guarded, query, None, held["team"])] == ["team-a", "team-b"]
        assert await told(guarded, query, None, held["nobody"]) == []
    assert (await told(guarded, DEPLOYMENT, {"id": "team-a"}, held["team"]))["id"] == "team-a"


async def test_a_deployment_that_a_token_does_not_cover_is_like_one_that_does_not_exist(guarded, held) -> None:
    team = held["team"]
    messages = {
        (await refused(guarded, DEPLOYMENT, {"id": name}, team)).replace(name, "…") for name in ("prod", "nope")
    }
    uploads = []
    for name in ("prod", "nope"):
        answer = await guarded.call("POST", f"/{name}/dags/upload", headers={"authorization": team}, data=b"x")
        uploads.append((answer.status, answer.body.decode().replace(name, "…")))
    assert len(messages) == len(set(uploads)) == 1
    assert uploads[0][0] == 404
    for text in (*messages, uploads[0][1]):
        assert "or your token does not cover it" in text


@pytest.mark.parametrize("name", ["", None, 5, ["prod"], {"id": "prod"}, "../prod", "x" * 60_000, "a\nb"], ids=ascii)
async def test_what_cannot_be_a_deployment_is_none(guarded, held, name) -> None:
    assert "There is no deployment" in (message := await refused(guarded, DEPLOYMENT, {"id": name}, held["all"]))
    assert len(message) < 400


async def test_deployments_of_requests_come_and_go_and_patterns_decide_who_sees_them(guarded, held) -> None:
    preview = held["preview"]
    headers = {"Authorization": preview}
    assert await told(guarded, DEPLOYMENTS, None, preview) == []
    assert (await guarded.call("POST", "/-/deployments/preview-1", headers=headers)).status == 200
    assert [row["id"] for row in await told(guarded, DEPLOYMENTS, None, preview)] == ["preview-1"]
    assert (await told(guarded, DEPLOYMENT, {"id": "preview-1"}, preview))["id"] == "preview-1"
    assert (await guarded.call("DELETE", "/-/deployments/preview-1", headers=headers)).status == 200
    assert await told(guarded, DEPLOYMENTS, None, preview) == []
    assert "There is no deployment 'preview-1'" in await refused(guarded, DEPLOYMENT, {"id": "preview-1"}, preview)


async def test_a_deployment_that_takes_no_deploys_is_listed_and_its_upload_says_why(start, tmp_path, tokens) -> None:
    file = tmp_path / "deployments.toml"
    file.write_text('deployments = [ { name = "prod" }, { name = "old", disabled = "it moves" } ]')
    whole, part = tokens.add("all", SCOPES), tokens.add("part", ["deploy"], prefixes=["team-a/"])
    server = await start("--tokens-file", str(tokens.path), "--deployments-file", str(file), "--astro-cli", "/astro")
    frozen = await server.call(
        *("POST", "/prod/dags/freeze"), json={"reason": "year end"}, headers={"Authorization": whole}
    )
    assert frozen.status == 200
    assert [row["id"] for row in await told(server, DEPLOYMENTS, None, whole)] == ["old", "prod"]
    for name, token, status, words in (
        ("old", whole, 409, ("it moves", "Nothing was deployed")),
        ("prod", whole, 423, ("year end", "Nothing was deployed")),
        ("prod", part, 403, ("only below team-a/", "dagferry deploy --under team-a/")),
    ):
        url = (await told(server, DEPLOYMENT, {"id": name}, token))["urls"][0]["url"]
        answer = await server.call("POST", url, headers={"authorization": token}, data=b"x")
        assert answer.status == status
        for text in words:
            assert text in json.dumps(answer.json, sort_keys=True)


async def test_a_deployment_whose_newest_deploy_is_not_known_shows_no_older_one(start, tmp_path) -> None:
    server = await start("--astro-cli", "/astro")
    for files in (A, B):
        await server.deploy(files)
    await server.close()
    (tmp_path / "data/default/deploys/000000000002.json").write_bytes(b"{")
    server = await start("--astro-cli", "/astro")
    (row,) = await told(server, DEPLOYMENTS)
    assert row["deployInfo"] == {"current": ""}


# --- where to upload to -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1@evil.example", "x" * 3000, ""])
async def test_without_a_public_url_no_name_of_the_request_is_repeated_but_that_of_loopback(
    guarded, held, host
) -> None:
    token = held["all"]
    message = await refused(guarded, DEPLOYMENT, {"id": "prod"}, token, Host=host)
    assert "has to set --public-url" in message
    assert len(message) < 300
    for own in (f"localhost:{guarded.port}", "[::1]:80", "127.0.0.2"):
        found = await told(guarded, DEPLOYMENT, {"id": "prod"}, token, Host=own)
        assert found["urls"][0]["url"] == f"http://{own}/prod/dags/upload"


async def test_with_a_public_url_no_header_of_the_request_counts(start, tokens) -> None:
    token = tokens.add("all", SCOPES)
    server = await start(
        *("--tokens-file", str(tokens.path), "--astro-cli", "/astro", "--public-url", "https://dags.example.com")
    )
    for headers in ({}, {"Host": "evil.example"}, {"X-Forwarded-Host": "evil.example"}, {"Forwarded": "host=evil"}):
        found = await told(server, DEPLOYMENT, {"id": "default"}, token, **headers)
        assert found["urls"][0]["url"] == "https://dags.example.com/default/dags/upload"


# --- hostile requests, and what is left of them -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"[]", "should be an object"),
        (b"null", "should be an object"),
        (b"{}", "'query': Field required"),
        (b'{"query": null}', "'query': Input should be a valid string"),
        (b'{"query": "{a}", "variables": []}', "'variables': Input should be an object"),
        (b'{"query": "\\ud800"}', "Invalid JSON"),
        (b'{"query": "{a}", "variables": ' + b"[" * 30_000, "Invalid JSON"),
        (b" " * (MAX_JSON_BYTES + 1), "more than 65,536 bytes"),
    ],
    ids=lambda body: str(body)[:40],
)
async def test_what_is_not_such_json_is_a_400_as_everywhere(guarded, body, text) -> None:
    answer = await guarded.call("POST", "/astro", data=body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.json["code"]) == (400, "request_invalid")
    assert text in answer.json["message"]


@pytest.mark.parametrize(
    "query", ["", "{", "{}", "fragment F on Q { a }", "{ a } { b }", "\0", "{" * 60_000], ids=ascii
)
async def test_what_is_not_graphql_gets_an_error_that_the_cli_prints(guarded, query) -> None:
    assert "not a GraphQL document" in await refused(guarded, query)


async def test_a_query_has_a_maximum_because_all_wait_while_it_is_read(guarded) -> None:
    assert await told(guarded, APP_CONFIG.ljust(MAX_QUERY_CHARACTERS))
    assert "at most 16,384 characters" in await refused(guarded, APP_CONFIG.ljust(MAX_QUERY_CHARACTERS + 1))


async def test_other_keys_of_graphql_are_accepted(guarded) -> None:
    body = {
        "query": "query A { users } query B { mine: appConfig { version } }",
        "operationName": "B",
        "extensions": {},
    }
    answer = await guarded.call("POST", "/astro", json=body)
    assert list(answer.json["data"]) == ["mine"]


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}], ids=str)
async def test_a_web_page_gets_nothing_where_a_browser_needs_no_secret(start, headers) -> None:
    server = await start("--astro-cli", "/astro")
    for method, path in (("POST", "/astro"), ("GET", "/astro/token")):
        answer = await server.call(method, path, headers=headers, json={"query": DEPLOYMENTS})
        assert (answer.status, answer.json["code"]) == (403, "origin_refused")


async def test_a_web_page_cannot_use_the_login_that_the_proxy_sees(start, tmp_path, tokens) -> None:
    tokens.users = ['{ name = "ann", scopes = ["deploy"], deployments = ["*"] }']
    tokens.write()
    (tmp_path / "secret").write_text("p" * 32)
    server = await start(
        *("--tokens-file", str(tokens.path), "--proxy-user-header", "X-User", "--astro-cli", "/astro"),
        *("--proxy-secret-file", str(tmp_path / "secret")),
    )
    ann = {"X-User": "ann", "Dagferry-Proxy-Secret": "p" * 32}
    assert [row["id"] for row in await told(server, DEPLOYMENTS, **ann)] == ["default"]
    assert "A web page" in await refused(server, DEPLOYMENTS, **ann, Origin="https://evil.example")


async def test_refused_requests_are_in_the_log_within_limits_and_others_are_not(guarded, held, caplog) -> None:
    caplog.set_level("INFO")
    token = held["ci"]
    caplog.clear()
    for _ in range(3):
        await told(guarded, APP_CONFIG)
        await told(guarded, DEPLOYMENTS, None, token)
    assert [record.message for record in caplog.records if record.name != "asyncio"] == []
    for _ in range(3):
        await refused(guarded, DEPLOYMENTS, None, "dgf_" + "x" * 43)
        await refused(guarded, DEPLOYMENT, {"id": "nope"}, token)
    lines = [record.fields for record in caplog.records if record.message == "Request refused"]
    assert [(line["outcome"], line["actor"], line["request"]) for line in lines] == [
        ("credentials_refused", "", "POST /astro"),
        ("deployment_not_found", "token:ci", "POST /astro"),
    ]
    assert not [record for record in caplog.records if record.message == "Audit"]
    assert "dgf_" not in caplog.text


async def test_requests_are_counted_with_their_status(start) -> None:
    server = await start("--astro-cli", "/astro")
    await told(server, APP_CONFIG)
    await refused(server, "{ users }")
    await server.call("POST", "/astro", data=b"x")
    assert await server.metric('requests_total{route="/astro",status="2xx"}') == 2
    assert await server.metric('requests_total{route="/astro",status="4xx"}') == 1


# --- traps of the upload itself ---------------------------------------------------------------------------------------


async def test_warnings_are_in_the_log_and_in_the_deploy_log_because_the_cli_drops_the_answer(start, caplog) -> None:
    server = await start("--astro-cli", "/astro")
    long = "a" * 120 + ".py"
    files = {f"broken_{number}_{long}": b"from airflow import DAG\nx = (\n" for number in range(30)}
    answer = await server.deploy(files)
    (record,) = [record for record in caplog.records if record.message == "Upload has warnings"]
    assert record.levelno == logging.WARNING
    assert (record.fields["version"], record.fields["count"]) == (answer["version"], len(answer["warnings"]))
    assert 0 < len(record.fields["warnings"]) <= 20
    assert all(len(text) <= 500 for text in record.fields["warnings"])
    entry = (await server.get(f"/default/dags/deploys/{answer['version']}")).json
    assert entry["details"]["warnings"] == answer["warnings"]


async def test_a_full_volume_is_worth_a_repetition_and_the_repeated_upload_is_stored(start, monkeypatch) -> None:
    server = await start("--astro-cli", "/astro")
    folder, full = server.service.folder, [True]
    scratch_file = folder.scratch_file

    def fill(name: str) -> Any:
        if full:
            full.pop()
            raise StoreFull("The volume of the data folder is full.")
        return scratch_file(name)

    monkeypatch.setattr(folder, "scratch_file", fill)
    answer = await server.upload(b"x" * 100_000)
    assert answer.status == 507  # not 4xx: the CLI gives up after these, and repeats all others eight times
    assert "Enlarge the server's volume" in answer.json["hint"]
    assert (await server.deploy(A))["unchanged"] is False
