"""``POST`` and ``DELETE …/freeze``: what is accepted, what is answered, and what is kept."""

import asyncio
import json
import logging

import pytest

from credentials import TokensFile
from dagferry_server.deploys.freeze import MAX_FREEZE_SECONDS, Freeze, write_freeze
from dagferry_server.errors import StoreAway
from dagferry_server.store.local import LocalStore
from harness import pack
from running import A, Answer, B, Running, eventually

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
        ("Audit", "POST /{deployment}/dags/freeze", "release"),
        ("Freeze lifted", None, None),
        ("Audit", "DELETE /{deployment}/dags/freeze", None),
    ]


# --- what a freeze does ----------------------------------------------------------------------------------------------


async def deploys(server: Running, **headers: str) -> dict[str, tuple[int, str]]:
    """Status and code of every way to deploy something new to ``default``."""
    old = (await server.get("/default/dags/deploys", **headers)).json["deploys"][-1]["version"]
    found = {}
    for name, path, data in (
        ("upload", "/default/dags/upload", pack(B)),
        ("implied upload", "/upload", pack(B)),
        ("dry run", "/default/dags/upload?dry_run=1", pack(B)),
        ("rollback", "/default/dags/rollback", b'{"version": "%s"}' % old.encode()),
        ("promote", "/default/dags/promote", b'{"from": "other"}'),
    ):
        sent = {**headers, **({"Content-Type": "application/json"} if data.startswith(b"{") else {})}
        answer = await server.call("POST", path, data=data, headers=sent)
        found[name] = answer.status, answer.json.get("code", "")
    return found


@pytest.fixture
async def deployed(start) -> Running:
    server = await start("--deployments", "default,other")
    for files in (A, {**A, "new.py": b"pass\n"}):
        await server.deploy(files)
    await server.deploy({"other.py": b"pass\n"}, "other")
    return server


async def test_nothing_is_deployed_while_it_lasts_and_everything_else_goes_on(deployed) -> None:
    before = (await deployed.get("/default/dags/current")).json
    await freeze(deployed, {"reason": "release"})
    assert set((await deploys(deployed)).values()) == {(423, "deployment_frozen")}
    assert (await deployed.get("/default/dags/current")).json == before
    for path in (f"versions/{before['version']}", "download", "deploys"):
        assert (await deployed.get(f"/default/dags/{path}")).status == 200
    assert (await deployed.deploy(A, "other"))["sequence"] == 2
    assert await deployed.metric('uploads_total{deployment="default",outcome="deployment_frozen"}') == 3
    await unfreeze(deployed)
    assert {status for status, _ in (await deploys(deployed)).values()} == {200}


async def test_the_refusal_says_who_froze_it_until_when_and_why(start) -> None:
    server = await start(clock=lambda: NOW)
    for until, shown in ((None, "until it is lifted"), (NOW + 60, "until 2027-01-15T08:01:00Z")):
        await freeze(server, {"reason": "the year-end close", "until": until})
        refusal = (await server.upload(pack(A))).json
        assert refusal["message"] == f"default was frozen by anonymous {shown}: the year-end close"
        assert "override_freeze=1" in refusal["hint"]


async def test_it_ends_by_itself_for_deploys_too(start) -> None:
    now = [float(NOW)]
    server = await start(clock=lambda: now[0])
    await freeze(server, {"reason": "release", "until": NOW + 60})
    assert (await server.upload(pack(A))).status == 423
    now[0] += 60
    assert (await server.upload(pack(A))).status == 200


async def test_only_who_may_and_says_so_passes(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    ci = {"Authorization": tokens.add("ci", ["deploy"])}
    lead = {"Authorization": tokens.add("lead", ["deploy", "override", "admin"])}
    server = await start("--tokens-file", str(tokens.path))
    await freeze(server, {"reason": "release"}, **lead)
    for headers, query, expected in (
        (ci, "", (423, "deployment_frozen")),
        (lead, "", (423, "deployment_frozen")),
        (lead, "?skip_gate=1", (423, "deployment_frozen")),
        (ci, "?override_freeze=1", (403, "forbidden")),
        (lead, "?override_freeze=0", (400, "request_invalid")),
        (lead, "?override_freeze=", (400, "request_invalid")),
        (lead, "?override_freeze=1", (200, "")),
    ):
        answer = await server.call("POST", f"/default/dags/upload{query}", data=pack(A), headers=headers)
        assert (answer.status, answer.json.get("code", "")) == expected
    (deploy,) = (await server.get("/default/dags/deploys", **lead)).json["deploys"]
    assert (deploy["actor"], deploy["flags"]) == ("token:lead", ["override_freeze"])


async def test_a_freeze_that_comes_while_an_upload_comes_in_counts(server) -> None:
    body = pack(A)
    may_go_on = asyncio.Event()

    async def slowly():
        yield body[:50]
        await may_go_on.wait()
        yield body[50:]

    uploading = asyncio.create_task(server.upload(slowly()))
    await eventually("the upload", lambda: len(server.state.upload_slots))
    await freeze(server, {"reason": "release"})
    may_go_on.set()
    assert (await uploading).json["code"] == "deployment_frozen"
    assert server.service.deployments["default"].highest == 0


async def test_a_frozen_deployment_refuses_before_the_body_is_received(server) -> None:
    await freeze(server, {"reason": "release"})
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(
        b"POST /default/dags/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
        b"Content-Type: application/octet-stream\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (await reader.readline()).split()[1] == b"423"
    writer.close()


async def test_the_freeze_of_another_server_counts(server) -> None:
    other = LocalStore(server.service.folder.root)
    await asyncio.to_thread(write_freeze, other, "default", Freeze("release", None, "ann", 1))
    assert (await server.upload(pack(A))).status == 423
    assert await frozen(server) == {"reason": "release", "until": None, "actor": "ann"}
    await asyncio.to_thread(write_freeze, other, "default", None)
    # What is known here refuses early only after it was read again.
    assert (await server.upload(pack(A))).status == 200


async def test_a_damaged_freeze_stops_deploys_until_it_is_replaced_or_lifted(start, tmp_path, caplog) -> None:
    server = await start()
    await server.close()
    (tmp_path / "data/default/freeze.state").write_bytes(b"{")
    server = await start()
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "The freeze of a deployment cannot be read"
    ]
    answer = await server.upload(pack(A))
    assert (answer.status, answer.json["code"]) == (503, "store_damaged")
    assert "freeze" in answer.json["message"]
    assert (await server.get("/default/dags/current")).status == 200
    assert (await server.get("/readyz")).status == 200
    await unfreeze(server)
    assert (await server.upload(pack(A))).status == 200
