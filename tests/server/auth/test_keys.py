"""An issuer's keys: at most one fetch a minute, and a known key outlives the issuer's absence."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest

from dagferry_core.errors import SetupError
from dagferry_server.auth import keys as keys_module
from dagferry_server.auth.fetch import FetchFailed
from dagferry_server.auth.keys import FETCH_EVERY_SECONDS, MAX_KEYS_PER_ISSUER, FileKeys, IssuerKeys, parse_keys
from dagferry_server.errors import CredentialsRefused, IssuerUnavailable
from issuer import make_key, public_jwk

K1, K2 = public_jwk(make_key(), "k1"), public_jwk(make_key(), "k2")


class Upstream:
    """An issuer whose clock and answers the test sets; ``keys`` of ``None`` means it is away."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys: list[dict[str, Any]] | None = list(keys)
        self.now = 1000.0
        self.fetches = 0
        self.cache = IssuerKeys("local", self._fetch, clock=lambda: self.now)

    async def _fetch(self) -> Mapping[str, Any]:
        self.fetches += 1
        await asyncio.sleep(0)
        if self.keys is None:
            raise FetchFailed("it is away")
        return {"keys": self.keys}

    async def knows(self, kid: str) -> str:
        """What becomes of a token with this key: its id, or the name of the error."""
        try:
            return str((await self.cache.find(kid, "RS256")).key_id)
        except (CredentialsRefused, IssuerUnavailable) as error:
            return error.code


async def test_a_known_key_takes_no_second_fetch() -> None:
    upstream = Upstream(K1)
    assert [await upstream.knows("k1") for _ in range(3)] == ["k1"] * 3
    assert upstream.fetches == 1


async def test_all_who_wait_share_one_fetch() -> None:
    upstream = Upstream(K1)
    assert await asyncio.gather(*(upstream.knows("k1") for _ in range(100))) == ["k1"] * 100
    assert upstream.fetches == 1


async def test_one_who_goes_away_takes_the_fetch_from_nobody() -> None:
    upstream = Upstream(K1)
    cancelled = asyncio.create_task(upstream.knows("k1"))
    patient = asyncio.create_task(upstream.knows("k1"))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await patient == "k1"
    assert upstream.fetches == 1


async def test_unknown_keys_lead_to_at_most_one_fetch_a_minute() -> None:
    upstream = Upstream(K1)
    for second in range(300):
        upstream.now = 1000.0 + second
        await upstream.knows(f"made-up-{second}")
    assert upstream.fetches == 300 / FETCH_EVERY_SECONDS


async def test_a_failing_issuer_is_asked_no_more_often() -> None:
    upstream = Upstream()
    upstream.keys = None
    for second in range(120):
        upstream.now = 1000.0 + second
        assert await upstream.knows("k1") == "issuer_unavailable"
    assert upstream.fetches == 2


async def test_a_rotated_key_is_found_at_once_if_the_last_fetch_is_a_minute_old() -> None:
    upstream = Upstream(K1)
    await upstream.knows("k1")
    upstream.keys = [K1, K2]
    upstream.now += FETCH_EVERY_SECONDS
    assert await upstream.knows("k2") == "k2"


async def test_within_the_minute_the_answer_is_try_again_and_then_it_is_found() -> None:
    upstream = Upstream(K1)
    await upstream.knows("k1")
    upstream.keys = [K2]
    upstream.now += 12
    with pytest.raises(IssuerUnavailable, match=r"fetched 12 s ago; the next fetch is in 48 s\.") as caught:
        await upstream.cache.find("k2", "RS256")
    assert caught.value.retry_after == 48
    assert "log" not in caught.value.hint
    upstream.now += 48
    assert await upstream.knows("k2") == "k2"


async def test_a_failed_fetch_is_called_one_and_says_when_the_next_is() -> None:
    upstream = Upstream()
    upstream.keys = None
    await upstream.knows("k1")
    upstream.now += 15.5
    with pytest.raises(IssuerUnavailable, match="cannot be fetched") as caught:
        await upstream.cache.find("k1", "RS256")
    assert caught.value.retry_after == 45


async def test_a_key_that_the_issuer_just_said_it_does_not_have_is_refused() -> None:
    upstream = Upstream(K1)
    assert await upstream.knows("k9") == "credentials_refused"


async def test_a_known_key_works_while_the_issuer_is_away() -> None:
    upstream = Upstream(K1)
    await upstream.knows("k1")
    upstream.keys = None
    for _ in range(48):
        upstream.now += 3600
        await upstream.cache.refresh()
        assert await upstream.knows("k1") == "k1"
    assert upstream.cache.last_error == "it is away"
    upstream.keys = [K1]
    upstream.now += FETCH_EVERY_SECONDS
    await upstream.cache.refresh()
    assert upstream.cache.last_error is None


@pytest.mark.parametrize("answer", [[K2], []])
async def test_a_key_that_the_issuer_withdrew_is_refused(answer: list[dict[str, Any]]) -> None:
    upstream = Upstream(K1)
    await upstream.knows("k1")
    upstream.keys = answer
    upstream.now += FETCH_EVERY_SECONDS
    await upstream.cache.refresh()
    upstream.now += FETCH_EVERY_SECONDS
    assert await upstream.knows("k1") == "credentials_refused"


