"""Every page for every kind of visitor, and what all of them have in common; generated from the table of routes."""

import re

import pytest
from yarl import URL

from credentials import SCOPES, TokensFile
from dagferry_server.auth.access import ANY
from dagferry_server.web.routes import page_routes
from dagferry_server.web.site import Site
from running import A

ROUTES = page_routes(Site())
SCOPED = [route for route in ROUTES if route.scope in SCOPES]
GETS = [route for route in ROUTES if route.method == "GET"]
FORMS = [route for route in ROUTES if route.method == "POST"]
VERSION = "20200101T000000Z-000001"
OWN = {"Sec-Fetch-Site": "same-origin"}
FORM = {"Content-Type": "application/x-www-form-urlencoded", **OWN}


def path_of(route, name: str = "default") -> str:
    path = route.path.replace("{deployment}", name).replace("{version}", VERSION).replace("{path}", "etl.py")
    return path.replace("{name}", "style.css")


def name_of(route) -> str:
    return f"{route.method} {route.path}"


async def ask(server, route, headers: dict[str, str], name: str = "default"):
    more = {"data": b"", "headers": {**FORM, **headers}} if route.method == "POST" else {"headers": headers}
    return await server.call(route.method, path_of(route, name), allow_redirects=False, **more)


def covers(held: str, needed: str) -> bool:
    return held == needed or (held, needed) == ("deploy", "read")


def is_html(answer) -> bool:
    return answer.headers["Content-Type"] == "text/html; charset=utf-8" and answer.body.startswith(b"<!doctype html>")


@pytest.mark.parametrize("route", SCOPED, ids=name_of)
async def test_only_who_has_the_scope_gets_a_page(start, tmp_path, route) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    held = {scope: tokens.add(scope, [scope], ["default"]) for scope in SCOPES}
    far = tokens.add("far", SCOPES, ["other"])
    old = tokens.add("old", SCOPES, ["default"], expires="2020-01-01T00:00:00Z")
    server = await start("--tokens-file", str(tokens.path), "--deployments", "default,other", web=True)
    for token, status in (("", 401), ("dgf_" + "x" * 43, 401), (old, 401), (far, 404)):
        answer = await ask(server, route, {"Authorization": f"Bearer {token}"} if token else {})
        assert (answer.status, is_html(answer)) == (status, True)
        assert b"<h1>Sign in</h1>" in answer.body or b"That did not work" in answer.body
    for scope, token in held.items():
        answer = await ask(server, route, {"Authorization": f"Bearer {token}"})
        assert (answer.status == 403 and b"requires the scope" in answer.body) == (not covers(scope, route.scope))
    unknown = await ask(server, route, {"Authorization": f"Bearer {held['admin']}"}, "nothing")
    hidden = await ask(server, route, {"Authorization": f"Bearer {held['admin']}"}, "other")
    assert unknown.status == hidden.status == 404
    [unknown, hidden] = [re.sub(rb'data-now="[0-9]+"', b"", answer.body) for answer in (unknown, hidden)]
    assert unknown.replace(b"nothing", b"other") == hidden


@pytest.mark.parametrize("route", [route for route in ROUTES if route.scope == ANY], ids=name_of)
async def test_the_list_of_deployments_needs_credentials_and_no_scope(start, tmp_path, route) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    nobody = tokens.add("nobody", ["sync"], ["elsewhere"])
    server = await start("--tokens-file", str(tokens.path), web=True)
    assert (await ask(server, route, {})).status == 401
    # A form also needs the word that was made for its owner.
    assert (await ask(server, route, {"Authorization": f"Bearer {nobody}"})).status == (200 if route in GETS else 403)


def test_what_is_open_to_everybody_says_nothing_about_deployments() -> None:
    assert {route.path for route in ROUTES if route.scope is None} == {
        "/", "/-/ui", "/-/ui/sign-in", "/-/ui/static/{name}", "/-/ui/{path}",
    }  # fmt: skip


def test_every_route_but_the_first_is_below_the_folder_of_the_web_page_and_on_the_public_listener_only() -> None:
    for route in ROUTES:
        assert route.path == "/" or (route.path + "/").startswith("/-/ui/")
        assert (route.public, route.admin) == (True, False)
        assert route.pages is not None


