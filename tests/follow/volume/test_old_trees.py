"""Old trees: which ones stay, what is removed and when, and how many there are."""

import errno
import os
import shutil
from collections.abc import Callable
from functools import partial
from unittest.mock import Mock, patch

import pytest

from dagferry_follow.beside import write_address, write_kept
from dagferry_follow.errors import VolumeFailed
from dagferry_follow.volume.known_reads import write_reads
from dagferry_follow.volume.old_trees import FEWEST, REMOVE_AGAIN_SECONDS
from dagferry_follow.volume.records import TreeRules
from publishing import ALL, HOUR, bytes_on_disk, files_of, live_files, publish, trees_of


class Killed(BaseException):
    """The process ends here."""


def killed_before_rename(write: Callable[[], None]) -> None:
    with patch("os.rename", side_effect=Killed), patch("os.unlink"), pytest.raises(Killed):
        write()


def test_leftovers_of_an_earlier_run_are_swept_and_foreign_files_are_not(root, opened) -> None:
    volume = opened()
    for number in (1, 2):
        publish(volume, number)
    known = trees_of(root)
    trees = root / ".trees"
    (trees / "0123456789abcdef" / "v-9").mkdir(parents=True)
    (trees / "0123456789abcdef" / "v-9" / "half.py").write_bytes(b"")
    (trees / "link-0123456789abcdef").symlink_to(".trees/0123456789abcdef/v-9")
    shutil.copytree(trees / os.readlink(root / "current").split("/")[1], trees / "00000000000000ff")
    for write in (partial(write_address, str(root), "", 1), partial(write_kept, str(root), "x")):
        killed_before_rename(write)
    killed_before_rename(partial(write_reads, str(trees), b"x"))
    (trees / "notes.txt").write_text("mine")
    (trees / "notes.txt.01234567").write_text("mine")
    (trees / "0123456789abcdef.mine").mkdir()
    (trees / "link-0123456789abcdef.mine").symlink_to("notes.txt")
    foreign = ["notes.txt", "notes.txt.01234567", "0123456789abcdef.mine", "link-0123456789abcdef.mine"]
    (root / "foreign").mkdir()
    (root / "foreign" / "file").write_text("mine")
    volume = opened()
    assert not volume.load()
    assert volume.sweep() == 6
    assert trees_of(root) == {*known, *foreign}
    assert (root / "foreign" / "file").read_text() == "mine"
    assert [tree.record.version for tree in volume.old] == ["v-1"]


def test_a_left_over_temporary_link_blocks_no_later_swap(root, opened) -> None:
    """git-sync's weak point, as seen: one left-over link, and nothing is ever published again."""
    volume = opened()
    (root / ".trees" / "link-0123456789abcdef").symlink_to("nowhere")
    publish(volume, 1)
    assert live_files(root) == files_of(1)


def test_old_trees_are_retired_by_number_and_age(root, opened) -> None:
    volume = opened()
    start = 2e9
    for number in range(1, 8):
        publish(volume, number, now=start + number * HOUR)
    now = start + 8 * HOUR
    assert volume.retire(ALL, now) == 0
    assert volume.retire(TreeRules(3, 4.5, 1 << 60), now) == 2
    assert [tree.record.sequence for tree in volume.old] == [6, 5, 4, 3]
    assert volume.retire(TreeRules(3, 4.5, 1 << 60), now + 100 * HOUR) == 1
    assert [tree.record.sequence for tree in volume.old] == [6, 5, 4]
    assert volume.retire(TreeRules(0, 0, 1), now + 100 * HOUR) == 2
    assert [tree.record.sequence for tree in volume.old] == [6], "the one before the live one always stays"
    assert len(trees_of(root)) == 2


def test_a_restart_knows_when_each_old_tree_stopped_being_live(opened) -> None:
    volume = opened()
    for number in range(1, 5):
        publish(volume, number, now=2e9 + number * HOUR)
    known = volume.old
    volume = opened()
    volume.load()
    volume.sweep()
    assert [(tree.unique, tree.record) for tree in volume.old] == [(tree.unique, tree.record) for tree in known]
    assert [tree.ended for tree in volume.old] == pytest.approx([2e9 + n * HOUR for n in (4, 3, 2)])


