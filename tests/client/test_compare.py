"""The contents of two files are compared as text, line by line, so that git can apply the result."""

import subprocess

import pytest

from dagferry_client.compare import (
    BINARY,
    LARGE,
    MAX_COMPARED_BYTES,
    MAX_COMPARED_LINES,
    Difference,
    FileState,
    compare,
)

TEXT = FileState(4, 0o644, "ab" * 32)
CHANGED = Difference("a.py", TEXT, TEXT._replace(sha256="cd" * 32))


def test_a_difference_says_what_happened() -> None:
    assert CHANGED.status == "changed"
    assert Difference("a.py", None, TEXT).status == "added"
    assert Difference("a.py", TEXT, None).status == "removed"


def test_a_file_whose_mode_alone_differs_has_the_same_content() -> None:
    assert Difference("a.py", TEXT, TEXT._replace(mode=0o755)).same_content
    assert not CHANGED.same_content
    assert not Difference("a.py", TEXT, None).same_content


@pytest.mark.parametrize("side", ["old", "new"])
def test_a_file_is_large_if_one_side_is(side) -> None:
    assert not CHANGED._replace(**{side: TEXT._replace(size=MAX_COMPARED_BYTES)}).is_large
    assert CHANGED._replace(**{side: TEXT._replace(size=MAX_COMPARED_BYTES + 1)}).is_large


def test_lines_that_differ_are_shown() -> None:
    assert compare(CHANGED, b"a\nb\n", b"a\nc\n").lines == [
        "--- a/a.py",
        "+++ b/a.py",
        "@@ -1,2 +1,2 @@",
        " a",
        "-b",
        "+c",
    ]


def test_a_new_and_a_removed_file_are_compared_with_nothing() -> None:
    assert compare(CHANGED._replace(old=None), b"", b"a\n").lines[:2] == ["--- /dev/null", "+++ b/a.py"]
    assert compare(CHANGED._replace(new=None), b"a\n", b"").lines[:2] == ["--- a/a.py", "+++ /dev/null"]


@pytest.mark.parametrize("content", [b"a\0b", b"\xff\xfe", b"caf\xe9"])
def test_what_is_no_text_is_not_compared(content) -> None:
    assert compare(CHANGED, b"a", content) == ([], BINARY)
    assert compare(CHANGED, content, b"a") == ([], BINARY)


def test_too_many_lines_are_not_compared() -> None:
    assert compare(CHANGED, b"a\n" * (MAX_COMPARED_LINES + 1), b"a") == ([], LARGE)
    assert compare(CHANGED, b"a\n" * MAX_COMPARED_LINES, b"a").lines


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"a\nb\n", b"a\nb"),
        (b"a\nb", b"a\nb\n"),
        (b"a", b"b"),
        (b"a\r\nb\r\n", b"a\r\nc\r\n"),
        (b"", b"x"),
        (b"tab\there\n", b"tab\tthere\n"),
        ("é\u2028x\x0cy\x85z\n".encode(), "é\u2028x\x0cy\x85Z\n".encode()),
        (b"\n\n\n", b"\n\n"),
        (b"-- a\n++ b\n", b"++ b\n-- a\n"),
    ],
)
def test_git_applies_the_result(tmp_path, old, new) -> None:
    (tmp_path / "a.py").write_bytes(old)
    lines = compare(CHANGED, old, new).lines
    patch = "diff --git a/a.py b/a.py\n" + "".join(f"{line}\n" for line in lines)
    subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], cwd=tmp_path, input=patch.encode(), check=True)
    assert (tmp_path / "a.py").read_bytes() == new
