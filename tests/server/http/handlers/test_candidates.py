"""The endpoints for checkers: the list, the content, the verdict, and who may use them."""

import asyncio
import io
import json

import pytest

from credentials import TokensFile
from dagferry_server.deploys.candidates import Candidate, add_candidate, candidate_id
from dagferry_server.http.handlers.candidates import MAX_VERDICT_BYTES
from harness import pack
from reporting import parsed, report, send
from running import A, Answer, B, Running, eventually
from scripted_checker import ScriptedChecker, problem
from shared_stores import SharedLocalStore

PATH = "/default/dags/candidates"
UPLOAD = "/default/dags/upload"
STATUS = "/default/dags/status"
RARELY = "60"
"""Seconds between a server's own looks at the store: for longer than a test takes, it learns nothing from them."""


@pytest.fixture
async def server(start) -> Running:
    return await start("--import-check", "block")


def deploying(server: Running, files=A, query: str = "") -> "asyncio.Task[Answer]":
    return asyncio.create_task(server.upload(pack(files), UPLOAD + query))


async def held(server: Running) -> tuple[ScriptedChecker, dict, "asyncio.Task[Answer]"]:
    checker = ScriptedChecker()
    await checker.poll(server)
    upload = deploying(server)
    return checker, await checker.next(server), upload


async def test_the_list_changes_with_what_is_live_and_what_is_to_be_checked(server) -> None:
    checker = ScriptedChecker()
    first = await checker.poll(server)
    assert (first["live"], first["candidates"]) == (None, [])
    assert (await checker.ask(server)).status == 304
    poll = asyncio.create_task(checker.poll(server))
    told = await server.upload(pack(A), UPLOAD + "?skip_import_check=1")
    second = await poll
    assert second["live"] == {"version": told.json["version"], "digest": told.json["digest"]}
    poll = asyncio.create_task(checker.poll(server))
    upload = deploying(server, B)
    [candidate] = (await poll)["candidates"]
    assert candidate["base"] == told.json["version"]
    await checker.say(server, candidate)
    assert (await upload).status == 200


@pytest.fixture
async def behind(start, tmp_path) -> tuple[Running, str]:
    """A server with a candidate on a version that another server of its store, which rarely looks, does not know.

    The version is returned, too.
    """
    (tmp_path / "shared").mkdir()
    servers = []
    for number in (1, 2):
        store = await asyncio.to_thread(SharedLocalStore, str(tmp_path / "shared"))
        flags = ("--data-dir", str(tmp_path / f"data-{number}"), "--single-server", "--store-poll", RARELY)
        servers.append(await start(*flags, "--import-check", "block", store=store))
    first, second = servers
    await first.upload(pack(A), UPLOAD + "?skip_import_check=1")
    await second.service.following.look("default")
    base = (await first.upload(pack(B), UPLOAD + "?skip_import_check=1")).json["version"]
    store = first.service.store
    digest = (await first.get("/default/dags/current")).json["digest"]
    log_id = first.service.deployments["default"].log_id
    await asyncio.to_thread(
        add_candidate, store, "default", Candidate(candidate_id(log_id, base, digest), base, digest, "ci", "", 1)
    )
    assert second.service.deployments["default"].current.version != base
    return second, base


async def test_a_candidate_is_listed_beside_the_version_that_it_is_compared_with(behind) -> None:
    second, base = behind
    found = await ScriptedChecker().poll(second)
    assert [each["base"] for each in found["candidates"]] == [base]
    assert found["live"]["version"] == base


async def test_a_candidate_whose_base_cannot_be_looked_for_is_not_listed(behind) -> None:
    second, base = behind
    checker = ScriptedChecker()
    await second.service.checks.look(second.service.deployments["default"])
    second.service.store.away = True
    answer = await checker.ask(second)
    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    second.service.store.away = False
    found = await checker.poll(second)
    assert (found["live"]["version"], found["candidates"][0]["base"]) == (base, base)


