"""Every route for every kind of caller, generated from the table of routes: who is let through, what others learn."""

from pathlib import Path
from typing import NamedTuple

import pytest

from credentials import SCOPES, TokensFile, issuers_file
from dagferry_server.auth.access import ANY
from dagferry_server.auth.proxy import PROXY_SECRET_HEADER
from dagferry_server.fleet.report_body import ReportBody
from dagferry_server.fleet.waiters import Waiters
from dagferry_server.http.handlers.candidates import VerdictBody
from dagferry_server.http.handlers.freeze import FreezeBody
from dagferry_server.http.handlers.promote import PromoteBody
from dagferry_server.http.handlers.rollback import RollbackBody
from dagferry_server.http.routes import ROUTES
from harness import pack
from issuer import LocalIssuer, github_claims, kubernetes_claims, make_key
from running import A, Answer

SCOPED = [route for route in ROUTES if route.scope in SCOPES]
FOR_ANY = [route for route in ROUTES if route.scope == ANY]
OPEN = [route for route in ROUTES if not route.scope]
DEPLOYMENTS = "default,other"
RULE = 'claims = {{ repository_id = "123", ref = "refs/heads/main" }}\nscopes = ["{}"]\ndeployments = ["default"]'
CLUSTER_RULE = 'claims = {{ sub = "system:serviceaccount:airflow:*" }}\nscopes = ["{}"]\ndeployments = ["default"]'
PROXY_SECRET = "p" * 32
UNSURE = "issuer_unavailable"


def proxy_flags(folder: Path, tokens: TokensFile, *scopes: str) -> list[str]:
    """A forwarding proxy, of whose callers only ann has an entry."""
    listed = ", ".join(f'"{scope}"' for scope in scopes)
    tokens.users = [f'{{ name = "ann", scopes = [{listed}], deployments = ["default"] }}']
    tokens.write()
    (folder / "proxy-secret").write_text(PROXY_SECRET)
    return ["--proxy-user-header", "X-User", "--proxy-secret-file", str(folder / "proxy-secret")]


def path_of(route, name: str = "default") -> str:
    """A path of a route that names this deployment, if any."""
    path = route.path.replace("{deployment}", name).replace("{name}", name)
    return path.replace("{version}", "20200101T000000Z-000001").replace("{id}", "c" * 32)


def body_of(route) -> bytes | None:
    """A body that a route accepts."""
    if route.body:
        return BODIES[route.body]
    return pack(A) if route.takes_file else None


BODIES = {
    FreezeBody: b'{"reason": "a test"}',
    RollbackBody: b'{"version": "20200101T000000Z-000001"}',
    PromoteBody: b'{"from": "default"}',
    ReportBody: b'{"instance": "a", "id": "%b", "component": "bundle", "log_id": "other"}' % (b"0" * 32),
    VerdictBody: b'{"failed": "a test"}',
}


def is_reached(answer: Answer) -> bool:
    """Whether the handler of a route was reached."""
    codes = {"version_not_found", "candidate_gone", "nothing_deployed", "deployment_configured"}
    return answer.status == 200 or answer.json["code"] in codes or "promoted to itself" in answer.json["message"]


def covers(held: str, needed: str) -> bool:
    return held == needed or (held, needed) == ("deploy", "read")


class Kind(NamedTuple):
    """A kind of caller, by its headers, and what becomes of it: ``None`` is to be let through."""

    name: str
    headers: dict[str, str]
    status: int | None
    code: str | None


