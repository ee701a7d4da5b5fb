"""Diffs say what changed, line by line; what cannot be compared says why; and nothing takes long."""

import asyncio
import difflib
import random
from typing import Any

import pytest

from dagferry_core.bundle.manifest import Entry
from dagferry_server.deploys.browse import Place
from dagferry_server.deploys.compare import FileChange
from dagferry_server.web import diffs as module
from dagferry_server.web.diffs import MAX_PAGE_LINES, MAX_SHOWN_LINES, PAGE_FILES, Wanted, diffs, file_diff

SOME = Place(Entry("a.txt", 1, 0o644, "0" * 64), 0)
CHANGED, ADDED, REMOVED = (FileChange("a.txt", *pair) for pair in ((SOME, SOME), (None, SOME), (SOME, None)))


def texts(found) -> list[str]:
    return [f"{line.sign}{line.html}" for line in found.lines]


def applied(old: str, found) -> list[str]:
    """What a diff makes of the old text, by its line numbers."""
    lines = old.split("\n")[:-1] if old.endswith("\n") else old.split("\n") if old else []
    gone = {line.old for line in found.lines if line.sign == "-"}
    new: dict[int, str] = {line.new: str(line.html) for line in found.lines if line.sign in "+ " and line.new}
    kept = iter([line for number, line in enumerate(lines, 1) if number not in gone])
    total = len(lines) - len(gone) + sum(line.sign == "+" for line in found.lines)
    added = {line.new for line in found.lines if line.sign == "+"}
    return [new[number] if number in added else next(kept) for number in range(1, total + 1)]


def test_a_changed_line_is_shown_with_what_is_around_it() -> None:
    old = "".join(f"{number}\n" for number in range(20))
    found = file_diff(CHANGED, old.encode(), old.replace("10\n", "ten\n").encode(), 100)
    assert texts(found) == ["@Line 8", " 7", " 8", " 9", "-10", "+ten", " 11", " 12", " 13"]
    assert [(line.old, line.new) for line in found.lines[3:6]] == [(10, 10), (11, None), (None, 11)]


def test_added_and_removed_files_are_shown_as_a_whole() -> None:
    assert texts(file_diff(ADDED, b"", b"a\nb\n", 9)) == ["@Line 1", "+a", "+b"]
    assert texts(file_diff(REMOVED, b"a\n", b"", 9)) == ["@Line 1", "-a"]


@pytest.mark.parametrize("seed", range(60))
def test_a_diff_leads_from_the_old_text_to_the_new_one(seed: int) -> None:
    chance = random.Random(seed)
    old = [chance.choice("abcdef") for _ in range(chance.randrange(40))]
    new = [line for line in old if chance.random() < 0.8]
    for _ in range(chance.randrange(6)):
        new.insert(chance.randrange(len(new) + 1), chance.choice("abcxyz"))
    olds, news = ("".join(line + "\n" for line in lines) for lines in (old, new))
    if olds == news:
        return
    found = file_diff(CHANGED, olds.encode(), news.encode(), 1000)
    assert applied(olds, found) == new
    # No more lines change than in difflib's own diff of the same.
    changed = sum(line.sign in "+-" for line in found.lines)
    assert changed <= len(old) + len(new)
    assert changed >= sum(line[:2] in {"+ ", "- "} for line in difflib.ndiff(old, new)) * 0.5


def test_a_stretch_with_too_many_lines_is_removed_and_added_again(monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_COMPARED", 100)
    found = file_diff(CHANGED, b"0\n" + b"a\n" * 20 + b"9\n", b"0\n" + b"b\na\n" * 19 + b"b\n9\n", 1000)
    signs = "".join(line.sign for line in found.lines)
    assert signs == "@ " + "-" * 20 + "+" * 39 + " "


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        (b"\xff", b"a", "Not text in UTF-8"),
        (b"a", b"\xff", "Not text in UTF-8"),
        (b"a\0", b"b", "A binary file"),
        (b"a", b"a", "Only the permissions differ."),
        (b"a\n", b"a", "The last line has no newline at its end."),
    ],
)
def test_what_is_not_compared_says_why(old: bytes, new: bytes, note: str) -> None:
    found = file_diff(CHANGED, old, new, 9)
    assert found.note.startswith(note)
    assert not found.lines


def test_long_diffs_are_cut_and_long_lines_too() -> None:
    found = file_diff(CHANGED, b"", b"x\n" * 50, 10)
    assert (len(found.lines), found.cut) == (10, True)
    [_, line] = file_diff(ADDED, b"", b"y" * 5000, 10).lines
    assert line.html == "y" * module.MAX_LINE_CHARACTERS + " ⟨… 4,000 more characters: save the file⟩"


def test_what_is_hidden_at_the_end_of_a_long_line_is_known_to_be_there() -> None:
    good, bad = (b"x = 1" + b" " * module.MAX_LINE_CHARACTERS + more for more in (b"", b"; import evil"))
    [_, old, new] = file_diff(CHANGED, good + b"\n", bad + b"\n", 10).lines
    assert old.html.endswith("⟨… 5 more characters: save the file⟩")
    assert new.html.endswith("⟨… 18 more characters: save the file⟩")


def test_an_invisible_character_is_noted() -> None:
    assert file_diff(CHANGED, b"a\n", "a\u202e\n".encode(), 9).hidden
    assert not file_diff(CHANGED, b"a\n", b"b\n", 9).hidden


async def compared(server: Any, old: dict[str, bytes], new: dict[str, bytes], **wanted: Any) -> Any:
    first, second = [(await server.deploy(files))["digest"] for files in (old, new)]
    return await asyncio.to_thread(diffs, server.service.store, "default", first, second, Wanted(**wanted))


async def test_a_page_has_some_files_and_some_lines_of_each(server) -> None:
    new = {f"f{number:03}.txt": b"x\n" * 500 for number in range(PAGE_FILES * 2 + 5)}
    found = await compared(server, {"a": b""}, new)
    assert found.comparison.total == len(new) + 1
    assert len(found.files) == PAGE_FILES
    assert max(len(file.lines) for file in found.files) == MAX_SHOWN_LINES
    assert sum(len(file.lines) for file in found.files) <= MAX_PAGE_LINES + MAX_SHOWN_LINES
    assert found.files[-1].note == "This page is full."
    assert all(file.cut for file in found.files[1:])


async def test_a_page_whose_time_is_over_compares_no_other_file(server, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_PAGE_SECONDS", -1.0)
    found = await compared(server, {"a": b"1\n"}, {"a": b"2\n", "b": b"3\n"})
    assert [(file.note, file.cut, file.lines) for file in found.files] == [("This page is full.", True, [])] * 2
    monkeypatch.undo()
    [file] = (await compared(server, {"a": b"1\n"}, {"a": b"2\n", "b": b"3\n"}, path="a")).files
    assert file.lines


async def test_one_file_alone_is_shown_as_a_whole(server) -> None:
    found = await compared(server, {"a": b""}, {"a": b"x\n" * 500, "b": b"x"}, path="a")
    [file] = found.files
    assert (len(file.lines), file.cut) == (501, False)


async def test_a_large_file_is_named_and_not_read(server) -> None:
    found = await compared(server, {"a": b"x"}, {"a": b"x" * (module.MAX_FILE_BYTES + 1), "b.py": b"1\n"})
    assert "512 KiB" in found.files[0].note
    assert found.files[1].lines
