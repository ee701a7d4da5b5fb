"""What the store says about deployments that were created or deleted at run time."""

import pytest

from dagferry_server.deploys.lifecycle import CREATED, LIFECYCLE_KEY, Lifecycle, read_lifecycle, write_lifecycle
from dagferry_server.errors import StoreDamaged
from dagferry_server.store.local import LocalStore


@pytest.fixture
def store(tmp_path) -> LocalStore:
    store = LocalStore(str(tmp_path))
    store.prepare("prod")
    return store


def test_a_deployment_that_was_never_created_or_deleted_has_none(store) -> None:
    assert read_lifecycle(store, "prod") is None


def test_it_is_read_as_it_was_written(store) -> None:
    for lifecycle in (Lifecycle(CREATED, "token:ci", 1_800_000_000, 7), Lifecycle(CREATED, "ann 'x' é", 0)):
        write_lifecycle(store, "prod", lifecycle)
        assert read_lifecycle(store, "prod") == lifecycle


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"change": "renamed", "actor": "a", "time": 1}', b'{"change": 1}', b"\xff"]
)
def test_one_that_does_not_decode_is_damaged(store, data) -> None:
    store.write_state("prod", LIFECYCLE_KEY, data)
    with pytest.raises(StoreDamaged, match="The lifecycle of prod is damaged"):
        read_lifecycle(store, "prod")
