"""Every request to deploy is counted by its kind, and its audit line says what was asked for and what came of it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from credentials import TokensFile
from dagferry_core.tokens import SCOPES
from dagferry_server.http.audit import MAX_NOTE_CHARACTERS
from harness import pack
from running import A, B, Running

UPLOAD, ROLLBACK, PROMOTE = (f"/default/dags/{name}" for name in ("upload", "rollback", "promote"))
NOTES = ("kind", "under", "source", "flags", "dry_run", "version", "unchanged", "reason", "until")


async def count(server: Running, kind: str, outcome: str, deployment: str = "default") -> float:
    return await server.metric(f'deploys_total{{deployment="{deployment}",kind="{kind}",outcome="{outcome}"}}')


def audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return what the audit lines say beside who, what and with which outcome."""
    lines: list[Mapping[str, Any]] = [record.fields for record in caplog.records if record.message == "Audit"]
    return [{name: line[name] for name in NOTES if name in line} for line in lines]


async def test_every_kind_is_counted_by_its_outcome(start) -> None:
    server = await start("--deployments", "default,staging")
    for kind in ("upload", "rollback", "promote"):
        assert await count(server, kind, "ok") == await count(server, kind, "unchanged") == 0
    first = (await server.deploy(A))["version"]
    await server.deploy(B)
    await server.deploy(A, "staging")
    for path, body in (
        (f"{ROLLBACK}?dry_run=1", {"version": first}),
        (ROLLBACK, {"version": first}),
        (ROLLBACK, {"version": first}),
        (ROLLBACK, {"version": "20200101T000000Z-000099"}),
        (ROLLBACK, {"version": 1}),
        (PROMOTE, {"from": "staging"}),
        (PROMOTE, {"from": "nowhere"}),
        ("/nowhere/dags/promote", {"from": "staging"}),
    ):
        await server.call("POST", path, json=body)
    for outcome in ("ok", "unchanged", "dry_run", "version_not_found", "request_invalid"):
        assert await count(server, "rollback", outcome) == 1
    for outcome, deployment in (
        ("unchanged", "default"),
        ("deployment_not_found", "default"),
        ("deployment_not_found", ""),
    ):
        assert await count(server, "promote", outcome, deployment) == 1
    assert await count(server, "upload", "ok") == 2
    assert await server.metric('uploads_total{deployment="default",outcome="ok"}') == 2


async def test_the_audit_line_has_what_was_deployed_where_from_and_what_it_bypassed(start, caplog) -> None:
    server = await start("--deployments", "default,staging")
    caplog.set_level(logging.INFO)
    first = (await server.upload(pack(A), f"{UPLOAD}?under=team-a/&skip_gate=1")).json["version"]
    second = (await server.upload(pack(B), f"{UPLOAD}?under=team-a/&allow_removals=1")).json["version"]
    body = {"version": first, "under": "team-a/"}
    third = (await server.call("POST", f"{ROLLBACK}?override_freeze=1", json=body)).json["version"]
    await server.call("POST", f"{ROLLBACK}?dry_run=1", json={"version": second})
    fourth = (await server.promote("default", "staging")).json["version"]
    await server.promote("default", "staging", version=third)
    assert audited(caplog) == [
        {"kind": "upload", "under": "team-a/", "flags": ["skip_gate"], "version": first},
        {"kind": "upload", "under": "team-a/", "flags": ["allow_removals"], "version": second},
        {"kind": "rollback", "under": "team-a/", "source": first, "flags": ["override_freeze"], "version": third},
        {"kind": "rollback", "source": second, "dry_run": True, "version": third},
        {"kind": "promote", "source": f"default@{third}", "version": fourth},
        {"kind": "promote", "source": f"default@{third}", "version": fourth, "unchanged": True},
    ]
    deployed = [record.fields for record in caplog.records if record.message == "Deployed"]
    assert [line["flags"] for line in deployed] == [["skip_gate"], ["allow_removals"], ["override_freeze"], None]


async def test_what_was_rejected_has_what_was_asked_for(start, tmp_path: Path, caplog) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    ci = {"Authorization": tokens.add("ci", ["read", "deploy"])}
    admin = {"Authorization": tokens.add("admin", SCOPES)}
    server = await start("--tokens-file", str(tokens.path))
    await server.call("POST", f"{ROLLBACK}?skip_gate=1", json={"version": "x"}, headers=ci)
    await server.call("POST", ROLLBACK, json={"version": "x\n" + "y" * 5000, "under": "team-a"}, headers=ci)
    await server.call("POST", PROMOTE, json={"from": "nowhere", "version": "x"}, headers=ci)
    await server.call("POST", "/default/dags/freeze", json={"reason": "release", "until": 1}, headers=admin)
    assert audited(caplog) == [
        {"kind": "rollback", "flags": ["skip_gate"]},
        {"kind": "rollback", "source": "x\\n" + "y" * (MAX_NOTE_CHARACTERS - 2), "under": "team-a"},
        {"kind": "promote", "source": "nowhere@x"},
        {"reason": "release", "until": 1},
    ]
