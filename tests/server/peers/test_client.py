"""Requests to other servers: over TLS with their own certificate, and to IPv6 addresses."""

import pytest

from authorities import make_plain_authority
from dagferry_server.peers.addresses import Place
from dagferry_server.peers.client import Client, Tls, Unanswered
from dagferry_server.peers.wire import FleetRequest
from issuer import make_certificate
from running import eventually
from several_servers import SECRET, hears

REQUEST = FleetRequest(server="0" * 32)


async def test_servers_with_one_certificate_trust_each_other_and_check_the_name(servers, tmp_path) -> None:
    certificate, key = make_certificate(tmp_path)
    tls = ["--tls-cert", certificate, "--tls-key", key]
    # --peers has the name "peers", which the certificate is not for.
    one, other = [await servers.start(*tls, "--peer-server-name", "localhost") for _ in range(2)]
    wrong = await servers.start(*tls)
    servers.find(one, other)
    await eventually("heard", lambda: hears(one, 1) and hears(other, 1))
    await eventually("refused", lambda: "its certificate is not trusted" in wrong.service.peers._shown[2])
    assert "mismatch" in wrong.service.peers._shown[2]


async def test_a_certificate_of_a_private_ca_is_trusted_without_the_ca(servers, tmp_path) -> None:
    make_plain_authority(tmp_path, "private")
    pair = str(tmp_path / "private.pem")
    tls = ["--tls-cert", pair, "--tls-key", pair, "--peer-server-name", "127.0.0.1"]
    one, other = [await servers.start(*tls) for _ in range(2)]
    servers.find(one, other)
    await eventually("heard", lambda: hears(one, 1) and hears(other, 1))
    # Another certificate of this CA is not trusted, since nothing says which CA that is.
    make_plain_authority(tmp_path, "another")
    pair = str(tmp_path / "another.pem")
    third = await servers.start("--tls-cert", pair, "--tls-key", pair, "--peer-server-name", "127.0.0.1")
    await eventually("refused", lambda: "its certificate is not trusted" in third.service.peers._shown[2])


async def test_a_renewed_certificate_is_trusted_after_the_next_failure(tmp_path, servers) -> None:
    certificate, key = make_certificate(tmp_path)
    one = await servers.start("--tls-cert", certificate, "--tls-key", key)
    accepted = [SECRET.encode()]
    client = Client(Place(one.host, one.port), "localhost", lambda: accepted, Tls(certificate, None))
    news = await client.news(REQUEST)
    assert news.server == one.service.peers.id
    before = one.state.certificate.value
    make_certificate(tmp_path)
    await eventually("renewed", lambda: one.state.certificate.value is not before)
    await client.close()
    assert (await client.news(REQUEST)).full
    await client.close(for_good=True)
    with pytest.raises(Unanswered, match="not used any more"):
        await client.news(REQUEST)


async def test_ipv6_addresses_are_reached(servers) -> None:
    one, other = [await servers.start("--listen", "[::1]:0") for _ in range(2)]
    assert one.host == "::1"
    servers.find(one, other)
    await eventually("heard", lambda: hears(one, 1) and hears(other, 1))


async def test_why_there_is_no_answer_is_said(servers, unused_tcp_port) -> None:
    client = Client(Place("127.0.0.1", unused_tcp_port), "peers", lambda: [SECRET.encode()], None)
    with pytest.raises(Unanswered, match="no connection: "):
        await client.news(REQUEST)
    await client.close(for_good=True)
