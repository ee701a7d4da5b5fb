"""Several servers on one bucket: how soon all know of a deploy, and what they ask the store for.

The bucket is one of versitygw with two gateways, on loopback: the program in ``VERSITYGW``.
"""

import asyncio
import http.client
import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tree
from measure import (
    MIB,
    RUNS,
    WORK,
    Row,
    folder_and_changes,
    logged,
    ms,
    paired,
    row,
    send_raw,
    serving,
    status,
)
from uploads import MEMORY_RUNS, random_dags
from waiting import _wait

from faulty_store import CREATE, DELETE, GET, LIST, PARTS, PUT
from harness import Server
from object_stores import SERVICES
from server_processes import Servers, unique
from stores import ObjectStoreUnderTest

SERVERS = 3
WAITERS = 3000
WAITER_RUNS = 5
DEPLOYMENTS = 10
COUNT_SECONDS = 600
"""For how long requests are counted: an audit comes once in this time."""
DEPLOYS = 10
DEPLOYS_A_DAY = 100
_STARTING = threading.Lock()
MONTH_SECONDS = 365.25 / 12 * 86400
PRICES = {GET: 0.40, PUT: 5.0, CREATE: 5.0, LIST: 5.0, PARTS: 5.0, DELETE: 0.0}
"""USD for a million requests of each kind: the list prices of S3 in us-east-1."""


@contextmanager
def several(number: int, *, with_peers: bool) -> Iterator[Servers]:
    """Servers on an empty prefix; what they keep is removed at the end."""
    folder = Path(tempfile.mkdtemp(dir=WORK))
    servers = Servers(ObjectStoreUnderTest(SERVICES["versitygw"](), folder), folder, number, with_peers=with_peers)
    try:
        yield servers
    finally:
        servers.close()
        shutil.rmtree(folder, ignore_errors=True)


