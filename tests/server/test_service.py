"""What holds the server together."""

import asyncio
import logging

import pytest

from dagferry_server.errors import DeploymentNotFound
from dagferry_server.http.busy import Busy


async def test_a_deployment_is_found_by_its_name(start) -> None:
    service = (await start("--deployments", "prod,staging")).service
    assert service.deployments.find("staging").name == "staging"
    with pytest.raises(DeploymentNotFound, match="no deployment 'default'"):
        service.deployments.find("default")


async def test_the_end_waits_for_work_that_goes_on(server) -> None:
    release = asyncio.Event()
    ended = []

    async def work() -> None:
        await release.wait()
        ended.append(1)

    server.service.spawn(work())
    closing = asyncio.create_task(server.service.close())
    await asyncio.sleep(0)
    assert not closing.done()
    release.set()
    await closing
    assert ended == [1]


async def test_work_that_fails_is_in_the_log_and_a_client_that_left_is_not(server, caplog) -> None:
    async def fail(error: Exception) -> None:
        raise error

    for error in (ConnectionResetError(), ZeroDivisionError("why")):
        server.service.spawn(fail(error))
    await server.service.close()
    (record,) = caplog.records
    assert (record.levelno, record.message) == (logging.ERROR, "Work in the background failed")
    assert "why" in str(record.exc_info[1])


async def test_what_is_under_way_is_waited_for_up_to_a_limit() -> None:
    busy = Busy()
    assert await busy.ended(10)
    with busy:
        with busy:
            pass
        assert not await busy.ended(0.001)
    assert await busy.ended(10)
