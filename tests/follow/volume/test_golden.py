"""A golden volume is found live and intact, and its records are written alike: see tests/golden/README.md."""

import json
import os
from pathlib import Path

from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.volume.records import read_manifest, read_record, write_record, write_records
from dagferry_follow.volume.volume import Volume
from goldens import DEPLOYS, WRITTEN, each_format, listing, of_deploys, same_compressed, shape, unpack_volume


def tree_folders(root: Path) -> list[Path]:
    return [path for path in (root / ".trees").iterdir() if path.is_dir()]


@each_format
def test_a_volume_is_found_live_and_intact_and_is_left_as_it_is(golden, tmp_path) -> None:
    root = unpack_volume(golden, tmp_path / "root")
    before, paths = shape(root), listing(root)
    volume = Volume(str(root))
    try:
        assert not volume.load()
        assert volume.sweep() == 0
        assert volume.live is not None
        newest = of_deploys(golden, "current")[-1].body
        assert volume.live.record.deploy == DeployRef(*(newest.get(name, "") for name in DeployRef._fields))
        assert volume.live.tree.manifest.text == (golden / "manifests" / f"{DEPLOYS[-1]}.txt").read_bytes()
        assert [tree.record.sequence for tree in volume.old] == [3, 2, 1]
        assert all(0 < tree.ended < volume.live.tree.mtimes["new.py"] for tree in volume.old)
        assert not volume.check()
    finally:
        volume.close()
    assert (shape(root), listing(root)) == (before, paths)


def test_records_are_written_alike(tmp_path) -> None:
    for folder in tree_folders(unpack_volume(WRITTEN, tmp_path / "root")):
        again = tmp_path / folder.name
        again.mkdir()
        record = read_record(str(folder))
        write_records(str(again), record, read_manifest(str(folder)))
        assert same_compressed(WRITTEN, (folder / "manifest.zst").read_bytes(), (again / "manifest.zst").read_bytes())
        write_record(str(again), record)
        assert (again / "deploy.json").read_bytes() == (folder / "deploy.json").read_bytes()
        assert {path.name: path.stat().st_mode for path in again.iterdir()} == {
            name: (folder / name).stat().st_mode for name in ("manifest.zst", "deploy.json")
        }
        assert json.loads((folder / "deploy.json").read_text())["version"] in os.listdir(folder)
