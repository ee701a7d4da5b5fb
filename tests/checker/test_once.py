"""A folder on this machine as a tree: what is in it, and nothing that it only links to."""

import hashlib
import os

import pytest

from dagferry_checker.errors import ImportCheckFailed
from dagferry_checker.once import tree_of_folder


def test_a_folder_is_a_tree_of_its_files(tmp_path) -> None:
    (tmp_path / "team" / "__pycache__").mkdir(parents=True)
    (tmp_path / "a.py").write_bytes(b"a")
    (tmp_path / "team" / "b.sql").write_bytes(b"bb")
    (tmp_path / "team" / "__pycache__" / "b.pyc").write_bytes(b"")
    (tmp_path / "link.py").symlink_to("/etc/passwd")
    tree = tree_of_folder(str(tmp_path))
    assert {path: entry.size for path, entry in tree.manifest.files.items()} == {"a.py": 1, "team/b.sql": 2}
    assert tree.manifest.files["a.py"].sha256 == hashlib.sha256(b"a").hexdigest()
    assert tree.folder == str(tmp_path)


def test_an_empty_folder_is_an_empty_tree(tmp_path) -> None:
    assert tree_of_folder(str(tmp_path)).manifest.files == {}


def test_a_file_that_goes_meanwhile_is_an_error_of_the_check(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.py").write_bytes(b"a")
    monkeypatch.setattr("dagferry_checker.once._sha256", lambda file: os.stat(f"{file}.gone"))
    with pytest.raises(ImportCheckFailed, match=r"a\.py"):
        tree_of_folder(str(tmp_path))


def test_a_name_that_is_not_utf_8_is_said(tmp_path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.py")).touch()
    with pytest.raises(ImportCheckFailed, match=r"'caf\\udce9.py' is not UTF-8"):
        tree_of_folder(str(tmp_path))
