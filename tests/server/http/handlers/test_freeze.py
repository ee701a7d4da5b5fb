"""``POST`` and ``DELETE …/freeze``: what is accepted, what is answered, and what is kept."""

import asyncio
import json
import logging

import pytest

from credentials import TokensFile
from dagferry_server.deploys.freeze import MAX_FREEZE_SECONDS
from dagferry_server.errors import StoreAway
from running import Answer, Running

NOW = 1_800_000_000


async def freeze(server: Running, body: object, deployment: str = "default", **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    return await server.call("POST", f"/{deployment}/dags/freeze", data=data, headers=headers)


async def unfreeze(server: Running) -> Answer:
    return await server.call("DELETE", "/default/dags/freeze")


async def frozen(server: Running) -> object:
    return (await server.get("/-/deployments")).json["deployments"][0]["frozen"]


async def test_a_freeze_is_shown_with_its_reason_its_end_and_who_did_it(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    token = tokens.add("lead", ["admin"])
    server = await start("--tokens-file", str(tokens.path), clock=lambda: NOW)
    answer = await freeze(server, {"reason": "the year-end close", "until": NOW + 60}, Authorization=token)
    shown = {"reason": "the year-end close", "until": NOW + 60, "actor": "token:lead"}
    assert (answer.status, answer.json) == (200, {"deployment": "default", "frozen": shown})
    rows = (await server.get("/-/deployments", Authorization=token)).json["deployments"]
    assert [row["frozen"] for row in rows] == [shown]


async def test_it_is_replaced_by_another_and_lifted_once_and_again(server) -> None:
    for reason in ("first", "second"):
        assert (await freeze(server, {"reason": reason})).status == 200
        assert await frozen(server) == {"reason": reason, "until": None, "actor": "anonymous"}
    for _ in range(2):
        assert (await unfreeze(server)).json == {"deployment": "default", "frozen": None}
    assert await frozen(server) is None


async def test_it_ends_by_itself(start) -> None:
    now = [float(NOW)]
    server = await start(clock=lambda: now[0])
    await freeze(server, {"reason": "release", "until": NOW + 60})
    assert await server.metric('deployment_frozen{deployment="default"}') == 1
    now[0] += 60
    assert await frozen(server) is None
    assert await server.metric('deployment_frozen{deployment="default"}') == 0


async def test_it_survives_a_restart(start) -> None:
    server = await start()
    await freeze(server, {"reason": "release"})
    await server.close()
    server = await start()
    assert await frozen(server) == {"reason": "release", "until": None, "actor": "anonymous"}
    await unfreeze(server)
    await server.close()
    assert await frozen(await start()) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"release",
        b"[]",
        {},
        {"reason": ""},
        {"reason": "  "},
        {"reason": "two\nlines"},
        {"reason": "x" * 301},
        {"reason": 7},
        {"reason": None},
        {"reason": "release", "until": str(NOW + 60)},
        {"reason": "release", "until": NOW + 0.5},
        {"reason": "release", "until": True},
        {"reason": "release", "until": NOW},
        {"reason": "release", "until": NOW - 60},
        {"reason": "release", "until": NOW + MAX_FREEZE_SECONDS + 1},
        {"reason": "release", "until": 10**400},
        {"reason": "release", "utnil": NOW + 60},
        b"x" * 100_000,
    ],
    ids=lambda body: repr(body)[:60],
)
async def test_anything_else_freezes_nothing(start, body) -> None:
    server = await start(clock=lambda: NOW)
    answer = await freeze(server, body)
    assert (answer.status, answer.json["code"]) == (400, "request_invalid")
    assert await frozen(server) is None


async def test_the_longest_reason_and_the_latest_end_are_accepted(start) -> None:
    server = await start(clock=lambda: NOW)
    answer = await freeze(server, {"reason": "é" * 300, "until": NOW + MAX_FREEZE_SECONDS})
    assert answer.status == 200


async def test_a_deployment_that_is_not_there_cannot_be_frozen(server) -> None:
    answer = await freeze(server, {"reason": "release"}, "neverwas")
    assert (answer.status, answer.json["code"]) == (404, "deployment_not_found")


async def test_a_freeze_that_cannot_be_stored_is_none(server, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise StoreAway("The disk is on fire.")

    monkeypatch.setattr(server.service.store, "write_state", fail)
    answer = await freeze(server, {"reason": "release"})
    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    assert await frozen(server) is None


async def test_a_deploy_that_is_under_way_is_completed_first(server) -> None:
    deployment = server.service.deployments["default"]
    async with deployment.lock:
        freezing = asyncio.create_task(freeze(server, {"reason": "release"}))
        await asyncio.sleep(0.05)
        assert await frozen(server) is None
    assert (await freezing).status == 200


async def test_both_are_audit_lines_and_the_reason_is_in_the_log(server, caplog) -> None:
    caplog.set_level(logging.INFO)
    await freeze(server, {"reason": "release"})
    await unfreeze(server)
    lines = [(record.message, record.fields) for record in caplog.records if hasattr(record, "fields")]
    shown = [(text, fields.get("request"), fields.get("reason")) for text, fields in lines]
    assert [line for line in shown if line[0] in {"Audit", "Frozen", "Freeze lifted"}] == [
        ("Frozen", None, "release"),
        ("Audit", "POST /{deployment}/dags/freeze", None),
        ("Freeze lifted", None, None),
        ("Audit", "DELETE /{deployment}/dags/freeze", None),
    ]
