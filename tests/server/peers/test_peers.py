"""Several servers on one store: each is told of a deploy at once, and shows the whole fleet or says that it cannot."""

import asyncio
import socket
import time

import pytest

from dagferry_core.protocol import JSON_TYPE
from dagferry_server.fleet.sidecars import LOST_AFTER_SECONDS
from dagferry_server.peers import client
from dagferry_server.peers import peers as module
from dagferry_server.peers.signing import new_nonce, request_headers
from dagferry_server.peers.wire import PEERS_POKE_PATH, Poke
from running import A, B, eventually
from several_servers import INSTANCE, SECRET, VOLUME, PodOf, hears, kill, status_of, until

pytestmark = pytest.mark.usefixtures("warm")


async def test_a_deploy_is_told_to_the_other_servers_at_once(servers) -> None:
    one, other, third = await servers.open(3)
    waiting = [
        asyncio.create_task(
            server.call("GET", "/default/dags/current", headers={"If-None-Match": '"none"', "Prefer": "wait=20"})
        )
        for server in (other, third)
    ]
    await asyncio.sleep(0.05)
    version = (await one.deploy(A))["version"]
    for answer in await asyncio.gather(*waiting):
        assert answer.json["version"] == version


async def test_every_server_shows_the_pods_of_all(servers) -> None:
    one, other, third = await servers.open(3)
    await one.deploy(A)
    for name, server in (("a", one), ("b", other), ("c", third)):
        await PodOf(name).follow(server)
    for server in (one, other, third):
        await all_live(server, 3)
        found = await status_of(server)
        assert found["servers"] == {"asked": 3, "answered": 3}
        assert [pod["instance"] for pod in found["sidecars"]] == ["a", "b", "c"]
        assert found["reason"].startswith("All 3 pods have")


async def test_a_pod_that_waits_on_another_server_before_there_is_a_deploy_gets_it(servers) -> None:
    one, other = await servers.open(2)
    following = asyncio.create_task(PodOf("a").follow(other))
    fleet = other.service.deployments["default"].fleet
    await eventually("it waits", lambda: any(pod.open for pod in fleet.sidecars.known.values()))
    await one.deploy(A)
    await following
    for server in (one, other):
        await all_live(server, 1)


async def healthy(servers, number: int, pods: int) -> tuple[list, list[PodOf]]:
    """Servers with a deploy, and pods on them in turn that have it."""
    running = await servers.open(number)
    await running[0].deploy(A)
    followers = [PodOf(f"worker-{place}") for place in range(pods)]
    for server in running:
        await eventually("told", lambda server=server: server.service.deployments["default"].highest == 1)
    for place, pod in enumerate(followers):
        await pod.follow(running[place % number])
    for server in running:
        await all_live(server, pods)
    return running, followers


async def all_live(server, pods: int) -> None:
    counts = {"known": pods, "live": pods, "behind": 0, "failing": 0, "lost": 0, "claims_unknown": 0}
    await until(server, "HEALTHY", counts=counts)


# --- never HEALTHY on a partial answer -------------------------------------------------------------------------------


