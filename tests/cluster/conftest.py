"""Fixtures: a real API server, and a whole cluster. Where they cannot run, their tests are skipped with the reason."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from cluster import crds, images
from cluster.control import ApiServer
from cluster.outside import Cluster, obstacle
from cluster.programs import CONTROL, NotBuilt, find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)


def unavailable(reason: NotBuilt) -> NoReturn:
    """Skip what needs a program that is not built; .ci/run builds them."""
    if os.environ.get("CI"):
        pytest.fail(str(reason))
    pytest.skip(str(reason))


@pytest.fixture(scope="session")
def own_api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], ApiServer]]:
    """Start an API server for one file of tests alone."""
    try:
        for name in (*CONTROL, "helm"):
            find(name)
    except NotBuilt as reason:
        unavailable(reason)
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


@pytest.fixture(scope="session")
def custom_resources(api_server: ApiServer) -> None:
    """The API server knows the custom resources that our chart may make."""
    try:
        files = crds.find()
    except NotBuilt as reason:
        unavailable(reason)
    api_server.kubectl("apply", "--server-side", *(f"--filename={path}" for path in files))
    api_server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real cluster with the images of this checkout, for all tests of this process. Each makes its own namespaces."""
    if reason := obstacle():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="cluster-"))  # the paths of sockets are short
    try:
        up = Cluster(folder / "c", images.build())
        yield up
        cgroups = up.cgroups()
        assert all(path.is_dir() for path in cgroups)
        up.stop()
        assert [path for path in (up.folder, *cgroups) if path.exists()] == []
        assert str(folder) not in Path("/proc/self/mountinfo").read_text()
        assert users_of(folder) == []
    finally:
        shutil.rmtree(folder)


def users_of(folder: Path) -> list[str]:
    """The commands of all processes that name a folder."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            commands.append(path.read_text(errors="replace"))
    return [command for command in commands if str(folder) in command]
