"""A tree that is being built aside: links, copies, fresh files, their modes and mtimes, and what is refused."""

import errno
import os
import stat
from pathlib import Path

import pytest

from dagferry_core.bundle.patch import MAX_PATCH_BYTES, Patch, make_patch
from dagferry_follow.errors import PatchMismatch, TreeDamaged
from dagferry_follow.volume.staging import StagingTree
from dagferry_follow.volume.tree import AHEAD_NS, Tree, check, read_and_check, touch
from staged import LONG_AGO, MODES, A, B, Volume, blocks, holds, inode, linked
from treemaker import Stored, manifest_of


@pytest.fixture
def volume(tmp_path) -> Volume:
    return Volume(tmp_path)


# --- what is linked, and what is fresh -------------------------------------------------------------------------------


def test_a_first_tree_is_written_whole_and_nothing_in_it_counts_as_fresh(volume) -> None:
    tree = volume.whole(A)
    assert holds(tree, A)
    assert not check(tree)
    assert volume.fresh == []
    assert volume.new_bytes == blocks(A)


def test_from_a_patch_unchanged_files_are_links_with_their_mtimes(volume) -> None:
    old = volume.aged(A)
    new = volume.patched(A, B)
    assert holds(new, B)
    assert not check(new)
    assert linked(new, old) == set(A) - {"team/helper.py", "dag.py"}
    assert new.mtimes["other.py"] == LONG_AGO * 10**9
    assert volume.new_bytes == blocks({path: B[path] for path in ("team/helper.py", "dag.py")})


def test_what_changed_and_what_imports_it_is_a_new_inode_with_the_moment_of_the_swap(volume) -> None:
    old = volume.aged(A)
    new = volume.patched(A, B, now=1_900_000_000.25)
    assert volume.fresh == ["dag.py", "team/helper.py"]
    for path in volume.fresh:
        assert new.mtimes[path] == pytest.approx(1_900_000_000_250_000_000, abs=AHEAD_NS + 1000)
        assert inode(new, path) != inode(old, path)
        assert old.mtimes[path] == os.stat(Path(old.folder, path)).st_mtime_ns == LONG_AGO * 10**9


def test_what_changed_is_newer_than_what_depends_on_it_so_that_airflow_reads_it_first(volume) -> None:
    volume.aged(A)
    tree = volume.patched(A, {**B, "new.py": b"x = 1\n"})
    for _ in range(2):
        assert tree.mtimes["dag.py"] < tree.mtimes["team/helper.py"] == tree.mtimes["new.py"]
        touch(tree, volume.fresh, 2e9 + 10)  # as the sidecar does a little later
        assert tree.mtimes["team/helper.py"] == (2 * 10**9 + 10) * 10**9
    tree = volume.whole(A, 2e9 + 1000)
    assert tree.mtimes["dag.py"] == tree.mtimes["other.py"] < tree.mtimes["team/helper.py"]


def test_who_reads_changed_data_is_fresh_as_who_imports_a_changed_module(volume) -> None:
    reading = {**A, "other.py": b"open('sql/load.sql')\n", "user.py": b"import other\n"}
    for change in ({"sql/load.sql": b"select 2\n"}, {"sql/load.sql": b"select 1\n"}):
        old = volume.trees[-1] if volume.trees else volume.aged(reading)
        before = {path: Path(old.folder, path).read_bytes() for path in old.manifest.files}
        new = volume.patched(before, {**reading, **change})
        assert volume.fresh == ["other.py", "sql/load.sql", "user.py"]
        assert linked(new, old) == set(A) - {"other.py", "sql/load.sql"}


def test_a_file_is_at_least_one_whole_second_later_than_the_one_it_replaces(volume) -> None:
    first = volume.aged(A)
    moment = LONG_AGO + 1.9
    second = volume.patched(A, B, now=moment)
    third = volume.patched(B, A, now=moment + 0.3)
    for old, new in ((first, second), (second, third)):
        assert new.mtimes["team/helper.py"] - old.mtimes["team/helper.py"] >= 10**9


def test_that_holds_too_if_the_clock_was_set_back(volume) -> None:
    old = volume.aged(A)
    new = volume.patched(A, B, now=LONG_AGO - 1000)
    assert new.mtimes["dag.py"] == old.mtimes["dag.py"] + 10**9


