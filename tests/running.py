"""A server in the test's own event loop, on a free port, and a client for it."""

import asyncio
import contextlib
import io
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import aiohttp

from dagferry_server.http.app_state import AppState
from dagferry_server.http.listeners import Listeners
from dagferry_server.service import Service
from dagferry_server.settings import shown_address
from harness import PATIENCE_SECONDS, pack

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "sql/load.sql": b"select 1\n"}
B = {**A, "shop.py": b"rate = 2\n"}


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Running:
    """A server in this event loop."""

    def __init__(self, service: Service, state: AppState, listeners: Listeners) -> None:
        self.service = service
        self.state = state
        self.listeners = listeners
        self._open = contextlib.AsyncExitStack()
        self._open.callback(service.folder.close)
        self._open.callback(state.close)
        self._open.push_async_callback(service.close)
        self._open.push_async_callback(listeners.close)

    async def open(self) -> None:
        addresses = await self.listeners.open()
        self.host, self.port = addresses[0]
        self.admin_port = addresses[-1][1]
        self.session = await self._open.enter_async_context(
            aiohttp.ClientSession(f"http://{shown_address((self.host, self.port))}")
        )

    async def close(self) -> None:
        """End it, once."""
        await self._open.aclose()

    def connections(self) -> int:
        """How many connections are open."""
        return sum(len(runner.server.connections) for runner in self.listeners._runners if runner.server)

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(method, path, **options) as response:
            return Answer(response.status, response.headers.copy(), await response.read())

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.call("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    async def upload(self, data: Any, path: str = "/default/dags/upload") -> Answer:
        # As a stream: the client of aiohttp warns of large bytes.
        return await self.call("POST", path, data=io.BytesIO(data) if isinstance(data, bytes) else data)

    async def deploy(self, files: Mapping[str, bytes], deployment: str = "default") -> Any:
        answer = await self.upload(pack(files), f"/{deployment}/dags/upload")
        assert answer.status == 200, answer.body
        return answer.json

    async def rollback(self, version: str, deployment: str = "default", query: str = "", **body: str) -> Answer:
        return await self.call("POST", f"/{deployment}/dags/rollback{query}", json={"version": version, **body})

    async def promote(self, origin: str, deployment: str, query: str = "", **body: str) -> Answer:
        return await self.call("POST", f"/{deployment}/dags/promote{query}", json={"from": origin, **body})

    def failed_reloads(self) -> list[str]:
        """What was read before and cannot be read as it is now."""
        reloads = {**self.service.reloads, **self.state.reloads}
        return [name for name, reload in reloads.items() if reload.last_error]

    async def metric(self, sample: str) -> float | None:
        for line in (await self.get("/metrics")).body.decode().splitlines():
            if line.rpartition(" ")[0] == "dagferry_server_" + sample:
                return float(line.rpartition(" ")[2])
        return None


async def eventually(what: str, look: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Return what ``look`` finds as soon as that is true; fail after a deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not (found := look()):
        assert loop.time() < deadline, f"gave up waiting for: {what}"
        await asyncio.sleep(0.002)
    return found
