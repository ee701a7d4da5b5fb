"""People sign in with a token and get a cookie that counts for pages alone, and ends with the token or with time."""

import html
import re
import time
from urllib.parse import urlencode

import pytest
from yarl import URL

from credentials import TokensFile
from dagferry_server.auth import sessions
from dagferry_server.errors import OriginRefused
from dagferry_server.web.visitors import refuse_plain_http
from running import Running, eventually

OWN = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}


class Person:
    """A browser, as far as the server sees it."""

    def __init__(self, server: Running, **headers: str) -> None:
        self.server = server
        self.cookies: dict[str, str] = {}
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.set_cookie = ""

    async def call(self, method: str, path: str, data: str | None = None, **headers: str):
        cookie = (
            {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        )
        sent = {**(OWN if data is not None else {}), **self.headers, **cookie}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.server.call(
            method, path, headers=sent, allow_redirects=False, **({} if data is None else {"data": data.encode()})
        )
        self.set_cookie = answer.headers.get("Set-Cookie", "")
        if match := re.match(r'([^=]+)="?([^";]*)"?;', self.set_cookie):
            self.cookies[match[1]] = match[2]
            if not match[2]:
                del self.cookies[match[1]]
        return answer

    async def get(self, path: str = "/-/ui/", **headers: str):
        return await self.call("GET", path, **headers)

    async def sign_in(self, token: str, more: str = ""):
        return await self.call("POST", "/-/ui/sign-in", f"token={token}{more}")

    async def word(self, path: str = "/-/ui/") -> str:
        return re.search(r'name="word" value="([0-9a-f]{64})"', (await self.get(path)).body.decode())[1]


@pytest.fixture
def tokens(tmp_path) -> TokensFile:
    return TokensFile(tmp_path / "tokens.toml")


@pytest.fixture
async def server(start, tokens) -> Running:
    return await start("--tokens-file", str(tokens.path), web=True)


async def opened(start, tokens: TokensFile, *flags: str) -> Running:
    return await start("--tokens-file", str(tokens.path), *flags, web=True)


async def test_without_a_session_every_page_is_the_form_to_sign_in(start, tokens) -> None:
    tokens.add("ann", ["read"])
    server = await opened(start, tokens)
    answer = await Person(server).get("/-/ui/deployments/default/deploys?before=5")
    assert answer.status == 401
    assert b'<input type="hidden" name="next" value="deployments/default/deploys?before=5">' in answer.body
    assert b'action="../../sign-in"' in answer.body


async def test_a_token_signs_in_and_leads_to_the_page_that_was_asked_for(start, tokens) -> None:
    secret = tokens.add("ann", ["read"])
    person = Person(await opened(start, tokens))
    answer = await person.sign_in(secret, "&next=deployments/default")
    assert (answer.status, answer.headers["Location"]) == (303, "./deployments/default")
    assert (await person.get()).status == 200
    assert b"token:ann" in (await person.get()).body


async def test_the_cookie_has_no_secret_and_is_kept_from_scripts_and_other_sites(start, tokens) -> None:
    secret = tokens.add("ann", ["read"])
    server = await opened(start, tokens)
    person = Person(server, Host="dags.example.com", Origin="https://dags.example.com")
    await person.sign_in(secret)
    assert person.set_cookie.startswith("__Host-dagferry=1.")
    assert secret[4:] not in person.set_cookie
    attributes = set(person.set_cookie.split("; ")[1:])
    assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/"} < attributes
    assert not any(attribute.startswith("Domain") for attribute in attributes)
    [seconds] = [int(attribute[8:]) for attribute in attributes if attribute.startswith("Max-Age=")]
    assert 0 < sessions.MAX_SESSION_SECONDS - seconds < 60


async def test_on_this_machine_without_tls_the_cookie_has_another_name_with_the_port(start, tokens) -> None:
    secret = tokens.add("ann", ["read"])
    server = await opened(start, tokens)
    person = Person(server)
    await person.sign_in(secret)
    assert list(person.cookies) == [f"dagferry-{server.port}"]
    assert "Secure" not in person.set_cookie
    assert "HttpOnly" in person.set_cookie
    [value] = person.cookies.values()
    person.cookies = {"__Host-dagferry": value}
    assert (await person.get()).status == 401, "a name that only https protects does not count without it"
    person.cookies = {f"dagferry-{server.port}": value}
    assert (await person.get("/-/ui/", Host="dags.example.com")).status == 401


async def test_a_token_is_not_taken_over_plain_http_from_another_machine(start, tokens) -> None:
    secret = tokens.add("ann", ["read"])
    person = Person(await opened(start, tokens), Host="dags.example.com", Origin="http://dags.example.com")
    answer = await person.sign_in(secret)
    assert (answer.status, person.set_cookie) == (403, "")
    assert b"plain HTTP" in answer.body
    assert secret.encode() not in answer.body


async def test_the_cookie_does_not_count_for_the_api(start, tokens) -> None:
    secret = tokens.add("ann", ["deploy", "admin", "sync"])
    server = await opened(start, tokens)
    person = Person(server)
    await person.sign_in(secret)
    for path in ("/default/dags/deploys", "/default/dags/status", "/-/deployments", "/-/whoami"):
        assert (await person.get(path)).status == 401
    assert (await person.call("POST", "/default/dags/rollback", "x")).status == 401


async def test_it_counts_for_the_json_beside_a_page(start, tokens) -> None:
    secret = tokens.add("ann", ["read"])
    person = Person(await opened(start, tokens))
    await person.sign_in(secret)
    assert (await person.get("/-/ui/json/deployments")).json["deployments"][0]["name"] == "default"


async def test_a_wrong_token_says_so_and_does_not_repeat_it(start, tokens) -> None:
    tokens.add("ann", ["read"])
    person = Person(await opened(start, tokens))
    answer = await person.sign_in("dgf_wrong&next=deployments/default")
    assert (answer.status, person.set_cookie) == (401, "")
    assert b"does not know this token" in answer.body
    assert b"dgf_wrong" not in answer.body


async def test_an_expired_token_says_when_it_expired(start, tokens) -> None:
    secret = tokens.add("old", ["read"], expires="2020-01-01T00:00:00Z")
    answer = await Person(await opened(start, tokens)).sign_in(secret)
    assert answer.status == 401
    assert b"expired at 2020-01-01" in answer.body


async def test_a_revoked_token_ends_the_session(start, tokens) -> None:
    secret = tokens.add("ann", ["read"])
    server = await opened(start, tokens)
    person = Person(server)
    await person.sign_in(secret)
    tokens.entries.clear()
    tokens.add("bob", ["read"])
    await eventually("the file to be read", lambda: server.service.authenticator._tokens.value.tokens[0].name == "bob")
    answer = await person.get()
    assert answer.status == 401
    assert b"Your session has ended" in answer.body


async def test_less_scopes_count_at_once(start, tokens) -> None:
    secret = tokens.add("ann", ["deploy"])
    server = await opened(start, tokens)
    person = Person(server)
    await person.sign_in(secret)
    assert (await person.get("/-/ui/deployments/default/rollback?to=1")).status == 404  # nothing is deployed
    tokens.entries[0] = tokens.entries[0].replace('"deploy"', '"read"')
    tokens.write()
    await eventually(
        "the file to be read",
        lambda: "deploy" not in server.service.authenticator._tokens.value.tokens[0].grant.scopes,
    )
    assert (await person.get("/-/ui/deployments/default/rollback?to=1")).status == 403


async def test_a_session_ends_by_itself(start, tokens) -> None:
    secret = tokens.add("ann", ["read"])
    server = await opened(start, tokens)
    person = Person(server)
    await person.sign_in(secret)
    server.service.authenticator._now = lambda: time.time() + sessions.MAX_SESSION_SECONDS + 1
    answer = await person.get()
    assert (answer.status, b"Your session has ended" in answer.body) == (401, True)


async def test_a_session_is_not_longer_than_its_token(start, tokens) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    secret = tokens.add("ann", ["read"], expires=soon)
    person = Person(await opened(start, tokens))
    await person.sign_in(secret)
    assert 0 < int(re.search("Max-Age=([0-9]+)", person.set_cookie)[1]) <= 600


async def test_servers_with_one_key_file_share_sessions_and_forms(start, tokens, tmp_path) -> None:
    secret = tokens.add("ann", ["read"])
    key = tmp_path / "key"
    key.write_text("k" * 32)
    one = Person(await opened(start, tokens, "--web-key-file", str(key)))
    await one.sign_in(secret)
    other = Person(await opened(start, tokens, "--web-key-file", str(key), "--data-dir", str(tmp_path / "other")))
    [value] = one.cookies.values()
    other.cookies = {f"dagferry-{other.server.port}": value}
    assert (await other.get()).status == 200
    third = Person(await opened(start, tokens, "--data-dir", str(tmp_path / "third")))
    third.cookies = {f"dagferry-{third.server.port}": value}
    assert (await third.get()).status == 401


async def test_another_key_in_the_file_ends_all_sessions(start, tokens, tmp_path) -> None:
    secret = tokens.add("ann", ["read"])
    key = tmp_path / "key"
    key.write_text("k" * 32)
    server = await opened(start, tokens, "--web-key-file", str(key))
    person = Person(server)
    await person.sign_in(secret)
    key.write_text("l" * 32)
    await eventually("the key to be read", lambda: server.service.authenticator._web_key.value == b"l" * 32)
    assert (await person.get()).status == 401
    assert "web_key" in server.service.reloads


async def test_signing_out_takes_the_cookie(start, tokens) -> None:
    secret = tokens.add("ann", ["read"])
    person = Person(await opened(start, tokens))
    await person.sign_in(secret)
    answer = await person.call("POST", "/-/ui/sign-out", f"word={await person.word()}")
    assert (answer.status, answer.headers["Location"]) == (303, "./sign-in")
    assert "Max-Age=0" in person.set_cookie
    assert (await person.get()).status == 401


async def test_a_form_of_another_tab_that_signed_in_again_is_refused(start, tokens) -> None:
    ann, bob = tokens.add("ann", ["read", "admin"]), tokens.add("bob", ["read", "admin"])
    person = Person(await opened(start, tokens))
    await person.sign_in(ann)
    word = await person.word("/-/ui/deployments/default")
    await person.sign_in(bob)
    answer = await person.call("POST", "/-/ui/deployments/default/freeze", f"word={word}&reason=x")
    assert (answer.status, b"Nothing was changed" in answer.body) == (403, True)


@pytest.mark.parametrize(
    "asked", ["//evil.example", "https://evil.example", "/", "../../prod/dags/current", "deployments/../../x",
              "deployments/%252e%252E/%252e%252e/x", "deployments/x/.%252e/y", "deployments/./x", "deployments//evil",
              "javascript:alert(1)", "deployments/x%0d%0aSet-Cookie:a=b", "sign-out", "%5C%5Cevil.example"],
)  # fmt: skip
async def test_signing_in_leads_to_our_pages_only(start, tokens, asked) -> None:
    secret = tokens.add("ann", ["read"])
    person = Person(await opened(start, tokens))
    answer = await person.sign_in(secret, f"&next={asked}")
    assert (answer.status, person.set_cookie) == (400, "")


@pytest.mark.parametrize(
    "asked",
    ["deployments/default?path=dags/my%2Bfile.py", "deployments/default/diff?path=a+b.py&first=0",
     "deployments/default/versions/1/files/a..b%20c.py", "deployments/default/deploys?before=5"],
)  # fmt: skip
async def test_the_form_to_sign_in_leads_back_to_every_page(start, tokens, asked) -> None:
    secret = tokens.add("ann", ["read"])
    person = Person(await opened(start, tokens))
    answer = await person.call("GET", URL(f"/-/ui/{asked}", encoded=True))
    leads = html.unescape(re.search(r'name="next" value="([^"]*)"', answer.body.decode())[1])
    assert leads == asked
    answer = await person.sign_in(secret, "&" + urlencode({"next": leads}))
    assert (answer.status, answer.headers["Location"]) == (303, f"./{asked}")


async def test_a_page_that_signing_in_cannot_lead_to_is_no_dead_end(start, tokens) -> None:
    tokens.add("ann", ["read"])
    person = Person(await opened(start, tokens))
    for asked in ("json/deployments", "deployments/default?x=%22%5C\\", "deployments//default"):
        answer = await person.call("GET", URL(f"/-/ui/{asked}", encoded=True))
        assert b'name="next" value=""' in answer.body or answer.status == 404


async def test_a_proxy_with_tls_that_hides_the_name_is_named_and_no_cookie_is_set(start, tokens) -> None:
    """nginx sends ``Host: 127.0.0.1:8000`` by default: the cookie would be one that plain HTTP betrays."""
    secret = tokens.add("ann", ["read"])
    server = await opened(start, tokens)
    answer = await Person(server, Origin="https://dags.example.com").sign_in(secret)
    assert (answer.status, answer.headers.get("Set-Cookie")) == (403, None)
    assert b"proxy_set_header Host" in answer.body
    assert (await Person(server, Origin="https://localhost:8443").sign_in(secret)).status == 303


async def test_who_is_signed_in_is_not_asked_again(start, tokens) -> None:
    secret = tokens.add("ann", ["read"])
    person = Person(await opened(start, tokens))
    assert (await person.get("/-/ui/sign-in")).status == 200
    await person.sign_in(secret)
    assert (await person.get("/-/ui/sign-in")).headers["Location"] == "./"


async def test_a_server_without_tokens_says_where_people_sign_in(start, tokens, tmp_path) -> None:
    tokens.users = ['{ name = "ann", scopes = ["read"], deployments = ["*"] }']
    tokens.write()
    (tmp_path / "secret").write_text("p" * 32)
    flags = ["--proxy-user-header", "X-User", "--proxy-secret-file", str(tmp_path / "secret")]
    server = await opened(start, tokens, *flags)
    answer = await Person(server).get()
    assert (answer.status, b"at the proxy in front" in answer.body, b"<form" in answer.body) == (401, True, False)
    proxied = Person(server, X_User="ann", Dagferry_Proxy_Secret="p" * 32)
    answer = await proxied.get()
    assert (answer.status, b"proxy:ann" in answer.body, b"Sign out" in answer.body) == (200, True, False)


@pytest.mark.parametrize("body", ["token=a&token=b", "token=%ff", "&".join(f"a{n}=" for n in range(50)), "x=1"])
async def test_a_malformed_form_is_refused(start, tokens, body) -> None:
    tokens.add("ann", ["read"])
    assert (await Person(await opened(start, tokens)).call("POST", "/-/ui/sign-in", body)).status == 400


async def test_signing_in_is_in_the_audit_log_without_the_token(start, tokens, caplog) -> None:
    secret = tokens.add("ann", ["read"])
    person = Person(await opened(start, tokens))
    caplog.clear()
    with caplog.at_level("INFO"):
        await person.sign_in(secret)
        await person.sign_in("dgf_wrong")
    lines = [record.fields for record in caplog.records if record.message == "Audit"]
    assert [(line["actor"], line["outcome"]) for line in lines] == [("token:ann", "ok"), ("", "credentials_refused")]
    assert secret not in caplog.text


def test_plain_http_is_refused_by_the_origin_that_the_browser_names() -> None:
    class Request:
        def __init__(self, origin: str) -> None:
            self.headers = {"Origin": origin} if origin else {}

    for origin in ("", "https://dags.example.com", "http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000"):
        refuse_plain_http(Request(origin))  # type: ignore[arg-type]
    for origin in ("http://dags.example.com", "http://10.0.0.1:8000"):
        with pytest.raises(OriginRefused, match="plain HTTP"):
            refuse_plain_http(Request(origin))  # type: ignore[arg-type]
