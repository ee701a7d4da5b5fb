"""Whether a request is let in: decided once, before its body is read and the store is touched."""

import pytest

from credentials import TokensFile
from dagferry_server.auth.access import SCOPES
from dagferry_server.errors import Forbidden
from dagferry_server.http import admission
from dagferry_server.http.admission import MAX_SHOWN_PARAMETERS
from dagferry_server.http.routes import ROUTES
from harness import pack
from running import A


@pytest.mark.parametrize(
    ("method", "path", "names"),
    [
        ("GET", "/default/dags/download?versoin=OLD", "'versoin'"),
        ("GET", "/default/dags/current?wait=9&x=1&wait=2", "'wait', 'x'"),
        ("POST", "/default/dags/upload?desciption=typo", "'desciption'"),
        ("GET", "/healthz?verbose", "'verbose'"),
        ("GET", "/default/dags/current?Prefer=wait", "'Prefer'"),
    ],
)
async def test_a_query_parameter_that_is_not_known_is_refused_by_name(server, method, path, names) -> None:
    await server.deploy(A)
    answer = await server.call(method, path, data=pack(A) if method == "POST" else None)
    assert (answer.status, answer.json["code"]) == (400, "request_invalid")
    assert answer.json["message"].endswith(f"has no query parameter {names}.")
    assert server.service.deployments["default"].highest == 1


async def test_many_and_long_unknown_parameters_make_a_short_error(server) -> None:
    query = "&".join(f"{'p' * 100}{number}=1" for number in range(40))
    told = (await server.get(f"/healthz?{query}")).json["message"]
    assert told == f"GET /healthz has no query parameter {', '.join([repr('p' * 40)] * MAX_SHOWN_PARAMETERS)}."


async def test_the_error_for_another_host_name_says_that_a_proxy_needs_credentials(server) -> None:
    answer = await server.get("/default/dags/current", Host="dagferry.example.com")
    assert (answer.status, answer.json["code"]) == (403, "origin_refused")
    assert "dagferry.example.com" in answer.json["message"]
    assert "--tokens-file" in answer.json["hint"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_the_caller_is_decided_once_before_the_body_and_the_store(server, monkeypatch, route) -> None:
    asked = []

    def nobody(scope, deployment, caller, *, creates, or_scope) -> None:
        asked.append((scope, deployment))
        raise Forbidden("No.")

    monkeypatch.setattr(admission, "authorize", nobody)
    monkeypatch.setattr(server.service, "store", None)
    path = route.path.replace("{deployment}", "default").replace("{version}", "20200101T000000Z-000001")
    path = path.replace("{name}", "default").replace("{id}", "c" * 32)
    answer = await server.call(route.method, path, data=pack(A) if route.method == "POST" else None)
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert asked == [(route.scope, "default" if route.scope in SCOPES else "")]


async def test_the_error_for_a_wrong_deployment_lists_the_others_unless_some_are_hidden(start, tmp_path) -> None:
    server = await start("--deployments", "staging,default")
    told = (await server.get("/prod/dags/current")).json
    assert told["message"] == "There is no deployment 'prod' on this server. It has: default, staging."
    await server.close()
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret = tokens.add("ci", ["read"], ["other"])
    server = await start("--tokens-file", str(tokens.path))
    told = (await server.get("/prod/dags/current", Authorization=secret)).json
    assert "It has" not in told["message"]


async def test_a_web_page_gets_nothing_from_a_server_without_credentials_not_even_its_health(server) -> None:
    for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        answer = await server.get("/healthz", **headers)
        assert (answer.status, answer.json["code"]) == (403, "origin_refused")


async def test_who_has_no_credentials_does_not_learn_which_deployments_there_are(start, tmp_path) -> None:
    server = await start("--tokens-file", str(TokensFile(tmp_path / "tokens.toml").path), "--deployments", "prod")
    answers = [await server.get(f"/{name}/dags/current") for name in ("prod", "no-such")]
    assert [(answer.status, answer.json["code"]) for answer in answers] == [(401, "unauthenticated")] * 2
    assert answers[0].body == answers[1].body


async def test_a_refused_request_is_logged_with_its_caller(start, tmp_path, caplog) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret = tokens.add("reader", ["read"])
    server = await start("--tokens-file", str(tokens.path))
    answer = await server.call("POST", "/default/dags/upload", data=pack(A), headers={"Authorization": secret})
    assert answer.json["code"] == "forbidden"
    actors = [record.fields["actor"] for record in caplog.records if "actor" in getattr(record, "fields", {})]
    assert actors == ["token:reader"]


async def test_a_path_without_a_deployment_needs_the_scope_on_the_one_that_it_means(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    theirs, ours = tokens.add("theirs", ["deploy"], ["other"]), tokens.add("ours", ["deploy"], ["default"])
    server = await start("--tokens-file", str(tokens.path))
    for secret, status in ((theirs, 404), (ours, 200)):
        answer = await server.call("POST", "/upload", data=pack(A), headers={"Authorization": secret})
        assert answer.status == status
