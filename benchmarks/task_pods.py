"""Task pods of KubernetesExecutor: their start, and what their server does meanwhile.

``task_pods`` starts them in a real cluster of one node, as our values for Airflow's chart make them, with a stand-in
for Airflow that ends at once; pods with and without our init container in turn. It needs what ``tests/cluster`` needs:
root, and built programs. ``many_task_pods`` are only connections that ask as init containers do, more than a node can
start.
"""

import asyncio
import contextlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tree
from measure import WORK, Row, ms, packed, row, serving, size, status, upload

from cluster import images
from cluster.outside import Cluster, obstacle
from cluster.task_pods import Ended, TaskPods
from dagferry_core import protocol
from dagferry_follow.defaults import POLL_INTERVAL_SECONDS
from dagferry_follow.pauses import backoff

PODS = 50
"""A node runs 110 by default."""
PAIRS = 3
WAIT_SECONDS = 1200
"""How long so many pods may take to start on a busy machine."""
AWAY_SECONDS = 90
"""How long the server is away after all pods wait: long enough that they pause for longer than in its restart."""
SLOW_CPU = "50m"
"""What a slow server has."""
MANY = 500
MANY_RUNS = 5
REFUSED = 503
TREES = (
    tree.USUAL._replace(name="task-pods", files=500, total_bytes=5_000_000, areas=101),
    tree.USUAL._replace(name="task-pods-small", files=30, total_bytes=100_000, areas=10, common=3, teams=2, leaf=20),
)
USAGE = """
import json, re, urllib.request
status = dict(line.split(":", 1) for line in open("/proc/1/status"))
ticks = open("/proc/1/stat").read().rpartition(")")[2].split()
[network] = [line.split() for line in open("/proc/net/dev") if "eth0" in line]
text = urllib.request.urlopen("http://127.0.0.1:8001/metrics").read().decode()
found = re.findall(r'requests_total{route="(/[^"]*)",status="(.xx)"} (\\S+)', text)
requests = [(status, float(number)) for route, status, number in found if "dags" in route]
print(json.dumps({
    "received": int(network[1]), "sent": int(network[9]), "ticks": int(ticks[11]) + int(ticks[12]),
    "peak": int(status["VmHWM"].split()[0]) * 1024,
    "requests": sum(number for _, number in requests),
    "refused": sum(number for status, number in requests if status[0] in "45"),
}))
"""


class Usage(NamedTuple):
    """What the server has used: bytes of its network, clock ticks of 10 ms, peak memory; and requests for DAGs."""

    received: int
    sent: int
    ticks: int
    peak: int
    requests: float
    refused: float

    @classmethod
    def of(cls, pods: TaskPods) -> "Usage":
        """Ask the server's container."""
        return cls(**json.loads(pods.run_beside_server(USAGE)))

    def since(self, before: "Usage") -> "Usage":
        """Return the difference; the peak is not one."""
        return Usage(*(now - then for now, then in zip(self, before, strict=True)))._replace(peak=self.peak)


@contextlib.contextmanager
def _cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="cluster-"))  # the paths of sockets are short
    try:
        cluster = Cluster(folder / "c", images.build())
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(pods: TaskPods, *, init: bool) -> list[float]:
    """Start all pods at once; return the seconds until each task starts, sorted."""
    before = pods.start(*(pods.pod(f"task-{number}", init=init) for number in range(PODS)))
    seconds = _seconds(pods.ended(PODS, WAIT_SECONDS), before)
    pods.clear()
    return seconds


def _seconds(ended: Mapping[str, Ended], since: float) -> list[float]:
    return sorted(each.started - since for each in ended.values())


def _ratio(what: str, ours: list[float], without: list[float]) -> Row:
    ratio = statistics.median(a / b for a, b in zip(ours, without, strict=True))
    return (what, "report", f"{ratio:.2f} ×: {ms(ours)} ÷ {ms(without)}")