@pytest.mark.parametrize("links", [True, False], ids=["links", "copies"])
def test_files_that_are_touched_while_the_staging_tree_is_built_keep_that_mtime(volume, monkeypatch, links) -> None:
    if not links:
        monkeypatch.setattr(os, "link", lambda *_, **_kinds: (_ for _ in ()).throw(OSError(errno.EPERM, "no")))
    old = volume.aged(A)
    with volume.staging(old.manifest) as staging:
        staging.populate(old)
        touch(old, ["other.py"], LONG_AGO + 10)
        new = volume.stamped(staging, 2e9)
    assert new.mtimes == old.mtimes
    assert new.mtimes["other.py"] == (LONG_AGO + 10) * 10**9
    assert not check(new)


@pytest.mark.parametrize(
    "new",
    [
        {**A, "new/place/dag.py": b"x = 1\n"},
        {path: text for path, text in A.items() if path != "team/helper.py"},
        {**{path: text for path, text in A.items() if path != "dag.py"}, "dag.py/inner.py": b"pass\n"},
        {**{path: text for path, text in A.items() if not path.startswith("team/")}, "team": b"a file now\n"},
        {**A, "moved.sql": A["sql/load.sql"], "sql/load.sql": b""},
    ],
    ids=["added", "removed", "file to folder", "folder to file", "copied"],
)
def test_any_change_by_a_patch_gives_the_tree_that_was_promised(volume, new) -> None:
    volume.aged(A)
    tree = volume.patched(A, new)
    assert holds(tree, new)
    assert not check(tree)


def test_a_copy_within_a_patch_is_a_file_of_its_own(volume) -> None:
    old = volume.aged(A)
    new = volume.patched(A, {**A, "team/copy.sql": A["sql/load.sql"]})
    assert inode(new, "team/copy.sql") != inode(old, "sql/load.sql")
    assert "team/copy.sql" in volume.fresh


def test_the_same_content_again_is_links_alone(volume) -> None:
    old = volume.aged(A)
    with volume.staging(old.manifest) as staging:
        staging.populate(old)
        new = volume.stamped(staging, 2e9)
    assert linked(new, old) == set(A)
    assert new.mtimes == old.mtimes
    assert (volume.fresh, volume.new_bytes) == ([], 0)


@pytest.mark.parametrize(
    "new", [{}, {"dag.py": b"all else is gone\n"}, {**A, "dag.py/x.py": b""}], ids=["empty", "fewer", "file to folder"]
)
def test_any_change_by_a_bundle_gives_the_tree_that_was_promised(volume, new) -> None:
    new = {path: text for path, text in new.items() if not any(other.startswith(path + "/") for other in new)}
    volume.aged(A)
    tree = volume.whole(new)
    assert holds(tree, new)
    assert not check(tree)


# --- from a whole bundle, over a tree --------------------------------------------------------------------------------


def test_from_a_bundle_that_changes_anything_every_python_file_is_fresh_and_the_rest_linked(volume) -> None:
    old = volume.aged(A)
    new = volume.whole(B)
    assert holds(new, B)
    assert linked(new, old) == {"sql/load.sql", "run.sh"}
    assert set(volume.fresh) == {path for path in B if path.endswith(".py")}


@pytest.mark.parametrize("change", [{"sql/load.sql": b"select 2\n"}, {"new.yml": b""}])
def test_that_holds_for_data_too_since_python_files_may_read_it(volume, change) -> None:
    old = volume.aged(A)
    new = volume.whole({**A, **change})
    assert linked(new, old) == {"sql/load.sql", "run.sh"} - change.keys()
    assert set(volume.fresh) == {path for path in A if path.endswith(".py")} | change.keys()


def test_a_bundle_replaces_corrupt_files_and_keeps_the_intact_ones(volume) -> None:
    old = volume.aged(A)
    Path(old.folder, "sql/load.sql").write_bytes(b"dropped\n")
    new = volume.whole(A)
    assert holds(new, A)
    assert linked(new, old) == {"run.sh"}  # a Python file may have read what was damaged


