"""The routes for other servers: on the public listener, with --peers only, and for nobody else."""

import pytest

from dagferry_server.http.peer_routes import PEER_ROUTES
from dagferry_server.http.routes import ROUTES
from dagferry_server.peers.signing import new_nonce, request_headers

BODY = b'{"server": "' + b"0" * 32 + b'", "deployment": "default", "sequence": 1}'


@pytest.fixture
async def server(start, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s" * 32)
    secret.chmod(0o600)
    return await start("--peers", "127.0.0.1:1", "--peer-secret-file", str(secret))


def test_they_are_no_part_of_the_interface_for_clients() -> None:
    assert not {route.path for route in PEER_ROUTES} & {route.path for route in ROUTES}
    assert all(route.public and not route.admin and route.only_reads for route in PEER_ROUTES)


@pytest.mark.parametrize("route", PEER_ROUTES, ids=lambda route: route.path)
async def test_without_a_signature_nothing_is_answered(server, route) -> None:
    answer = await server.call("POST", route.path, data=BODY)
    assert (answer.status, answer.json["code"]) == (403, "peer_refused")
    assert (await server.call("GET", route.path)).status == 405


@pytest.mark.parametrize("route", PEER_ROUTES, ids=lambda route: route.path)
async def test_a_signed_request_is_answered_and_anything_but_such_a_request_refused(server, route) -> None:
    for body, status in ((BODY, 200), (b"{}", 400), (b"\xff", 400)):
        signed = request_headers(b"s" * 32, route.path, body, server.service.clock(), new_nonce())
        assert (await server.call("POST", route.path, data=body, headers=signed)).status == status
