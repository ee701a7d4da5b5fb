"""Every route for every kind of caller, generated from the table of routes: who is let through, what others learn."""

from pathlib import Path
from typing import NamedTuple

import pytest

from credentials import SCOPES, TokensFile, issuers_file
from dagferry_server.routes import ROUTES
from dagferry_server.waiters import Waiters
from harness import pack
from issuer import LocalIssuer, github_claims, make_key
from running import A, Answer

SCOPED = [route for route in ROUTES if route.scope]
OPEN = [route for route in ROUTES if not route.scope]
DEPLOYMENTS = "default,other"
RULE = 'claims = {{ repository_id = "123", ref = "refs/heads/main" }}\nscopes = ["{}"]\ndeployments = ["default"]'


def covers(held: str, needed: str) -> bool:
    return held == needed or (held, needed) == ("deploy", "read")


class Kind(NamedTuple):
    """A kind of caller, by its headers, and what becomes of it: ``None`` is to be let through."""

    name: str
    headers: dict[str, str]
    status: int | None
    code: str | None


async def kinds(route, tokens: TokensFile, issuer: LocalIssuer) -> list[Kind]:
    """Every kind of caller of a route that has a scope."""
    claims = github_claims()
    good = issuer.token(**claims)

    def bearer(name: str, token: str, status: int | None = 401, code: str | None = "credentials_refused") -> Kind:
        return Kind(name, {"Authorization": f"Bearer {token}"}, status, code)

    found = [
        Kind("no credentials", {}, 401, "unauthenticated"),
        Kind("an empty header", {"Authorization": ""}, 401, "credentials_refused"),
        Kind("another scheme", {"Authorization": "Basic YTpi"}, 401, "credentials_refused"),
        Kind("a proxy's header alone", {"X-Forwarded-User": "ann"}, 401, "unauthenticated"),
        Kind("a proxy nobody set up", {"Dagferry-Proxy-Secret": "x" * 32}, 401, "unauthenticated"),
        bearer("an unknown token", "dgf_" + "x" * 43),
        bearer("an expired token", tokens.add("old", [route.scope], expires="2020-01-01T00:00:00Z")),
        bearer("a token of another deployment", tokens.add("far", SCOPES, ["other"]), 404, "deployment_not_found"),
        bearer("a JWT of nobody's", issuer.token(iss="https://evil.example", **claims)),
        bearer("a JWT that expired", issuer.token(**{**claims, "iat": 1, "nbf": 1, "exp": 2})),
        bearer("a JWT for another audience", issuer.token(aud="sigstore", **claims)),
        bearer("a JWT signed by another key", issuer.token(make_key(), **claims)),
        bearer("a JWT of another repository", issuer.token(**github_claims("999"))),
        bearer("a JWT of another branch", issuer.token(**github_claims(ref="refs/heads/fork"))),
        bearer("a good JWT", good, None, None),
        bearer("the right token", tokens.add("right", [route.scope], ["default"]), None, None),
        bearer("the right token by pattern", tokens.add("wide", [route.scope], ["def*"]), None, None),
        Kind("the right token, bare", {"Authorization": tokens.add("bare", [route.scope])}, None, None),
    ]
    for scope in SCOPES:
        allowed = covers(scope, route.scope)
        token = tokens.add(f"only-{scope}", [scope], ["default"])
        found.append(bearer(f"only {scope}", token, None if allowed else 403, None if allowed else "forbidden"))
    return found


@pytest.mark.parametrize("route", SCOPED, ids=lambda route: f"{route.method} {route.path}")
async def test_every_kind_of_caller_gets_what_is_theirs(start, tmp_path: Path, route) -> None:
    path = route.path.replace("{deployment}", "default").replace("{version}", "20200101T000000Z-000001")
    tokens = TokensFile(tmp_path / "tokens.toml")
    body = pack(A) if route.method == "POST" else None
    async with LocalIssuer().served() as issuer:
        issuers = issuers_file(tmp_path / "issuers.toml", issuer.url, RULE.format(route.scope))
        callers = await kinds(route, tokens, issuer)
        server = await start("--tokens-file", str(tokens.path), "--issuers-file", issuers, "--deployments", DEPLOYMENTS)
        for kind in callers:
            before = server.service.deployments["default"].highest
            answer = await server.call(route.method, path, headers=kind.headers, data=body)
            if kind.status is None:
                assert answer.status not in {401, 403}, kind.name
                assert answer.status == 200 or answer.json["code"] in {"version_not_found", "nothing_deployed"}, kind
                continue
            assert (answer.status, answer.json["code"]) == (kind.status, kind.code), kind.name
            assert (answer.headers.get("WWW-Authenticate") == "Bearer") == (kind.status == 401), kind.name
            assert server.service.deployments["default"].highest == before, kind.name


