"""Publishes trees on a volume, and reads what is published."""

from pathlib import Path

from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.volume.records import TreeRules
from dagferry_follow.volume.volume import Volume
from invariants import BESIDE_TREES
from treemaker import manifest_of

HOUR = 3600.0
ALL = TreeRules(1000, 1000, 1 << 60)
"""Rules that keep every tree."""


def files_of(number: int) -> dict[str, bytes]:
    """Return the files of deploy ``number``: one differs from those of the others."""
    return {"dag.py": b"number = %d\n" % number, "same.py": b"pass\n" * 100, "team/same.sql": b"select 1\n"}


def publish(volume: Volume, number: int, now: float = 2e9) -> list[str]:
    """Make deploy ``number`` live at ``now``, and return its fresh files."""
    files = files_of(number)
    manifest = manifest_of(files)
    with volume.stage(DeployRef("log", number, f"v-{number}", manifest.digest), manifest) as staging:
        staging.populate((entry, [files[path]]) for path, entry in manifest.files.items())
        return volume.swap(staging, lambda: now)


def live_files(root: Path) -> dict[str, bytes]:
    """Return what Airflow would read."""
    current = root / "current"
    return {str(path.relative_to(current)): path.read_bytes() for path in current.rglob("*") if path.is_file()}


def bytes_on_disk(root: Path) -> int:
    """Return what all trees take on disk, in blocks of 4 KiB; files that they share count once."""
    found = {
        (status.st_ino, 4096 if path.is_dir() else -(-status.st_size // 4096) * 4096)
        for tree in trees_of(root)
        for path in [root / ".trees" / tree, *(root / ".trees" / tree).rglob("*")]
        if (status := path.lstat())
    }
    return sum(size for _, size in found)


def trees_of(root: Path) -> set[str]:
    """Return the names of the folders of trees."""
    return {path.name for path in (root / ".trees").iterdir()} - BESIDE_TREES