async def kinds(route, tokens: TokensFile, issuer: LocalIssuer, cluster: LocalIssuer, away: LocalIssuer) -> list[Kind]:
    """Every kind of caller of a route that has a scope."""
    claims = github_claims()
    good = issuer.token(**claims)
    pod = cluster.token(**kubernetes_claims())

    def bearer(name: str, token: str, status: int | None = 401, code: str | None = "credentials_refused") -> Kind:
        return Kind(name, {"Authorization": f"Bearer {token}"}, status, code)

    def proxied(user: str, secret: str, status: int | None, code: str | None) -> Kind:
        return Kind(f"{user!r} by a proxy: {status}", {"X-User": user, PROXY_SECRET_HEADER: secret}, status, code)

    found = [
        Kind("no credentials", {}, 401, "unauthenticated"),
        Kind("an empty header", {"Authorization": ""}, 401, "credentials_refused"),
        Kind("another scheme", {"Authorization": "Basic YTpi"}, 401, "credentials_refused"),
        Kind("a proxy's header alone", {"X-User": "ann"}, 401, "unauthenticated"),
        proxied("ann", "x" * 32, 401, "credentials_refused"),
        proxied("", PROXY_SECRET, 401, "credentials_refused"),
        proxied("bob, who has no entry", PROXY_SECRET, 404, "deployment_not_found"),
        proxied("ann", PROXY_SECRET, None, None),
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
        bearer("a JWT with a key that was not among those just fetched", issuer.token(kid="k9", **claims), 503, UNSURE),
        bearer("a JWT of an issuer that is away", away.token(**claims), 503, UNSURE),
        bearer("a pod's JWT", pod, None, None),
        bearer("a pod's JWT, of another namespace", cluster.token(**kubernetes_claims("default"))),
        bearer("a pod's JWT from another issuer", issuer.token(**kubernetes_claims())),
        bearer("the right token", tokens.add("right", [route.scope], ["default"]), None, None),
        bearer("the right token by pattern", tokens.add("wide", [route.scope], ["def*"]), None, None),
        Kind("the right token, bare", {"Authorization": tokens.add("bare", [route.scope])}, None, None),
    ]
    for scope in SCOPES:
        allowed = covers(scope, route.scope) or scope == route.or_scope
        token = tokens.add(f"only-{scope}", [scope], ["default"])
        found.append(bearer(f"only {scope}", token, None if allowed else 403, None if allowed else "forbidden"))
    return found


@pytest.mark.parametrize("route", SCOPED, ids=lambda route: f"{route.method} {route.path}")
async def test_every_kind_of_caller_gets_what_is_theirs(start, tmp_path: Path, route) -> None:
    path, body = path_of(route), body_of(route)
    tokens = TokensFile(tmp_path / "tokens.toml")
    async with LocalIssuer().served() as away:
        pass
    async with LocalIssuer().served() as issuer, LocalIssuer().served() as cluster:
        trusted = tmp_path / "issuers.toml"
        texts = []
        for name, at, kind, rule in (
            ("ci", issuer, "github", RULE),
            ("cluster", cluster, "kubernetes", CLUSTER_RULE),
            ("away", away, "github", RULE),
        ):
            issuers_file(trusted, at.url, rule.format(route.scope), kind=kind, name=name)
            texts.append(trusted.read_text())
        trusted.write_text("".join(texts))
        callers = await kinds(route, tokens, issuer, cluster, away)
        if route.creates:
            # Whether it exists is not said either: the caller may not create it in both cases.
            callers = [one._replace(status=403, code="forbidden") if one.status == 404 else one for one in callers]
        proxy = proxy_flags(tmp_path, tokens, route.scope)
        server = await start(
            *("--tokens-file", str(tokens.path), "--issuers-file", str(trusted), "--deployments", DEPLOYMENTS, *proxy)
        )
        for kind in callers:
            before = server.service.deployments["default"].highest
            more = {"Content-Type": "application/json"} if route.body else {}
            answer = await server.call(route.method, path, headers={**kind.headers, **more}, data=body)
            if kind.status is None:
                assert answer.status not in {401, 403}, kind.name
                assert is_reached(answer), kind
                continue
            assert (answer.status, answer.json["code"]) == (kind.status, kind.code), kind.name
            assert (answer.headers.get("WWW-Authenticate") == "Bearer") == (kind.status == 401), kind.name
            assert ("Retry-After" in answer.headers) == (kind.status == 503), kind.name
            assert server.service.deployments["default"].highest == before, kind.name


async def test_a_proxy_that_nobody_set_up_proves_nothing(start, tmp_path: Path) -> None:
    server = await start("--tokens-file", str(TokensFile(tmp_path / "tokens.toml").path))
    answer = await server.get("/default/dags/current", X_User="ann", Dagferry_Proxy_Secret=PROXY_SECRET)
    assert (answer.status, answer.json["code"]) == (401, "unauthenticated")


