"""What a server answers to another one; see also ``tests/server/peers``."""

import asyncio
import time

import pytest

from dagferry_server.peers.signing import is_signed_answer, new_nonce, request_headers
from dagferry_server.peers.wire import PEERS_FLEET_PATH, PEERS_POKE_PATH, FleetRequest, News, Poke, Since, decode
from running import A

SECRET = b"s" * 32


@pytest.fixture
async def ask(start, tmp_path):
    """Ask a server as another one does."""
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    server = await start("--peers", "127.0.0.1:1", "--peer-secret-file", str(secret))

    async def signed(path: str, message):
        body, nonce = message.model_dump_json().encode(), new_nonce()
        headers = request_headers(SECRET, path, body, time.time(), nonce)
        answer = await server.call("POST", path, data=body, headers=headers)
        assert answer.status == 200
        assert is_signed_answer([SECRET], nonce, answer.body, answer.headers)
        return answer

    return server, signed


async def test_it_tells_what_the_other_one_does_not_know(ask) -> None:
    server, signed = ask
    await server.call("GET", "/default/dags/current", headers={"Dagferry-Instance": "worker-0"})
    news = decode(News, (await signed(PEERS_FLEET_PATH, FleetRequest(server="1" * 32))).body)
    assert news.full
    assert [pod.instance for pod in news.deployments["default"].pods] == ["worker-0"]
    since = Since(server=news.server, revision=news.revision, change=news.change)
    again = decode(News, (await signed(PEERS_FLEET_PATH, FleetRequest(server="1" * 32, since=since))).body)
    assert (again.full, again.deployments) == (False, {})
    # Of another process, nothing is known.
    since = Since(server="2" * 32, revision=news.revision, change=news.change)
    assert decode(News, (await signed(PEERS_FLEET_PATH, FleetRequest(server="1" * 32, since=since))).body).full


async def test_a_request_waits_until_something_is_new(ask) -> None:
    server, signed = ask
    news = decode(News, (await signed(PEERS_FLEET_PATH, FleetRequest(server="1" * 32))).body)
    since = Since(server=news.server, revision=news.revision, change=news.change)
    waiting = FleetRequest(server="1" * 32, since=since, wait=5.0)
    asked = asyncio.create_task(signed(PEERS_FLEET_PATH, waiting))
    await asyncio.sleep(0.05)
    assert not asked.done()
    await server.deploy(A)
    assert decode(News, (await asked).body).deployments["default"].head == 1


async def test_a_server_that_asks_for_itself_learns_only_that(ask) -> None:
    server, signed = ask
    await server.call("GET", "/default/dags/current", headers={"Dagferry-Instance": "worker-0"})
    own = FleetRequest(server=server.service.peers.id)
    news = decode(News, (await signed(PEERS_FLEET_PATH, own)).body)
    assert (news.server, news.deployments) == (server.service.peers.id, {})


@pytest.mark.parametrize(
    ("poke", "looked"),
    [
        ({"deployment": "default", "sequence": 1}, []),
        ({"deployment": "default", "sequence": 2}, ["default"]),
        ({"deployment": "default"}, [None]),
        ({"deployment": "not-known-yet", "sequence": 1}, [None]),
    ],
)
async def test_a_poke_makes_it_look_unless_it_knows_already(ask, poke, looked) -> None:
    server, signed = ask
    await server.deploy(A)
    seen = []
    server.service.peers.on_poke = seen.append
    await signed(PEERS_POKE_PATH, Poke(server="1" * 32, **poke))
    assert seen == looked


@pytest.mark.parametrize("path", [PEERS_FLEET_PATH, PEERS_POKE_PATH])
async def test_what_no_server_with_the_secret_has_signed_is_refused_and_a_poke_is_counted(ask, path) -> None:
    server, _ = ask
    body = FleetRequest(server="1" * 32).model_dump_json().encode()
    another = request_headers(b"o" * 32, path, body, time.time(), new_nonce())
    for headers in ({}, another):
        answer = await server.call("POST", path, data=body, headers=headers)
        assert (answer.status, answer.json["code"]) == (403, "peer_refused")
    rejected = server.service.metrics.pokes.labels("rejected")
    assert rejected._value.get() == (2 if path == PEERS_POKE_PATH else 0)


async def test_a_signed_message_that_is_invalid_is_named(ask) -> None:
    server, _ = ask
    headers = request_headers(SECRET, PEERS_POKE_PATH, b"{}", time.time(), new_nonce())
    answer = await server.call("POST", PEERS_POKE_PATH, data=b"{}", headers=headers)
    assert answer.status == 400
    assert "The body is invalid" in answer.json["message"]
