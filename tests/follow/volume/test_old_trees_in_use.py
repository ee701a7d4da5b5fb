"""Old trees that processes use stay whatever their age, as long as all fit; their bytes are counted right."""

import errno
import os
from collections.abc import Callable

import pytest

from dagferry_follow.volume import in_use
from dagferry_follow.volume.records import TreeRules
from publishing import HOUR, bytes_on_disk, publish, trees_of


@pytest.fixture
def hold(root):
    """Hold trees as a task does; returns what releases one."""
    held: dict[str, int] = {}

    def of(unique: str) -> Callable[[], None]:
        held[unique] = in_use.hold(str(root), unique)
        return lambda: os.close(held.pop(unique))

    yield of
    for fd in held.values():
        os.close(fd)


def test_a_task_of_thirty_hours_keeps_its_tree_and_then_it_goes(root, opened, hold) -> None:
    volume = opened()
    start = 2e9
    for number in range(1, 31):  # a deploy every hour
        publish(volume, number, now=start + number * HOUR)
        if number == 2:
            release = hold(volume.old[0].unique)
        volume.retire(TreeRules(1, 2.5, 1 << 60), start + number * HOUR)
    assert [tree.record.sequence for tree in volume.old] == [29, 28, 27, 1]
    assert volume.used == 1
    volume = opened()  # a restarted sidecar
    volume.load()
    volume.sweep()
    volume.retire(TreeRules(1, 2.5, 1 << 60), start + 100 * HOUR)
    assert [tree.record.sequence for tree in volume.old] == [29, 1]
    release()
    assert volume.retire(TreeRules(1, 2.5, 1 << 60), start + 101 * HOUR) == 1
    assert [tree.record.sequence for tree in volume.old] == [29]
    assert volume.used == 0


def test_trees_that_tasks_use_are_removed_last_and_only_when_they_do_not_fit(root, opened, hold, caplog) -> None:
    volume = opened()
    for number in range(1, 7):
        publish(volume, number)
    by_number = {tree.record.sequence: tree for tree in volume.old}
    for number in (1, 3):
        hold(by_number[number].unique)
    size, alone = volume.live.record.size, volume.live.record.new_bytes
    assert volume.retire(TreeRules(9, 1, 3 * alone + size), 3e9) == 2
    assert [tree.record.sequence for tree in volume.old] == [5, 3, 1]
    assert "although tasks use it" not in caplog.text
    assert volume.retire(TreeRules(9, 1, 2 * alone + size), 3e9) == 1
    assert [tree.record.sequence for tree in volume.old] == [5, 3], "the oldest first"
    assert caplog.text.count("The tree of v-1 is removed although tasks use it") == 1
    assert volume.used == 1
    volume.retire(TreeRules(0, 0, 1), 3e9)
    assert [tree.record.sequence for tree in volume.old] == [5]
    assert (len(trees_of(root)), volume.used) == (2, 0)


def test_a_full_volume_costs_unused_trees_first_and_then_the_oldest_used_one_each_time(
    root, opened, hold, caplog
) -> None:
    volume = opened()
    for number in range(1, 6):
        publish(volume, number)
    for tree in volume.old:
        if tree.record.sequence in {1, 2}:
            hold(tree.unique)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert volume.make_room(full, 3e9)
    assert [tree.record.sequence for tree in volume.old] == [4, 2, 1]
    assert "although tasks use it" not in caplog.text
    assert volume.make_room(full, 3e9)
    assert [tree.record.sequence for tree in volume.old] == [4, 2]
    assert volume.make_room(full, 3e9)
    assert [tree.record.sequence for tree in volume.old] == [4]
    assert not volume.make_room(full, 3e9)
    assert caplog.text.count("although tasks use it") == 2


def test_where_what_is_published_cannot_be_checked_a_used_tree_stays_too(root, opened, hold, monkeypatch) -> None:
    volume = opened()
    for number in range(1, 6):
        publish(volume, number)
    hold(volume.old[-1].unique)
    (root / "current").resolve().parent.joinpath("deploy.json").write_bytes(b"")
    volume = opened()
    volume.load()
    volume.sweep()
    assert volume.make_room(OSError(errno.ENOSPC, "full"), 3e9)
    assert [tree.record.sequence for tree in volume.old] == [4, 1]


def test_a_task_that_begins_to_use_a_tree_right_before_its_removal_keeps_it(root, opened, hold, monkeypatch) -> None:
    volume = opened()
    for number in range(1, 5):
        publish(volume, number)
    unique = volume.old[-1].unique
    used = in_use.used

    def late(root: str, uniques: list[str]) -> frozenset[str]:
        found = used(root, uniques)
        hold(unique)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(in_use, "used", late)
        assert volume.retire(TreeRules(0, 0, 1 << 60), 3e9) == 1
    assert [tree.record.sequence for tree in volume.old] == [3, 1]
    assert (root / ".trees" / unique / "v-1/dag.py").exists()


def test_where_trees_between_are_gone_bytes_are_counted_right_and_after_a_restart_too(root, opened, hold) -> None:
    volume = opened()
    for number in range(1, 7):
        publish(volume, number)
    hold(volume.old[-1].unique)
    hold(volume.old[-3].unique)
    assert volume.retire(TreeRules(1, 0, 1 << 60), 3e9) == 2
    assert [tree.record.sequence for tree in volume.old] == [5, 3, 1]
    assert volume.stored() == (4, bytes_on_disk(root))
    volume = opened()
    volume.load()
    volume.sweep()
    assert volume.stored() == (4, bytes_on_disk(root))
