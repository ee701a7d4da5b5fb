"""The volume of a dags folder: one swap at a time, nothing half done, nothing left behind, nothing foreign touched."""

import errno
import os
import shutil
import stat
import subprocess
import sys
from unittest.mock import Mock

import pytest

from dagferry_core.bundle.manifest import EMPTY
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import DigestMismatch, RootInUse, RootUnusable, VolumeFailed
from dagferry_follow.volume import records
from dagferry_follow.volume.staging import StagingTree
from dagferry_follow.volume.volume import Volume
from publishing import files_of, live_files, publish, trees_of
from treemaker import manifest_of

# --- publishing ------------------------------------------------------------------------------------------------------


def test_what_is_published_is_the_documented_layout(root, opened) -> None:
    publish(opened(), 1)
    link = os.readlink(root / "current")
    trees, unique, version = link.split("/")
    assert (trees, version) == (".trees", "v-1")
    assert live_files(root) == files_of(1)
    assert {path.name for path in (root / ".trees" / unique).iterdir()} == {"v-1", "manifest.zst", "deploy.json"}
    assert {path.name for path in root.iterdir()} == {"current", ".trees"}


def test_a_swap_keeps_the_old_tree_and_an_open_handle(root, opened) -> None:
    volume = opened()
    publish(volume, 1)
    before = (root / "current").resolve()
    with (root / "current" / "dag.py").open() as handle:
        publish(volume, 2)
        assert handle.read() == "number = 1\n"
    assert live_files(root) == files_of(2)
    assert (before / "dag.py").read_text() == "number = 1\n"
    assert [tree.record.version for tree in volume.old] == ["v-1"]


def test_each_tree_has_the_next_serial_also_after_a_restart(opened) -> None:
    publish(opened(), 1)
    volume = opened()
    volume.load()
    publish(volume, 2)
    assert [tree.record.serial for tree in (volume.live, *volume.old) if tree] == [2, 1]


@pytest.mark.parametrize("reason", [PermissionError(errno.EACCES, "Permission denied"), FileNotFoundError()])
def test_an_old_tree_that_cannot_be_marked_stops_no_swap(root, opened, monkeypatch, reason) -> None:
    volume = opened()
    publish(volume, 1)
    monkeypatch.setattr("dagferry_follow.volume.volume.mark_ended", Mock(side_effect=reason))
    publish(volume, 2)
    assert live_files(root) == files_of(2)
    assert [tree.record.version for tree in volume.old] == ["v-1"]


def test_all_of_it_can_be_read_by_others_whatever_the_umask(root, opened) -> None:
    before = os.umask(0o077)
    try:
        publish(opened(), 1)
    finally:
        os.umask(before)
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink() and path.name != "lock":
            assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_an_empty_tree_can_be_published(root, opened) -> None:
    volume = opened()
    ref = DeployRef("log", 0, "empty", EMPTY.digest)
    with volume.stage(ref, EMPTY) as staging:
        staging.populate([])
        volume.swap(staging, lambda: 2e9)
    assert live_files(root) == {}
    assert volume.root.published_version() == "empty"
    assert publish(volume, 1) == [], "nobody can have read a file of an empty tree, so none needs to be touched again"