async def test_keys_are_fetched_before_anybody_needs_them_and_again_sooner_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream = Upstream(K1)
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        upstream.now += seconds
        upstream.keys = None if len(naps) == 1 else [K1]
        if len(naps) == 3:
            raise asyncio.CancelledError

    async def fetch() -> Mapping[str, Any]:
        upstream.fetches += 1
        if upstream.keys is None:
            raise FetchFailed("it is away")
        return {"keys": upstream.keys}

    cache = IssuerKeys("local", fetch, clock=lambda: upstream.now)
    monkeypatch.setattr(keys_module.asyncio, "sleep", nap)
    with pytest.raises(asyncio.CancelledError):
        await cache.keep_fresh()
    assert naps == [keys_module.REFRESH_EVERY_SECONDS, FETCH_EVERY_SECONDS, keys_module.REFRESH_EVERY_SECONDS]
    assert upstream.fetches == 3


# --- keys in a file --------------------------------------------------------------------------------------------------


async def test_of_keys_in_a_file_an_unknown_one_is_refused_at_once_and_a_new_one_taken(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"

    def write(*keys: dict[str, Any]) -> None:
        file.write_text(json.dumps({"keys": keys}))

    write(K1)
    keys = await asyncio.to_thread(FileKeys, "local", str(file))
    assert (await keys.find("k1", "RS256")).key_id == "k1"
    for kid, algorithm in (("k2", "RS256"), ("k1", "ES256")):
        with pytest.raises(CredentialsRefused):
            await keys.find(kid, algorithm)
    write(K2)
    for _ in range(2):
        await asyncio.to_thread(keys._file.look)
    assert (await keys.find("k2", "RS256")).key_id == "k2"
    with pytest.raises(CredentialsRefused, match="not among the keys of 'local'"):
        await keys.find("k1", "RS256")


@pytest.mark.parametrize("content", [None, "", "[]", "{}", "{" * 100_000, '{"keys": 1}'])
async def test_a_file_without_keys_is_refused_at_the_start_and_changes_nothing_later(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [K1]}))
    keys = await asyncio.to_thread(FileKeys, "local", str(file))
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    with pytest.raises(SetupError):
        await asyncio.to_thread(FileKeys, "local", str(file))
    for _ in range(2):
        await asyncio.to_thread(keys._file.look)
    assert keys.reload.last_error
    assert (await keys.find("k1", "RS256")).key_id == "k1"


# --- key sets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "verifies"),
    [
        ("RS256", {"RS256", "RS384", "RS512"}),
        ("ES256", {"ES256"}),
        ("ES384", {"ES384"}),
        ("ES512", {"ES512"}),
        ("EdDSA", {"EdDSA"}),
    ],
)
def test_a_key_verifies_what_its_kind_can_and_only_what_it_names(algorithm: str, verifies: set[str]) -> None:
    key = make_key(algorithm)
    named = parse_keys({"keys": [public_jwk(key, "k", algorithm)]})
    assert set(named) == {("k", algorithm)}
    unnamed = parse_keys({"keys": [public_jwk(key, "k", algorithm, alg=None, use=None)]})
    assert set(unnamed) == {("k", name) for name in verifies}


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "k", "alg": "HS256"},
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "k"},
        {**K1, "alg": "HS256"},
        {**K1, "alg": "none"},
        {**K1, "alg": "PS256"},
        {**K1, "use": "enc"},
        {**json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(make_key())), "kid": "k"},  # a private one
        {**K1, "kid": 7},
        {name: value for name, value in K1.items() if name != "kid"},
        {name: value for name, value in K1.items() if name != "n"},
        {**K1, "n": 7},
        {**K1, "kty": ["RSA"]},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "k"},
        {"kty": "OKP", "crv": "Ed448", "x": "AA", "kid": "k"},
        {},
        None,
        "key",
    ],
)
def test_a_key_that_cannot_verify_is_passed_over_and_the_others_count(key: object) -> None:
    assert set(parse_keys({"keys": [key, K2]})) == {("k2", "RS256")}


@pytest.mark.parametrize(
    "document", [{}, {"keys": None}, {"keys": {"k1": K1}}, {"keys": [K1] * (MAX_KEYS_PER_ISSUER + 1)}]
)
def test_what_is_no_key_set_is_a_failed_fetch(document: dict[str, Any]) -> None:
    with pytest.raises(FetchFailed):
        parse_keys(document)


async def test_a_failed_fetch_leaves_the_keys_that_were_there() -> None:
    documents: list[Mapping[str, Any]] = [{"keys": [K1]}, {"error": "sorry"}]
    now = [0.0]

    async def fetch() -> Mapping[str, Any]:
        return documents.pop(0)

    cache = IssuerKeys("local", fetch, clock=lambda: now[0])
    await cache.find("k1", "RS256")
    now[0] += FETCH_EVERY_SECONDS
    await cache.refresh()
    assert cache.last_error
    assert (await cache.find("k1", "RS256")).key_id == "k1"


def test_a_key_that_says_it_verifies_is_used() -> None:
    key = make_key()
    for members in ({"key_ops": ["verify"]}, {"key_ops": ["verify", "encrypt"], "use": None}, {}):
        assert parse_keys({"keys": [public_jwk(key, "k1", **members)]})
