"""What is recorded of a tree, and which old trees stay."""

import json
import os

import pytest

from dagferry_core.bundle.manifest import EMPTY, MAX_MANIFEST_BYTES
from dagferry_follow.errors import AnswerInvalid
from dagferry_follow.volume.records import (
    MANIFEST,
    MAX_RECORD_BYTES,
    RECORD,
    OldTree,
    Record,
    TreeRules,
    choose_kept,
    mark_ended,
    read_manifest,
    read_record,
    recounted,
    stored_bytes,
    superseded_repairs,
    write_record,
    write_records,
)
from treemaker import manifest_of

HOUR = 3600.0
NOW = 1000 * HOUR
LIVE = Record("log", 9, "v-9", "sha256:9", 9, 100, 10, "9" * 64)
NO_LIMIT = 1 << 60


def old(serial: int, hours: float, size: int = 100, new_bytes: int = 10) -> OldTree:
    record = Record("log", serial, f"v-{serial}", f"sha256:{serial}", serial, size, new_bytes)
    return OldTree(f"{serial:016x}", record, NOW - hours * HOUR)


def kept_of(trees: list[OldTree], rules: TreeRules) -> int:
    """How many trees stay that nothing uses: the newest ones, without a gap."""
    kept = choose_kept(LIVE, trees, rules, NOW, ())
    assert kept.trees == trees[: len(kept.trees)]
    assert kept.given_up == []
    return len(kept.trees)


# --- what stays ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "rules", "kept"),
    [
        ([], TreeRules(3, 24, NO_LIMIT), 0),
        ([1, 2, 3], TreeRules(3, 24, NO_LIMIT), 3),
        ([100, 200, 300, 400], TreeRules(3, 24, NO_LIMIT), 3),
        ([1, 2, 3, 4, 5, 25], TreeRules(3, 24, NO_LIMIT), 5),
        ([100, 200], TreeRules(0, 0, NO_LIMIT), 1),
        ([1, 2], TreeRules(0, 0, NO_LIMIT), 1),
    ],
    ids=["none", "young ones", "the newest three", "all within the hours", "the one before", "always that one"],
)
def test_the_newest_and_the_young_stay_and_the_one_before_always(hours, rules, kept) -> None:
    assert kept_of([old(8 - place, age) for place, age in enumerate(hours)], rules) == kept


def test_over_the_most_bytes_only_as_many_stay_as_fit_but_the_one_before_always() -> None:
    trees = [old(8 - place, 1) for place in range(4)]
    # The oldest that stays counts in full, each newer one with what it does not share.
    assert stored_bytes([LIVE, *(tree.record for tree in trees)]) == 100 + 4 * 10
    for most, kept in ((140, 4), (139, 3), (120, 2), (119, 1), (1, 1)):
        assert kept_of(trees, TreeRules(9, 24, most)) == kept


def test_what_stays_has_no_gap_so_that_shared_files_are_counted_right() -> None:
    trees = [old(8, 1), old(7, 100), old(6, 2)]
    assert kept_of(trees, TreeRules(1, 24, NO_LIMIT)) == 1


def test_of_repairs_of_one_deploy_only_the_newest_stay_however_young() -> None:
    def repair(serial: int) -> OldTree:
        tree = old(serial, 1)
        return tree._replace(record=tree.record._replace(sequence=8, version="v-8", digest="sha256:8"))

    trees = [repair(8), repair(7), repair(6), repair(5), old(4, 1), old(3, 1)]
    assert superseded_repairs(trees, TreeRules(2, 24, NO_LIMIT)) == trees[2:4]
    assert superseded_repairs(trees, TreeRules(0, 24, NO_LIMIT)) == trees[1:4], "the one before the live one stays"
    assert superseded_repairs(trees, TreeRules(9, 24, NO_LIMIT)) == []
    assert superseded_repairs([], TreeRules(0, 24, NO_LIMIT)) == []


def serials(trees: list[OldTree]) -> list[int]:
    return [tree.record.serial for tree in trees]


def test_trees_that_are_used_stay_whatever_their_number_and_age() -> None:
    trees = [old(8, 100), old(7, 200), old(6, 300), old(5, 400)]
    kept = choose_kept(LIVE, trees, TreeRules(0, 24, NO_LIMIT), NOW, {trees[2].unique})
    assert (serials(kept.trees), kept.given_up) == ([8, 6], [])
    repairs = [tree._replace(record=tree.record._replace(sequence=8, version="v", digest="d")) for tree in trees]
    kept = choose_kept(LIVE, repairs, TreeRules(0, 1000, NO_LIMIT), NOW, {repairs[3].unique})
    assert (serials(kept.trees), kept.given_up) == ([8, 5], []), "repairs of one deploy too"


