"""How large bodies are sent."""

import asyncio
import gc
import os
import warnings

from harness import pack
from running import A, Running, eventually


async def begin(server: Running, path: str):
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=1024)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    return writer


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing_open(server) -> None:
    told = (await server.upload(pack({**A, "noise": os.urandom(9_000_000)}))).json
    bundles = f"{server.service.folder.root}/default/bundles/"
    for path in (f"/default/dags/versions/{told['version']}", "/default/dags/download"):
        for _ in range(3):
            writer = await begin(server, path)
            writer.transport.abort()
        await eventually("the requests to be over", lambda: not server.service.busy._count)
        await eventually("the files to be closed", lambda: not open_files(bundles))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()


def open_files(prefix: str) -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        found += [target] if target.startswith(prefix) else []
    return found