async def test_a_server_that_is_killed_makes_the_status_unknown_and_its_pods_stay_until_they_are_lost(servers) -> None:
    (one, other), _ = await healthy(servers, 2, 2)
    await kill(other)
    found = await until(one, "UNKNOWN", servers={"asked": 2, "answered": 1})
    assert f"1 of 2 servers does not answer, and may know of more pods (127.0.0.1:{other.port}: " in found["reason"]
    assert [pod["state"] for pod in found["sidecars"]] == ["live", "live"]
    servers.lose(other)
    # It is gone for good: what it said last counts until its pods are lost.
    await until(one, "HEALTHY", servers={"asked": 1, "answered": 1})
    clock = one.service.deployments["default"].fleet
    clock.clock = lambda: time.monotonic() + LOST_AFTER_SECONDS
    found = await until(one, "DEGRADED")
    assert "vanished" in found["reason"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "no answer within"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "its answer is not signed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * 99, "no answer within"),
        (b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", "answered with status 302"),
        (b'HTTP/1.1 403 No\r\nContent-Length: 23\r\n\r\n{"code":"peer_refused"}', "status 403 (peer_refused)"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no answer: "),
        (b"", "no answer: "),
    ],
    ids=["silent", "unsigned", "endless", "redirect", "refused", "no-http", "closes"],
)
async def test_a_peer_that_answers_anything_else_is_missing(servers, monkeypatch, answer, why) -> None:
    monkeypatch.setattr(client, "SILENT_SECONDS", 0.3)
    one = await servers.start()
    servers.find(one)
    await one.deploy(A)
    await PodOf("worker-0").follow(one)
    await until(one, "HEALTHY")

    serving = set()

    async def serve(reader, writer) -> None:
        serving.add(asyncio.current_task())
        try:
            await reader.read(100)
            writer.write(answer or b"")
            if answer is None or b"9999999999" in answer:
                await asyncio.sleep(60)
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as bad:
        address = bad.sockets[0].getsockname()[:2]
        servers.places["bad"] = address
        found = await until(one, "UNKNOWN", servers={"asked": 2, "answered": 1})
        await eventually("why", lambda: why in one.service.peers._shown[2])
        assert found["counts"]["live"] == 1
        del servers.places["bad"]
        await until(one, "HEALTHY")
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def test_a_peer_with_another_secret_is_missing_until_the_file_has_it(servers, tmp_path) -> None:
    other_secret = tmp_path / "other"
    other_secret.write_text("o" * 32)
    other_secret.chmod(0o600)
    one, other = await servers.start(), await servers.start(secret=other_secret)
    servers.find(one, other)
    await eventually("refused", lambda: "peer_refused" in one.service.peers._shown[2])
    await eventually("too", lambda: "peer_refused" in other.service.peers._shown[2])
    other_secret.write_text(f"{SECRET}\n")
    await eventually("both hear", lambda: hears(one, 1) and hears(other, 1))


async def test_a_successor_with_another_secret_is_missed_at_once(servers, tmp_path) -> None:
    one, other = await servers.open(2)
    peer = next(each for each in one.service.peers._peers.values() if each.client.place.port == other.port)
    # A server that has no request to answer when it stops can tell nobody.
    await eventually("it is asked", lambda: len(other.service.peers._changed))
    await other.close()
    await eventually("it said so", lambda: peer.left_at > 0 and not peer.is_heard)
    other_secret = tmp_path / "other"
    other_secret.write_text("o" * 32)
    other_secret.chmod(0o600)
    await servers.start("--listen", f"127.0.0.1:{other.port}", secret=other_secret)
    await eventually("missed", lambda: one.service.peers._shown[:2] == (2, 1))


async def test_two_secrets_are_accepted_while_they_are_exchanged(servers, tmp_path) -> None:
    both = tmp_path / "both"
    both.write_text(f"{'n' * 32}\n{SECRET}\n")
    both.chmod(0o600)
    new_first = tmp_path / "new"
    new_first.write_text(f"{SECRET}\n{'n' * 32}\n")
    new_first.chmod(0o600)
    servers.secret = new_first
    one, other = await servers.start(), await servers.start(secret=both)
    servers.find(one, other)
    await eventually("both hear", lambda: hears(one, 1) and hears(other, 1))


async def test_a_peer_whose_clock_is_wrong_by_more_than_a_minute_is_missing(servers) -> None:
    one = await servers.start()
    other = await servers.start(clock=lambda: time.time() + 61)
    servers.find(one, other)
    await eventually("refused", lambda: "peer_refused" in one.service.peers._shown[2])
    other.service.peer_verifier._clock = lambda: time.time() + 59
    await eventually("heard", lambda: hears(one, 1))


async def test_a_server_that_asks_without_being_found_is_missing(servers, monkeypatch) -> None:
    one, other = await servers.open(2)
    servers.lose(other)
    await eventually("only the own address", lambda: len(one.service.peers._peers) == 1)
    # The other one still finds this one, and asks it.
    servers.places.clear()
    assert not hears(one, 0)
    assert one.service.peers._shown[:2] == (2, 1)
    assert "others hear a server that this one does not find by --peers" in one.service.peers._shown[2]


async def test_a_server_that_knows_no_newer_deploy_says_so(servers) -> None:
    (one, other), _ = await healthy(servers, 2, 2)
    other.service.peers.on_poke = lambda _: None
    await one.deploy(B)
    found = await until(other, "UNKNOWN")
    assert found["reason"] == "Another server knows deploy 2 of default; this one has not read it yet."
    await other.service.deployments["default"].refresh()
    await until(other, "DEPLOYING", sequence=2)


async def test_a_pod_that_reports_an_error_is_one_even_if_a_server_is_missing(servers) -> None:
    (one, other), pods = await healthy(servers, 2, 2)
    await kill(other)
    pods[0].error = "no_space: full"
    await pods[0].ask(one)
    await until(one, "DEGRADED", servers={"asked": 2, "answered": 1})


async def test_a_shared_store_without_peers_is_never_healthy_but_for_a_single_server(servers) -> None:
    unsure = await servers.start(peers="")
    await unsure.deploy(A)
    pod = PodOf("worker-0")
    await pod.follow(unsure)
    found = await until(unsure, "UNKNOWN")
    assert "--single-server" in found["reason"]
    single = await servers.start("--single-server", peers="")
    await PodOf("worker-0").follow(single)
    await until(single, "HEALTHY", servers={"asked": 1, "answered": 1})


# --- pods and servers come and go ------------------------------------------------------------------------------------


async def test_in_a_rolling_restart_pods_move_and_none_is_lost_or_counted_twice(servers) -> None:
    running, pods = await healthy(servers, 3, 6)
    states = []
    for place in range(3):
        old = running[place]
        await old.close()
        servers.lose(old)
        running[place] = await servers.start()
        servers.find(running[place])
        for number, pod in enumerate(pods):
            if number % 3 == place:
                await pod.follow(running[(place + 1) % 3])
        for server in running:
            await all_live(server, 6)
            states += [pod["state"] for pod in (await status_of(server))["sidecars"]]
    assert set(states) == {"live"}


async def test_a_server_that_stops_is_not_missed_and_its_pods_are_known_to_new_servers(servers) -> None:
    (one, other), _ = await healthy(servers, 2, 2)
    await other.close()
    await all_live(one, 2)
    assert (await status_of(one))["servers"] == {"asked": 1, "answered": 1}
    servers.lose(other)
    new = await servers.start()
    servers.find(new)
    # It never heard the pod of the server that is gone: this one has told it.
    await all_live(new, 2)


async def test_a_server_that_is_restarted_at_its_address_is_another_one(servers) -> None:
    (one, other), pods = await healthy(servers, 2, 2)
    await kill(other)
    await until(one, "UNKNOWN")
    again = await servers.start("--listen", f"127.0.0.1:{other.port}")
    await all_live(one, 2)
    assert hears(again, 1)
    await all_live(again, 2)
    await pods[1].follow(again)
    await pods[1].end(again)
    await all_live(one, 1)


async def test_a_pod_that_deregisters_on_another_server_is_gone_everywhere(servers) -> None:
    (one, other, third), pods = await healthy(servers, 3, 3)
    await pods[0].end(third)
    for server in (one, other, third):
        await all_live(server, 2)
    # It is the same pod when it comes back.
    await pods[0].follow(other)
    for server in (one, other, third):
        await all_live(server, 3)


async def test_a_pod_that_fails_on_its_new_server_is_not_live_because_of_the_old_one(servers) -> None:
    (one, other), pods = await healthy(servers, 2, 2)
    pods[0].error = "no_space: full"
    await pods[0].ask(other)
    for server in (one, other):
        found = await until(server, "DEGRADED")
        assert found["counts"]["known"] == 2


async def test_expected_pods_are_counted_over_all_servers(servers, tmp_path) -> None:
    file = tmp_path / "deployments.toml"
    file.write_text('deployments = [{ name = "default", expected = { worker = 3 } }]')
    running = await servers.open(2, "--deployments-file", str(file))
    one, other = running
    await one.deploy(A)
    await eventually("told", lambda: other.service.deployments["default"].highest == 1)
    await PodOf("a").follow(one)
    await PodOf("b").follow(other)
    await until(one, "DEGRADED", reason="2 of 3 expected pods of worker are there.")
    third = PodOf("c")
    await third.follow(other)
    for server in running:
        await all_live(server, 3)
    await third.end(one)
    for server in running:
        await until(
            server, "DEPLOYING", reason="2 of 3 expected pods of worker are there; others have ended only just."
        )


async def test_pods_with_one_name_on_two_volumes_are_two(servers) -> None:
    one, other = await servers.open(2)
    await one.deploy(A)
    await eventually("told", lambda: other.service.deployments["default"].highest == 1)
    await PodOf("worker-0", "a" * 32).follow(one)
    await PodOf("worker-0", "b" * 32).follow(other)
    for server in (one, other):
        await all_live(server, 2)


async def test_a_deployment_that_is_deleted_and_created_again_starts_without_pods(servers) -> None:
    one, other = await servers.open(2)
    await one.call("POST", "/-/deployments/preview")
    await one.deploy(A, "preview")
    answer = await one.call("GET", "/preview/dags/current", headers={INSTANCE: "worker-0", VOLUME: "a"})
    assert answer.status == 200
    knowledge = other.service.peers.knowledge.servers[one.service.peers.id]
    await eventually("heard", lambda: "preview" in knowledge.heard and knowledge.heard["preview"].known)
    await one.call("DELETE", "/-/deployments/preview")
    await eventually("forgotten", lambda: "preview" not in knowledge.heard)


# --- addresses -------------------------------------------------------------------------------------------------------


async def test_a_server_finds_itself_and_one_with_two_addresses_is_one(servers) -> None:
    one, other = await servers.open(2)
    servers.places["again"] = ("127.0.0.2", other.port)
    # The other one listens on 127.0.0.1 only, so that this address does not answer.
    await eventually("missing", lambda: one.service.peers._shown[:2] == (3, 2))
    servers.places["again"] = ("localhost", other.port)
    await eventually("once", lambda: hears(one, 1) and hears(other, 1))


async def test_a_name_that_does_not_resolve_yet_is_missing_until_it_does(servers, monkeypatch) -> None:
    def unknown(_):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    real = module.resolve
    monkeypatch.setattr(module, "resolve", unknown)
    one = await servers.start()
    servers.find(one)
    await eventually("why", lambda: "peers:1: Name or service not known" in one.service.peers._shown[2])
    assert one.service.peers._shown[:2] == (2, 1)
    monkeypatch.setattr(module, "resolve", real)
    await eventually("whole", lambda: hears(one, 0))
    # A name that cannot be resolved for a moment has the addresses that it had.
    monkeypatch.setattr(module, "resolve", unknown)
    await asyncio.sleep(0.2)
    assert hears(one, 0)


# --- what is told ----------------------------------------------------------------------------------------------------


async def test_a_freeze_is_told_at_once(servers) -> None:
    one, other = await servers.open(2)
    await one.call("POST", "/default/dags/freeze", json={"reason": "audit"})
    await eventually("frozen", lambda: other.service.deployments["default"].freeze)


async def test_pokes_are_counted_and_forged_or_repeated_ones_refused(servers) -> None:
    one, other = await servers.open(2)
    await one.deploy(A)
    await eventually("told", lambda: other.service.deployments["default"].highest == 1)
    for server, outcome in ((one, "sent"), (other, "received")):
        # Counted once it is answered, and a poll may be quicker than that.
        while await server.metric(f'pokes_total{{outcome="{outcome}"}}') != 1:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    body = Poke(server="0" * 32, deployment="default").model_dump_json().encode()
    forged = request_headers(b"x" * 32, PEERS_POKE_PATH, body, time.time(), new_nonce())
    right = request_headers(SECRET.encode(), PEERS_POKE_PATH, body, time.time(), new_nonce())
    old = request_headers(SECRET.encode(), PEERS_POKE_PATH, body, time.time() - 61, new_nonce())
    seen = []
    for headers in ({}, forged, old, right, right):
        answer = await other.call("POST", PEERS_POKE_PATH, data=body, headers={"Content-Type": JSON_TYPE, **headers})
        seen.append((answer.status, answer.json.get("code")))
    refused = (403, "peer_refused")
    assert seen == [refused, refused, refused, (200, None), refused]
    assert await other.metric('pokes_total{outcome="rejected"}') == 4
    assert await other.metric("peers_known") == await other.metric("peers_answering") == 1


async def test_a_server_without_peers_has_no_endpoint_for_them(server) -> None:
    assert (await server.call("POST", PEERS_POKE_PATH, json={})).status == 404


async def test_it_is_known_whether_another_server_reaches_the_store(servers) -> None:
    one, other = await servers.open(2)
    assert one.service.peers.any_reaches_store()
    other.service.peers.reaches_store = lambda: False
    other.service.peers._note_change()
    await eventually("known", lambda: not one.service.peers.any_reaches_store())


async def test_a_server_that_does_not_reach_the_store_is_ready_unless_another_one_does(servers) -> None:
    one, other = await servers.open(2)
    assert (await one.get("/readyz")).status == (await other.get("/readyz")).status == 200
    one.service.store.away = True
    one.service.following.look_soon(None)
    await eventually("away", lambda: not one.service.following.reaches_store)
    assert (await one.get("/readyz")).status == 503
    other.service.store.away = True
    other.service.following.look_soon(None)
    await eventually("known", lambda: not one.service.peers.any_reaches_store())
    assert (await one.get("/readyz")).status == 200


async def test_connections_that_are_older_than_a_new_server_are_closed_with_their_next_answer(servers) -> None:
    one = await servers.start()
    servers.find(one)
    await one.deploy(A)
    await eventually("alone", lambda: hears(one, 0))
    pod = PodOf("worker-0")
    await pod.follow(one)
    assert "Connection" not in (await pod.ask(one)).headers
    other = await servers.start()
    servers.find(other)
    await eventually("heard", lambda: hears(one, 1))
    assert (await pod.ask(one)).headers["Connection"] == "close"
    assert "Connection" not in (await pod.ask(one)).headers, "it is a new one now"
    assert "Connection" not in (await one.get("/default/dags/status")).headers


async def test_one_server_sends_the_webhooks(servers, tmp_path) -> None:
    running, pods = await healthy(servers, 3, 3)
    sent = []
    for server in running:
        server.service.webhooks.send = lambda _, message, server=server: sent.append((server, message.event))
    pods[1].error = "no_space: full"
    await pods[1].ask(running[1])
    for server in running:
        await until(server, "DEGRADED")
    await eventually("sent", lambda: sent)
    pods[1].error = ""
    await pods[1].follow(running[1])
    for server in running:
        await all_live(server, 3)
    await eventually("sent", lambda: len(sent) > 1)
    leader = min(running, key=lambda server: server.service.peers.id)
    assert sent == [(leader, "degraded"), (leader, "recovered")]
