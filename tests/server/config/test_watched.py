"""A watched file: what is new is taken without a restart, what is unfinished or broken never is."""

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dagferry_core.errors import SetupError
from dagferry_runtime.regular import read_regular
from dagferry_server.config import watched
from dagferry_server.config.watched import MAX_WATCHED_BYTES, WatchedFile, running, watch
from harness import PATIENCE_SECONDS
from running import eventually


def number(data: bytes) -> int:
    try:
        return int(data)
    except ValueError:
        raise SetupError("It is no number.") from None


@pytest.fixture
def file(tmp_path: Path) -> WatchedFile[int]:
    (tmp_path / "f").write_text("1")
    return WatchedFile(str(tmp_path / "f"), number)


def write(file: WatchedFile[int], text: str) -> None:
    Path(file.path).write_text(text)


def test_a_new_content_is_taken_once_it_was_seen_twice(file: WatchedFile[int]) -> None:
    write(file, "2")
    file.look()
    assert file.value == 1
    file.look()
    assert file.value == 2


def test_a_file_that_goes_on_changing_is_not_taken(file: WatchedFile[int]) -> None:
    for text in ("2", "23", "234"):
        write(file, text)
        file.look()
    assert file.value == 1
    file.look()
    assert file.value == 234


@pytest.mark.parametrize("broken", ["", "x", " " * MAX_WATCHED_BYTES + "2"])
def test_a_broken_content_leaves_the_last_good_one_in_force(
    file: WatchedFile[int], broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(file, broken)
    for _ in range(4):
        file.look()
    assert file.value == 1
    assert file.last_error
    assert [record.levelname for record in caplog.records] == ["ERROR"]  # said once, not each second
    write(file, "3")
    file.look()
    file.look()
    assert (file.value, file.last_error) == (3, None)


def test_a_file_that_vanishes_is_reported_and_taken_again_when_it_is_back(file: WatchedFile[int]) -> None:
    Path(file.path).unlink()
    file.look()
    assert file.value == 1
    assert file.last_error
    assert file.path in file.last_error
    write(file, "1")
    file.look()
    assert file.last_error is None


def test_a_reload_has_the_time_at_which_the_content_in_force_was_read(
    file: WatchedFile[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = file.reload
    assert start == (None, pytest.approx(time.time(), abs=600))
    monkeypatch.setattr(time, "time", lambda: start.succeeded_at + 60)
    for text, expected in (
        ("x", start.succeeded_at),  # cannot be used
        ("1", start.succeeded_at),  # as it was
        ("2", start.succeeded_at + 60),
    ):
        write(file, text)
        file.look()
        file.look()
        assert file.reload.succeeded_at == expected
        assert bool(file.reload.last_error) == (text == "x")


def test_a_file_replaced_by_rename_or_behind_a_link_is_seen(tmp_path: Path) -> None:
    # How Kubernetes swaps a Secret: a link to a folder is replaced.
    for name, text in (("a", "1"), ("b", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(text)
    (tmp_path / "data").symlink_to("a")
    file = WatchedFile(str(tmp_path / "data" / "f"), number)
    (tmp_path / "new").symlink_to("b")
    (tmp_path / "new").rename(tmp_path / "data")
    file.look()
    file.look()
    assert file.value == 2


def test_a_change_that_leaves_size_and_time_as_they_were_is_seen(file: WatchedFile[int]) -> None:
    moment = time.time_ns()
    os.utime(file.path, ns=(moment, moment))
    write(file, "7")
    os.utime(file.path, ns=(moment, moment))
    file.look()
    file.look()
    assert file.value == 7


@pytest.mark.parametrize("text", [None, "x"])
def test_a_command_does_not_start_with_a_missing_or_broken_file(tmp_path: Path, text: str | None) -> None:
    if text:
        (tmp_path / "f").write_text(text)
    with pytest.raises(SetupError):
        WatchedFile(str(tmp_path / "f"), number)


async def test_files_are_looked_at_in_the_background(file: WatchedFile[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "LOOK_EVERY_SECONDS", 0.001)
    write(file, "5")
    watching = asyncio.create_task(watch([file]))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while file.value != 5 and time.monotonic() < deadline:  # noqa: ASYNC110 - a file tells nobody that it changed
        await asyncio.sleep(0.001)
    assert file.value == 5
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_a_look_that_hangs_is_a_fault_and_holds_up_no_other_file(
    file: WatchedFile[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "LOOK_EVERY_SECONDS", 0.001)
    monkeypatch.setattr(watched, "LOOK_SECONDS", 0.05)
    (tmp_path / "other").write_text("1")
    other = await asyncio.to_thread(WatchedFile, str(tmp_path / "other"), number)
    there_again = threading.Event()

    def hang(*arguments: Any, **options: Any) -> bytes:
        if arguments[0] == file.path:
            there_again.wait(30)
        return read_regular(*arguments, **options)

    monkeypatch.setattr(watched, "read_regular", hang)
    write(file, "2")
    write(other, "2")
    async with running(watch([file, other])):
        await eventually("the other file to be taken", lambda: other.value == 2)
        await eventually("the fault", lambda: file.last_error)
        assert "could not be read within" in str(file.last_error)
        assert other.last_error is None
        there_again.set()
        await eventually("the file to be taken", lambda: (file.value, file.last_error) == (2, None))


async def test_a_defect_in_reading_one_content_does_not_end_the_watch(
    file: WatchedFile[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "LOOK_EVERY_SECONDS", 0.001)
    parse = file._parse
    monkeypatch.setattr(file, "_parse", lambda data: parse(data) // (parse(data) - 2))
    write(file, "2")
    async with running(watch([file])):
        await eventually("the fault", lambda: file.last_error)
        write(file, "3")
        await eventually("the file to be taken", lambda: (file.value, file.last_error) == (3, None))