def test_over_the_most_bytes_used_trees_go_last_and_the_oldest_first() -> None:
    trees = [old(8 - place, 1) for place in range(5)]
    used = {trees[2].unique, trees[4].unique}
    for most, stay, given_up in (
        (150, [8, 7, 6, 5, 4], []),
        (149, [8, 7, 6, 4], []),
        (139, [8, 6, 4], []),
        (129, [8, 6], [4]),
        (1, [8], [6, 4]),
    ):
        kept = choose_kept(LIVE, trees, TreeRules(9, 24, most), NOW, used)
        assert (most, serials(kept.trees), serials(kept.given_up)) == (most, stay, given_up)


def test_when_trees_between_are_gone_what_they_shared_counts_as_the_newer_ones_own() -> None:
    files = {"same": b"1", "moved/a": b"2" * 5000, "changed": b"3"}
    newer, older = manifest_of(files), manifest_of({"same": b"1", "a": b"2" * 5000, "changed": b"4"})
    size = 3 * 4096 + 2 * 4096 + 4096
    tree = old(8, 1, size=size, new_bytes=4096)
    assert recounted(tree, newer, older).record.new_bytes == size - 4096
    assert recounted(tree, newer, newer).record.new_bytes == size - 4 * 4096
    copied = old(8, 1, size=size, new_bytes=size)
    assert recounted(copied, newer, newer) == copied, "without hard links nothing is shared"


def test_nothing_on_the_volume_has_no_bytes() -> None:
    assert stored_bytes([]) == 0


# --- what is written -------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_again_and_readable_for_all(tmp_path) -> None:
    manifest = manifest_of({"a.py": b"1", "b/c.py": b"2"})
    before = os.umask(0o077)
    try:
        write_records(str(tmp_path), LIVE, manifest)
    finally:
        os.umask(before)
    # On top of its files, whole blocks for the manifest, the record, and three folders: two that every tree has, and b.
    assert read_record(str(tmp_path)) == LIVE._replace(size=LIVE.size + 5 * 4096, new_bytes=LIVE.new_bytes + 5 * 4096)
    assert read_manifest(str(tmp_path)).files == manifest.files
    assert {os.stat(tmp_path / name).st_mode & 0o777 for name in (RECORD, MANIFEST)} == {0o644}
    assert LIVE.deploy == ("log", 9, "v-9", "sha256:9", "9" * 64)


def test_a_record_of_an_older_release_has_no_hash_of_its_entry_and_is_written_as_it_was(tmp_path) -> None:
    older = '{"log_id": "log", "sequence": 9, "version": "v-9", "digest": "d", "serial": 9, "size": 1, "new_bytes": 1}'
    (tmp_path / RECORD).write_text(older)
    record = read_record(str(tmp_path))
    assert record.deploy == ("log", 9, "v-9", "d", "")
    write_record(str(tmp_path), record)
    assert (tmp_path / RECORD).read_text() == older


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"{", b'{"log_id": "log"}', b"[1]", b"\xff", json.dumps({**LIVE._asdict(), "size": "1"}).encode()],
)
def test_a_damaged_record_is_a_value_error(tmp_path, text) -> None:
    (tmp_path / RECORD).write_bytes(text)
    with pytest.raises(ValueError):  # noqa: PT011 - what it says is for the log alone
        read_record(str(tmp_path))


@pytest.mark.parametrize("cut", [0, 1, 10, -1])
def test_a_truncated_manifest_is_an_error(tmp_path, cut) -> None:
    write_records(str(tmp_path), LIVE, EMPTY)
    path = tmp_path / MANIFEST
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises((ValueError, AnswerInvalid)):
        read_manifest(str(tmp_path))


def test_a_manifest_that_claims_to_be_huge_is_not_unpacked(tmp_path) -> None:
    header = bytes.fromhex("28b52ffd e0") + (1 << 40).to_bytes(8, "little")
    (tmp_path / MANIFEST).write_bytes(header + bytes(3))
    with pytest.raises(ValueError, match="is damaged"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "read", "most"), [(RECORD, read_record, MAX_RECORD_BYTES), (MANIFEST, read_manifest, MAX_MANIFEST_BYTES)]
)
def test_what_is_longer_than_it_can_be_is_not_read(tmp_path, name, read, most) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(most + 1)
    with pytest.raises(ValueError, match=f"more than {most} bytes"):
        read(str(tmp_path))


def test_the_mark_says_when_a_tree_stopped_being_live(tmp_path) -> None:
    for moment in (1_700_000_000.5, 1_800_000_000.25):
        mark_ended(str(tmp_path), moment)
        assert (tmp_path / "ended").stat().st_mtime == pytest.approx(moment, abs=1e-5)
