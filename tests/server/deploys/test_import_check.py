"""What a checker's verdict does to a deploy, and what becomes of a deploy without one."""

import asyncio

from harness import pack
from running import A, Running
from scripted_checker import ScriptedChecker, problem

UPLOAD = "/default/dags/upload"
BLOCK = ("--import-check", "block")
CLOSED = (*BLOCK, "--import-check-away", "closed")


def deploying(server: Running, files, query: str = "") -> "asyncio.Task[object]":
    return asyncio.create_task(server.upload(pack(files), UPLOAD + query))


async def connected(server: Running, **headers: str) -> ScriptedChecker:
    checker = ScriptedChecker(**headers)
    await checker.poll(server)
    return checker


async def test_a_good_candidate_goes_live_after_its_check(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    upload = deploying(server, A)
    candidate = await checker.next(server)
    assert (await server.get("/default/dags/current")).json["sequence"] == 0
    assert (await checker.content(server, candidate)).status == 200
    await checker.say(server, candidate)
    answer = await upload
    assert (answer.status, answer.json["warnings"]) == (200, [])
    assert answer.json["digest"] == candidate["digest"]


async def test_a_new_problem_is_refused_with_file_line_and_message(start) -> None:
    server = await start(*BLOCK)
    checker = await connected(server)
    upload = deploying(server, A)
    await checker.check(server, problem("etl.py", line=3))
    answer = await upload
    assert (answer.status, answer.json["code"]) == (422, "import_check_refused")
    assert answer.json["message"] == (
        "Airflow 3.3.2 could not import what this would deploy to default: "
        "etl.py:3: ModuleNotFoundError: No module named 'acme'."
    )
    [found] = answer.json["problems"]
    assert (found["path"], found["line"], found["kind"]) == ("etl.py", 3, "import")
    assert (await server.get("/default/dags/current")).json["sequence"] == 0