@pytest.mark.parametrize("base", ["20991231T000000Z-000099", "x"])
async def test_a_candidate_on_a_version_that_is_in_no_log_is_not_listed(server, base) -> None:
    digest = (await server.upload(pack(A), UPLOAD + "?skip_import_check=1")).json["digest"]
    candidate = Candidate(candidate_id("log", base, digest), base, digest, "ci", "", 1)
    await asyncio.to_thread(add_candidate, server.service.store, "default", candidate)
    found = await ScriptedChecker().poll(server)
    assert (found["live"]["digest"], found["candidates"]) == (digest, [])


async def test_a_candidate_on_an_older_version_is_listed(server) -> None:
    checker = ScriptedChecker()
    old = (await server.upload(pack(A), UPLOAD + "?skip_import_check=1")).json["version"]
    await checker.poll(server)
    upload = deploying(server, {**A, "more.py": b"x = 1\n"})
    candidate = await checker.next(server)
    live = (await server.upload(pack(B), UPLOAD + "?skip_import_check=1")).json["version"]
    found = await checker.poll(server)
    assert (found["live"]["version"], found["candidates"][0]["base"]) == (live, old)
    await checker.say(server, candidate)
    await checker.check(server)
    assert (await upload).status == 200


async def test_a_candidate_is_sent_as_a_bundle_or_as_a_patch(server) -> None:
    checker = ScriptedChecker()
    told = (await server.upload(pack(A), UPLOAD + "?skip_import_check=1")).json
    await checker.poll(server)
    upload = deploying(server, {**A, "more.py": b"x = 1\n"})
    candidate = await checker.next(server)
    whole = await checker.content(server, candidate)
    assert (whole.status, whole.headers["Dagferry-Digest"]) == (200, candidate["digest"])
    assert whole.headers["Content-Type"] == "application/zstd"
    patch = await checker.content(server, candidate, f"?from={told['version']}")
    assert patch.headers["Content-Type"] in {"application/vnd.dagferry.patch", "application/zstd"}
    await checker.say(server, candidate)
    await upload


async def test_an_unknown_candidate_is_gone(server) -> None:
    checker = ScriptedChecker()
    for id_ in ("c" * 32, "x"):
        for answer in (
            await checker.content(server, {"id": id_}),
            await checker.send(server, {"id": id_}, {"failed": "x"}),
        ):
            assert (answer.status, answer.json["code"]) == (404, "candidate_gone")


async def test_a_verdict_on_another_content_is_refused(server) -> None:
    checker, candidate, upload = await held(server)
    for more in ({"digest": "sha256:" + "0" * 64}, {"base": "20200101T000000Z-000001"}):
        answer = await checker.say(server, candidate, **more)
        assert (answer.status, answer.json["code"]) == (400, "request_invalid")
    assert not upload.done()
    await checker.say(server, candidate)
    assert (await upload).status == 200


@pytest.mark.parametrize(
    "body", [{}, [], {"digest": 1}, {"failed": ["x"]}, {"problems": "none", "digest": "x"}, {"seconds": "1"}]
)
async def test_a_malformed_verdict_is_refused(server, body) -> None:
    checker, candidate, upload = await held(server)
    answer = await checker.send(server, candidate, body)
    assert (answer.status, answer.json["code"]) == (400, "request_invalid")
    await checker.say(server, candidate)
    await upload


async def test_a_verdict_that_is_too_large_is_refused(server) -> None:
    checker, candidate, upload = await held(server)
    body = io.BytesIO(json.dumps({"failed": "x" * MAX_VERDICT_BYTES}).encode())
    headers = {"Content-Type": "application/json"}
    answer = await server.call("POST", f"{PATH}/{candidate['id']}", data=body, headers=headers)
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    await checker.say(server, candidate)
    await upload


