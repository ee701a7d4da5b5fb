"""Servers and sidecars of this release and of the previous one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Process, Server, Sidecar
from previous import PreviousServer, PreviousSidecar

SERVERS = {"this": Server, "previous": PreviousServer}
SIDECARS = {"this": Sidecar, "previous": PreviousSidecar}


@pytest.fixture
def serving(tmp_path: Path, started: list[Process]) -> Callable[..., Server]:
    """Start a server of a release, always on the same data folder."""

    def start(release: str, **options: object) -> Server:
        server = SERVERS[release](tmp_path / "data", **options)
        started.append(server)
        return server.ready()

    return start


@pytest.fixture
def following(tmp_path: Path, started: list[Process]) -> Callable[..., Sidecar]:
    """Start a sidecar of a release, always on the same volume."""

    def start(release: str, server: Server) -> Sidecar:
        sidecar = SIDECARS[release](server.url, tmp_path / "pod-0")
        started.append(sidecar)
        return sidecar

    return start