def _at_once(pods: TaskPods, name: str) -> Iterator[Row]:
    """Start them with our init container and without, in turn."""
    ours, without, used = [], [], []
    for _ in range(PAIRS):
        before = Usage.of(pods)
        ours.append(_start(pods, init=True))
        used.append(Usage.of(pods).since(before))
        without.append(_start(pods, init=False))
    for which, number in (("the middle one", PODS // 2), ("the last", PODS - 1)):
        what = f"{name}: created → {which} starts its task, with our init container ÷ without"
        yield _ratio(what, [seconds[number] for seconds in ours], [seconds[number] for seconds in without])
    yield (f"{name}: requests", "report", f"{max(each.requests for each in used):.0f}, refused {_refused(used)}")
    yield (f"{name}: bytes that the server sends, with all headers", "report", size([each.sent for each in used]))
    yield (f"{name}: bytes that it receives", "report", size([each.received for each in used]))
    yield (f"{name}: CPU of the server", "report", ms([each.ticks / 100 for each in used]))
    yield (f"{name}: peak memory of the server", "report", f"{max(each.peak for each in used) / 2**20:.0f} MiB")


def _refused(used: list[Usage]) -> str:
    return f"{max(each.refused for each in used):.0f}"


def _away(pods: TaskPods, name: str) -> Iterator[Row]:
    """All pods wait for a server that is away, and ask it when it is back."""
    pods.server_is_away()
    pods.start(*(pods.pod(f"task-{number}") for number in range(PODS)))
    pods.waiting(PODS, WAIT_SECONDS)
    time.sleep(AWAY_SECONDS)
    pods.waiting(PODS)
    back = time.time()
    pods.server_is_back()
    ready = time.time() - back
    seconds = _seconds(pods.ended(PODS, WAIT_SECONDS), back)
    used = Usage.of(pods)
    pods.clear()
    what = f"{name}, that wait for a server which is away for {AWAY_SECONDS} s"
    figure = (
        f"{seconds[0]:.0f}, {seconds[PODS // 2]:.0f} and {seconds[-1]:.0f} s; the server is ready after {ready:.0f} s"
    )
    yield (f"{what}: started again → the first, middle and last task start", "report", figure)
    yield (f"{what}: requests", "report", f"{used.requests:.0f}, refused {used.refused:.0f}")
    yield (f"{what}: CPU of the server, with its start", "report", f"{used.ticks * 10} ms")


def _slow(pods: TaskPods, name: str) -> Iterator[Row]:
    """The server has a twentieth of a CPU."""
    resources: Mapping[str, Any] = {
        "requests": {"cpu": SLOW_CPU, "memory": "512Mi"},
        "limits": {"cpu": SLOW_CPU, "memory": "1536Mi"},
    }
    pods.install({"tiers": 1, "resources": resources})
    before = Usage.of(pods)
    seconds = _start(pods, init=True)
    used = Usage.of(pods).since(before)
    pods.install({"tiers": 1})
    what = f"{name}, with {SLOW_CPU} of CPU for the server"
    figure = f"{seconds[PODS // 2]:.0f} and {seconds[-1]:.0f} s"
    yield (f"{what}: created → the middle and the last task start", "report", figure)
    yield (f"{what}: requests", "report", f"{used.requests:.0f}, refused {used.refused:.0f}")


@row
def task_pods() -> list[Row]:
    """Fifty task pods at once; with the server away; and with a slow one."""
    if reason := obstacle():
        print(f"Task pods are not measured: {reason}.", file=sys.stderr)
        return []
    rows: list[Row] = []
    with _cluster() as cluster:
        pods = TaskPods(cluster, {"tiers": 1})
        for shape in TREES:
            tree.write(WORK / shape.name / "dags", shape)
            pods.deploy(WORK / shape.name / "dags")
            name = f"{PODS} task pods at once, {shape.files} files of {shape.total_bytes / 10**6:g} MB"
            for measured in (_at_once, _away, _slow):
                for found in measured(pods, name):
                    print(found, file=sys.stderr, flush=True)  # the whole takes half an hour
                    rows.append(found)
    return rows


@row
def many_task_pods() -> list[Row]:
    """More task pods at once than the server sends bundles to at a time, on this machine."""
    shape = TREES[0]
    if not (folder := WORK / shape.name / "dags").exists():
        tree.write(folder, shape)
    took, refused, cpu, peak = [], [], [], 0
    with serving("many-task-pods") as server:
        version, *_ = upload(server, packed(folder))
        for _ in range(MANY_RUNS):
            before = server.cpu_seconds()
            seconds, refusals = asyncio.run(_ask_all(server.port, version))
            took.append(seconds)
            refused.append(refusals)
            cpu.append(server.cpu_seconds() - before)
            peak = max(peak, status(server.process.pid, "VmHWM"))
    name = f"{MANY} task pods at once, {shape.files} files of {shape.total_bytes / 10**6:g} MB"
    shown = f"{statistics.median(refused):.0f} ({min(refused)}–{max(refused)}, n = {MANY_RUNS})"
    return [
        (f"{name}: asked → the last has its bundle", "report", ms(took)),
        (f"{name}: answers that said 503", "report", shown),
        (f"{name}: CPU of the server", "report", ms(cpu)),
        (f"{name}: peak memory of the server", "report", f"{peak / 2**20:.0f} MiB"),
    ]


async def _ask_all(port: int, version: str) -> tuple[float, int]:
    """Seconds until all have the bundle, and how many answers were refusals."""
    began = time.perf_counter()
    refusals = await asyncio.gather(*(_ask(port, version, number / MANY) for number in range(MANY)))
    return time.perf_counter() - began, sum(refusals)


async def _ask(port: int, version: str, jitter: float) -> int:
    """Ask for the version and for its bundle; after a refusal again, as an init container does."""
    refusals = 0
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        code = REFUSED
        for template in (protocol.CURRENT_PATH, protocol.VERSION_PATH):
            path = template.format(deployment="default", version=version)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{protocol.ONCE}: 1\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            code = int(head.split()[1])
            await _skip(reader, int(head.partition("content-length: ")[2].split("\r\n")[0]))
        writer.close()
        if code != REFUSED:
            assert code == 200, code
            return refusals
        refusals += 1
        await asyncio.sleep(backoff(refusals, POLL_INTERVAL_SECONDS, jitter))


async def _skip(reader: asyncio.StreamReader, left: int) -> None:
    while left:
        left -= len(await reader.read(left))
