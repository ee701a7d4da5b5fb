"""``POST …/reports``: who may report, what is accepted, and what the status shows of it."""

import asyncio
import json
import logging

import pytest

from credentials import TokensFile
from dagferry_core.protocol import MAX_REPORT_BYTES
from dagferry_server.auth.authenticate import Authenticator
from dagferry_server.errors import StoreAway
from dagferry_server.fleet import reporters as reporters_module
from dagferry_server.http import concurrency
from harness import PATIENCE_SECONDS
from reporting import ID, error, log_id, parsed, parsed_of, report, send
from running import A, B, Running, eventually

OTHER_ID = "f" * 32


class Renewed:
    """Leases that are only noted."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, list[str]]] = []

    async def renew(self, deployment: str, holder: str, versions: list[str]) -> None:
        self.calls.append((deployment, holder, list(versions)))


async def test_what_is_reported_is_shown(server) -> None:
    deploy = await server.deploy(A)
    log = await log_id(server)
    errors = [error("old.py", new=False), error("etl.py")]
    said = parsed(deploy, errors=errors, error_count=2, new_error_count=1, hindrances=["[core] x is 30: it delays."])
    answer = await send(server, report(log, said))
    assert (answer.status, answer.json) == (
        200,
        {"log_id": log, "version": deploy["version"], "report_seconds": 30, "ignored": None},
    )
    shown = await parsed_of(server)
    assert isinstance(shown.pop("parsed_at"), int)
    assert shown.pop("seconds") >= 0
    [reporter] = shown.pop("reporters")
    assert isinstance(reporter.pop("seen"), int)
    assert reporter == {
        "instance": "dag-processor-0",
        "component": "dag-processor",
        "version": deploy["version"],
        "state": "parsed",
    }
    assert shown == {
        "version": deploy["version"],
        "sequence": 1,
        "state": "parsed",
        "files": 2,
        "recorded": 2,
        "mixed": 0,
        "dags": 3,
        "error_count": 2,
        "new_error_count": 1,
        "errors": [error("etl.py"), error("old.py", new=False)],
        "parse_seconds": {"total": 1.5, "longest": 1.0, "slowest": [{"path": "etl.py", "seconds": 1.0}]},
        "hindrances": ["[core] x is 30: it delays."],
        "airflow": "3.3.2",
        "python": "3.11.7",
        "providers": {"apache-airflow-providers-standard": "1.9.0"},
    }


async def test_nobody_reports_at_first_and_a_new_deploy_has_to_be_read_again(server) -> None:
    first = await server.deploy(A)
    assert await parsed_of(server) is None
    await send(server, report(await log_id(server), parsed(first)))
    assert (await parsed_of(server))["state"] == "parsed"
    second = await server.deploy(B)
    shown = await parsed_of(server)
    assert (shown["state"], shown["version"], shown["parsed_at"], shown["seconds"]) == (
        "parsing",
        first["version"],
        None,
        None,
    )
    await send(server, report(await log_id(server), parsed(second, recorded=1, complete_for=None)))
    shown = await parsed_of(server)
    assert (shown["state"], shown["version"], shown["recorded"]) == ("parsing", second["version"], 1)
    await send(server, report(await log_id(server), parsed(second)))
    assert (await parsed_of(server))["state"] == "parsed"


async def test_it_is_never_mixed_into_the_state_of_the_fleet(server) -> None:
    deploy = await server.deploy(A)
    before = (await server.get("/default/dags/status")).json
    await send(server, report(await log_id(server), parsed(deploy, errors=[error("etl.py")])))
    after = (await server.get("/default/dags/status")).json
    assert {**after, "parsed": None} == before


async def test_a_new_error_wakes_who_waits_and_the_next_report_of_the_same_does_not(server) -> None:
    deploy = await server.deploy(A)
    log = await log_id(server)
    await send(server, report(log, parsed(deploy)))
    await eventually("the change is judged", lambda: not server.service.deployments["default"].fleet.unsettled)
    tag = (await server.get("/default/dags/status")).headers["ETag"]
    slower = {"total": 9.5, "longest": 9.0, "slowest": []}
    await send(server, report(log, parsed(deploy, complete_for=30.0, parse_seconds=slower)))
    assert (await server.get("/default/dags/status", If_None_Match=tag)).status == 304
    waiting = asyncio.create_task(server.get("/default/dags/status", If_None_Match=tag, Prefer="wait=50"))
    fleet = server.service.deployments["default"].fleet
    await eventually("it waits", lambda: len(fleet.waiters) == 1)
    await send(server, report(log, parsed(deploy, errors=[error("etl.py")])))
    answer = await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    assert answer.status == 200
    assert [each["path"] for each in answer.json["parsed"]["errors"]] == ["etl.py"]


async def test_who_leaves_no_longer_counts(server) -> None:
    deploy = await server.deploy(A)
    log = await log_id(server)
    await send(server, report(log, parsed(deploy)))
    await send(server, report(log, parsed(deploy, complete_for=None), id=OTHER_ID, instance="dag-processor-1"))
    shown = await parsed_of(server)
    assert (shown["state"], [each["state"] for each in shown["reporters"]]) == ("parsing", ["parsed", "parsing"])
    await send(server, report(log, id=OTHER_ID, instance="dag-processor-1", leaving=True))
    assert (await parsed_of(server))["state"] == "parsed"
    await send(server, report(log, leaving=True))
    assert await parsed_of(server) is None


async def test_a_report_about_another_log_is_ignored_and_says_so(server) -> None:
    deploy = await server.deploy(A)
    renewed = server.service.leases = Renewed()
    answer = await send(server, report("another", parsed(deploy), leases={"versions": [deploy["version"]]}))
    assert answer.status == 200
    assert answer.json["log_id"] == await log_id(server)
    assert answer.json["ignored"].startswith("The report is about the deploy log another, and default has the log ")
    assert await parsed_of(server) is None
    assert renewed.calls == []
    assert await server.metric('reports_total{deployment="default",outcome="ignored"}') == 1


async def test_leases_are_renewed_for_a_holder_of_its_own(server) -> None:
    deploy = await server.deploy(A)
    renewed = server.service.leases = Renewed()
    log = await log_id(server)
    body = report(log, component="bundle", instance="Dag_Processor.0", leases={"versions": [deploy["version"]]})
    assert (await send(server, body)).json["ignored"] is None
    assert (await send(server, {**body, "leases": {"versions": []}})).status == 200
    assert (await send(server, {**body, "leases": None})).status == 200
    holder = f"bundle-dag-processor-0-{ID}"
    assert renewed.calls == [("default", holder, [deploy["version"]]), ("default", holder, [])]
    assert await parsed_of(server) is None, "it does not say what Airflow has read"


async def test_leases_that_cannot_be_stored_are_an_error_and_the_report_counts(server) -> None:
    class Failing:
        async def renew(self, *_: object) -> None:
            raise StoreAway("The bucket is away.")

    deploy = await server.deploy(A)
    server.service.leases = Failing()
    answer = await send(server, report(await log_id(server), parsed(deploy), leases={"versions": []}))
    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    assert (await parsed_of(server))["state"] == "parsed"


async def test_leases_are_renewed_also_without_room_for_the_reporter(server, monkeypatch) -> None:
    monkeypatch.setattr(reporters_module, "MAX_REPORTERS", 1)
    deploy = await server.deploy(A)
    renewed = server.service.leases = Renewed()
    log = await log_id(server)
    await send(server, report(log, parsed(deploy)))
    answer = await send(server, report(log, parsed(deploy), id=OTHER_ID, leases={"versions": []}))
    assert answer.json["ignored"].endswith("and there is no room for another one.")
    assert len(renewed.calls) == 1
    assert (await parsed_of(server))["state"] == "parsing", "the other one may not have read it"


async def test_nothing_deployed_is_answered_too(server) -> None:
    answer = await send(server, report(await log_id(server)))
    assert (answer.status, answer.json["version"]) == (200, "")


@pytest.mark.parametrize(
    "change",
    [
        {"id": "me"},
        {"id": ID + "\n"},
        {"instance": ""},
        {"component": "Worker!"},
        {"leaving": 1},
        {"versions": "all"},
        {"leases": {}},
        {"leases": {"versions": [1]}},
        {"parsed": {}},
        {"parsed": []},
        {"log_id": None},
    ],
)
async def test_anything_else_is_refused(server, change) -> None:
    answer = await send(server, {**report("log"), **change})
    assert (answer.status, answer.json["code"]) == (400, "request_invalid")
    assert await server.metric('reports_total{deployment="default",outcome="rejected"}') == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff", b'{"instance": "\\ud800"}', b"[" * 100_000])
async def test_what_is_no_report_is_refused(server, body) -> None:
    answer = await send(server, body)
    assert (answer.status, answer.json["code"]) == (400, "request_invalid")


async def test_a_report_of_the_largest_size_is_read_and_a_larger_one_is_refused(server) -> None:
    body = json.dumps(report(await log_id(server))).encode()
    largest = body + b" " * (MAX_REPORT_BYTES - len(body))
    assert (await send(server, largest)).status == 200
    answer = await send(server, largest + b" ")
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")

    async def chunks():
        yield largest
        yield b" "

    headers = {"Content-Type": "application/json"}
    answer = await server.call("POST", "/default/dags/reports", data=chunks(), headers=headers)
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")


async def test_more_reports_at_a_time_than_the_limit_get_503_with_retry_after(server, monkeypatch) -> None:
    monkeypatch.setattr(concurrency, "MAX_REPORTS", 1)
    server.state.report_slots = concurrency.reports()
    release = asyncio.Event()
    body = json.dumps(report(await log_id(server))).encode()

    async def held():
        yield body[:10]
        await release.wait()
        yield body[10:]

    headers = {"Content-Type": "application/json"}
    first = asyncio.create_task(server.call("POST", "/default/dags/reports", data=held(), headers=headers))
    await eventually("the report to begin", lambda: len(server.state.report_slots))
    second = await send(server, body)
    assert (second.status, second.json["code"]) == (503, "too_many_reports")
    assert int(second.headers["Retry-After"]) > 0
    release.set()
    assert (await first).status == 200
    assert (await send(server, body)).status == 200


async def test_credentials_of_a_pod_report_for_no_other(server, monkeypatch) -> None:
    deploy = await server.deploy(A)
    real = Authenticator.authenticate

    async def of_pod(self, *arguments, **options):
        caller = await real(self, *arguments, **options)
        return caller and caller._replace(pod="dag-processor-7")

    monkeypatch.setattr(Authenticator, "authenticate", of_pod)
    await send(server, report(await log_id(server), parsed(deploy)))
    assert [each["instance"] for each in (await parsed_of(server))["reporters"]] == ["dag-processor-7"]


async def test_the_scope_is_sync(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    may, may_not = tokens.add("pods", ["sync"]), tokens.add("people", ["read"])
    server = await start("--tokens-file", str(tokens.path))
    body = report((await server.get("/default/dags/current", Authorization=may)).json["log_id"])
    assert (await send(server, body, Authorization=may)).json["ignored"] is None
    assert (await send(server, body, Authorization=may_not)).status == 403


async def test_reports_are_no_changes_of_which_the_audit_log_has_a_line(server, caplog) -> None:
    caplog.set_level(logging.INFO)
    log = await log_id(server)
    for _ in range(2):
        await send(server, report(log))
    await send(server, report(log, leaving=True))
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("dagferry")]
    assert messages == ["Reporter came", "Reporter left"]


async def test_the_metrics_of_what_airflow_has_read(server: Running) -> None:
    of = '{deployment="default"}'
    assert await server.metric("import_errors" + of) is None
    assert await server.metric('reports_total{deployment="default",outcome="counted"}') == 0
    deploy = await server.deploy(A)
    log = await log_id(server)
    errors = [error("a.py"), error("b.py", new=False)]
    await send(server, report(log, parsed(deploy, errors=errors)))
    fleet = server.service.deployments["default"].fleet
    await eventually("the change is judged", lambda: not fleet.unsettled)
    assert await server.metric("import_errors" + of) == 2
    assert await server.metric("new_import_errors" + of) == 1
    assert await server.metric('parsed_state{deployment="default",state="parsed"}') == 1
    assert await server.metric('parsed_state{deployment="default",state="stale"}') == 0
    assert await server.metric("parsed_seconds_count" + of) == 1
    await send(server, report(log, leaving=True))
    assert await server.metric("import_errors" + of) is None
    assert await server.metric('reports_total{deployment="default",outcome="left"}') == 1
