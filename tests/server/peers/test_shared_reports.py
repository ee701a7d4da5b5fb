"""What is reported to one server of what Airflow has read, all of them show."""

import asyncio
from typing import Any

import pytest

from reporting import error, log_id, parsed, parsed_of, report, send
from running import A, B
from several_servers import PodOf, kill, status_of

pytestmark = pytest.mark.usefixtures("warm")
OTHER = {"id": "f" * 32, "instance": "dag-processor-1"}


async def until(server, **fields: Any) -> Any:
    """Wait until a server shows this of what Airflow has read."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 20
    while True:
        found = await parsed_of(server)
        if found:
            found["states"] = [each["state"] for each in found["reporters"]]
            if all(found[name] == value for name, value in fields.items()):
                return found
        assert loop.time() < end, f"it never was {fields}: {found}"
        await asyncio.sleep(0.01)


async def test_a_report_to_any_server_is_shown_by_all(servers) -> None:
    one, other, third = await servers.open(3)
    deploy = await one.deploy(A)
    await send(other, report(await log_id(one), parsed(deploy, errors=[error("etl.py")])))
    for server in (one, other, third):
        found = await until(server, state="parsed", error_count=1, new_error_count=1)
        assert found["errors"] == [error("etl.py")]
        assert [each["instance"] for each in found["reporters"]] == ["dag-processor-0"]


async def test_two_reporters_on_two_servers_both_have_to_have_read_it(servers) -> None:
    one, other = await servers.open(2)
    deploy = await one.deploy(A)
    log = await log_id(one)
    await send(one, report(log, parsed(deploy)))
    await send(other, report(log, parsed(deploy, recorded=1, complete_for=None), **OTHER))
    for server in (one, other):
        await until(server, state="parsing", recorded=1, states=["parsed", "parsing"])
    await send(other, report(log, parsed(deploy), **OTHER))
    for server in (one, other):
        await until(server, state="parsed")


async def test_a_reporter_that_moves_to_another_server_is_one_and_its_newest_word_counts(servers) -> None:
    one, other = await servers.open(2)
    deploy = await one.deploy(A)
    log = await log_id(one)
    await send(one, report(log, parsed(deploy)))
    await until(other, state="parsed")
    await send(other, report(log, parsed(deploy, recorded=0, complete_for=None)))
    for server in (one, other):
        assert len((await until(server, state="parsing"))["reporters"]) == 1
    await send(one, report(log, leaving=True))
    for server in (one, other):
        await gone(server)


async def gone(server) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + 20
    while await parsed_of(server) is not None:
        assert loop.time() < end, "it is still shown"
        await asyncio.sleep(0.01)


async def test_a_server_that_starts_later_knows_what_was_reported(servers) -> None:
    [one] = await servers.open(1)
    deploy = await one.deploy(A)
    await send(one, report(await log_id(one), parsed(deploy)))
    later = await servers.start()
    servers.find(later)
    await until(later, state="parsed", version=deploy["version"])


async def test_while_a_server_is_missing_nobody_says_that_airflow_has_read_a_deploy(servers) -> None:
    """It may know of a dag processor that has not."""
    one, other = await servers.open(2)
    deploy = await one.deploy(A)
    log = await log_id(one)
    await send(one, report(log, parsed(deploy)))
    await until(one, state="parsed")
    await kill(other)
    await until(one, state="parsing")
    assert (await status_of(one))["servers"] == {"asked": 2, "answered": 1}


async def test_a_deploy_that_another_server_made_is_reported_before_it_is_known_here(servers) -> None:
    one, other = await servers.open(2)
    await one.deploy(A)
    await PodOf("a").follow(other)
    deploy = await one.deploy(B)
    await send(other, report(await log_id(one), parsed(deploy)))
    for server in (one, other):
        await until(server, state="parsed", version=deploy["version"])
