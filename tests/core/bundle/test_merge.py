"""Merging: what one team deploys never moves the files of another, and a change gives the tree that was meant."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dagferry_core.archive.check import ArchiveRules, check_archive
from dagferry_core.archive.errors import (
    ExpandedTooLarge,
    PathConflict,
    PathRefused,
    PathsTooLarge,
    TooManyFiles,
)
from dagferry_core.bundle import merge
from dagferry_core.bundle.manifest import EMPTY, Entry, Manifest
from dagferry_core.bundle.merge import apply_change, overlap, replace_subtree, subtree
from dagferry_core.errors import FormatError


def entry(path: str, content: str = "") -> Entry:
    return Entry(path, len(content), 0o644, hashlib.sha256(content.encode()).hexdigest())


def manifest(files: Mapping[str, str]) -> Manifest:
    return Manifest(entry(path, content) for path, content in files.items())


NAMES = ("a", "a-", "a.py", "b", "ä")
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)


def without_conflicts(files: Mapping[str, str]) -> Manifest:
    folders = {f"{path}/" for path in files}
    return manifest({path: text for path, text in files.items() if not any(map(path.startswith, folders))})


TREES = st.dictionaries(PATHS, st.sampled_from(["", "x", "long"]), max_size=8).map(without_conflicts)
PREFIXES = PATHS.map(lambda path: path + "/")


def replaced(current: Manifest, under: str, tree: Manifest) -> Manifest:
    """The result; an example in which it would conflict is dropped."""
    try:
        return replace_subtree(current, under, tree)
    except PathConflict:
        assume(False)
        raise


# --- a subtree -------------------------------------------------------------------------------------------------------


@given(TREES, PREFIXES, TREES)
def test_what_is_put_below_a_folder_is_what_is_there_then_and_nothing_else_moves(current, under, tree) -> None:
    merged = replaced(current, under, tree)
    assert subtree(merged, under).digest == tree.digest
    beside = [{path: one for path, one in m.files.items() if not path.startswith(under)} for m in (current, merged)]
    assert beside[0] == beside[1]


@given(TREES, PREFIXES)
def test_putting_back_what_is_there_changes_nothing(current, under) -> None:
    assert replaced(current, under, subtree(current, under)).digest == current.digest


@given(TREES, PREFIXES, TREES)
def test_replacing_twice_is_replacing_once(current, under, tree) -> None:
    once = replaced(current, under, tree)
    assert replace_subtree(once, under, tree).digest == once.digest


@given(TREES, PREFIXES, TREES, TREES)
def test_the_last_of_two_deploys_of_one_team_counts(current, under, first, second) -> None:
    assert replaced(replaced(current, under, first), under, second).digest == replaced(current, under, second).digest


@given(TREES, PREFIXES, TREES, PREFIXES, TREES)
def test_two_teams_may_deploy_in_either_order(current, mine, my_tree, other, other_tree) -> None:
    assume(not mine.startswith(other) and not other.startswith(mine))
    one = replaced(replaced(current, mine, my_tree), other, other_tree)
    assert one.digest == replaced(replaced(current, other, other_tree), mine, my_tree).digest


@given(TREES, TREES)
def test_the_top_folder_is_all_of_it(current, tree) -> None:
    assert subtree(current, "") is current
    assert replace_subtree(current, "", tree).digest == tree.digest


def test_a_folder_is_a_whole_name_and_not_the_start_of_one() -> None:
    current = manifest({"team-a/x.py": "1", "team-ab/x.py": "2", "team-a.py": "3"})
    assert list(subtree(current, "team-a/").files) == ["x.py"]
    assert list(replace_subtree(current, "team-a/", EMPTY).files) == ["team-a.py", "team-ab/x.py"]


def test_modes_and_contents_are_those_of_the_tree() -> None:
    tree = Manifest([entry("run.sh", "new")._replace(mode=0o755)])
    merged = replace_subtree(manifest({"team/run.sh": "old"}), "team/", tree)
    assert merged.files["team/run.sh"] == entry("team/run.sh", "new")._replace(mode=0o755)


# --- a change --------------------------------------------------------------------------------------------------------


@given(TREES, TREES)
def test_the_difference_of_two_trees_makes_the_one_of_the_other(base, new) -> None:
    changes = new.changes_from(base)
    changed = Manifest(new.files[path] for path in (*changes.added, *changes.changed))
    assert apply_change(base, changed, changes.removed).digest == new.digest


@given(TREES, TREES, PREFIXES)
def test_a_change_of_a_subtree_makes_what_its_upload_would(base, new, under) -> None:
    """Also when another team has deployed since."""
    old = subtree(base, under)
    changes = new.changes_from(old)
    changed = Manifest(new.files[path] for path in (*changes.added, *changes.changed))
    applied = apply_change(old, changed, changes.removed)
    assert applied.digest == new.digest


def test_a_path_that_is_not_there_cannot_be_removed() -> None:
    base = manifest({"a/b.py": "", "c.py": ""})
    for path in ("a", "a/", "./c.py", "../c.py", "/c.py", "", "C.py", "\udcff"):
        with pytest.raises(FormatError, match=r"it removes .*, which is not there"):
            apply_change(base, EMPTY, ["c.py", path])


def test_a_path_cannot_be_removed_and_sent_at_once() -> None:
    with pytest.raises(FormatError, match=r"it removes 'c\.py' and contains it too"):
        apply_change(manifest({"c.py": ""}), manifest({"c.py": "1"}), ["c.py"])


def test_a_change_of_nothing_is_the_base() -> None:
    base = manifest({"c.py": ""})
    assert apply_change(base, EMPTY, []).digest == base.digest


# --- what may not come out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "under", "tree"),
    [
        ({"team": ""}, "team/", {"x.py": ""}),
        ({"team": ""}, "team/deep/", {"x.py": ""}),
        ({"a/team": ""}, "a/team/", {"x/y.py": ""}),
    ],
)
def test_a_file_where_a_folder_has_to_be_is_a_conflict(files, under, tree) -> None:
    with pytest.raises(PathConflict, match=r"'(a/)?team' would be a file, and a folder that contains"):
        replace_subtree(manifest(files), under, manifest(tree))


def test_a_change_may_turn_a_file_into_a_folder_only_if_it_removes_the_file() -> None:
    base, changed = manifest({"x": "", "y.py": ""}), manifest({"x/z.py": ""})
    with pytest.raises(PathConflict, match=r"'x' would be a file, and a folder that contains 'x/z\.py'"):
        apply_change(base, changed, [])
    assert list(apply_change(base, changed, ["x"]).files) == ["x/z.py", "y.py"]
    with pytest.raises(PathConflict):
        apply_change(changed, base, [])
    assert list(apply_change(changed, base, ["x/z.py"]).files) == ["x", "y.py"]


@given(TREES, PREFIXES, TREES)
def test_no_result_has_a_path_that_is_both_file_and_folder(current, under, tree) -> None:
    merged = replaced(current, under, tree)
    assert not [path for path in merged.files if any(other.startswith(f"{path}/") for other in merged.files)]


def test_paths_count_with_the_folder_that_they_are_put_in() -> None:
    deep = manifest({"/".join(["d"] * 62) + "/f": ""})
    replace_subtree(EMPTY, "a/", deep)
    with pytest.raises(PathRefused, match="65 folders deep"):
        replace_subtree(EMPTY, "a/b/", deep)
    long = manifest({"/".join(["d" * 203] * 5): ""})
    replace_subtree(EMPTY, "abcd/", long)
    with pytest.raises(PathRefused, match="1025 bytes"):
        replace_subtree(EMPTY, "abcde/", long)


def archive_of(merged: Manifest) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path, one in merged.files.items():
            member = tarfile.TarInfo(f"dags/{path}")
            member.size = one.size
            tar.addfile(member, io.BytesIO(bytes(one.size)))
    return data


def is_too_many(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except TooManyFiles:
        return True
    return False


@given(TREES, PREFIXES, TREES, st.integers(1, 14))
def test_a_result_is_within_the_limit_of_files_just_as_an_archive_of_it(current, under, tree, max_files) -> None:
    merged = replaced(current, under, tree)
    assume(merged.files)
    rules = ArchiveRules(max_files=max_files)
    expected = is_too_many(lambda: check_archive(archive_of(merged), io.BytesIO(), rules))
    assert is_too_many(lambda: replace_subtree(current, under, tree, max_files=max_files)) == expected


def test_too_many_files_and_folders_are_refused() -> None:
    current, tree = manifest({"a/b/x.py": ""}), manifest({"y.py": ""})
    replace_subtree(current, "c/", tree, max_files=6)  # with the top folder
    with pytest.raises(TooManyFiles, match=r"would have 6 files and folders; the limit is 5 \(--max-files\)"):
        replace_subtree(current, "c/", tree, max_files=5)
    with pytest.raises(TooManyFiles):
        apply_change(current, tree, [], max_files=4)


def test_too_many_bytes_are_refused() -> None:
    current, tree = manifest({"a.py": "123"}), manifest({"y.py": "45"})
    replace_subtree(current, "c/", tree, max_expanded_bytes=5)
    with pytest.raises(ExpandedTooLarge, match="would have 5 bytes; the limit is 4 bytes"):
        replace_subtree(current, "c/", tree, max_expanded_bytes=4)
    with pytest.raises(ExpandedTooLarge):
        apply_change(current, tree, [], max_expanded_bytes=4)


def test_paths_that_are_too_long_in_total_are_refused(monkeypatch) -> None:
    current, tree = manifest({"a.py": ""}), manifest({"ä.py": ""})
    size = sum(len(path.encode()) for path in ("dags", "dags/a.py", "dags/c", "dags/c/ä.py"))
    monkeypatch.setattr(merge, "MAX_PATHS_BYTES", size)
    replace_subtree(current, "c/", tree)
    monkeypatch.setattr(merge, "MAX_PATHS_BYTES", size - 1)
    with pytest.raises(PathsTooLarge, match=f"would be {size} bytes long"):
        replace_subtree(current, "c/", tree)


def test_folders_overlap_if_one_contains_the_other() -> None:
    assert all(
        overlap(*pair) for pair in (("", ""), ("", "a/"), ("a/", ""), ("a/", "a/"), ("a/", "a/b/"), ("a/b/", "a/"))
    )
    assert not any(overlap(*pair) for pair in (("a/", "b/"), ("a/", "ab/"), ("a/b/", "a/c/")))
