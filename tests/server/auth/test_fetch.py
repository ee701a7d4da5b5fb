"""Fetching keys: bounded, without redirects, and the server's own token only to the host that was configured."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from authorities import make_plain_authority, strict_as_from_python_3_13
from dagferry_server.auth import fetch
from dagferry_server.auth.fetch import MAX_DOCUMENT_BYTES, FetchFailed, fetch_keys
from dagferry_server.auth.issuers import DISCOVERY_PATH, Issuer, KeySource
from issuer import LocalIssuer, make_certificate


@pytest.fixture
async def local() -> AsyncIterator[LocalIssuer]:
    async with LocalIssuer().served() as issuer:
        yield issuer


def issuer_at(local: LocalIssuer, *, url: str | None = None, **source: str | None) -> Issuer:
    nothing = dict.fromkeys(KeySource._fields)
    if "jwks_url" not in source:
        source["discovery"] = local.url + DISCOVERY_PATH
    return Issuer("local", "generic", url or local.url, "dagferry", KeySource(**{**nothing, **source}), ())


async def test_keys_come_by_discovery_or_by_url(local: LocalIssuer) -> None:
    assert await fetch_keys(issuer_at(local)) == {"keys": local.keys}
    assert [path for path, _ in local.asked] == [DISCOVERY_PATH, "/keys"]
    assert await fetch_keys(issuer_at(local, jwks_url=local.url + "/elsewhere")) == {"keys": local.keys}
    assert [path for path, _ in local.asked[2:]] == ["/elsewhere"]


@pytest.mark.parametrize(
    ("accept", "discovery", "keys"),
    [
        ("application/json", 200, 406),
        ("application/jwk-set+json", 406, 200),
        ("application/*", 406, 406),
        ("*/*", 200, 200),
    ],
)
async def test_the_issuer_of_these_tests_serves_each_document_as_one_type(
    local: LocalIssuer, accept: str, discovery: int, keys: int
) -> None:
    async with aiohttp.ClientSession(local.url, headers={"Accept": accept}) as session:
        assert [(await session.get(path)).status for path in (DISCOVERY_PATH, "/keys")] == [discovery, keys]


@pytest.mark.parametrize(
    ("status", "text", "why"),
    [
        (404, "", "answered 404"),
        (500, "", "answered 500"),
        (204, "", "answered 204"),
        (200, "", "is not JSON"),
        (200, "<html>", "is not JSON"),
        (200, "[]", "is not a JSON object"),
        (200, "[" * 100_000, "is not JSON"),
        (200, " " * (MAX_DOCUMENT_BYTES + 1), "more than"),
    ],
)
async def test_an_answer_that_is_no_key_set_fails(local: LocalIssuer, status: int, text: str, why: str) -> None:
    local.answers["/keys"] = web.Response(status=status, text=text)
    with pytest.raises(FetchFailed, match=why):
        await fetch_keys(issuer_at(local))


async def test_a_packed_answer_counts_unpacked(local: LocalIssuer) -> None:
    answer = web.Response(text=" " * (MAX_DOCUMENT_BYTES + 1))
    answer.enable_compression(web.ContentCoding.gzip)
    local.answers["/keys"] = answer
    with pytest.raises(FetchFailed, match="more than"):
        await fetch_keys(issuer_at(local))


@pytest.mark.parametrize("path", [DISCOVERY_PATH, "/keys"])
async def test_no_redirect_is_followed(local: LocalIssuer, path: str) -> None:
    local.answers[path] = web.Response(status=302, headers={"Location": local.url + "/other"})
    with pytest.raises(FetchFailed, match="answered 302"):
        await fetch_keys(issuer_at(local))
    assert "/other" not in [asked for asked, _ in local.asked]


async def test_discovery_must_be_for_the_issuer_itself(local: LocalIssuer) -> None:
    with pytest.raises(FetchFailed, match="is for the issuer"):
        await fetch_keys(issuer_at(local, url="https://issuer.example"))
    assert len(local.asked) == 1


@pytest.mark.parametrize("jwks_uri", [None, "http://10.0.0.1/keys", "file:///etc/passwd", "/keys", 7])
async def test_discovery_must_name_a_safe_place(local: LocalIssuer, jwks_uri: object) -> None:
    local.answers[DISCOVERY_PATH] = web.json_response({"issuer": local.url, "jwks_uri": jwks_uri})
    with pytest.raises(FetchFailed, match="jwks_uri"):
        await fetch_keys(issuer_at(local))


async def test_the_server_s_token_is_read_at_each_fetch_and_sent_along(local: LocalIssuer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    for value in ("first", "second"):
        file.write_text(value + "\n")
        await fetch_keys(issuer_at(local, bearer_token_file=str(file)))
    assert [bearer for _, bearer in local.asked] == ["Bearer first"] * 2 + ["Bearer second"] * 2


async def test_the_server_s_token_goes_to_no_other_host(local: LocalIssuer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("mine")
    async with LocalIssuer().served() as other:
        local.answers[DISCOVERY_PATH] = web.json_response({"issuer": local.url, "jwks_uri": other.url + "/keys"})
        await fetch_keys(issuer_at(local, bearer_token_file=str(tmp_path / "token")))
        assert local.asked == [(DISCOVERY_PATH, "Bearer mine")]
        assert other.asked == [("/keys", None)]


@pytest.mark.parametrize("content", [None, "", "a\nb", "ä"])
async def test_a_token_file_that_holds_none_fails_and_shows_nothing(
    local: LocalIssuer, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(FetchFailed, match="token"):
        await fetch_keys(issuer_at(local, bearer_token_file=str(tmp_path / "token")))
    assert not local.asked


async def test_an_issuer_that_nobody_answers_for_fails(local: LocalIssuer) -> None:
    with pytest.raises(FetchFailed, match="ClientConnectorError"):
        await fetch_keys(issuer_at(local, jwks_url="http://127.0.0.1:1/keys"))


async def test_a_slow_issuer_fails(local: LocalIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FETCH_SECONDS", 0.000_001)
    with pytest.raises(FetchFailed, match="took longer"):
        await fetch_keys(issuer_at(local))


async def test_a_proxy_of_the_environment_is_honoured(local: LocalIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", local.url)
    monkeypatch.delenv("no_proxy", raising=False)
    assert await fetch_keys(issuer_at(local, jwks_url="http://localhost:1/through-the-proxy")) == {"keys": local.keys}


@pytest.mark.parametrize(
    "proxy", ["http://u:CANARY/PW@127.0.0.1:1", "http://u:CANARY\u2100@127.0.0.1", "u:CANARY@127.0.0.1:1"]
)
async def test_a_proxy_s_password_is_not_shown(local: LocalIssuer, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(FetchFailed, match="the proxy") as caught:
        await fetch_keys(issuer_at(local, jwks_url="http://localhost:1/keys"))
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "why"), [(None, "cannot be read: No such file"), ("no certificate", "cannot be used")]
)
async def test_a_ca_file_that_cannot_be_used_fails(
    local: LocalIssuer, tmp_path: Path, content: str | None, why: str
) -> None:
    if content:
        (tmp_path / "ca").write_text(content)
    with pytest.raises(FetchFailed, match=why):
        await fetch_keys(issuer_at(local, ca_file=str(tmp_path / "ca")))


async def test_the_ca_file_is_the_one_ca_that_is_trusted(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with LocalIssuer().served(ssl=context) as local:
        assert local.url.startswith("https")
        assert await fetch_keys(issuer_at(local, ca_file=certificate)) == {"keys": local.keys}
        with pytest.raises(FetchFailed, match="Certificate"):
            await fetch_keys(issuer_at(local))


async def test_a_cluster_s_ca_without_key_usage_and_key_identifiers_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict_as_from_python_3_13(monkeypatch)
    ca_file, context = make_plain_authority(tmp_path)
    async with LocalIssuer().served(ssl=context) as local:
        assert await fetch_keys(issuer_at(local, ca_file=ca_file)) == {"keys": local.keys}