def test_a_clock_that_was_a_year_ahead_keeps_no_tree_for_a_year(opened) -> None:
    year = 365 * 24 * HOUR
    volume = opened()
    for number in range(1, 4):
        publish(volume, number, now=2e9 + year)
    rules = TreeRules(0, 24, 1 << 60)
    assert volume.retire(rules, 2e9) == 0
    volume = opened()
    volume.load()
    volume.sweep()
    assert volume.retire(rules, 2e9 + 25 * HOUR) == 1


def test_a_clock_that_is_set_back_keeps_no_tree_until_it_has_caught_up(opened) -> None:
    volume = opened()
    for number in range(1, 4):
        publish(volume, number, now=2e9 + 365 * 24 * HOUR)
    rules = TreeRules(0, 24, 1 << 60)
    assert volume.retire(rules, 2e9) == 0
    assert volume.retire(rules, 2e9 + 25 * HOUR) == 1


def test_trees_count_as_what_they_take_on_disk_and_files_that_they_share_once(root, opened) -> None:
    volume = opened()
    for number in range(1, 6):
        publish(volume, number)
    assert volume.stored() == (5, bytes_on_disk(root))
    volume.retire(TreeRules(2, 0, 1 << 60), 3e9)
    assert volume.stored() == (3, bytes_on_disk(root))


def test_a_removal_that_was_cut_short_is_finished_by_the_next_sweep(root, opened, monkeypatch) -> None:
    volume = opened()
    for number in range(1, 4):
        publish(volume, number)
    interrupted = lambda _folder: (_ for _ in ()).throw(KeyboardInterrupt)  # noqa: E731
    monkeypatch.setattr("dagferry_follow.volume.removal.remove", interrupted)
    with pytest.raises(KeyboardInterrupt):
        volume.retire(TreeRules(0, 0, 1), 3e9)
    monkeypatch.undo()
    volume = opened()
    volume.load()
    assert volume.sweep() == 1
    assert [tree.record.sequence for tree in volume.old] == [2]


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("step", ["write", "mkdir"])
def test_a_full_volume_costs_the_old_trees_but_the_one_before(root, opened, monkeypatch, reason, step) -> None:
    def full(*_args: object, **_kinds: object) -> None:
        raise OSError(reason, os.strerror(reason))

    volume = opened()
    for number in range(1, 6):
        publish(volume, number)
    monkeypatch.setattr(os, step, full)
    with pytest.raises(VolumeFailed, match=os.strerror(reason)):
        publish(volume, 6)
    monkeypatch.undo()
    assert len(trees_of(root)) == (5 if reason == errno.EIO else 2)
    assert live_files(root) == files_of(5)
    publish(volume, 6)
    assert live_files(root) == files_of(6)


def test_a_full_volume_costs_old_trees_too_where_what_is_published_cannot_be_checked(root, opened, monkeypatch) -> None:
    volume = opened()
    for number in range(1, 6):
        publish(volume, number)
    (root / "current").resolve().parent.joinpath("deploy.json").write_bytes(b"")
    volume = opened()
    volume.load()
    volume.sweep()
    assert volume.live is None
    monkeypatch.setattr(os, "mkdir", Mock(side_effect=OSError(errno.ENOSPC, "full")))
    with pytest.raises(VolumeFailed):
        publish(volume, 6)
    assert live_files(root) == files_of(5)
    assert len(trees_of(root)) == 2
    assert [tree.record.sequence for tree in volume.old] == [4]