async def test_a_deployment_that_is_not_to_be_seen_is_one_that_does_not_exist(start, tmp_path: Path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    header = {"Authorization": tokens.add("team", SCOPES, ["default"])}
    server = await start("--tokens-file", str(tokens.path), "--deployments", DEPLOYMENTS)

    def shown(answer: Answer, name: str) -> tuple[int, str, dict[str, str]]:
        headers = {key: value for key, value in answer.headers.items() if key not in {"Date", "Content-Length"}}
        return answer.status, answer.body.decode().replace(name, "…"), headers

    for route in SCOPED:
        if "{deployment}" not in route.path:
            continue
        answers = []
        for name in ("other", "neverwas"):
            path = route.path.replace("{deployment}", name).replace("{version}", "20200101T000000Z-000001")
            body = pack(A) if route.method == "POST" else None
            answers.append(shown(await server.call(route.method, path, headers=header, data=body), name))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404


@pytest.mark.parametrize("route", OPEN, ids=lambda route: route.path)
async def test_with_credentials_only_healthz_is_open_on_the_public_listener(start, tmp_path: Path, route) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    header = {"Authorization": tokens.add("all", SCOPES)}
    for flags in ((), ("--admin-listen", "127.0.0.1:0")):
        server = await start("--tokens-file", str(tokens.path), *flags)
        for headers in ({}, header, {"Authorization": "no good"}, {"Origin": "https://evil.example"}):
            expected = 200 if route.path == "/healthz" else 404
            assert (await server.call("GET", route.path, headers=headers)).status == expected
        await server.close()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "rebound.example"},
    ],
    ids=str,
)
async def test_without_credentials_a_web_page_gets_nothing(server, route, headers) -> None:
    path = route.path.replace("{deployment}", "default").replace("{version}", "20200101T000000Z-000001")
    answer = await server.call(route.method, path, headers=headers, data=pack(A) if route.method == "POST" else None)
    assert (answer.status, answer.json["code"]) == (403, "origin_refused")
    assert server.service.deployments["default"].current is None


async def test_every_attempt_to_change_something_is_one_audit_line(start, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    tokens = TokensFile(tmp_path / "tokens.toml")
    right, reader = tokens.add("ci", ["deploy"]), tokens.add("ann", ["read"])
    server = await start("--tokens-file", str(tokens.path))
    for token, body in ((right, pack(A)), (right, b"junk"), (reader, pack(A)), ("dgf_no", pack(A)), ("", pack(A))):
        headers = {"Authorization": token} if token else {}
        await server.call("POST", "/default/dags/upload", headers=headers, data=body)
    await server.call("POST", "/neverwas/dags/upload", headers={"Authorization": right}, data=pack(A))
    await server.call("GET", "/default/dags/current", headers={"Authorization": reader})
    lines = [record.fields for record in caplog.records if record.message == "Audit"]
    assert [(line["actor"], line["deployment"], line["outcome"]) for line in lines] == [
        ("token:ci", "default", "ok"),
        ("token:ci", "default", "archive_not_recognized"),
        ("token:ann", "default", "forbidden"),
        ("", "default", "credentials_refused"),
        ("", "default", "unauthenticated"),
        ("token:ci", "neverwas", "deployment_not_found"),
    ]
    assert {(line["call"], line["peer"]) for line in lines} == {("POST /{deployment}/dags/upload", "127.0.0.1")}


async def test_the_actor_is_in_the_deploy_log_and_in_no_metric(start, tmp_path: Path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    token = tokens.add("ci-of-ours", ["deploy"])
    server = await start("--tokens-file", str(tokens.path), "--admin-listen", "127.0.0.1:0")
    headers = {"Authorization": token}
    assert (await server.call("POST", "/upload", headers=headers, data=pack(A))).status == 200
    log = await server.call("GET", "/default/dags/deploys", headers=headers)
    assert [deploy["actor"] for deploy in log.json["deploys"]] == ["token:ci-of-ours"]
    async with server.session.get(f"http://{server.host}:{server.admin_port}/metrics") as answer:
        assert "ci-of-ours" not in await answer.text()


async def test_a_wait_ends_when_the_credentials_do(start, tmp_path: Path, monkeypatch) -> None:
    waited: list[float] = []

    async def wait(_: Waiters, seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(Waiters, "wait", wait)
    tokens = TokensFile(tmp_path / "tokens.toml")
    token = tokens.add("pod", ["sync"], expires="2100-01-01T00:00:00Z")
    end = 4_102_444_800.0  # 2100-01-01
    server = await start("--tokens-file", str(tokens.path), clock=lambda: end - 7)
    headers = {"Authorization": token, "If-None-Match": '"none"', "Prefer": "wait=50"}
    assert (await server.call("GET", "/default/dags/current", headers=headers)).status == 304
    headers["Prefer"] = "wait=3"
    assert (await server.call("GET", "/default/dags/current", headers=headers)).status == 304
    assert waited == [7, 3]


async def test_an_unreachable_issuer_is_503_and_says_when_to_come_back(start, tmp_path: Path) -> None:
    async with LocalIssuer().served() as issuer:
        url, token = issuer.url, issuer.token(**github_claims())
    issuers = issuers_file(tmp_path / "issuers.toml", url, RULE.format("read"))
    server = await start("--issuers-file", issuers, "--admin-listen", "127.0.0.1:0")
    answer = await server.get("/default/dags/deploys", Authorization=token)
    assert (answer.status, answer.json["code"]) == (503, "issuer_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    async with server.session.get(f"http://{server.host}:{server.admin_port}/metrics") as told:
        assert "dagferry_server_credential_faults 1.0" in await told.text()
    assert token not in answer.body.decode()
