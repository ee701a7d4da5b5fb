"""Small files are replaced as a whole, and what fails leaves nothing behind."""

import os

import pytest

from dagferry_follow import small_files
from dagferry_follow.small_files import read_bytes, read_text, replace_text


@pytest.fixture(autouse=True)
def umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_a_file_is_replaced_as_a_whole(tmp_path) -> None:
    path = str(tmp_path / "text")
    for text in ("first", "a longer second one, \u00fc", ""):
        replace_text(path, text)
        assert read_text(path, 100) == text
    assert os.listdir(tmp_path) == ["text"]


def test_the_umask_counts_unless_there_is_a_mode(tmp_path) -> None:
    for mode, expected in ((None, 0o600), (0o644, 0o644)):
        replace_text(str(tmp_path / "text"), "text", mode)
        assert (tmp_path / "text").stat().st_mode & 0o777 == expected


def test_no_more_is_read_than_asked_for_and_what_is_no_utf_8_does_no_harm(tmp_path) -> None:
    (tmp_path / "text").write_bytes(b"ab\xffcd")
    assert read_text(str(tmp_path / "text"), 4) == "ab\ufffdc"


def test_what_is_not_there_is_empty_and_what_cannot_be_written_is_an_error(tmp_path) -> None:
    assert not read_text(str(tmp_path / "text"), 100)
    assert not read_text(str(tmp_path), 100)
    with pytest.raises(FileNotFoundError):
        replace_text(str(tmp_path / "no/text"), "text")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo")
    writer = os.open(tmp_path / "fifo", os.O_RDWR)
    (tmp_path / "link").symlink_to("/etc/passwd")
    try:
        for name in ("fifo", "link", "."):
            assert not read_text(str(tmp_path / name), 100)
            with pytest.raises(OSError, match=r"regular file|symbolic links"):
                read_bytes(str(tmp_path / name), 100)
    finally:
        os.close(writer)


def test_a_write_that_fails_leaves_the_old_text_and_nothing_else(tmp_path, monkeypatch) -> None:
    path = str(tmp_path / "text")
    replace_text(path, "old")
    monkeypatch.setattr(small_files, "set_mode", lambda *_: (_ for _ in ()).throw(PermissionError("refused")))
    with pytest.raises(PermissionError, match="refused"):
        replace_text(path, "new", 0o644)
    assert read_text(path, 100) == "old"
    assert os.listdir(tmp_path) == ["text"]