async def test_a_deployment_that_is_not_to_be_seen_is_one_that_does_not_exist(start, tmp_path: Path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    header = {"Authorization": tokens.add("team", SCOPES, ["default"])}
    server = await start("--tokens-file", str(tokens.path), "--deployments", DEPLOYMENTS)

    def shown(answer: Answer, name: str) -> tuple[int, str, dict[str, str]]:
        headers = {key: value for key, value in answer.headers.items() if key not in {"Date", "Content-Length"}}
        return answer.status, answer.body.decode().replace(name, "…"), headers

    for route in SCOPED:
        if "{" not in route.path:
            continue
        answers = []
        for name in ("other", "neverwas"):
            answer = await server.call(route.method, path_of(route, name), headers=header, data=body_of(route))
            answers.append(shown(answer, name))
        assert answers[0] == answers[1]
        assert answers[0][0] == (403 if route.creates else 404)


@pytest.mark.parametrize("route", FOR_ANY, ids=lambda route: route.path)
async def test_what_is_for_every_caller_shows_nobody_more_than_what_is_theirs(start, tmp_path: Path, route) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    far, none = tokens.add("far", ["read"], ["other"]), tokens.add("none", SCOPES, ["neverwas"])
    old = tokens.add("old", SCOPES, expires="2020-01-01T00:00:00Z")
    server = await start("--tokens-file", str(tokens.path), "--deployments", DEPLOYMENTS)
    for token, names in ((far, ["other"]), (none, [])):
        answer = await server.call(route.method, route.path, headers={"Authorization": token})
        assert answer.status == 200
        assert [row["name"] for row in answer.json["deployments"]] == names
        assert b"default" not in answer.body
    for headers, code in (
        ({}, "unauthenticated"),
        ({"X-User": "ann"}, "unauthenticated"),
        ({"Authorization": "dgf_" + "x" * 43}, "credentials_refused"),
        ({"Authorization": old}, "credentials_refused"),
    ):
        answer = await server.call(route.method, route.path, headers=headers)
        assert (answer.status, answer.json["code"]) == (401, code)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


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
    answer = await server.call(route.method, path_of(route), headers=headers, data=body_of(route))
    assert (answer.status, answer.json["code"]) == (403, "origin_refused")
    assert server.service.deployments["default"].current is None


def audited(caplog) -> list[dict[str, str]]:
    return [record.fields for record in caplog.records if record.message == "Audit"]


@pytest.mark.parametrize("header", [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")])
async def test_a_web_page_cannot_use_the_login_that_the_proxy_sees(start, tmp_path: Path, caplog, header) -> None:
    caplog.set_level("INFO")
    tokens = TokensFile(tmp_path / "tokens.toml")
    server = await start("--tokens-file", str(tokens.path), *proxy_flags(tmp_path, tokens, "deploy"))
    login = {"X-User": "ann", PROXY_SECRET_HEADER: PROXY_SECRET, "Host": "dagferry.example.com"}
    path = "/default/dags/upload"
    answer = await server.call("POST", path, headers={**login, header[0]: header[1]}, data=pack(A))
    assert (answer.status, answer.json["code"]) == (403, "origin_refused")
    assert (await server.call("POST", path, headers=login, data=pack(A))).status == 200
    assert [(line["actor"], line["outcome"]) for line in audited(caplog)] == [
        ("proxy:ann", "origin_refused"),
        ("proxy:ann", "ok"),
    ]


async def test_only_the_listener_of_this_machine_alone_wants_to_be_called_so(start) -> None:
    server = await start("--insecure-no-auth", "--admin-listen", "0.0.0.0:0")
    called = {"Host": "10.0.0.7:8001"}
    assert (await server.call("GET", "/healthz", headers=called)).status == 403
    async with server.session.get(f"http://127.0.0.1:{server.admin_port}/metrics", headers=called) as answer:
        assert answer.status == 200


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
    lines = audited(caplog)
    assert [(line["actor"], line["deployment"], line["outcome"]) for line in lines] == [
        ("token:ci", "default", "ok"),
        ("token:ci", "default", "archive_not_recognized"),
        ("token:ann", "default", "forbidden"),
        ("", "default", "credentials_refused"),
        ("", "default", "unauthenticated"),
        ("token:ci", "neverwas", "deployment_not_found"),
    ]
    assert {(line["request"], line["peer"]) for line in lines} == {("POST /{deployment}/dags/upload", "127.0.0.1")}


async def test_an_attempt_at_an_unknown_endpoint_is_audited_too(start, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    server = await start("--tokens-file", str(TokensFile(tmp_path / "tokens.toml").path))
    attempts = [
        ("PUT", "/prod/dags/upload", "method_not_allowed"),
        ("DELETE", "/prod/dags/upload", "method_not_allowed"),
        ("PATCH", "/prod/dags/current", "method_not_allowed"),
        ("POST", "/prod/dags/undo", "route_not_found"),
        ("POST", "/prod/dags/upload/", "route_not_found"),
        ("MKCOL", "/%0A" + "x" * 500, "route_not_found"),
    ]
    for method, path, _ in attempts:
        await server.call(method, path + "?token=dgf_secret")
    for method in ("GET", "HEAD", "OPTIONS"):
        await server.call(method, "/prod/dags/upload")
    assert [(line["request"], line["outcome"]) for line in audited(caplog)] == [
        (f"{method} {path[:200]}", outcome) for method, path, outcome in attempts
    ]
    assert "dgf_secret" not in str(audited(caplog))


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
        assert 'dagferry_server_config_last_reload_successful{file="issuer_keys"} 0.0' in await told.text()
    assert token not in answer.body.decode()
