"""The status of a fleet of a thousand pods: what it costs to ask for it, and to watch it while they take a deploy."""

import asyncio
import json
import statistics
import time
from collections.abc import Callable

from measure import WORK, Row, ms, packed, row, serving, size, upload

from dagferry_core import protocol
from harness import Server

PODS = 1000
READS = 30
DEPLOYS = 5
SETTLE_SECONDS = 1.0
"""After a deploy has converged: the last changes are then judged, and clients notified."""


class Connection:
    """One connection to the server, which stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def get(self, path: str, headers: dict[str, str]) -> tuple[int, str, bytes]:
        """Return status, ETag and body of a request."""
        lines = [f"GET {path.format(deployment='default')} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        found = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await self._reader.readexactly(int(found.get("Content-Length", "0")))
        return int(head[0].split()[1]), found["ETag"], body

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()


async def _pod(port: int, number: int) -> None:
    """Ask as a sidecar does, until cancelled, and have what it is offered live at once."""
    connection = await Connection.open(port)
    live, seen = "", ""
    while True:
        headers = {
            protocol.INSTANCE: f"airflow-worker-{number:04}",
            protocol.COMPONENT: "worker",
            protocol.VOLUME: f"{number:032x}",
            **({protocol.LIVE: live, "If-None-Match": seen, "Prefer": "wait=50"} if live else {}),
        }
        status, seen, body = await connection.get(protocol.CURRENT_PATH, headers)
        if status == 200:
            live = json.loads(body)["version"]


async def _watch(port: int, answers: list[float]) -> None:
    connection = await Connection.open(port)
    seen = '"none"'
    while True:
        headers = {"If-None-Match": seen, "Prefer": "wait=50"}
        _, seen, _ = await connection.get(protocol.STATUS_PATH, headers)
        answers.append(time.perf_counter())


async def _healthy(connection: Connection, version: str) -> int:
    """Ask until all pods have ``version`` live; return the bytes of the answer."""
    while True:
        _, _, body = await connection.get(protocol.STATUS_PATH, {})
        told = json.loads(body)
        if (told["state"], told["version"], told["counts"]["live"]) == ("HEALTHY", version, PODS):
            return len(body)
        await asyncio.sleep(SETTLE_SECONDS)


@row
def status_with_1000_pods() -> list[Row]:
    """The status of a fleet of a thousand pods that follow by long polls."""
    folder = WORK / "status"
    folder.mkdir(exist_ok=True)
    number = iter(range(1000))

    def archive() -> bytes:
        (folder / "dag.py").write_text(f"print({next(number)})\n")
        return packed(folder)

    with serving("status") as server:
        upload(server, archive())
        return asyncio.run(_measure(server, archive))


async def _measure(server: Server, archive: Callable[[], bytes]) -> list[Row]:
    pods = [asyncio.create_task(_pod(server.port, number)) for number in range(PODS)]
    asking = await Connection.open(server.port)
    length = await _healthy(asking, server.current()["version"])
    reads, cached = [], []
    for _ in range(READS):
        await asyncio.sleep(1.1)  # a status is judged once a second
        for times in (reads, cached):
            began = time.perf_counter()
            await asking.get(protocol.STATUS_PATH, {})
            times.append(time.perf_counter() - began)
    alone = [await _deploy(server, archive(), asking) for _ in range(DEPLOYS)]
    answers: list[float] = []
    watcher = asyncio.create_task(_watch(server.port, answers))
    watched, told = [], []
    for _ in range(DEPLOYS):
        await asyncio.sleep(SETTLE_SECONDS)
        before = len(answers)
        watched.append(await _deploy(server, archive(), asking))
        told.append(len(answers) - before)
    for task in (*pods, watcher):
        task.cancel()
    cpu = f"{ms(watched)} ÷ {ms(alone)}"
    return [
        (f"{PODS} pods: the status", "≤ 50 ms", ms(reads)),
        (f"{PODS} pods: the status again within a second", "≤ 10 ms", ms(cached)),
        (f"{PODS} pods: bytes of the status", "report", size([length])),
        (
            f"{PODS} pods take a deploy: answers to a client that waits for another status",
            "≤ 20",
            f"{statistics.median(told):.0f} ({min(told)}–{max(told)}, n = {DEPLOYS})",
        ),
        (f"{PODS} pods take a deploy: the server's CPU with such a client ÷ without", "report", cpu),
    ]


async def _deploy(server: Server, body: bytes, asking: Connection) -> float:
    """Deploy, wait until it has converged, and return the seconds of CPU that this took the server."""
    before = server.cpu_seconds()
    version, *_ = await asyncio.to_thread(upload, server, body)
    await asyncio.sleep(SETTLE_SECONDS)
    await _healthy(asking, version)
    return server.cpu_seconds() - before
