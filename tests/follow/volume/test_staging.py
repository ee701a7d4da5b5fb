"""A tree that is being built aside: links, copies, fresh files, their modes and mtimes, and what is refused."""

import errno
import hashlib
import io
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.patch import Patch
from dagferry_core.bundle.reader import decompressed, read_tar
from dagferry_follow.errors import (
    AnswerInvalid,
    DigestMismatch,
    PatchMismatch,
    TreeDamaged,
    VolumeFailed,
)
from dagferry_follow.volume.staging import StagingTree
from dagferry_follow.volume.tree import AHEAD_NS, Tree, check, read_and_check, touch
from harness import OTHER_USER, others_can_run_python
from treemaker import Stored, manifest_of

A = {
    "dag.py": b"from team import helper\n",
    "other.py": b"import os\n",
    "team/__init__.py": b"",
    "team/helper.py": b"rate = 1\n",
    "sql/load.sql": b"select 1\n",
    "run.sh": b"#!/bin/sh\n",
}
MODES = {"run.sh": 0o755}
B = {**A, "team/helper.py": b"rate = 2\n"}
LONG_AGO = 1_600_000_000


class Volume:
    """A place for trees, each built from the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trees: list[Tree] = []
        self.fresh: list[str] = []

    def staging(self, manifest: Manifest, *, alone: bool = False) -> StagingTree:
        folder = self.folder / f"tree-{len(self.trees)}"
        folder.mkdir()
        folder.chmod(0o755)
        return StagingTree(str(folder), manifest, self.trees[-1] if self.trees and not alone else None)

    def whole(self, files: dict[str, bytes], now: float = 2e9, *, alone: bool = False) -> Tree:
        stored = Stored(files, {path: mode for path, mode in MODES.items() if path in files})
        manifest, content = read_tar(decompressed(io.BytesIO(stored.body).read))
        with self.staging(manifest, alone=alone) as staging:
            staging.populate(content)
            return self.stamped(staging, now)

    def patched(
        self, old: dict[str, bytes], new: dict[str, bytes], now: float = 2e9, intercept=lambda patch: patch
    ) -> Tree:
        stored = [Stored(files, {path: mode for path, mode in MODES.items() if path in files}) for files in (old, new)]
        body = stored[1].patch_from(stored[0])
        assert body is not None
        patch = intercept(Patch.parse(body))
        with self.staging(patch.apply_to(self.trees[-1].manifest)) as staging:
            staging.populate(patch)
            return self.stamped(staging, now)

    def stamped(self, staging: StagingTree, now: float) -> Tree:
        tree, self.fresh = staging.finalize(now)
        self.trees.append(tree)
        self.new_bytes = staging.new_bytes
        return tree

    def aged(self, files: dict[str, bytes]) -> Tree:
        """A published tree whose files are old."""
        tree = self.whole(files, alone=True)
        for path in files:
            os.utime(Path(tree.folder, path), (LONG_AGO, LONG_AGO))
        self.trees[-1] = read_and_check(tree.folder, tree.manifest)[0]
        return self.trees[-1]


@pytest.fixture
def volume(tmp_path) -> Volume:
    return Volume(tmp_path)


def holds(tree: Tree, files: dict[str, bytes]) -> bool:
    _, damage = read_and_check(tree.folder, tree.manifest)
    return not damage and tree.manifest.digest == manifest_of(files, MODES).digest


def inode(tree: Tree, path: str) -> int:
    return os.stat(Path(tree.folder, path)).st_ino


def blocks(files: dict[str, bytes]) -> int:
    """What files take on disk."""
    return sum(-(-len(text) // 4096) * 4096 for text in files.values())


def linked(new: Tree, old: Tree) -> set[str]:
    return {path for path in new.manifest.files if path in old.manifest.files and inode(new, path) == inode(old, path)}


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


# --- where linking is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason",
    [
        errno.EPERM,
        errno.EMLINK,
        errno.EXDEV,
        errno.EOPNOTSUPP,
        errno.EACCES,
        errno.ENOSYS,
        errno.EINVAL,
        errno.EIO,
        524,
    ],
)
def test_where_linking_is_refused_unchanged_files_are_copies_with_their_mtimes(volume, monkeypatch, reason) -> None:
    def refuse(*_args: object, **_kinds: object) -> None:
        raise OSError(reason, os.strerror(reason))

    old = volume.aged(A)
    monkeypatch.setattr(os, "link", refuse)
    new = volume.patched(A, B)
    assert holds(new, B)
    assert not check(new)
    assert linked(new, old) == set()
    assert new.mtimes["other.py"] == LONG_AGO * 10**9
    assert volume.fresh == ["dag.py", "team/helper.py"]
    assert volume.new_bytes == blocks(B)


def test_a_copy_of_a_corrupt_file_is_not_made(volume, monkeypatch) -> None:
    def refuse(*_args: object, **_kinds: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    old = volume.aged(A)
    path = Path(old.folder, "other.py")
    path.write_bytes(b"import re\n")
    os.utime(path, (LONG_AGO, LONG_AGO))
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(TreeDamaged, match=r"other\.py"):
        volume.patched(A, B)


@pytest.mark.skipif(not others_can_run_python(), reason="cannot play another user here")
def test_another_users_files_are_copied_as_fs_protected_hardlinks_wants_it(volume, tmp_path) -> None:
    old = volume.aged(A)
    for parent in [tmp_path, *tmp_path.parents][:-1]:
        if parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(parent.stat().st_mode | 0o055)
    (tmp_path / "tree-1").mkdir()
    os.chown(tmp_path / "tree-1", 4321, 4321)
    program = textwrap.dedent(
        """
        import sys
        from dagferry_follow.volume.staging import StagingTree
        from dagferry_core.bundle.manifest import Manifest
        from dagferry_follow.volume.tree import check, read_and_check
        manifest = Manifest.parse(sys.stdin.buffer.read())
        old, damage = read_and_check(sys.argv[1], manifest)
        assert not damage
        with StagingTree(sys.argv[2], manifest, old) as staging:
            staging.populate(old)
            new, _ = staging.finalize(2e9)
        assert new.mtimes == old.mtimes
        assert not check(new).corrupt
        print(staging.new_bytes)
        """
    )
    done = subprocess.run(
        [*OTHER_USER, sys.executable, "-c", program, old.folder, str(tmp_path / "tree-1")],
        input=old.manifest.text,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    protected = Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "1"
    assert int(done.stdout) == (blocks(A) if protected else 0)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["content", "mtime", "gone", "link"])
def test_a_patch_over_a_corrupt_tree_is_given_up(volume, harm) -> None:
    path = Path(volume.aged(A).folder, "other.py")
    if harm == "content":
        path.write_bytes(b"import sys, os\n")
    elif harm == "mtime":
        os.utime(path, (1, 1))
    else:
        path.rename(path.with_suffix(".bak"))
        if harm == "link":
            path.symlink_to("other.bak")
    with pytest.raises(TreeDamaged, match=r"other\.py"):
        volume.patched(A, B)


def test_a_lack_of_descriptors_says_nothing_about_the_old_tree(volume, monkeypatch) -> None:
    real = os.open

    def refuse(path: str, flags: int, *more: object, **how: object) -> int:
        if path == "helper.py" and not flags & os.O_CREAT:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, flags, *more, **how)

    volume.aged(A)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(VolumeFailed, match=r"team/helper\.py.*Too many open files"):
        volume.patched(A, B)


def test_a_touched_file_that_is_corrupt_is_not_spread(volume) -> None:
    path = Path(volume.aged(A).folder, "dag.py")
    path.write_bytes(b"import nothing\n" * 3)
    with pytest.raises(TreeDamaged, match=r"dag\.py"):
        volume.patched(A, B)


def test_a_wrong_content_is_refused_by_name(volume) -> None:
    manifest = manifest_of({"a.py": b"right\n"})
    with volume.staging(manifest) as staging, pytest.raises(DigestMismatch, match=r"a\.py"):
        staging.populate([(manifest.files["a.py"], [b"wrong\n"])])
    assert os.listdir(staging.folder) == []


def test_a_tree_that_lacks_a_file_is_never_finished(volume) -> None:
    manifest = manifest_of(A, MODES)
    entry = manifest.files["dag.py"]
    with volume.staging(manifest) as staging:
        staging.populate([(entry, [A["dag.py"]])])
        with pytest.raises(AnswerInvalid, match="lacks files"):
            staging.finalize(2e9)


def test_a_patch_whose_contents_are_in_another_order_is_refused(volume) -> None:
    volume.aged(A)
    new = {**A, "sql/load.sql": b"select 2\n", "team/helper.py": b"rate = 3\n"}

    def swap(patch: Patch) -> Patch:
        return patch._replace(batches=[batch[::-1] for batch in patch.batches])

    with pytest.raises((AnswerInvalid, DigestMismatch, PatchMismatch)):
        volume.patched(A, new, intercept=swap)


def test_a_patch_that_copies_what_is_not_here_is_refused(volume) -> None:
    volume.aged(A)

    def invent(patch: Patch) -> Patch:
        entry = Entry("new.py", 4, 0o644, hashlib.sha256(b"new\n").hexdigest())
        manifest = Manifest([*patch.apply_to(volume.trees[-1].manifest).files.values(), entry])
        return patch._replace(copied=[*patch.copied, entry], digest=manifest.digest)

    with pytest.raises(PatchMismatch, match=r"new\.py"):
        volume.patched(A, B, intercept=invent)


@pytest.mark.parametrize("path", ["../escaped.py", "a/../../escaped.py", "/escaped.py"])
def test_a_manifest_cannot_lead_out_of_the_tree(volume, tmp_path, path) -> None:
    manifest = manifest_of({path: b"x"})
    with volume.staging(manifest) as staging, pytest.raises(AnswerInvalid):
        staging.populate([(manifest.files[path], [b"x"])])
    assert not (tmp_path / "escaped.py").exists()


def test_two_paths_that_fall_together_are_refused_by_name(volume) -> None:
    manifest = manifest_of({"a": b"x", "a/b": b"y"})
    files = [(entry, [b"x" if path == "a" else b"y"]) for path, entry in manifest.files.items()]
    with volume.staging(manifest) as staging, pytest.raises(VolumeFailed, match="two paths"):
        staging.populate(files)


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_volume_that_takes_no_more_is_named_with_the_path(volume, monkeypatch, reason) -> None:
    def refuse(_fd: int, _data: object) -> int:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "write", refuse)
    manifest = manifest_of(A, MODES)
    with volume.staging(manifest) as staging, pytest.raises(VolumeFailed, match=rf"dag\.py.*{os.strerror(reason)}"):
        staging.populate((entry, [A[path]]) for path, entry in manifest.files.items())


def test_a_write_that_takes_only_some_of_it_is_continued(volume, monkeypatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
    manifest = manifest_of(A, MODES)
    with volume.staging(manifest) as staging:
        staging.populate((entry, [A[path]]) for path, entry in manifest.files.items())
        tree, _ = staging.finalize(2e9)
    monkeypatch.undo()
    assert holds(tree, A)


def refusing(monkeypatch, call: str, reason: int) -> None:
    """Let a call that makes a file fail."""
    real = getattr(os, call)

    def refuse(what: object, flags: object, *args: object, **kinds: object) -> object:
        if call == "open" and not flags & os.O_CREAT:
            return real(what, flags, *args, **kinds)
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, call, refuse)


@pytest.mark.parametrize("call", ["link", "open"])
def test_a_full_volume_is_named_with_the_path_where_a_file_is_made(volume, monkeypatch, call) -> None:
    volume.aged(A)
    refusing(monkeypatch, call, errno.ENOSPC)
    with pytest.raises(VolumeFailed, match=r"\.(py|sh|sql) cannot be written: No space left on device"):
        volume.patched(A, B)


def test_the_same_tree_again_is_given_up_if_a_file_is_corrupt(volume) -> None:
    old = volume.aged(A)
    Path(old.folder, "other.py").write_bytes(b"import re\n")
    with volume.staging(old.manifest) as staging, pytest.raises(TreeDamaged, match=r"other\.py"):
        staging.populate(old)


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


@pytest.mark.parametrize(("reason", "error"), [(errno.EIO, TreeDamaged), (errno.ENOMEM, VolumeFailed)])
def test_an_old_file_that_cannot_be_read_is_corrupt_unless_it_is_the_machine_that_fails(
    volume, monkeypatch, reason, error
) -> None:
    old = volume.aged(A)

    def refuse(_fd: int):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr("dagferry_follow.volume.staging.pieces_of", refuse)
    with volume.staging(old.manifest) as staging, pytest.raises(error, match=r"dag\.py in the published tree"):
        staging.copy(old.manifest.files["dag.py"], "dag.py")


def test_a_file_that_changed_is_not_copied_where_there_are_no_links(volume, monkeypatch) -> None:
    old = volume.aged(A)
    Path(old.folder, "other.py").write_bytes(b"a longer one\n")
    refusing(monkeypatch, "link", errno.EPERM)
    with volume.staging(old.manifest) as staging:
        assert not staging.link(old.manifest.files["other.py"])
        assert staging.link(old.manifest.files["dag.py"])
    assert os.listdir(staging.folder) == ["dag.py"]


def test_the_same_bundle_again_is_all_links(volume) -> None:
    old = volume.aged(A)
    assert linked(volume.whole(A), old) == set(A)
    assert volume.fresh == []


def test_a_patch_whose_base_was_cut_short_is_a_mismatch(volume) -> None:
    long = {"dag.py": bytes(range(256)) * 40}
    old = volume.aged(long)
    Path(old.folder, "dag.py").write_bytes(b"short")
    with pytest.raises(PatchMismatch, match="The patch cannot be applied"):
        volume.patched(long, {"dag.py": b"# new\n" + long["dag.py"]})
