"""What a staged tree refuses, and what it does where the volume refuses something."""

import errno
import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.patch import Patch
from dagferry_follow.errors import (
    AnswerInvalid,
    DigestMismatch,
    PatchMismatch,
    TreeDamaged,
    VolumeFailed,
)
from dagferry_follow.volume.tree import check
from harness import OTHER_USER, others_can_run_python
from staged import LONG_AGO, MODES, A, B, Volume, blocks, holds, linked
from treemaker import manifest_of


@pytest.fixture
def volume(tmp_path) -> Volume:
    return Volume(tmp_path)


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


def test_a_patch_whose_base_was_cut_short_is_a_mismatch(volume) -> None:
    long = {"dag.py": bytes(range(256)) * 40}
    old = volume.aged(long)
    Path(old.folder, "dag.py").write_bytes(b"short")
    with pytest.raises(PatchMismatch, match="The patch cannot be applied"):
        volume.patched(long, {"dag.py": b"# new\n" + long["dag.py"]})
