"""The tree for as long as nothing is deployed: the image's own DAGs, or nothing."""

import os
from pathlib import Path

import pytest

from dagferry_core.bundle.manifest import EMPTY
from dagferry_follow.errors import VolumeFailed
from dagferry_sidecar.seed import Seed
from treemaker import manifest_of


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "team").mkdir()
    (tmp_path / "dag.py").write_bytes(b"import team\n")
    (tmp_path / "team" / "__init__.py").write_bytes(b"")
    (tmp_path / "team" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "team" / "run.sh").chmod(0o700)
    return tmp_path


def contents(seed: Seed) -> dict[str, bytes]:
    return {entry.path: b"".join(content) for entry, content in seed.files()}


def test_without_a_folder_the_seed_is_an_empty_tree() -> None:
    seed = Seed(None)
    assert (seed.version, seed.manifest, contents(seed)) == ("empty", EMPTY, {})


def test_the_files_of_the_folder_are_the_seed_with_the_modes_of_a_bundle(folder) -> None:
    seed = Seed(str(folder))
    expected = {"dag.py": b"import team\n", "team/__init__.py": b"", "team/run.sh": b"#!/bin/sh\n"}
    assert seed.version == "seed"
    assert contents(seed) == expected
    assert seed.manifest.digest == manifest_of(expected, {"team/run.sh": 0o755}).digest


def test_what_a_bundle_excludes_is_excluded(folder) -> None:
    before = Seed(str(folder)).manifest.digest
    (folder / "team" / "__pycache__").mkdir()
    (folder / "team" / "__pycache__" / "x.pyc").write_bytes(b"")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_bytes(b"")
    assert Seed(str(folder)).manifest.digest == before


def test_links_to_files_are_followed_and_what_is_no_file_is_skipped(folder) -> None:
    (folder / "link.py").symlink_to("dag.py")
    os.mkfifo(folder / "fifo")
    seed = Seed(str(folder))
    assert contents(seed)["link.py"] == b"import team\n"
    assert "fifo" not in seed.manifest.files


def test_a_seed_that_cannot_be_read_is_named(folder) -> None:
    (folder / "dangling.py").symlink_to("nowhere")
    with pytest.raises(VolumeFailed, match="dangling"):
        Seed(str(folder))
    with pytest.raises(VolumeFailed, match="gone"):
        Seed(str(folder / "gone"))
