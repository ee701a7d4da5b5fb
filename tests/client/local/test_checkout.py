"""What the files of a checkout on Windows do not show is known from Git, so that the bundle is the same."""

import ntpath
import subprocess
from pathlib import Path

import pytest

from dagferry_client.local.checkout import (
    LINE_ENDS,
    MAX_CRLF_FILES,
    Checkout,
    line_end_warnings,
    parse_config,
    parse_index,
    read_checkout,
)
from localtrees import packed, read, write


def run(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    folder = write(tmp_path / "repository" / "dags", {"a.py": b"a = 1\n", "caf\xe9/run.sh": b"#!/bin/sh\n"})
    (folder / "caf\xe9/run.sh").chmod(0o755)
    write(folder.parent / "include", {"x.py": b"x"})
    (folder / "include").symlink_to("../include")
    run(folder.parent, "init", "-q")
    run(folder.parent, "add", ".")
    return folder


def as_on_windows(dags: Path) -> None:
    """Make the files what ``git clone`` makes on Windows: no modes, and links as files."""
    run(dags, "config", "core.fileMode", "false")
    run(dags, "config", "core.symlinks", "false")
    (dags / "include").unlink()
    (dags / "include").write_text("../include")
    (dags / "caf\xe9/run.sh").chmod(0o644)
    (dags / "a.py").chmod(0o777)


def test_an_ordinary_checkout_and_none_at_all_show_everything(dags: Path, tmp_path: Path) -> None:
    assert read_checkout(str(dags)) == Checkout()
    assert read_checkout(str(tmp_path)) == Checkout()


def test_the_bundle_from_windows_is_that_from_linux(dags: Path) -> None:
    before = read(dags)
    as_on_windows(dags)
    after = read(dags)
    assert sorted(after.manifest.files) == ["a.py", "caf\xe9/run.sh", "include/x.py"]
    assert after.manifest.digest == before.manifest.digest
    assert packed(after) == packed(before)


def test_on_windows_modes_come_from_the_index_whatever_the_configuration(dags: Path) -> None:
    assert read_checkout(str(dags), windows=True).executable == {str(dags / "caf\xe9/run.sh")}
    assert read_checkout(str(dags), windows=True).links == frozenset()


def test_on_windows_without_a_checkout_no_file_is_executable(tmp_path: Path) -> None:
    assert read_checkout(str(tmp_path), windows=True) == Checkout(executable=frozenset())


def test_without_git_a_checkout_on_windows_is_like_a_folder(dags: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_checkout(str(dags), windows=True) == Checkout(executable=frozenset())
    assert read_checkout(str(dags)) == Checkout()


def test_an_index_that_cannot_be_read_is_empty(dags: Path) -> None:
    as_on_windows(dags)
    (dags.parent / ".git" / "index").write_bytes(b"broken")
    assert read_checkout(str(dags)) == Checkout(executable=frozenset())


def test_paths_of_the_index_are_joined_as_the_system_does() -> None:
    output = b"100755 1a 0\tdags/run.sh\x00120000 1a 0\tdags/sub/link\x00100644 1a 0\ta\tb.py\0"
    executable, links = parse_index(output, "C:\\work", ntpath.join)
    assert executable == {"C:\\work\\dags\\run.sh"}
    assert links == {"C:\\work\\dags\\sub\\link"}


def test_the_last_value_of_a_setting_counts() -> None:
    assert parse_config(b"core.filemode\ntrue\0core.autocrlf\nINPUT\0core.filemode\nfalse\0") == {
        "filemode": "false",
        "autocrlf": "input",
    }
    assert parse_config(b"core.filemode\0") == {"filemode": ""}


def test_line_ends_of_windows_are_a_warning_if_git_made_them(dags: Path) -> None:
    assert read(dags).warnings == []
    run(dags, "config", "core.autocrlf", "true")
    assert read(dags).warnings == []
    (dags / "a.py").write_bytes(b"a = 1\r\n")
    assert read(dags).warnings == [LINE_ENDS]
    run(dags, "config", "core.autocrlf", "input")
    assert read(dags).warnings == []


def test_only_some_files_are_looked_at_for_line_ends(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": b"a\n", "z.py": b"z\r\n"})
    lf, crlf = str(tmp_path / "a.py"), str(tmp_path / "z.py")
    assert line_end_warnings([str(tmp_path / "gone"), *[lf] * (MAX_CRLF_FILES - 2), crlf]) == [LINE_ENDS]
    assert line_end_warnings([*[lf] * MAX_CRLF_FILES, crlf]) == []
