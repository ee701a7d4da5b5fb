"""A bucket of versitygw for one test, with a proxy in front of each of its two endpoints."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from object_stores import SERVICES
from stores import ObjectStoreUnderTest


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[ObjectStoreUnderTest]:
    made = ObjectStoreUnderTest(SERVICES["versitygw"](), tmp_path)
    yield made
    made.close()