async def test_the_first_verdict_counts_and_unknown_keys_are_ignored(server) -> None:
    checker, candidate, upload = await held(server)
    assert (await checker.say(server, candidate, problem("etl.py"), later="x")).status == 200
    assert (await checker.say(server, candidate)).status == 200
    assert (await upload).status == 422
    assert (await server.upload(pack(A))).status == 422


async def test_the_scope_check_is_needed_and_is_no_other(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    secrets = {scope: tokens.add(scope, [scope]) for scope in ("check", "deploy", "sync", "admin")}
    server = await start("--tokens-file", str(tokens.path))

    async def ask(method: str, path: str, scope: str, **options) -> int:
        return (await server.call(method, path, headers={"Authorization": secrets[scope]}, **options)).status

    for scope in secrets:
        assert await ask("GET", PATH, scope) == (200 if scope == "check" else 403)
    assert await ask("POST", UPLOAD, "deploy", data=pack(A)) == 200
    for path in ("/default/dags/current", STATUS, "/default/dags/download", "/default/dags/deploys"):
        assert await ask("GET", path, "check") == 403
    answer = await server.call("GET", PATH, headers={"Authorization": secrets["check"]})
    version = answer.json["live"]["version"]
    assert await ask("GET", f"/default/dags/versions/{version}", "check") == 200


async def test_the_status_shows_who_checks_what_and_what_was_refused(server) -> None:
    checker, candidate, upload = await held(server)
    shown = (await server.get(STATUS)).json["import_check"]
    assert (shown["policy"], shown["away"], shown["refused"], shown["mismatch"]) == ("block", "open", [], "")
    [one] = shown["checkers"]
    assert (one["instance"], one["airflow"], one["python"], one["connected"]) == ("checker-0", "3.3.2", "3.11.7", True)
    [waiting] = shown["checking"]
    assert (waiting["id"], waiting["actor"], waiting["base"]) == (candidate["id"], "anonymous", "")
    await checker.say(server, candidate, *(problem(f"{name}.py") for name in "abcdefg"))
    assert (await upload).status == 422
    shown = (await server.get(STATUS)).json["import_check"]
    assert shown["checking"] == []
    [refused] = shown["refused"]
    assert [each["path"] for each in refused["problems"]] == ["a.py", "b.py", "c.py", "d.py", "e.py"]


async def test_the_status_wakes_when_a_check_begins(server) -> None:
    checker = ScriptedChecker()
    await checker.poll(server)
    fleet = server.service.deployments["default"].fleet
    await eventually("it is settled", lambda: not fleet.unsettled)
    tag = (await server.get(STATUS)).headers["ETag"]
    poll = asyncio.create_task(server.get(STATUS, If_None_Match=tag, Prefer="wait=20"))
    upload = deploying(server)
    told = (await poll).json
    assert len(told["import_check"]["checking"]) == 1
    await checker.check(server)
    await upload


async def test_the_status_names_a_mismatch_of_versions(server) -> None:
    deploy = (await deploying(server)).json
    await ScriptedChecker().poll(server)
    log_id = (await server.get(STATUS)).json["log_id"]
    await send(server, report(log_id, parsed(deploy, airflow="3.2.0")))
    assert (
        "Airflow 3.3.2, and the dag processor Airflow 3.2.0"
        in (await server.get(STATUS)).json["import_check"]["mismatch"]
    )


async def test_the_web_page_shows_the_check(start) -> None:
    server = await start("--import-check", "block", web=True)
    checker, candidate, upload = await held(server)
    page = (await server.get("/-/ui/deployments/default")).body.decode()
    assert "Import check" in page
    assert "1 deploy being checked" in page
    await checker.say(server, candidate, problem("etl.py", "<b>no</b>"))
    await upload
    page = (await server.get("/-/ui/deployments/default")).body.decode()
    assert "etl.py:1: &lt;b&gt;no&lt;/b&gt;" in page
