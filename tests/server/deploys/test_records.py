"""What a deployment has in the store beside entries and bundles is read again when it has changed, and only then."""

import pytest

from dagferry_server.deploys.freeze import Freeze, write_freeze
from dagferry_server.deploys.lifecycle import CREATED, Lifecycle, write_lifecycle
from dagferry_server.deploys.records import changed_records
from dagferry_server.errors import StoreAway, StoreDamaged
from shared_stores import SharedFolder, SharedLocalStore

FREEZE = Freeze("audit", None, "ops", 1)


@pytest.fixture
def store(tmp_path) -> SharedLocalStore:
    found = SharedFolder(tmp_path).open()
    found.prepare("prod")
    return found


def test_what_changed_is_read_and_an_unchanged_store_costs_one_request(store) -> None:
    first = changed_records(store, "prod", None)
    assert first[1:] == (store.log_id("prod"), None, None)
    store.calls.clear()
    assert changed_records(store, "prod", first.tag) is None
    assert store.calls == {"state_tag": 1}
    write_freeze(store, "prod", FREEZE)
    write_lifecycle(store, "prod", Lifecycle(CREATED, "ops", 1, 7))
    second = changed_records(store, "prod", first.tag)
    assert (second.freeze, second.lifecycle.floor) == (FREEZE, 7)
    log_id = store.new_log_id("prod")
    assert changed_records(store, "prod", second.tag).log_id == log_id


def test_a_log_id_that_the_store_lost_is_stored_again_if_the_log_is_still_there(store, tmp_path) -> None:
    log_id = store.log_id("prod")
    store.create_entry("prod", 1, b"{}")
    [file] = tmp_path.rglob("log.json")
    file.unlink()
    for known in ((), (log_id, 0), (log_id, 2)):  # unknown, empty, or another log by now
        with pytest.raises(StoreDamaged):
            changed_records(store, "prod", None, *known)
    assert changed_records(store, "prod", None, log_id, 1).log_id == log_id
    assert store.log_id("prod") == log_id


def test_a_record_that_changes_meanwhile_is_read_again_the_next_time(store, monkeypatch) -> None:
    real = store.log_id

    def changing(deployment: str) -> str:
        write_freeze(store, deployment, FREEZE)
        return real(deployment)

    monkeypatch.setattr(store, "log_id", changing)
    found = changed_records(store, "prod", None)
    monkeypatch.undo()
    assert changed_records(store, "prod", found.tag) is not None


def test_a_damaged_freeze_or_log_id_is_an_error_and_a_damaged_lifecycle_hides_nothing_else(store) -> None:
    store.write_state("prod", "lifecycle", b"{")
    write_freeze(store, "prod", FREEZE)
    assert changed_records(store, "prod", None)[2:] == (None, FREEZE)
    store.write_state("prod", "freeze", b"{")
    with pytest.raises(StoreDamaged, match="freeze of prod"):
        changed_records(store, "prod", None)
    store.away = True
    with pytest.raises(StoreAway):
        changed_records(store, "prod", None)
