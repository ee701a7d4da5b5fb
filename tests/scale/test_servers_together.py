"""Two server processes on one bucket, each behind a proxy of its own: told, away, hanging, killed."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faulty_store import FaultyStore
from harness import PATIENCE_SECONDS, Server, eventually, pack
from stores import ObjectStoreUnderTest

A = {"etl.py": b"rate = 1\n"}
B = {"etl.py": b"rate = 2\n"}
UPLOADS = 15
"""How many each server gets at once."""

pytestmark = pytest.mark.slow
Serve = Callable[..., Server]


@pytest.fixture
def serve(s3: ObjectStoreUnderTest, tmp_path: Path, cleanup) -> Serve:
    numbers = iter(range(1, 10))

    def serve(proxy: FaultyStore, *flags: str) -> Server:
        folder = tmp_path / f"server{next(numbers)}"
        server = Server(folder, "--store", s3.url, "--store-poll", "0.2", *flags, **s3.variables(proxy))
        cleanup.insert(0, lambda: server.stop(None))
        return server.ready()

    return serve


def ready(server: Server) -> int:
    return server.get("/readyz")[0]


def sequence(server: Server) -> int:
    return server.current()["sequence"] or 0


def test_each_learns_of_the_others_deploys_and_all_uploads_at_once_get_a_place(s3, serve) -> None:
    servers = [serve(proxy) for proxy in s3.proxies]
    for server in servers:
        eventually("it to be ready", lambda server=server: ready(server) == 200)
    uploads = [(server, number) for number in range(UPLOADS) for server in servers]

    def upload(work: tuple[Server, int]) -> dict:
        server, number = work
        return server.deploy({"etl.py": b"%d %d\n" % (number, server.port)})

    with ThreadPoolExecutor(2 * len(servers)) as pool:
        told = list(pool.map(upload, uploads))
    assert sorted(each["sequence"] for each in told) == list(range(1, len(uploads) + 1))
    assert len({each["version"] for each in told}) == len(uploads)
    for server in servers:
        eventually("all deploys to be known", lambda server=server: sequence(server) == len(uploads))


def test_a_server_whose_bucket_is_away_serves_what_it_knows_and_recovers_by_itself(s3, serve) -> None:
    one, other = [serve(proxy) for proxy in s3.proxies]
    for server in (one, other):
        eventually("it to be ready", lambda server=server: ready(server) == 200)
    version = one.deploy(A)["version"]
    assert one.get(f"/default/dags/versions/{version}")[0] == 200
    s3.proxies[0].go_away()
    eventually("it to be noticed", lambda: b"store_reachable 0.0" in one.get("/metrics")[1])
    status, body = one.request("/default/dags/upload", pack(B))
    assert (status, json.loads(body)["code"]) == (503, "store_unavailable")
    assert one.current()["version"] == version
    assert one.get(f"/default/dags/versions/{version}")[0] == 200
    assert ready(one) == 200
    assert other.deploy(B)["sequence"] == 2
    s3.proxies[0].away = False
    eventually("the deploy of the other one", lambda: sequence(one) == 2)
    assert one.deploy(A)["sequence"] == 3


def test_a_server_that_starts_while_the_bucket_is_away_is_ready_when_it_is_back(s3, serve) -> None:
    one = serve(s3.proxies[0])
    version = one.deploy(A)["version"]
    s3.proxies[1].go_away()
    other = serve(s3.proxies[1])
    assert ready(other) == 503
    assert other.get("/default/dags/current")[0] == 503
    s3.proxies[1].away = False
    eventually("it to be ready", lambda: ready(other) == 200)
    assert other.current()["version"] == version


def test_a_server_answers_and_ends_while_the_bucket_hangs(s3, serve, cleanup) -> None:
    server = serve(s3.proxies[0])
    version = server.deploy(A)["version"]
    assert server.get(f"/default/dags/versions/{version}")[0] == 200
    eventually("it to be ready", lambda: ready(server) == 200)
    goes_on = threading.Event()
    cleanup.append(goes_on.set)
    s3.proxies[0].guard = lambda message: goes_on.wait(10 * PATIENCE_SECONDS) and message
    eventually("it to be noticed", lambda: b"store_reachable 0.0" in server.get("/metrics")[1])
    assert server.current()["version"] == version
    assert server.get(f"/default/dags/versions/{version}")[0] == 200
    assert ready(server) == 200
    server.stop()


def test_a_deploy_of_a_server_that_is_killed_after_the_entry_is_known_to_the_other(s3, serve) -> None:
    one, other = [serve(proxy) for proxy in s3.proxies]
    one.deploy(A)
    one.kill()
    eventually("the deploy", lambda: sequence(other) == 1)
    assert other.deploy(A)["unchanged"] is True
    assert other.deploy(B)["sequence"] == 2