def test_room_is_made_on_a_full_volume_only_and_it_is_reported_whether_there_was_any(opened) -> None:
    volume = opened()
    for number in range(1, 4):
        publish(volume, number)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    failed = VolumeFailed("full")
    failed.__cause__ = full
    assert not volume.make_room(OSError(errno.EIO, os.strerror(errno.EIO)), 3e9)
    assert not volume.make_room(VolumeFailed("of no known cause"), 3e9)
    assert len(volume.old) == 2
    assert volume.make_room(failed, 3e9)
    assert len(volume.old) == 1
    assert not volume.make_room(full, 3e9), "the one before the live one always stays"
    assert len(volume.old) == 1


def test_many_trees_of_one_deploy_do_not_stay_for_hours_nor_cost_those_of_others(root, opened) -> None:
    volume = opened()
    for number in (1, 2, 2, 2, 2, 2, 2, 3):
        publish(volume, number)
    assert volume.retire(TreeRules(3, 24, 1 << 60), 2e9 + HOUR) == 3
    assert [tree.record.sequence for tree in volume.old] == [2, 2, 2, 1]


def test_what_could_not_be_removed_counts_as_a_tree_and_is_tried_again(root, opened, monkeypatch, caplog) -> None:
    volume = opened()
    for number in range(1, 4):
        publish(volume, number)
    unlink = os.unlink

    def refuse(path: str, **kinds: object) -> None:
        if path == "same.sql":
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, **kinds)

    monkeypatch.setattr(os, "unlink", refuse)
    assert volume.retire(FEWEST, 3e9) == 0
    (left,) = (path for path in (root / ".trees").iterdir() if not (path / "deploy.json").exists() and path.is_dir())
    assert [path.name for path in left.rglob("*") if path.is_file()] == ["same.sql"], "the rest is gone"
    assert volume.stored()[0] == 3
    volume.retire(FEWEST, 3e9 + 1)
    volume.retire(FEWEST, 3e9 + 2)
    assert caplog.text.count("cannot be removed: Permission denied") == 1
    again = opened()
    again.load()
    assert again.sweep() == 0
    assert again.stored()[0] == 3
    assert again.retire(FEWEST, 3e9 + 2) == 0
    monkeypatch.undo()
    again.retire(FEWEST, 3e9 + 3)
    assert again.stored()[0] == len(trees_of(root)) == 3, "not all the time: it may be a lot"
    publish(again, 4)
    again.retire(FEWEST, 3e9 + 4)
    assert again.stored()[0] == len(trees_of(root)) == 2, "but after each swap"


@pytest.mark.parametrize(
    ("later", "removed"), [(REMOVE_AGAIN_SECONDS - 1, False), (REMOVE_AGAIN_SECONDS, True), (-1, True)]
)
def test_what_could_not_be_removed_is_tried_again_after_a_while_and_when_the_clock_was_set_back(
    root, opened, monkeypatch, later, removed
) -> None:
    volume = opened()
    for number in range(1, 4):
        publish(volume, number)
    with monkeypatch.context() as patched:
        patched.setattr("dagferry_follow.volume.removal.remove", Mock(side_effect=PermissionError(errno.EACCES, "no")))
        for _ in range(2):
            volume.retire(FEWEST, 3e9)
    volume.retire(FEWEST, 3e9 + later)
    assert volume.stored()[0] == len(trees_of(root)) == (2 if removed else 3)


def test_a_tree_that_cannot_be_removed_stops_nothing(opened, monkeypatch, caplog) -> None:
    def refuse(folder: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", folder)

    volume = opened()
    for number in range(1, 4):
        publish(volume, number)
    monkeypatch.setattr("dagferry_follow.volume.removal.remove", refuse)
    assert volume.retire(TreeRules(0, 0, 1), 3e9) == 0
    assert "cannot be removed: Permission denied" in caplog.text
    publish(volume, 4)


def test_trees_that_someone_removed_are_not_counted_any_more(root, opened) -> None:
    volume = opened()
    for number in (1, 2, 3):
        publish(volume, number)
    shutil.rmtree(root / ".trees")
    publish(volume, 4)
    assert list(volume.old) == []
    assert volume.stored()[0] == len(trees_of(root)) == 1