def _told(version: str, server: Server, answered: list[float]) -> None:
    """Wait for another version than this one; note when the answer begins, in seconds since the epoch."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Prefer": "wait=50", "If-None-Match": f'"{version}"'}
    connection.request("GET", "/default/dags/current", headers=headers)
    response = connection.getresponse()
    answered.append(time.time())
    response.read()
    connection.close()


@row
def notified_elsewhere() -> list[Row]:
    """From the commit on one server to the answer to who waits at another one."""
    rows = []
    for what, goal, with_peers, poll in (
        ("by polls of 1 s", "≤ 1 s", False, "1"),
        ("by peers", "≤ 50 ms", True, "10"),
    ):
        with several(2, with_peers=with_peers) as cluster:
            one, other = cluster.start_all("--store-poll", poll, past_proxy=True)
            version, seconds = one.deploy(unique(0))["version"], []
            while other.current()["version"] != version:
                time.sleep(0.01)
            for number in range(1, 2 * RUNS + 1):
                answered: list[float] = []
                waiter = threading.Thread(target=_told, args=(version, other, answered))
                waiter.start()
                time.sleep(0.2 + 0.17 * (number % 6))  # at another moment between two polls each time
                version = one.deploy(unique(number))["version"]
                waiter.join()
                seconds.append(answered[0] - logged(one, "Deployed", version))
        rows.append((f"committed → a waiter at another server is notified, {what}", goal, ms(seconds)))
    return rows


@row
def upload_to_bucket() -> list[Row]:
    """An upload of 16 MB with one changed line: its bundle goes to a bucket, against to a folder of the same disk."""
    _, changed = folder_and_changes(tree.change_leaf, tree.LARGE)
    file = WORK / "dags.tar.gz"
    numbers = iter(range(3000, 4000))
    seconds: list[float] = []

    def send(port: int) -> float:
        file.write_bytes(changed(next(numbers)))
        began = time.perf_counter()
        code = send_raw(port, file)
        seconds.append(time.perf_counter() - began)
        assert code == 200, code
        return seconds[-1]

    with several(1, with_peers=False) as cluster, serving("folder") as folder:
        [bucket] = cluster.start_all("--tiers", "4", "--single-server", "--store-poll", "1", past_proxy=True)
        for port in (bucket.port, folder.port):
            send(port)
        ratio, theirs, ours = paired(lambda: send(bucket.port), lambda: send(folder.port))
    return [("upload of 16 MB, one line changed, to versitygw ÷ to a folder", "≤ 1.5 ×", f"{ratio}: {theirs} ÷ {ours}")]


@row
def bucket_memory() -> list[Row]:
    """Peak memory of a server that puts a large upload into a bucket."""
    path = WORK / "large.tar.gz"
    path.write_bytes(random_dags(500 * MIB))
    peaks = []
    for _ in range(MEMORY_RUNS):
        with several(1, with_peers=False) as cluster:
            [server] = cluster.start_all("--tiers", "40", "--single-server", past_proxy=True)
            assert send_raw(server.port, path) == 200
            peaks.append(status(server.process.pid, "VmHWM") / MIB)
    path.unlink()
    figure = f"{statistics.median(peaks):.0f} MiB ({min(peaks):.0f}–{max(peaks):.0f}, n = {len(peaks)})"
    return [("server peak memory, one upload of 500 MiB to a bucket", "≤ 128 MiB", figure)]


@row
def waiters_on_several() -> list[Row]:
    """Thousands of connections that wait at several servers for the next deploy to one of them."""
    rows = []
    for what, with_peers, poll in (("by peers", True, "10"), ("by polls of 1 s", False, "1")):
        seconds = [_everyone_told(poll, with_peers=with_peers) for _ in range(WAITER_RUNS)]
        title = f"{WAITERS} waiters on {SERVERS} servers: committed → the last is notified, {what}"
        rows.append((title, "≤ 1.5 s", ms(seconds)))
    return rows


def _everyone_told(poll: str, *, with_peers: bool) -> float:
    with several(SERVERS, with_peers=with_peers) as cluster:
        servers = cluster.start_all("--store-poll", poll, past_proxy=True)
        version = servers[0].deploy(unique(0))["version"]
        for server in servers:
            while server.current()["version"] != version:
                time.sleep(0.01)
        notified, new = asyncio.run(_wait_everywhere(servers, version))
        apart = time.time() - time.perf_counter()
        return max(notified) + apart - logged(servers[0], "Deployed", new)


async def _wait_everywhere(servers: list[Server], version: str) -> tuple[list[float], str]:
    ready = asyncio.Semaphore(0)
    notified: list[float] = []
    tasks = []
    for pod in range(WAITERS):
        port = servers[pod % len(servers)].port
        tasks.append(asyncio.create_task(_wait(port, pod, version, ready, notified)))
        if pod % 100 == 0:
            await asyncio.sleep(0.05)
    for _ in range(WAITERS):
        await ready.acquire()
    await asyncio.sleep(3)
    new: str = (await asyncio.to_thread(servers[0].deploy, unique(1)))["version"]
    await asyncio.gather(*tasks)
    return notified, new


@row
def store_requests() -> list[Row]:
    """Requests to the store while nothing happens, and for deploys, and what they cost in a month."""
    names = ",".join(["default", *(f"team-{number}" for number in range(1, DEPLOYMENTS))])
    rows = []
    for number in (1, SERVERS):
        a_month = MONTH_SECONDS / 86400 * DEPLOYS_A_DAY / DEPLOYS
        deploys = _count_deploys(number)
        each = ", ".join(f"{count / DEPLOYS:.1f} {kind}" for kind, count in sorted(deploys.items()))
        cost = _cost(Counter({kind: count * a_month for kind, count in deploys.items()}))
        rows.append((f"{DEPLOYS_A_DAY} deploys a day, a month, servers: {number}", "report", f"{cost}; each {each}"))
    variants = [(poll, with_peers) for poll in ("1", "10") for with_peers in (False, True)]
    found: dict[tuple[str, bool], Counter[str]] = {}
    threads = [threading.Thread(target=_count_idle, args=(names, variant, found)) for variant in variants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for poll, with_peers in variants:
        idle = Counter({kind: count * MONTH_SECONDS / COUNT_SECONDS for kind, count in found[poll, with_peers].items()})
        what = f"--store-poll {poll}, with{'' if with_peers else 'out'} peers"
        rows.append((f"{SERVERS} servers × {DEPLOYMENTS} deployments, a month, {what}", "report", _cost(idle)))
    return rows


def _cost(requests: Counter[str]) -> str:
    usd = sum(PRICES[kind] * count / 1e6 for kind, count in requests.items())
    kinds = ", ".join(f"{count / 1e6:.3f} {kind}" for kind, count in sorted(requests.items()))
    return f"{sum(requests.values()) / 1e6:.2f} million requests ({kinds}), {usd:.2f} USD"


def _count_idle(names: str, variant: tuple[str, bool], found: dict[tuple[str, bool], Counter[str]]) -> None:
    poll, with_peers = variant
    with several(SERVERS, with_peers=with_peers) as cluster:
        with _STARTING:  # not all at once
            servers = cluster.start_all("--store-poll", poll, "--deployments", names)
        for number, name in enumerate(names.split(",")):
            servers[0].deploy(unique(number), name)
        time.sleep(15)  # until all know all
        before = [proxy.counts() for proxy in cluster.proxies]
        time.sleep(COUNT_SECONDS)
        counted = sum((proxy.counts() for proxy in cluster.proxies), Counter())
        for each in before:
            counted.subtract(each)
        found[variant] = +counted


def _count_deploys(number: int) -> Counter[str]:
    """Count the requests of ``DEPLOYS`` deploys, on all servers together, without those that come anyway."""
    with several(number, with_peers=number > 1) as cluster:
        servers = cluster.start_all("--store-poll", "60")
        servers[0].deploy(unique(0))
        time.sleep(5)
        for proxy in cluster.proxies:
            proxy.resume()  # forgets what was requested
        for deploy in range(1, DEPLOYS + 1):
            servers[0].deploy(unique(deploy))
            time.sleep(0.5)
        requests = [request for proxy in cluster.proxies for request in proxy.requests]
    return Counter(request.kind for request in requests if "/.dagferry/" not in request.key)
