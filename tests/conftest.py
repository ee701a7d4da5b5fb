"""Fixtures that several suites share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from fakeserver import FakeServer
from harness import Process, Server, Sidecar

# The same examples in every run, and no test that fails because a machine is slow.
settings.register_profile("dagferry", derandomize=True, deadline=None)
settings.load_profile("dagferry")

SLOW = {"airflow", "cluster", "compat", "crash", "e2e", "hostile", "scale"}
"""The folders whose tests start many processes or break things; elsewhere a test that starts one is slow too."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        starts = "started" in getattr(item, "fixturenames", ())
        if starts or SLOW & set(item.path.relative_to(Path(__file__).parent).parts):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Processes that are ended when the test is over, however it ends."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        if process.process.poll() is None:
            process.kill()


@pytest.fixture
def serve(tmp_path: Path, started: list[Process]) -> Callable[..., Server]:
    """Start a server on ``tmp_path/data`` and wait until it is ready."""

    def start(*flags: str, data: str = "data", **options: object) -> Server:
        server = Server(tmp_path / data, *flags, **options)
        started.append(server)
        return server.ready()

    return start


@pytest.fixture
def follow(tmp_path: Path, started: list[Process]) -> Callable[..., Sidecar]:
    """Start a sidecar on ``tmp_path/<name>``."""

    def start(server: Server | str, name: str = "pod-0", *flags: str, **options: object) -> Sidecar:
        sidecar = Sidecar(server if isinstance(server, str) else server.url, tmp_path / name, *flags, **options)
        started.append(sidecar)
        return sidecar

    return start


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server that does what the test tells it, also what no server should."""
    server = FakeServer()
    yield server
    server.stop()
