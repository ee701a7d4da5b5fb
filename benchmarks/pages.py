"""The web page of a large deployment, a long comparison, and two hundred people who have a page open."""

import asyncio
import http.client
import shutil
import statistics
import time
from contextlib import suppress

import fleet
import retention
from measure import WORK, Row, ms, row, size

from harness import Server

DEPLOYS_WITH_DETAILS = 12
READS = 30
READ_PAUSE_SECONDS = 0.25
FILES = 2000
OPEN_PAGES = 200
WAIT_SECONDS = 45
PAUSE_SECONDS = 5.0
"""What the script of the page pauses if too many wait already."""
WATCHED_DEPLOYS = 5
WATCH_SECONDS = 4.0
START_SECONDS = 60
PAGE = "/-/ui/deployments/default"
LIVE = "/-/ui/live/default"


def _get(server: Server, path: str) -> tuple[float, int]:
    """Seconds and bytes of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.connect()
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - began
    connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise RuntimeError(f"{path}: {answer.status}")
    return seconds, len(body)


@row
def first_page() -> list[Row]:
    """The page of a deployment with a long log and a thousand pods."""
    data = WORK / "pages"
    retention.fill(data, "default")
    server = Server(data).ready()
    try:
        for number in range(DEPLOYS_WITH_DETAILS):
            server.deploy({"dag.py": b"print(%d)\n" % number})
        asyncio.run(_with_pods(server, asyncio.sleep(0)))
        seconds, sizes = [], []
        for _ in range(READS):
            time.sleep(READ_PAUSE_SECONDS)
            taken, length = _get(server, PAGE)
            seconds.append(taken)
            sizes.append(length)
    finally:
        server.stop()
        shutil.rmtree(data, ignore_errors=True)
    what = f"web page of a deployment, {retention.DEPLOYS:,} deploys, {fleet.PODS:,} pods"
    return [(what, "≤ 50 ms", ms(seconds)), (f"{what}: size", "≤ 50 kB", size(sizes))]


@row
def long_comparison() -> list[Row]:
    """The first and the last page of a comparison of two thousand files."""
    data = WORK / "comparison"
    server = Server(data).ready()
    try:
        for line in (b"rate = 1\n", b"rate = 2\n"):
            text = b"".join(b"def f%d():\n    return 'a text'  # and why\n" % number for number in range(20)) + line
            server.deploy({f"dags_{number:04}.py": text for number in range(FILES)})
        found = [[_get(server, f"{PAGE}/diff?first={first}") for _ in range(READS)] for first in (0, FILES - 20)]
    finally:
        server.stop()
        shutil.rmtree(data, ignore_errors=True)
    return [
        (f"comparison of {FILES:,} files, {name} page of 20: {size([length for _, length in reads])}", "report",
         ms([seconds for seconds, _ in reads]))
        for name, reads in zip(("first", "last"), found, strict=True)
    ]  # fmt: skip


@row
def open_pages() -> list[Row]:
    """How long other requests take while a thousand pods take deploys, without pages that are open and with them."""
    rows = []
    for pages in (0, OPEN_PAGES):
        data = WORK / f"open-{pages}"
        server = Server(data).ready()
        try:
            server.deploy({"dag.py": b""})
            _get(server, PAGE)
            probe = retention.Probe(server.port)
            before = server.cpu_seconds()
            asyncio.run(_with_pods(server, _watched(server, pages, probe)))
            used = server.cpu_seconds() - before
        finally:
            server.stop()
            shutil.rmtree(data, ignore_errors=True)
        slow = statistics.quantiles(probe.seconds, n=100)[98]
        rows.append(
            (f"{pages} open pages, {WATCHED_DEPLOYS} deploys to {fleet.PODS:,} pods: other requests, 99 %", "report",
             f"{slow * 1000:.0f} ms (most {max(probe.seconds) * 1000:.0f} ms); {used:.1f} s of CPU")
        )  # fmt: skip
    return rows


async def _with_pods(server: Server, work) -> None:  # noqa: ANN001
    """Do ``work`` while a thousand pods follow the server."""
    pods = [asyncio.create_task(fleet._pod(server.port, number)) for number in range(fleet.PODS)]  # noqa: SLF001
    deadline = time.monotonic() + START_SECONDS
    while f'"live":{fleet.PODS}' not in (await asyncio.to_thread(server.get, "/default/dags/status"))[1].decode():
        if time.monotonic() > deadline:
            raise RuntimeError("not all pods are live")
        await asyncio.sleep(0.5)
    await work
    for pod in pods:
        pod.cancel()
    await asyncio.gather(*pods, return_exceptions=True)


async def _watched(server: Server, pages: int, probe: retention.Probe) -> None:
    watching = [asyncio.create_task(_open_page(server.port)) for _ in range(pages)]
    await asyncio.sleep(WATCH_SECONDS)
    probe.start()
    for number in range(WATCHED_DEPLOYS):
        await asyncio.to_thread(server.deploy, {"dag.py": b"%d" % number})
        await asyncio.sleep(WATCH_SECONDS)
    probe._end.set()  # noqa: SLF001
    await asyncio.to_thread(probe.join)
    for page in watching:
        page.cancel()
    await asyncio.gather(*watching, return_exceptions=True)


async def _open_page(port: int) -> None:
    """Ask as the script of the page does, until cancelled."""
    connection = await fleet.Connection.open(port)
    seen = ""
    with suppress(asyncio.CancelledError):
        while True:
            asked = time.monotonic()
            headers = {"If-None-Match": seen, "Prefer": f"wait={WAIT_SECONDS}"}
            status, seen, _ = await connection.get(LIVE, headers)
            if status == http.HTTPStatus.OK:
                await asyncio.sleep(0.3)
            elif time.monotonic() - asked < 1:
                await asyncio.sleep(PAUSE_SECONDS)
    connection.close()
