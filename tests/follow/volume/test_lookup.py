"""A tree that is on the disk is found by its version, and taken only if it is what was published."""

import os
import shutil
from pathlib import Path

import pytest

from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.volume.lookup import intact_tree, tree_at, trees_of
from dagferry_follow.volume.records import MANIFEST, RECORD, TreeRules
from dagferry_follow.volume.volume import Volume
from treemaker import manifest_of

VERSIONS = tuple(f"20261120T064501Z-{number:06d}" for number in (1, 2, 3))


def publish(volume: Volume, version: str, files: dict[str, bytes]) -> None:
    manifest = manifest_of(files)
    deploy = DeployRef("log", int(version[-6:]), version, manifest.digest)
    with volume.stage(deploy, manifest) as staging:
        staging.populate((entry, [files[path]]) for path, entry in manifest.files.items())
        volume.swap(staging, lambda: 1e9)


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Three versions, the last of which is live."""
    root = str(tmp_path / "root")
    volume = Volume(root)
    for number, version in enumerate(VERSIONS):
        publish(volume, version, {"etl.py": b"%d\n" % number, "sql/same.sql": b"select 1\n"})
    volume.close()
    return root


def folder_of(root: str, version: str) -> Path:
    [unique] = trees_of(root, version)
    return Path(root, ".trees", unique)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_on_the_disk_is_found_live_or_not_also_while_another_owns_it(root: str, version: str) -> None:
    owner = Volume(root)
    tree = intact_tree(root, version)
    owner.close()
    assert tree
    assert tree.folder == str(folder_of(root, version) / version)
    assert Path(tree.folder, "etl.py").read_bytes() == b"%d\n" % VERSIONS.index(version)


def test_what_is_not_there_is_not_found(root: str, tmp_path: Path) -> None:
    assert intact_tree(root, "20261120T064501Z-000099") is None
    assert trees_of(str(tmp_path / "none"), VERSIONS[0]) == []


def change(folder: Path) -> None:
    file = folder / VERSIONS[1] / "etl.py"
    before = file.stat()
    file.write_bytes(b"9\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGES = {
    "a content, with size and mtime as before": change,
    "a file is gone": lambda folder: (folder / VERSIONS[1] / "etl.py").unlink(),
    "no record": lambda folder: (folder / RECORD).unlink(),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "a manifest that is none": lambda folder: (folder / MANIFEST).write_bytes(b"?"),
    "the records of another": lambda folder: shutil.copy(
        folder_of(str(folder.parents[1]), VERSIONS[0]) / RECORD, folder / RECORD
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_tree_that_is_not_what_was_published_is_not_taken(root: str, damage) -> None:
    damage(folder_of(root, VERSIONS[1]))
    assert intact_tree(root, VERSIONS[1]) is None
    assert intact_tree(root, VERSIONS[0])


def test_of_two_trees_of_a_version_the_whole_one_is_taken(root: str) -> None:
    folder = folder_of(root, VERSIONS[1])
    shutil.copytree(folder, folder.parent / ("0" * 16))
    shutil.copytree(folder, folder.parent / ("f" * 16))
    change(folder.parent / ("0" * 16))
    change(folder)
    tree = intact_tree(root, VERSIONS[1])
    assert tree
    assert "f" * 16 in tree.folder


def test_what_the_rules_have_removed_is_not_found(root: str) -> None:
    volume = Volume(root)
    volume.load()
    volume.sweep()
    volume.retire(TreeRules(0, 0, 0), 1e9)
    volume.close()
    assert [bool(intact_tree(root, version)) for version in VERSIONS] == [False, True, True]


# --- by time ---------------------------------------------------------------------------------------------------------

MADE = 1_795_157_101
"""When the deploys of ``VERSIONS`` were made: all within one second."""


def written(root: str, version: str, at: float) -> None:
    os.utime(folder_of(root, version) / RECORD, (at, at))


def test_within_a_second_the_newest_that_was_written_by_then_is_found(root: str) -> None:
    for number, version in enumerate(VERSIONS):
        written(root, version, MADE + 0.25 * (number + 1))
    for moment, version in ((0.25, 0), (0.4, 0), (0.5, 1), (0.75, 2), (3e8, 2)):
        assert tree_at(root, MADE + moment) == (folder_of(root, VERSIONS[version]).name, VERSIONS[version])
    assert tree_at(root, MADE + 0.2) is None


def test_a_tree_does_not_stand_in_for_the_one_after_it_that_was_removed(root: str) -> None:
    for number, version in enumerate(VERSIONS):
        written(root, version, MADE + 0.25 * (number + 1))
    first = folder_of(root, VERSIONS[0])
    os.utime(first / "ended", (MADE + 0.5, MADE + 0.5))
    shutil.rmtree(folder_of(root, VERSIONS[1]))
    assert tree_at(root, MADE + 0.4) == (first.name, VERSIONS[0])
    assert tree_at(root, MADE + 0.6) is None
    assert tree_at(root, MADE + 0.8) == (folder_of(root, VERSIONS[2]).name, VERSIONS[2])


@pytest.mark.parametrize("seconds", [-100, 1, 100, 1e6])
def test_a_tree_that_was_not_written_in_that_second_counts_from_its_beginning(root: str, seconds) -> None:
    for version in VERSIONS:
        written(root, version, MADE + seconds)
    assert tree_at(root, MADE) == (folder_of(root, VERSIONS[2]).name, VERSIONS[2])
    assert tree_at(root, MADE - 0.1) is None


def test_a_tree_that_is_damaged_or_no_longer_published_is_not_found_by_time(root: str) -> None:
    (folder_of(root, VERSIONS[2]) / RECORD).write_bytes(b"{")
    (folder_of(root, VERSIONS[1]) / "ended").unlink()
    assert tree_at(root, MADE + 5) == (folder_of(root, VERSIONS[0]).name, VERSIONS[0])
    assert tree_at(f"{root}/nowhere", MADE + 5) is None
