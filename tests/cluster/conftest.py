"""Fixtures: a real API server, and a whole cluster. Where they cannot run, their tests are skipped with the reason."""

import os
from collections.abc import Callable, Iterator

import pytest

from cluster.control import ApiServer
from cluster.programs import CONTROL, NotBuilt, find


@pytest.fixture(scope="session")
def own_api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], ApiServer]]:
    """Start an API server for one file of tests alone."""
    try:
        for name in CONTROL:
            find(name)
    except NotBuilt as reason:
        if os.environ.get("CI"):
            pytest.fail(f"CI builds it: {reason}")
        pytest.skip(str(reason))
    servers: list[ApiServer] = []

    def start() -> ApiServer:
        servers.append(ApiServer(tmp_path_factory.mktemp("api-server")))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def api_server(own_api_server: Callable[[], ApiServer]) -> ApiServer:
    """A real API server for all tests of this process. Each makes its own namespaces."""
    return own_api_server()
