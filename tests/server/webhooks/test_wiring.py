"""Which requests make which messages, with a real server and a real receiver."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from credentials import TokensFile
from dagferry_core.protocol import COMPONENT, ERROR, INSTANCE, LIVE
from harness import pack
from running import A, B, Running, eventually
from webhook_receiver import SECRET, Receiver

JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().served() as receiver:
        yield receiver


@pytest.fixture
def flags(receiver: Receiver, tmp_path: Path) -> list[str]:
    (tmp_path / "webhook-secret").write_bytes(SECRET)
    events = '["deployed", "refused", "degraded", "recovered"]'
    hook = f'{{ url = "{receiver.url}", secret-file = "{tmp_path}/webhook-secret", events = {events} }}'
    file = tmp_path / "deployments.toml"
    file.write_text(
        f'deployments = [ {{ name = "prod", max-files = 5, webhooks = [ {hook} ] }}, {{ name = "silent" }} ]'
    )
    return ["--deployments-file", str(file)]


async def told(server: Running, receiver: Receiver) -> list[tuple[str, str]]:
    """Event and code or kind of every message so far."""
    await eventually("the queues to be empty", lambda: not server.service.webhooks._tasks)
    assert receiver.received == receiver.accepted
    return [
        (request.json["event"], request.json.get("code", request.json.get("kind"))) for request in receiver.received
    ]


async def test_every_kind_of_deploy_is_told_once(start, flags, receiver) -> None:
    server = await start(*flags)
    first = await server.deploy(A, "prod")
    await server.deploy(B, "prod")
    await server.deploy(B, "prod")  # unchanged
    await server.deploy(B, "silent")
    await server.upload(pack(A), "/prod/dags/upload?dry_run=1")
    body = b'{"version": "%s", "description": "back"}' % first["version"].encode()
    assert (await server.call("POST", "/prod/dags/rollback", data=body, headers=JSON)).status == 200
    assert (await server.call("POST", "/prod/dags/promote", data=b'{"from": "silent"}', headers=JSON)).status == 200
    assert await told(server, receiver) == [
        ("deployed", "upload"),
        ("deployed", "upload"),
        ("deployed", "rollback"),
        ("deployed", "promote"),
    ]
    rollback = receiver.received[2].json
    assert (rollback["sequence"], rollback["source"], rollback["description"]) == (3, first["version"], "back")


async def test_what_is_refused_because_of_the_deploy_is_told_and_nothing_else(start, flags, receiver, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    ci, reader = tokens.add("ci", ["deploy", "admin"]), tokens.add("reader", ["read"])
    server = await start(*flags, "--tokens-file", str(tokens.path))

    async def upload(data: bytes, query: str = "", token: str = ci, name: str = "prod") -> int:
        path = f"/{name}/dags/upload{query}"
        return (await server.call("POST", path, data=data, headers={"Authorization": token})).status

    many = pack({f"dag_{number}.py": b"pass\n" for number in range(9)})
    assert await upload(many) == 413
    assert await upload(b"junk") == 422
    assert await upload(b"junk", "?dry_run=1") == 422
    assert await upload(many, name="silent") == 200
    for status, answered in (
        (401, await upload(many, token="dgf_no")),
        (403, await upload(many, token=reader)),
        (403, await upload(many, "?override_freeze=1")),
        (400, await upload(many, "?desciption=typo")),
        (404, await upload(many, name="neverwas")),
        (503, await upload(b"")),
    ):
        assert answered == status
    headers = {"Authorization": ci, **JSON}
    assert (await server.call("POST", "/prod/dags/freeze", data=b'{"reason": "close"}', headers=headers)).status == 200
    assert await upload(pack(A)) == 423
    rollback = b'{"version": "20260101T000000Z-000001"}'
    assert (await server.call("POST", "/prod/dags/rollback", data=rollback, headers=headers)).status == 423
    assert await told(server, receiver) == [
        ("refused", "too_many_files"),
        ("refused", "archive_not_recognized"),
        ("refused", "deployment_frozen"),
        ("refused", "deployment_frozen"),
    ]
    assert {request.json["actor"] for request in receiver.received} == {"token:ci"}


async def test_a_deploy_does_not_wait_for_a_receiver_that_hangs(start, flags, receiver, monkeypatch) -> None:
    monkeypatch.setattr("dagferry_server.webhooks.delivery.CLOSE_SECONDS", 0.05)
    receiver.hangs = True
    server = await start(*flags)
    for files in (A, B):
        await server.deploy(files, "prod")
    await eventually("the first message", lambda: len(receiver.received) == 1)
    assert await server.metric('webhooks_total{deployment="prod",outcome="delivered"}') is None
    await server.close()


async def test_what_was_deployed_right_before_the_end_is_told(start, flags, receiver) -> None:
    server = await start(*flags)
    await server.deploy(A, "prod")
    await server.close()
    assert [request.json["event"] for request in receiver.received] == ["deployed"]


async def test_neither_the_start_nor_a_reload_logs_a_url(start, flags, receiver, caplog, monkeypatch) -> None:
    monkeypatch.setattr("dagferry_server.config.watched.LOOK_EVERY_SECONDS", 0.01)
    caplog.set_level(logging.DEBUG)
    server = await start(*flags)
    file = Path(flags[1])
    await asyncio.to_thread(
        file.write_text, (await asyncio.to_thread(file.read_text)).replace("max-files = 5", "max-files = 6")
    )
    await eventually("the change", lambda: server.service.deployments["prod"].settings.max_files == 6)
    said = str([(record.message, getattr(record, "fields", None)) for record in caplog.records])
    assert "canary" not in said
    assert "'http://127.0.0.1:" in said


async def test_a_fleet_that_degrades_and_recovers_is_told(start, flags, receiver, monkeypatch) -> None:
    monkeypatch.setattr("dagferry_server.fleet.fleet.COALESCE_SECONDS", 0.01)
    server = await start(*flags)
    server.service.deployments["prod"].fleet.first_of_all()
    version = (await server.deploy(A, "prod"))["version"]

    async def report(error: str) -> None:
        headers = {INSTANCE: "worker-0", COMPONENT: "worker", LIVE: version, ERROR: error}
        assert (await server.call("GET", "/prod/dags/current", headers=headers)).status == 200

    async def last(event: str) -> None:
        await eventually(event, lambda: receiver.received and receiver.received[-1].json["event"] == event)

    await report("")
    await report("disk_full: The volume is full.")
    await last("degraded")
    assert "worker-0" in receiver.received[-1].json["reason"]
    await report("")
    await last("recovered")
    assert [request.json["event"] for request in receiver.received] == ["deployed", "degraded", "recovered"]
