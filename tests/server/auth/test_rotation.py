"""Keys, tokens and certificates are renewed while requests keep coming, and none of them fails."""

import asyncio
import random
import shutil
import ssl
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from credentials import SCOPES, TokensFile, issuers_file
from dagferry_server.auth import keys
from dagferry_server.config import watched
from harness import PATIENCE_SECONDS, pack
from issuer import LocalIssuer, github_claims, make_certificate, make_key, public_jwk
from running import A, Running, eventually

RULE = 'claims = { repository_id = "123" }\nscopes = ["deploy", "sync"]\ndeployments = ["default"]'
CLIENTS = 8
SOME_REQUESTS = 40
OK = 200


class Load:
    """Clients that ask without a pause, each over a new connection, with whatever token is the newest."""

    def __init__(self, server: Running, token: str, context: ssl.SSLContext | None) -> None:
        scheme = "https" if context else "http"
        self.url = f"{scheme}://{server.host}:{server.port}/default/dags/deploys"
        self.token = token
        self.context = context
        self.statuses: list[int] = []

    async def ask(self) -> None:
        while True:
            self.statuses.append(await status_of(self.url, self.token, self.context))

    async def some_more(self) -> None:
        goal = len(self.statuses) + SOME_REQUESTS
        await eventually("requests to be answered", lambda: len(self.statuses) >= goal)


async def status_of(url: str, token: str, context: ssl.SSLContext | None) -> int:
    """The status of an answer over a connection of its own; 0 if there was none."""
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context or True)) as session,
            session.get(url, headers={"Authorization": token}) as answer,
        ):
            return answer.status
    except aiohttp.ClientError:
        return 0


@asynccontextmanager
async def load(server: Running, token: str, context: ssl.SSLContext | None = None):
    clients = Load(server, token, context)
    tasks = [asyncio.create_task(clients.ask()) for _ in range(CLIENTS)]
    try:
        await clients.some_more()
        yield clients
        await clients.some_more()
        assert set(clients.statuses) == {OK}
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "LOOK_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(keys, "REFRESH_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(keys, "FETCH_EVERY_SECONDS", 0.01)


async def test_a_token_is_rotated_by_two_entries_of_one_name(start, tmp_path: Path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    old = tokens.add("ci", SCOPES)
    server = await start("--tokens-file", str(tokens.path))
    async with load(server, old) as clients:
        new = tokens.add("ci", SCOPES)
        await answered(clients.url, new)
        clients.token = new
        await clients.some_more()
        del tokens.entries[0]
        tokens.write()
        await eventually("the file to be taken", lambda: len(server.service.authenticator._tokens.value.tokens) == 1)
    assert (await server.get("/default/dags/deploys", Authorization=old)).status == 401


async def answered(url: str, token: str, context: ssl.SSLContext | None = None) -> None:
    """Wait until a request is answered with 200."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while (status := await status_of(url, token, context)) != OK:
        assert asyncio.get_running_loop().time() < deadline, status
        await asyncio.sleep(0.01)


async def test_half_a_tokens_file_is_never_taken(start, tmp_path: Path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret = tokens.add("ci", SCOPES)
    tokens.add("more", SCOPES)
    server = await start("--tokens-file", str(tokens.path))
    whole = tokens.path.read_bytes()
    async with load(server, secret) as clients:
        for end in range(0, len(whole), 40):
            tokens.path.write_bytes(whole[:end])
            await asyncio.sleep(0.02)
        tokens.path.write_bytes(whole)
        await clients.some_more()


async def test_an_issuer_rotates_its_keys(start, tmp_path: Path) -> None:
    async with LocalIssuer().served() as issuer:
        issuers = issuers_file(tmp_path / "issuers.toml", issuer.url, RULE)
        server = await start("--issuers-file", issuers)
        async with load(server, issuer.token(**github_claims())) as clients:
            key = make_key()
            issuer.keys.append(public_jwk(key, "k2"))
            asked = len(issuer.asked)
            await eventually("the keys to be fetched", lambda: len(issuer.asked) > asked + 4)
            clients.token = issuer.token(key, kid="k2", **github_claims())
            await clients.some_more()
            del issuer.keys[0]
            asked = len(issuer.asked)
            await eventually("the keys to be fetched again", lambda: len(issuer.asked) > asked + 4)
        withdrawn = await server.get("/default/dags/deploys", Authorization=issuer.token(**github_claims()))
        assert withdrawn.status == 401


async def test_the_rules_of_an_issuer_change_and_another_issuer_comes_and_goes(start, tmp_path: Path) -> None:
    path = tmp_path / "issuers.toml"
    async with LocalIssuer().served() as first, LocalIssuer().served() as second:
        server = await start("--issuers-file", issuers_file(path, first.url, RULE))
        only_first = path.read_text()
        issuers_file(tmp_path / "2", second.url, RULE, name="second")
        with_second = only_first + (tmp_path / "2").read_text()
        theirs, other = second.token(**github_claims()), first.token(**github_claims("456"))
        url = f"http://{server.host}:{server.port}/default/dags/deploys"
        async with load(server, first.token(**github_claims())) as clients:
            assert (await status_of(url, theirs, None), await status_of(url, other, None)) == (401, 401)
            path.write_text(with_second.replace('"123"', '["123", "456"]'))
            await answered(url, theirs)
            await answered(url, other)
            path.write_text(with_second + "\n[[issuers]]\nname = 'half'")
            await eventually("the fault", server.failed_reloads)
            await clients.some_more()
            assert await status_of(url, theirs, None) == OK
            path.write_text(only_first)
            await eventually("the fault to end", lambda: not server.failed_reloads())
            await clients.some_more()
            assert (await status_of(url, theirs, None), await status_of(url, other, None)) == (401, 401)


@pytest.mark.parametrize("first", ["tls.crt", "tls.key"])
async def test_a_certificate_is_renewed_file_by_file(start, tmp_path: Path, first) -> None:
    live = tmp_path / "live"
    for name in ("live", "next"):
        (tmp_path / name).mkdir()
        make_certificate(tmp_path / name)
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret = tokens.add("ci", SCOPES)
    flags = ("--tls-cert", str(live / "tls.crt"), "--tls-key", str(live / "tls.key"))
    any_certificate = ssl.create_default_context()
    any_certificate.check_hostname, any_certificate.verify_mode = False, ssl.CERT_NONE
    only_next = ssl.create_default_context(cafile=str(tmp_path / "next" / "tls.crt"))
    server = await start("--tokens-file", str(tokens.path), *flags)
    async with load(server, secret, any_certificate) as clients:
        assert server.failed_reloads() == []
        for name in sorted(("tls.crt", "tls.key"), key=first.__ne__):
            shutil.copy(tmp_path / "next" / name, live / name)
            await asyncio.sleep(0.1)  # a renewal that takes its time: for so long the two do not go together
            await clients.some_more()
        await answered(clients.url, secret, only_next)
        await eventually("the fault to end", lambda: not server.failed_reloads())


async def test_a_large_bundle_comes_whole_over_tls(start, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=certificate)
    server = await start("--tls-cert", certificate, "--tls-key", key)
    base = f"https://{server.host}:{server.port}/default/dags"
    files = {**A, "model.bin": random.Random(0).randbytes(3_000_000)}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{base}/upload", data=iter_once(pack(files)), ssl=context) as answer:
            version = (await answer.json())["version"]
        async with session.get(f"{base}/versions/{version}", ssl=context) as answer:
            assert len(await answer.read()) == answer.content_length > 3_000_000


async def iter_once(body: bytes):
    yield body
