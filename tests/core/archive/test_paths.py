"""Paths: what a bundle may have, what is left out, what collides."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import (
    DEFAULT_EXCLUDES,
    Excludes,
    case_collisions,
    check_length,
    check_path,
    check_prefix,
    quoted,
)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"a.py", "a.py"),
        (b"./a.py", "a.py"),
        (b"./dags/", "dags"),
        (b"dags/sub folder/a.py", "dags/sub folder/a.py"),
        (b".", ""),
        (b"./", ""),
        (b"...", "..."),
        (b"..a/.b", "..a/.b"),
        (b"~/a", "~/a"),
        (b"C:/a", "C:/a"),
        ("ünïcödé/日本.py".encode(), "ünïcödé/日本.py"),
        (b"x" * 255, "x" * 255),
        (("é" * 127).encode(), "é" * 127),
        (b"/".join([b"d"] * 64), "/".join(["d"] * 64)),
        (b"/".join([b"d" * 204] * 5), "/".join(["d" * 204] * 5)),
    ],
)
def test_a_valid_path_comes_out_as_the_bundle_has_it(raw, path):
    assert check_path(raw) == path


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b"/", "absolute"),
        (b"/etc/passwd", "absolute"),
        (b".//etc/passwd", "absolute"),
        (b"..", "component"),
        (b"../a", "component"),
        (b"./../a", "component"),
        (b"././a", "component"),
        (b"a/../b", "component"),
        (b"a/..", "component"),
        (b"a/./b", "component"),
        (b"a/.", "component"),
        (b"a//b", "component"),
        (b"a//", "component"),
        (b"a\\b", "backslash"),
        (b"a\0b", "control"),
        (b"a\nb", "control"),
        (b"a\x7fb", "control"),
        ("a\x85b".encode(), "control"),
        (b"caf\xe9", "UTF-8"),
        (b"\xed\xa0\x80", "UTF-8"),
        (b"\xc0\xafetc", "UTF-8"),
        (b"x" * 256, "255"),
        (("é" * 128).encode(), "255"),
        (b"/".join([b"d"] * 65), "64"),
        (b"/".join([b"d" * 204] * 4 + [b"d" * 205]), "1024"),
    ],
)
def test_an_invalid_path_is_refused_with_the_reason(raw, reason):
    with pytest.raises(PathRefused, match=reason):
        check_path(raw)


@given(st.binary(max_size=300) | st.text(max_size=80).map(lambda text: text.encode(errors="surrogatepass")))
def test_whatever_passes_is_safe_to_join_print_and_store(raw):
    try:
        path = check_path(raw)
    except PathRefused as error:
        refusal = error.message
    else:
        assert not path.startswith("/")
        assert not path or not {"", ".", ".."} & set(path.split("/"))
        assert path.encode() in {raw.removeprefix(b"./").removesuffix(b"/"), b""}
        refusal = path
    assert not any(unicodedata.category(character) == "Cc" for character in refusal)


@pytest.mark.parametrize("text", ["team-a", "team-a/", "./team-a", "./team-a/"])
def test_a_folder_is_named_by_the_start_of_the_paths_in_it(text):
    assert check_prefix(text) == "team-a/"


@pytest.mark.parametrize(
    "text", ["", ".", "./", "/", "/team-a", "..", "../", "a/../b", "a//", "a//b", "a\\b", "a\n", "\udcff", "x" * 256]
)
def test_what_is_no_folder_below_the_top_is_refused(text):
    with pytest.raises(PathRefused):
        check_prefix(text)


def test_a_path_that_a_link_makes_has_the_same_limits():
    check_length("/".join(["d"] * 64))
    with pytest.raises(PathRefused, match="deep"):
        check_length("/".join(["d"] * 65))


def test_a_message_shows_a_path_short_and_escaped():
    assert quoted(b"a\xff\n") == r"'a\\xff\n'"
    assert quoted("a\u202eb") == r"'a\u202eb'"
    assert len(quoted("x" * 5000)) < 130
    assert quoted("x" * 100 + "y" * 100).endswith("y'")


@pytest.mark.parametrize(
    ("path", "folder", "excluded"),
    [
        (".git", True, ".git"),
        (".git", False, None),
        (".git/config", False, ".git"),
        ("a/.git/objects/00", True, "a/.git"),
        ("a/__pycache__/b.cpython-311.pyc", False, "a/__pycache__"),
        ("a/b.pyc", False, "a/b.pyc"),
        ("a/b.pyc", True, "a/b.pyc"),
        ("a/b.pyc/c", False, "a/b.pyc"),
        ("._dags", False, "._dags"),
        ("dags/._a.py", False, "dags/._a.py"),
        ("dags/.DS_Store", False, "dags/.DS_Store"),
        ("dags/a.py", False, None),
        ("dags/.gitignore", False, None),
        ("dags/.airflowignore", False, None),
        ("DAGS/A.PYC", False, None),
    ],
)
def test_the_default_rules_leave_out_what_only_weighs(path, folder, excluded):
    assert Excludes(DEFAULT_EXCLUDES).excluded(path, folder=folder) == excluded


def test_without_rules_nothing_is_excluded():
    assert Excludes(()).excluded(".git/config", folder=False) is None
    assert Excludes(("only/",)).excluded("only", folder=False) is None


@pytest.mark.parametrize("pattern", ["", "/", "a/b", "/a", "a//", ".", "..", "./"])
def test_a_rule_that_could_never_match_is_refused(pattern):
    with pytest.raises(ValueError, match="not a valid exclude rule"):
        Excludes((pattern,))


@pytest.mark.parametrize(
    ("paths", "pairs"),
    [
        (["a.py", "b.py"], []),
        (["a.py", "A.py"], [("a.py", "A.py")]),
        (["x/a.py", "y/A.py"], []),
        (["x/a.py", "X/b.py"], [("x", "X")]),
        (["x/a.py", "X/A.py"], [("x", "X")]),
        (["caf\u00e9.py", "cafe\u0301.py"], [("caf\u00e9.py", "cafe\u0301.py")]),
        (["straße", "STRASSE"], [("straße", "STRASSE")]),
        (["a", "A", "á"], [("a", "A")]),
    ],
)
def test_names_that_collide_elsewhere_are_warned_of(paths, pairs):
    warnings = case_collisions(paths)
    assert len(warnings) == len(pairs)
    for warning, (one, other) in zip(warnings, pairs, strict=True):
        assert warning.startswith(f"{one!r} and {other!r} differ only in case or Unicode form")


def test_no_flood_of_warnings():
    assert len(case_collisions(f"{name}{number}" for number in range(50) for name in "aA")) == 20
