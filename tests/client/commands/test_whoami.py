"""``dagferry whoami`` says who the token belongs to and what it allows."""

WHOAMI = {
    "actor": "token:ci",
    "expires": 4102444800,
    "deployments": [
        {"name": "prod", "scopes": ["deploy", "read"], "prefixes": ["team-a/"]},
        {"name": "staging", "scopes": ["read"], "prefixes": []},
    ],
}


def test_it_names_the_actor_the_token_and_each_deployment(at, server) -> None:
    server.answer("GET /-/whoami", WHOAMI)
    done = at("whoami", DAGFERRY_TOKEN="dgf_secret")
    assert done.code == 0
    assert server.requests[0].headers["Authorization"] == "Bearer dgf_secret"
    lines = done.out.splitlines()
    assert lines[0] == f"token:ci on {server.url}, by the token of DAGFERRY_TOKEN"
    assert lines[1].startswith("The token expires at 2100-01-01 00:00:00 UTC, in ")
    assert lines[2].split() == ["DEPLOYMENT", "SCOPES", "ONLY", "BELOW"]
    assert lines[3].split() == ["prod", "deploy", "read", "team-a/"]
    assert lines[4].split() == ["staging", "read"]
    assert "dgf_secret" not in done.out + done.err


def test_where_nothing_is_limited_there_is_no_column_for_it(at, server) -> None:
    server.answer("GET /-/whoami", {**WHOAMI, "deployments": WHOAMI["deployments"][1:]})
    assert at("whoami").out.splitlines()[2:] == ["DEPLOYMENT  SCOPES", "staging     read"]


def test_json_has_what_the_server_says(at, server) -> None:
    server.answer("GET /-/whoami", {**WHOAMI, "later": 1})
    assert at("whoami", "--json").json == WHOAMI


def test_an_anonymous_caller_has_no_token_and_no_end(at, server) -> None:
    server.answer("GET /-/whoami", {"actor": "anonymous", "expires": None, "deployments": []})
    done = at("whoami")
    assert done.out == f"anonymous on {server.url}\nYou may not see any deployment.\n"
    assert "Authorization" not in server.requests[0].headers


def test_an_answer_without_an_actor_is_no_answer(at, server) -> None:
    server.answer("GET /-/whoami", {"expires": None, "deployments": []})
    done = at("whoami")
    assert done.code == 5
    assert "Error: The server's answer cannot be understood: actor is missing." in done.err
    assert done.out == ""


def test_an_old_server_is_named_as_such(at, server) -> None:
    server.answer(
        "GET /-/whoami", {"code": "route_not_found", "message": "There is no /-/whoami.", "hint": "See."}, 404
    )
    done = at("whoami")
    assert done.code == 5
    assert "dagferry/9.8.7" in done.err
    assert "Upgrade the server" in done.err
