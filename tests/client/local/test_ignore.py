"""What is left out of a deploy: the defaults, and what .dagferryignore says in the syntax of .gitignore."""

import subprocess
from pathlib import Path

import pytest

from dagferry_client.local.errors import IgnoreFileInvalid
from dagferry_client.local.folder import find_dags_folder
from dagferry_client.local.ignore import EXCLUDED_BY_DEFAULT, MAX_IGNORE_FILE_BYTES, Ignore
from dagferry_core.archive.paths import DEFAULT_EXCLUDES
from localtrees import contents, write

A = {"a.py": b"a = 1\n"}


def rules(folder: Path, dags: bytes = b"", project: bytes = b"") -> Ignore:
    write(folder, {"dags/.dagferryignore": dags, ".dagferryignore": project})
    return Ignore(find_dags_folder(str(folder / "dags")))


@pytest.mark.parametrize(
    "path",
    [
        *(".git/config", "sub/.git/config", "__pycache__/a.pyc", "a.pyc", "._a.py", ".DS_Store", "sub/Thumbs.db"),
        *(".venv/bin/python", "node_modules/x.js", ".mypy_cache/x", ".ruff_cache/x", ".pytest_cache/x", ".tox/x"),
        *(".idea/x.xml", ".vscode/s.json", ".ipynb_checkpoints/x", ".dagferryignore"),
    ],
)
def test_what_no_pod_needs_is_left_out(tmp_path: Path, path: str) -> None:
    write(tmp_path / "dags", {**A, path: b""})
    assert contents(tmp_path / "dags") == A


def test_the_defaults_have_all_that_a_server_excludes_by_default() -> None:
    assert set(DEFAULT_EXCLUDES) <= set(EXCLUDED_BY_DEFAULT)


def test_a_virtual_environment_is_left_out_whatever_its_name(tmp_path: Path) -> None:
    write(tmp_path / "dags", {**A, "myenv/pyvenv.cfg": b"", "myenv/lib/x.py": b""})
    assert contents(tmp_path / "dags") == A


@pytest.mark.parametrize("path", [".airflowignore", "venv/a.py", "build/a.py", ".env", "data/x.csv", "a.git/x", "pyc"])
def test_nothing_else_is_left_out(tmp_path: Path, path: str) -> None:
    write(tmp_path / "dags", {path: b"x"})
    assert contents(tmp_path / "dags") == {path: b"x"}


def test_paths_are_relative_to_the_file_that_has_the_pattern(tmp_path: Path) -> None:
    found = rules(tmp_path, dags=b"/one.md\n", project=b"/dags/two.md\n/one.txt\n")
    assert found.ignores("one.md", folder=False)
    assert found.ignores("two.md", folder=False)
    assert not found.ignores("one.txt", folder=False)
    assert not found.ignores("sub/one.md", folder=False)


def test_the_file_in_the_dags_folder_overrules_that_of_the_project(tmp_path: Path) -> None:
    found = rules(tmp_path, dags=b"!keep.md\n", project=b"*.md\n")
    assert found.ignores("a.md", folder=False)
    assert not found.ignores("keep.md", folder=False)


def test_an_exclamation_mark_keeps_what_the_defaults_leave_out(tmp_path: Path) -> None:
    assert not rules(tmp_path, dags=b"!.vscode/\n").ignores(".vscode", folder=True)


def test_a_pattern_with_a_slash_behind_is_for_folders(tmp_path: Path) -> None:
    found = rules(tmp_path, dags=b"tests/\n")
    assert found.ignores("a/tests", folder=True)
    assert not found.ignores("a/tests", folder=False)


def test_a_link_to_a_folder_counts_as_a_folder(tmp_path: Path) -> None:
    write(tmp_path, {"dags/a.py": b"a = 1\n", "dags/.dagferryignore": b"tests/\n", "elsewhere/t.py": b""})
    (tmp_path / "dags" / "tests").symlink_to("../elsewhere")
    assert contents(tmp_path / "dags") == A


def test_a_link_that_is_left_out_may_lead_anywhere(tmp_path: Path) -> None:
    write(tmp_path, {"dags/a.py": b"a = 1\n", "dags/.dagferryignore": b"out/\nnowhere/\n"})
    (tmp_path / "dags" / "out").symlink_to("/etc")
    (tmp_path / "dags" / "nowhere").symlink_to("gone")
    assert contents(tmp_path / "dags") == A


def test_a_dags_folder_that_is_a_virtual_environment_itself_is_deployed(tmp_path: Path) -> None:
    write(tmp_path / "dags", {**A, "pyvenv.cfg": b""})
    assert contents(tmp_path / "dags") == {**A, "pyvenv.cfg": b""}


def test_nothing_below_a_folder_that_is_left_out_can_be_kept(tmp_path: Path) -> None:
    write(tmp_path, {"dags/a.py": b"a = 1\n", "dags/x/keep.py": b"", "dags/.dagferryignore": b"x/\n!x/keep.py\n"})
    assert contents(tmp_path / "dags") == A


PATTERNS = b"""# a comment
*.md
!README.md
/only-top.txt
docs/**/draft
build/
\\#hash
with\\ space
a[0-9].sql
**/deep/*.json
?.yaml
"""
PATHS = [
    *("x.md", "README.md", "sub/README.md", "only-top.txt", "sub/only-top.txt", "docs/draft", "docs/a/b/draft"),
    *("build/x", "sub/build/x", "build2/x", "#hash", "with space", "a1.sql", "ab.sql", "deep/x.json", "q/deep/x.json"),
    *("deep/q/x.json", "z.yaml", "zz.yaml", "sub/z.yaml", "caf\xe9.md", "plain.py"),
]


def test_git_ignores_the_same_paths(tmp_path: Path) -> None:
    write(tmp_path / "dags", dict.fromkeys(PATHS, b"x"))
    (tmp_path / "dags" / ".dagferryignore").write_bytes(PATTERNS)
    (tmp_path / "dags" / ".gitignore").write_bytes(PATTERNS)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "dags", check=True)
    listed = ["git", "ls-files", "-z", "--others", "--exclude-standard"]
    known = subprocess.run(listed, cwd=tmp_path / "dags", check=True, capture_output=True).stdout.decode()
    kept = set(known.rstrip("\0").split("\0")) - {".dagferryignore"}
    assert contents(tmp_path / "dags").keys() == kept
    assert 0 < len(kept & set(PATHS)) < len(PATHS)


def test_windows_lines_and_a_byte_order_mark_are_no_part_of_a_pattern(tmp_path: Path) -> None:
    found = rules(tmp_path, dags=b"\xef\xbb\xbf*.md\r\n*.txt\r\n")
    assert found.ignores("a.md", folder=False)
    assert found.ignores("a.txt", folder=False)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"*.md\n[z-a]\n", r"Line 2 of '.*dags/.dagferryignore' is not a pattern: '\[z-a\]'"),
        (b"!\n", "Line 1 of"),
        (b"\xff\xfe*\0", "is not UTF-8"),
        (b"x" * (MAX_IGNORE_FILE_BYTES + 1), f"more than {MAX_IGNORE_FILE_BYTES} bytes"),
    ],
)
def test_a_file_that_cannot_be_understood_is_an_error(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(IgnoreFileInvalid, match=said):
        rules(tmp_path, dags=data)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "dags", A)
    (tmp_path / "dags" / ".dagferryignore").mkdir()
    with pytest.raises(IgnoreFileInvalid, match="cannot be read: Is a directory"):
        Ignore(find_dags_folder(str(tmp_path / "dags")))