@pytest.mark.parametrize("route", GETS, ids=name_of)
async def test_a_page_of_another_site_may_link_to_a_page_and_nothing_more(start, route) -> None:
    server = await start(web=True)
    await server.deploy(A)
    cross = {"Sec-Fetch-Site": "cross-site"}
    link = {**cross, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await ask(server, route, link)).status != 403
    for more in ({}, {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, {"Origin": "https://evil.example"}):
        assert (await ask(server, route, {**cross, **more})).status == 403
    assert (await ask(server, route, {"Host": "evil.example"})).status == 403


@pytest.mark.parametrize("route", FORMS, ids=name_of)
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": ""},
    ],
    ids=["cross-site", "same-site", "another origin", "no browser"],
)
async def test_no_other_page_can_send_a_form(start, route, headers) -> None:
    server = await start(web=True)
    before = await server.deploy(A)
    answer = await ask(server, route, headers)
    assert (answer.status, b"was not sent by a page of this server" in answer.body) == (403, True)
    assert (await server.get("/default/dags/current")).json["version"] == before["version"]


@pytest.mark.parametrize("route", [route for route in FORMS if "sign-in" not in route.path], ids=name_of)
async def test_a_form_needs_the_word_of_its_owner(start, route) -> None:
    server = await start(web=True)
    for body in (b"", b"word=", b"word=" + b"0" * 64, b"reason=x&lift=1"):
        answer = await server.call("POST", path_of(route), data=body, headers=FORM)
        assert (answer.status, b"made for another session" in answer.body) == (403, True)


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
async def test_every_answer_has_the_headers_that_keep_a_browser_safe(start, route) -> None:
    server = await start(web=True)
    await server.deploy(A)
    for query in ("", "?unknown=1"):
        answer = await server.call(route.method, path_of(route) + query, allow_redirects=False, headers=OWN)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        if answer.headers["Content-Type"].startswith("text/html"):
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self';")
            assert "unsafe" not in policy
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert answer.headers["Referrer-Policy"] == "same-origin"
            assert answer.headers["Cache-Control"] == "no-store, no-transform"
            assert "Content-Encoding" not in answer.headers, "see the module site about compression"


@pytest.mark.parametrize("route", [route for route in GETS if route.answer == ("text/html",)], ids=name_of)
async def test_a_page_has_no_script_style_or_address_of_another_site_in_it(start, route) -> None:
    server = await start(web=True)
    await server.deploy(A)
    text = (await server.get(path_of(route))).body.decode()
    assert not re.search(r"<style|style=|javascript:|\son[a-z]+=|<script(?! src=)|</script>[^\n]", text)
    for address in re.findall(r'(?:src|href|action)="([^"]*)"', text):
        if ":" in address:
            assert address.startswith("https://github.com/dagferry/dagferry/blob/main/docs/"), "only links to the docs"
        else:
            assert not address.startswith("/"), "all others are relative: a proxy may have a path"


@pytest.mark.parametrize("route", [route for route in GETS if route.answer == ("text/html",)], ids=name_of)
async def test_every_page_has_its_json_beside_it(start, route) -> None:
    server = await start(web=True)
    version = (await server.deploy(A))["version"]
    await server.deploy({**A, "new.py": b""})
    path = path_of(route).replace(VERSION, version) + (f"?to={version}" if "rollback" in route.path else "")
    text = (await server.get(path)).body.decode()
    found = re.search(r'<link rel="alternate" type="application/json" href="([^"]*)">', text)
    if not found:
        assert route.path.rpartition("/")[2] in {"{path}", "sign-in"} or route.path.startswith("/-/ui/live/")
        return
    assert f'<a href="{found[1]}">This page as JSON</a>' in text
    base = "/-/ui/" if path in {"/", "/-/ui"} else path.partition("?")[0]
    address = URL(f"http://{server.host}:{server.port}{base}").join(URL(found[1].replace("&amp;", "&")))
    answer = await server.get(address.path_qs)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json


async def test_without_the_setting_there_is_no_web_page(start) -> None:
    server = await start("--no-web", web=True)
    for path in ("/", "/-/ui/"):
        assert (await server.get(path)).status == 404


async def test_head_is_answered_like_get(start) -> None:
    server = await start(web=True)
    answer = await server.call("HEAD", "/-/ui/")
    assert (answer.status, answer.body) == (200, b"")


async def test_the_first_page_is_found_from_the_address_of_the_server(start) -> None:
    server = await start(web=True)
    for path in ("/", "/-/ui"):
        async with server.session.get(path) as answer:
            assert (answer.status, answer.url.path) == (200, "/-/ui/")
    options = await server.call("OPTIONS", "/")
    assert (options.status, options.headers["Allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, POST")


async def test_a_page_that_there_is_none_of_says_so_in_html(start) -> None:
    server = await start(web=True)
    for path in ("/-/ui/x", "/-/ui/deployments/default/x/y", "/-/ui/static/live.py", "/-/ui/deployments/no"):
        answer = await server.get(path)
        assert (answer.status, is_html(answer)) == (404, True)