@pytest.mark.parametrize("step", ["populate", "write_records", "finalize", "symlink", "rename"])
@pytest.mark.parametrize("reason", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_whatever_fails_the_live_tree_stays_and_nothing_is_left(root, opened, monkeypatch, step, reason) -> None:
    def fail(*_args: object, **_kinds: object) -> None:
        raise reason

    volume = opened()
    publish(volume, 1)
    before = trees_of(root)
    places = {
        "populate": (StagingTree, "populate"),
        "write_records": (sys.modules["dagferry_follow.volume.volume"], "write_records"),
        "finalize": (StagingTree, "finalize"),
        "symlink": (os, "symlink"),
        "rename": (os, "rename"),
    }
    monkeypatch.setattr(*places[step], fail)
    with pytest.raises(VolumeFailed if isinstance(reason, OSError) else KeyboardInterrupt):
        publish(volume, 2)
    monkeypatch.undo()
    assert live_files(root) == files_of(1)
    assert trees_of(root) == before
    assert not volume.check()
    publish(volume, 2)
    assert live_files(root) == files_of(2)


def test_a_wrong_content_is_not_published(root, opened) -> None:
    manifest = manifest_of({"a.py": b"right\n"})

    deploy = DeployRef("log", 1, "v-1", manifest.digest)
    with pytest.raises(DigestMismatch), opened().stage(deploy, manifest) as staging:
        staging.populate([(manifest.files["a.py"], [b"wrong\n"])])
    assert trees_of(root) == set()


def test_a_tree_that_is_not_swapped_in_is_removed(root, opened) -> None:
    volume = opened()
    publish(volume, 1)
    before = trees_of(root)
    manifest = manifest_of(files_of(2))
    with volume.stage(DeployRef("log", 2, "v-2", manifest.digest), manifest):
        assert len(trees_of(root)) == 2
    assert trees_of(root) == before
    assert live_files(root) == files_of(1)


def test_a_signal_right_after_the_swap_does_not_cost_the_live_tree(root, opened, monkeypatch) -> None:
    rename = os.rename

    def interrupted(*paths: str) -> None:
        rename(*paths)
        raise KeyboardInterrupt

    volume = opened()
    publish(volume, 1)
    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(volume, 2)
    monkeypatch.undo()
    assert live_files(root) == files_of(2)
    volume = opened()
    assert not volume.load()
    assert volume.sweep() == 0
    assert [tree.record.version for tree in volume.old] == ["v-1"]


def test_a_write_cut_short_by_a_full_volume_leaves_nothing(root, opened, monkeypatch) -> None:
    real = records._write

    def short(path: str, content: bytes) -> None:
        real(path, content[:-1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(records, "_write", short)
    with pytest.raises(VolumeFailed, match=r"manifest\.zst.*No space left"):
        publish(opened(), 1)
    assert trees_of(root) == set()
    assert not (root / "current").is_symlink()


def test_a_folder_that_took_the_place_of_current_later_is_an_error_until_it_is_gone(root, opened) -> None:
    volume = opened()
    publish(volume, 1)
    (root / "current").unlink()
    (root / "current").mkdir()
    assert volume.root.published_version() == ""
    with pytest.raises(RootUnusable):
        volume.check()
    with pytest.raises(RootUnusable):
        publish(volume, 2)
    (root / "current").rmdir()
    publish(volume, 2)
    assert live_files(root) == files_of(2)


@pytest.mark.parametrize("gone", ["", ".trees", ".trees/lock"], ids=["the root", "the trees", "the lock"])
def test_folders_that_were_removed_are_created_again_and_locked(root, opened, gone) -> None:
    volume = opened()
    for number in (1, 2):
        publish(volume, number)
    subprocess.run(["rm", "-r", root / gone], check=True)
    assert bool(volume.check()) == (gone != ".trees/lock")
    publish(volume, 3)
    assert live_files(root) == files_of(3)
    assert volume.stored()[0] == len(trees_of(root)) == (3 if gone == ".trees/lock" else 1)
    with pytest.raises(RootInUse):
        Volume(str(root))


def test_a_root_that_another_sidecar_took_meanwhile_is_not_written_to(root, opened) -> None:
    volume = opened()
    publish(volume, 1)
    shutil.rmtree(root)
    other = Volume(str(root))
    publish(other, 2)
    with pytest.raises(RootInUse):
        publish(volume, 3)
    assert live_files(root) == files_of(2)
    other.close()


# --- looking ---------------------------------------------------------------------------------------------------------


def test_a_look_finds_corrupt_files_unexpected_ones_and_a_wrong_link(root, opened) -> None:
    volume = opened()
    assert not volume.check(), "nothing published, nothing damaged"
    publish(volume, 1)
    publish(volume, 2)
    assert not volume.check()
    (root / "current" / "extra.py").write_text("")
    assert volume.check().unexpected == ["extra.py"]
    (root / "current" / "extra.py").unlink()
    (root / "current").unlink()
    assert volume.check().unexpected == [str(root / "current")]
    (root / "current").symlink_to(f".trees/{volume.old[0].unique}/v-1")
    assert volume.check().unexpected == [str(root / "current")]


def test_an_old_tree_of_a_content_is_found_by_its_digest_also_after_a_restart(opened) -> None:
    volume = opened()
    for number in (1, 2, 3):
        publish(volume, number)
    digest = manifest_of(files_of(1)).digest
    found = volume.retained(digest)
    assert found.manifest.digest == digest
    assert (found.folder.rpartition("/")[2], found.mtimes) == ("v-1", {})
    assert volume.retained(manifest_of(files_of(3)).digest) is None  # that is the live one
    assert volume.retained(manifest_of(files_of(9)).digest) is None
    again = opened()
    again.load()
    again.sweep()
    assert again.retained(digest).folder == found.folder


def test_an_old_tree_whose_records_are_damaged_is_not_found(opened, root) -> None:
    volume = opened()
    publish(volume, 1)
    publish(volume, 2)
    (root / ".trees" / volume.old[0].unique / "manifest.zst").write_bytes(b"junk")
    assert volume.retained(manifest_of(files_of(1)).digest) is None
