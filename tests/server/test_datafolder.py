"""The data folder belongs to one server, and what is being received leaves nothing behind."""

import os
from contextlib import closing

import pytest

from dagferry_core.errors import SetupError, StoreInUse
from dagferry_server.datafolder import DataFolder
from dagferry_server.store.files import TEMPORARY


def test_it_is_made_with_its_parents(tmp_path) -> None:
    with closing(DataFolder(str(tmp_path / "a" / "b"))):
        assert (tmp_path / "a" / "b").is_dir()


def test_a_second_server_is_refused_until_the_first_is_gone(tmp_path) -> None:
    with closing(DataFolder(str(tmp_path))), pytest.raises(StoreInUse, match=str(tmp_path)):
        DataFolder(str(tmp_path))
    DataFolder(str(tmp_path)).close()


def test_a_place_that_is_no_folder_is_refused_in_words(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/data"):
        with pytest.raises(SetupError, match="is no folder"):
            DataFolder(str(tmp_path / place))


def test_a_scratch_file_has_no_name(tmp_path) -> None:
    with closing(DataFolder(str(tmp_path))) as folder:
        folder.prepare("prod")
        with folder.scratch_file("prod") as file:
            file.write(b"something")
            assert os.listdir(tmp_path / "prod" / "incoming") == []


def test_scratch_files_of_a_server_that_was_killed_are_swept(tmp_path) -> None:
    with closing(DataFolder(str(tmp_path))) as folder:
        folder.prepare("prod")
        left = tmp_path / "prod" / "incoming" / (TEMPORARY + "x")
        left.write_text("half")
        foreign = tmp_path / "prod" / "incoming" / "README"
        foreign.write_text("not ours")
        folder.prepare("prod")
        assert not left.exists()
        assert foreign.exists()
