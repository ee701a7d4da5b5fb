"""Many connections that wait for the next deploy, and a server with many deployments and long logs."""

import asyncio
import shutil
import statistics
import time

import retention
from measure import WORK, Row, ms, packed, row, serving, status, upload

from dagferry_core import protocol
from harness import Server

WAITERS = 1000
WAITER_RUNS = 5
MAX_OPENING_SECONDS = 2


@row
def waiters() -> list[Row]:
    """A thousand connections that wait for the next deploy, with the headers that a sidecar sends."""
    late, each = zip(*(_wait_once() for _ in range(WAITER_RUNS)), strict=True)
    kib = f"{statistics.median(each):.1f} KiB ({min(each):.1f}–{max(each):.1f}, n = {WAITER_RUNS})"
    return [
        (f"{WAITERS} waiters: 200 received → the last is notified", "≤ 100 ms", ms(list(late))),
        (f"{WAITERS} waiters: server memory for each", "≤ 12 KiB", kib),
    ]


def _wait_once() -> tuple[float, float]:
    """Seconds from the 200 to the last that is notified, and KiB of the server's memory for each that waits."""
    folder = WORK / "waiting"
    folder.mkdir(exist_ok=True)
    with serving("waiters") as server:
        (folder / "dag.py").write_text("print(0)\n")
        version, *_ = upload(server, packed(folder))
        before = status(server.process.pid, "VmRSS")
        (folder / "dag.py").write_text("print(1)\n")
        answered, notified, held = asyncio.run(_everyone(server, version, packed(folder)))
    return max(notified) - answered, (held - before) / 1024 / WAITERS


async def _everyone(server: Server, version: str, body: bytes) -> tuple[float, list[float], int]:
    ready = asyncio.Semaphore(0)
    notified: list[float] = []
    tasks = [asyncio.create_task(_wait(server.port, pod, version, ready, notified)) for pod in range(WAITERS)]
    for _ in range(WAITERS):
        await ready.acquire()
    await asyncio.sleep(MAX_OPENING_SECONDS)
    held = status(server.process.pid, "VmRSS")
    _, _, answered = await asyncio.to_thread(upload, server, body)
    await asyncio.gather(*tasks)
    return answered, notified, held


async def _wait(port: int, pod: int, version: str, ready: asyncio.Semaphore, notified: list[float]) -> None:
    """Ask as a sidecar does, first without a wait, and note when the second answer begins."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    lines = [
        f"GET {protocol.CURRENT_PATH.format(deployment='default')} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Accept-Encoding: identity",
        "User-Agent: dagferry-sidecar/0.1.0",
        "Cache-Control: no-cache",
        f"{protocol.INSTANCE}: airflow-worker-{pod:04}",
        f"{protocol.COMPONENT}: worker",
        f"{protocol.VOLUME}: {pod:032x}",
        f"{protocol.LIVE}: {version}",
        f"{protocol.LOG}: {0:032x}",
        f'If-None-Match: "{version}"',
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
    writer.write("\r\n".join([*lines, "Prefer: wait=50", "", ""]).encode())
    ready.release()
    line = await reader.readline()
    notified.append(time.perf_counter())
    assert b" 200 " in line, line
    writer.close()


@row
def long_logs() -> list[Row]:
    """An upload to a server with many deployments and long logs, and /healthz during it and its retention."""
    uploads, probes = retention.measure(WORK / "logs")
    shutil.rmtree(WORK / "logs")
    size = f"{retention.DEPLOYMENTS} deployments × {retention.DEPLOYS} deploys"
    return [
        (f"{size}: an upload of 1 MB", "≤ 100 ms", ms(uploads)),
        (f"{size}: `/healthz` during it and its retention, p99", "≤ 20 ms", f"{retention.p99(probes) * 1000:.1f} ms"),
    ]
