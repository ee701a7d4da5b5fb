"""Hundreds of sidecars wait for the next deploy, and all are told of it."""

import asyncio
import time

import aiohttp

from harness import pack

WAITERS = 500
TOLD_WITHIN_SECONDS = 20
"""Far more than it takes: this is no benchmark. Who is not told would hear of it only after the 50 s of its wait."""


async def test_five_hundred_waiters_are_all_notified_of_one_deploy(serve) -> None:
    server = await asyncio.to_thread(serve)
    first = await asyncio.to_thread(server.deploy, {"dag.py": b"n = 1\n"})
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(server.url, connector=connector) as session:

        async def wait(number: int) -> tuple[int, str, float]:
            pod = {"Dagferry-Instance": f"pod-{number}", "Dagferry-Live": first["version"]}
            headers = {**pod, "If-None-Match": f'"{first["version"]}"', "Prefer": "wait=50"}
            # Like any sidecar that starts: it asks without a wait first, and is offered what it has.
            async with session.get("/default/dags/current", headers=pod) as response:
                assert response.status == 200
            async with session.get("/default/dags/current", headers=headers) as response:
                told = await response.json()
                return response.status, told["version"], time.monotonic()

        async def waiting() -> bool:
            async with session.get("/metrics") as response:
                return f'waiting_sidecars{{deployment="default"}} {WAITERS}.0' in await response.text()

        waiters = [asyncio.create_task(wait(number)) for number in range(WAITERS)]
        deadline = time.monotonic() + TOLD_WITHIN_SECONDS
        while not await waiting():
            assert time.monotonic() < deadline, "not all of them are waiting"
            await asyncio.sleep(0.01)
        async with session.post("/upload", data=pack({"dag.py": b"n = 2\n"})) as response:
            deployed = await response.json()
        answered = time.monotonic()
        told = await asyncio.wait_for(asyncio.gather(*waiters), TOLD_WITHIN_SECONDS)
        assert {(status, version) for status, version, _ in told} == {(200, deployed["version"])}
        assert max(moment for _, _, moment in told) - answered < TOLD_WITHIN_SECONDS
        async with session.get("/metrics") as response:
            assert 'waiting_sidecars{deployment="default"} 0.0' in await response.text()