def test_a_bundle_replaces_files_whose_damage_only_reading_found(volume) -> None:
    old = volume.aged(A)
    path = Path(old.folder, "sql/load.sql")
    path.write_bytes(b"SELECT 1\n")
    os.utime(path, (LONG_AGO, LONG_AGO))
    volume.trees[-1] = read_and_check(old.folder, old.manifest)[0]
    assert holds(volume.whole(A), A)


# --- modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(volume, umask) -> None:
    before = os.umask(umask)
    try:
        trees = [volume.whole(A), volume.patched(A, {**B, "deep/er/new.py": b""})]
    finally:
        os.umask(before)
    for tree in trees:
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in Path(tree.folder).rglob("*")}
        expected = {path: 0o755 if path.is_dir() or path.name == "run.sh" else 0o644 for path in modes}
        assert modes == expected


def test_without_links_nothing_is_shared_with_the_old_tree(volume, tmp_path) -> None:
    old = volume.aged(A)
    folder = tmp_path / "copies"
    folder.mkdir()
    with StagingTree(str(folder), old.manifest, old, links=False) as staging:
        staging.populate(old)
        tree, fresh = staging.finalize(2e9)
    assert holds(tree, A)
    assert linked(tree, old) == set()
    assert (tree.mtimes, fresh) == (old.mtimes, [])


def test_without_an_old_tree_nothing_can_be_linked_or_copied(volume) -> None:
    manifest = manifest_of(A, MODES)
    with volume.staging(manifest) as staging:
        assert not staging.link(manifest.files["dag.py"])
        with pytest.raises(TreeDamaged, match=r"dag\.py"):
            staging.copy(manifest.files["dag.py"], "dag.py")
    assert os.listdir(staging.folder) == []


def test_the_same_bundle_again_is_all_links(volume) -> None:
    old = volume.aged(A)
    assert linked(volume.whole(A), old) == set(A)
    assert volume.fresh == []


# --- contents of a tree that is still there --------------------------------------------------------------------------


def bare(old: dict[str, bytes], new: dict[str, bytes]) -> Patch:
    """A patch without contents, as for a rollback to a tree that is still there."""
    stored = [Stored(files, {path: mode for path, mode in MODES.items() if path in files}) for files in (old, new)]
    body = make_patch(stored[0].bundle, stored[1].bundle, ["dag.py"], MAX_PATCH_BYTES, bare=True)
    return Patch.parse(body or b"")


def rolled_back(volume: Volume, retained: Tree | None) -> Tree:
    patch = bare(B, A)
    with volume.staging(patch.apply_to(volume.trees[-1].manifest)) as staging:
        staging.retained = retained
        staging.populate(patch)
        return volume.stamped(staging, 2e9 + 100)


def test_contents_that_a_patch_only_names_come_from_the_retained_tree_as_fresh_files(volume) -> None:
    first = volume.aged(A)
    second = volume.patched(A, B)
    third = rolled_back(volume, first._replace(mtimes={}))
    assert holds(third, A)
    assert volume.fresh == ["dag.py", "team/helper.py"]
    assert third.mtimes["team/helper.py"] > second.mtimes["team/helper.py"]
    assert linked(third, second) == set(A) - {"team/helper.py", "dag.py"}
    assert inode(third, "team/helper.py") != inode(first, "team/helper.py")
    assert os.stat(Path(first.folder, "team/helper.py")).st_mtime == LONG_AGO


@pytest.mark.parametrize("damage", ["changed", "gone", "link", "folder"])
def test_a_retained_file_that_is_not_as_published_makes_no_tree(volume, damage) -> None:
    first = volume.aged(A)
    volume.patched(A, B)
    path = Path(first.folder, "team/helper.py")
    path.unlink()
    if damage == "changed":
        path.write_bytes(b"rate = 9\n")
    elif damage == "link":
        path.symlink_to("/etc/hostname")
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(TreeDamaged, match=r"team/helper\.py"):
        rolled_back(volume, first)


def test_without_a_retained_tree_a_content_that_is_only_named_makes_no_tree(volume) -> None:
    volume.aged(A)
    volume.patched(A, B)
    with pytest.raises(PatchMismatch, match=r"team/helper\.py"):
        rolled_back(volume, None)
