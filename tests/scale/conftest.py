"""Fixtures: empty prefixes in the buckets of real object stores."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from object_stores import SERVICES
from server_processes import Servers
from stores import NAMES, ObjectStoreUnderTest

BUCKETS = [name for name in NAMES if name in SERVICES]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for ``bucket`` on each store, and what asks for ``plain_bucket`` on those with a plain bucket."""
    if "bucket" in metafunc.fixturenames:
        metafunc.parametrize("bucket", BUCKETS, indirect=True)
    if "plain_bucket" in metafunc.fixturenames:
        plain = [name for name in BUCKETS if name != "versitygw-versioned"]
        metafunc.parametrize("plain_bucket", plain, indirect=True)


@pytest.fixture
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStoreUnderTest]:
    """An empty prefix, once in each store."""
    under_test = ObjectStoreUnderTest(SERVICES[request.param](), tmp_path)
    yield under_test
    under_test.close()


@pytest.fixture
def plain_bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStoreUnderTest]:
    """An empty prefix, once in each store whose bucket is not set up in a special way."""
    under_test = ObjectStoreUnderTest(SERVICES[request.param](), tmp_path)
    yield under_test
    under_test.close()


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[ObjectStoreUnderTest]:
    """An empty prefix in a bucket of versitygw, with two gateways."""
    under_test = ObjectStoreUnderTest(SERVICES["versitygw"](), tmp_path)
    yield under_test
    under_test.close()


@pytest.fixture
def cleanup() -> Iterator[list[Callable[[], None]]]:
    """What is to be called when the test is over."""
    calls: list[Callable[[], None]] = []
    yield calls
    for call in calls:
        call()


@pytest.fixture
def several(s3: ObjectStoreUnderTest, tmp_path: Path, cleanup: list[Callable[[], None]]) -> Callable[..., Servers]:
    """Make ``Servers`` on one empty prefix of versitygw; they end with the test."""

    def make(number: int, **options: bool) -> Servers:
        servers = Servers(s3, tmp_path, number, **options)
        cleanup.append(servers.close)
        return servers

    return make
