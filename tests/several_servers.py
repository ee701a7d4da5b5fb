"""Several real servers in one process on one store, and pods that report to them."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dagferry_core.protocol import NOTHING_TAG
from dagferry_server.peers.addresses import Place
from running import Running, eventually
from shared_stores import SharedLocalStore

SECRET = "s" * 32
INSTANCE, VOLUME, LIVE, LOG = "Dagferry-Instance", "Dagferry-Volume", "Dagferry-Live", "Dagferry-Log"


class Servers:
    """Servers on one store, each of which finds the others by their addresses."""

    def __init__(self, start: Callable[..., Awaitable[Running]], folder: Path) -> None:
        self._start = start
        self._folder = folder
        self.secret = folder / "secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        (folder / "shared").mkdir()
        self.places: dict[str, tuple[str, int]] = {}
        """Where the names of ``--peers`` lead."""
        self.started = 0

    async def start(self, *flags: str, peers: str = "peers:1", secret: Path | None = None, **options: Any) -> Running:
        self.started += 1
        store = await asyncio.to_thread(SharedLocalStore, str(self._folder / "shared"))
        data = str(self._folder / f"data-{self.started}")
        more = ["--peers", peers, "--peer-secret-file", str(secret or self.secret)] if peers else []
        return await self._start("--data-dir", data, *more, *flags, store=store, **options)

    async def open(self, number: int, *flags: str) -> list[Running]:
        """Start servers that all know each other, and wait until they do."""
        servers = [await self.start(*flags) for _ in range(number)]
        for server in servers:
            self.find(server)
        await eventually("all hear all", lambda: all(hears(server, number - 1) for server in servers))
        return servers

    def resolve(self, _: Place) -> list[Place]:
        """Do what ``addresses.resolve`` does."""
        if not self.places:
            raise OSError(errno.ENODATA, "it has no address")
        return [Place(*place) for place in self.places.values()]

    def find(self, *servers: Running) -> None:
        """Let the name of --peers lead to these servers, too."""
        for server in servers:
            self.places[f"{server.host}:{server.port}"] = (server.host, server.port)

    def lose(self, server: Running) -> None:
        """Let the name of --peers not lead to this server any more."""
        del self.places[f"{server.host}:{server.port}"]


def hears(server: Running, others: int) -> bool:
    """Whether a server is answered by exactly so many others, and misses none."""
    asked, answered, missing = server.service.peers._shown
    return (asked, answered, missing) == (others + 1, others + 1, "")


class PodOf:
    """A pod that reports to whatever server it reaches."""

    def __init__(self, name: str, volume: str = "a" * 32, component: str = "worker") -> None:
        self.headers = {INSTANCE: name, VOLUME: volume, "Dagferry-Component": component}
        self.live = self.log_id = self.error = ""

    async def ask(self, server: Running, **more: str) -> Any:
        headers = {**self.headers, **{name.replace("_", "-"): value for name, value in more.items()}}
        if self.live:
            headers |= {LIVE: self.live, LOG: self.log_id}
        if self.error:
            headers["Dagferry-Error"] = self.error
        return await server.call("GET", "/default/dags/current", headers=headers)

    async def follow(self, server: Running) -> None:
        """Get the current deploy, and report it as live. Like every pod, one without a deploy waits for the first."""
        first = {} if self.live else {"If_None_Match": f'"{NOTHING_TAG}"', "Prefer": "wait=20"}
        told = (await self.ask(server, **first)).json
        self.live, self.log_id = told["version"], told["log_id"]
        await self.ask(server, If_None_Match=f'"{self.live}"')
        await self.ask(server, If_None_Match=f'"{self.live}"')

    async def end(self, server: Running) -> None:
        await self.ask(server, Dagferry_Deregister="1")


async def kill(server) -> None:
    """End a server as a kill does: it says nothing to the others."""
    server.service.peers.stop = lambda: None
    for runner in server.listeners._runners:
        for connection in list(runner.server.connections):
            connection.transport.abort()
    for listening in server.listeners._listening:
        listening.close()
    for peer in server.service.peers._peers.values():
        peer.task.cancel()


async def status_of(server: Running) -> Any:
    return (await server.get("/default/dags/status")).json


async def until(server: Running, state: str, **fields: Any) -> Any:
    """Wait until a server shows this state, and these fields."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 20
    while True:
        found = await status_of(server)
        if found["state"] == state and all(found[name] == value for name, value in fields.items()):
            return found
        assert loop.time() < end, (
            f"it never was {state} {fields}: {found['state']} {found['reason']} {found['servers']}"
        )
        await asyncio.sleep(0.01)
