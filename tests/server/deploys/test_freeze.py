"""A freeze: how long it holds, and what the store says about it."""

import pytest

from dagferry_server.deploys.freeze import FREEZE_KEY, Freeze, read_freeze, write_freeze
from dagferry_server.errors import StoreDamaged
from dagferry_server.store.local import LocalStore


@pytest.fixture
def store(tmp_path) -> LocalStore:
    store = LocalStore(str(tmp_path))
    store.prepare("prod")
    return store


def test_it_ends_at_its_time_and_one_without_a_time_does_not_end() -> None:
    until = Freeze("release", 100, "ann", 50)
    assert [until.holds_at(now) for now in (50, 99.9, 100, 101)] == [True, True, False, False]
    assert Freeze("release", None, "ann", 50).holds_at(1e12)


def test_it_is_read_as_it_was_written_until_it_is_lifted(store) -> None:
    assert read_freeze(store, "prod") is None
    for freeze in (Freeze("release é", None, "ann", 50), Freeze("other", 100, "bob", 51)):
        write_freeze(store, "prod", freeze)
        assert read_freeze(store, "prod") == freeze
    for _ in range(2):
        write_freeze(store, "prod", None)
        assert read_freeze(store, "prod") is None


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"reason": "r", "until": "soon", "actor": "a", "time": 1}', b'{"reason": "r"}', b"\xff"]
)
def test_one_that_does_not_decode_is_damaged(store, data) -> None:
    store.write_state("prod", FREEZE_KEY, data)
    with pytest.raises(StoreDamaged, match="The freeze of prod is damaged"):
        read_freeze(store, "prod")
