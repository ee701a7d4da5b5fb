"""A tokens file is edited as its reader understands it; nothing else in it changes, and no edit is half done."""

import os
import re
import stat
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dagferry_core.errors import SetupError
from dagferry_runtime.tokens_file import MAX_BYTES, add_entry, read_tokens, remove_entries

FILE = """# tokens = [
tokens = [ # here
  { name = "a" }, # until the move
\t{ name = "b" },
]
users = [ { name = "c" } ]
"""


class Found(NamedTuple):
    tokens: tuple[str, ...]
    rest: str


def parse(data: bytes) -> Found:
    """Read the names of a file: each entry is one, and a comment counts as nothing."""
    text = re.sub(r"#.*", "", data.decode())
    found = re.fullmatch(r"(.*?)tokens\s*=\s*\[([^\]]*)\](.*)", text, re.DOTALL)
    if not found or "broken" in text:
        raise SetupError("It is not valid.")
    return Found(tuple(re.findall(r'name = "(\w+)"', found[2])), (found[1] + found[3]).strip())


def named(name: str) -> Any:
    return lambda token: token == name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.toml"
    file.write_text(FILE)
    return file


def test_the_content_is_what_the_reader_makes_of_it(path) -> None:
    assert read_tokens(str(path), parse).tokens == ("a", "b")


def test_an_entry_is_added_as_the_first_one(path) -> None:
    add_entry(str(path), '{ name = "new" },', parse)
    assert path.read_text() == FILE.replace("tokens = [ # here", 'tokens = [\n  { name = "new" },\n # here')
    assert read_tokens(str(path), parse).tokens == ("new", "a", "b")


def test_a_missing_file_is_made_for_its_owner(tmp_path) -> None:
    file = tmp_path / "new.toml"
    add_entry(str(file), '{ name = "new" },', parse)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_tokens(str(file), parse).tokens == ("new",)


def test_an_entry_is_removed_with_its_line(path) -> None:
    assert remove_entries(str(path), named("a"), parse) == ("a",)
    assert path.read_text() == FILE.replace('  { name = "a" }, # until the move\n', "")
    assert remove_entries(str(path), named("a"), parse) == ()


def test_what_cannot_be_edited_for_certain_is_left_as_it_is(path) -> None:
    path.write_text(FILE.replace(" # until the move\n", ""))
    before = path.read_text()
    with pytest.raises(SetupError, match="was not changed: an entry is not on a line of its own"):
        remove_entries(str(path), named("a"), parse)
    with pytest.raises(SetupError, match="was not changed: the entry cannot be added"):
        add_entry(str(path), '{ name = "new" }, ] # [', parse)
    assert path.read_text() == before
    assert os.listdir(path.parent) == ["tokens.toml"]


def test_a_file_that_is_not_valid_is_not_touched(path) -> None:
    path.write_text("broken")
    with pytest.raises(SetupError, match="not valid"):
        add_entry(str(path), '{ name = "c" },', parse)
    with pytest.raises(SetupError, match="not valid"):
        remove_entries(str(path), bool, parse)
    assert path.read_text() == "broken"


@pytest.mark.parametrize(("data", "why"), [(b"\xff", "not UTF-8"), (b"x" * (MAX_BYTES + 1), "larger than")])
def test_what_is_no_text_or_too_large_is_refused(path, data, why) -> None:
    path.write_bytes(data)
    with pytest.raises(SetupError, match=why):
        read_tokens(str(path), parse)


def test_mode_and_link_stay(path) -> None:
    path.chmod(0o640)
    link = path.parent / "link"
    link.symlink_to(path.name)
    add_entry(str(link), '{ name = "new" },', parse)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_folder_that_is_not_there_and_one_that_is_full_are_said(path, monkeypatch) -> None:
    with pytest.raises(SetupError, match="cannot be opened: No such file"):
        add_entry(str(path.parent / "no" / "file"), '{ name = "new" },', parse)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SetupError, match="cannot be written: No space left on device"):
        add_entry(str(path), '{ name = "new" },', parse)
    assert path.read_text() == FILE
    assert os.listdir(path.parent) == ["tokens.toml"]


def test_edits_at_the_same_time_lose_nothing(path) -> None:
    names = {f"t{number}" for number in range(20)}
    threads = [threading.Thread(target=add_entry, args=(str(path), f'{{ name = "{name}" }},', parse)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read_tokens(str(path), parse).tokens) == {"a", "b", *names}
