"""Who calls: every kind of credentials, from the headers of a request."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
from multidict import CIMultiDict

from credentials import issuers_file
from dagferry_server.auth.access import ANYBODY, Caller
from dagferry_server.auth.authenticate import Authenticator
from dagferry_server.auth.headers import bearer
from dagferry_server.auth.proxy import PROXY_SECRET_HEADER, Proxy, parse_secret
from dagferry_server.auth.tokens import new_token, parse_tokens
from dagferry_server.auth.trust import Trust
from dagferry_server.config import watched
from dagferry_server.config.watched import WatchedFile
from dagferry_server.errors import CredentialsRefused
from harness import PATIENCE_SECONDS
from issuer import LocalIssuer

SECRET, ENTRY = new_token("ci", ["deploy"], ["prod"])
PROXY_SECRET = "p" * 32
USERS = 'users = [ { name = "ann", scopes = ["read"], deployments = ["prod"] } ]'


class Setup:
    """A server's credentials: a tokens file, an issuer, a proxy."""

    def __init__(self, folder: Path, issuer: LocalIssuer) -> None:
        self.issuer = issuer
        self.tokens = folder / "tokens.toml"
        self.tokens.write_text(f"tokens = [\n{ENTRY}\n]\n{USERS}")
        (folder / "proxy").write_text(PROXY_SECRET)
        rule = 'claims = { sub = "somebody" }\nscopes = ["sync"]\ndeployments = ["prod"]'
        issuers = issuers_file(folder / "issuers.toml", issuer.url, rule, kind="generic", name="local")
        self.authenticator = Authenticator(
            tokens=WatchedFile(str(self.tokens), partial(parse_tokens, with_users=True)),
            trust=Trust(issuers),
            proxy=Proxy("X-User", WatchedFile(str(folder / "proxy"), parse_secret)),
        )

    async def caller(self, *headers: tuple[str, str]) -> Caller | None:
        return await self.authenticator.authenticate(CIMultiDict(headers))


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with LocalIssuer().served() as issuer:
        yield await asyncio.to_thread(Setup, tmp_path, issuer)


async def test_a_server_without_credentials_lets_in_anybody() -> None:
    open_to_all = Authenticator()
    assert not open_to_all.auth_required
    assert await open_to_all.authenticate(CIMultiDict({"Host": "localhost:1"})) is ANYBODY
    assert await open_to_all.authenticate(CIMultiDict({"Host": "localhost:1", "Authorization": "any"})) is ANYBODY


@pytest.mark.parametrize("form", ["{}", "Bearer {}", "bearer {}", "BEARER   {} "])
async def test_a_token_comes_bare_or_as_bearer(setup: Setup, form: str) -> None:
    caller = await setup.caller(("Authorization", form.format(SECRET)))
    assert caller
    assert caller.actor == "token:ci"


@pytest.mark.parametrize("form", ["{}", "Bearer {}"])
async def test_a_jwt_does_too(setup: Setup, form: str) -> None:
    caller = await setup.caller(("Authorization", form.format(setup.issuer.token())))
    assert caller
    assert caller.actor == "local:somebody"


async def test_a_proxy_s_word_counts_before_what_the_caller_sent_along(setup: Setup) -> None:
    caller = await setup.caller(("Authorization", "Basic abc"), (PROXY_SECRET_HEADER, PROXY_SECRET), ("X-User", "ann"))
    assert caller
    assert caller.actor == "proxy:ann"


async def test_web_pages_are_rejected_where_a_browser_needs_no_secret(setup: Setup) -> None:
    proxied = await setup.caller((PROXY_SECRET_HEADER, PROXY_SECRET), ("X-User", "ann"))
    by_token = await setup.caller(("Authorization", SECRET))
    by_jwt = await setup.caller(("Authorization", setup.issuer.token()))
    assert proxied and by_token and by_jwt  # noqa: PT018 - all of them are somebody
    assert [who.by_browser for who in (ANYBODY, proxied, by_token, by_jwt)] == [True, True, False, False]


async def test_a_name_without_the_proxy_s_secret_is_no_credential(setup: Setup) -> None:
    assert await setup.caller(("X-User", "ann")) is None
    assert await setup.caller() is None


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "dgf_unknown")],
        [("Authorization", SECRET[:-1])],
        [("Authorization", "a.b.c")],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", f"Basic {SECRET}")],
        [("Authorization", f"Bearer Bearer {SECRET}")],
        [("Authorization", f"{SECRET} x")],
        [("Authorization", SECRET), ("Authorization", SECRET)],
        [("Authorization", SECRET), (PROXY_SECRET_HEADER, "wrong")],
        [("Authorization", "\udcff")],
    ],
)
async def test_credentials_that_are_no_good_are_refused_and_not_shown(
    setup: Setup, headers: list[tuple[str, str]]
) -> None:
    with pytest.raises(CredentialsRefused) as caught:
        await setup.caller(*headers)
    assert SECRET not in caught.value.message


async def test_without_issuers_a_jwt_is_an_unknown_token(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"tokens = [{ENTRY}]")
    parse = partial(parse_tokens, with_users=False)
    only_tokens = Authenticator(tokens=await asyncio.to_thread(WatchedFile, str(tmp_path / "tokens"), parse))
    with pytest.raises(CredentialsRefused, match="does not know"):
        await only_tokens.authenticate(CIMultiDict({"Authorization": "a.b.c"}))
    caller = await only_tokens.authenticate(
        CIMultiDict({"Authorization": SECRET, PROXY_SECRET_HEADER: "x", "X-User": "ann"})
    )
    assert caller
    assert caller.actor == "token:ci"


async def test_while_it_runs_a_revoked_token_ends_and_an_error_is_reported(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed() -> list[str]:
        return [name for name, reload in setup.authenticator.reloads.items() if reload.last_error]

    monkeypatch.setattr(watched, "LOOK_EVERY_SECONDS", 0.001)
    assert await setup.caller(("Authorization", SECRET))
    async with setup.authenticator.kept_fresh():
        setup.tokens.write_text("tokens = [")
        await until(lambda: bool(failed()))
        assert failed() == ["tokens"]
        assert await setup.caller(("Authorization", SECRET))
        setup.tokens.write_text("tokens = []\n" + USERS)
        await until(lambda: not failed())
        with pytest.raises(CredentialsRefused):
            await setup.caller(("Authorization", SECRET))
        await until(lambda: len(setup.issuer.asked) > 0)  # its keys, before anybody needed them


def test_no_header_is_no_token() -> None:
    assert bearer(CIMultiDict()) is None
