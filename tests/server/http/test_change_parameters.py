"""What an upload says about the tree: unclear or unsafe is refused, before a byte of it is read."""

import json

import pytest

from dagferry_core.protocol import MAX_REMOVED_BYTES
from dagferry_server.deploys.request import Change
from dagferry_server.errors import RequestError
from dagferry_server.http.change_parameters import (
    change_of,
    parse_removed,
    parse_under,
    refuse_excluded,
    under_of,
    with_removed,
)

VERSION = "20261120T064501Z-000042"
DIGEST = "sha256:" + "0" * 64


def test_a_folder_is_named_with_or_without_a_slash() -> None:
    assert [parse_under(text) for text in ("team-a", "team-a/", "./a/b")] == ["team-a/", "team-a/", "a/b/"]
    assert under_of({"under": "team-a"}) == "team-a/"
    assert under_of({}) == ""


@pytest.mark.parametrize("text", ["", "/", ".", "./", "..", "../", "/etc", "a/../b", "a//b", "a\\b", "a\n", "\udcff"])
def test_what_cannot_be_a_folder_is_refused(text: str) -> None:
    for parse in (parse_under, lambda text: under_of({"under": text})):
        with pytest.raises(RequestError, match="under"):
            parse(text)


def test_of_a_long_folder_the_error_shows_a_part() -> None:
    with pytest.raises(RequestError) as error:
        parse_under("x" * 10_000)
    assert len(error.value.message) < 500


def test_a_change_names_its_base_and_the_digest_that_must_come_out() -> None:
    assert change_of({"base": VERSION, "digest": DIGEST, "under": "a"}) == Change(VERSION, DIGEST)
    assert change_of({"root": ".", "description": "x"}) is None


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ({"base": VERSION}, "belong together"),
        ({"digest": DIGEST}, "belong together"),
        ({"base": VERSION, "digest": ""}, "digest=''"),
        ({"base": VERSION, "digest": DIGEST.upper()}, "digest='SHA256"),
        ({"base": VERSION, "digest": DIGEST[7:]}, "hexadecimal"),
        ({"base": "", "digest": DIGEST}, "base: '' is not a valid version"),
        ({"base": "current", "digest": DIGEST}, "base: 'current' is not a valid version"),
        ({"base": VERSION, "digest": DIGEST, "root": "dags"}, "root is for complete uploads"),
    ],
)
def test_half_a_change_is_refused(query: dict[str, str], why: str) -> None:
    with pytest.raises(RequestError) as error:
        change_of(query)
    assert why in error.value.message


def test_removed_paths_are_a_list() -> None:
    assert parse_removed(b'["a.py", "\\u00e4/b.py"]') == ("a.py", "ä/b.py")
    assert parse_removed("[]".encode("utf-16")) == ()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"a.py",
        b"[",
        b'{"a.py": 1}',
        b'"a.py"',
        b"[1]",
        b"[null]",
        b'[["a.py"]]',
        b"\xff",
        b"[" * 40_000,
        b'["a"]["b"]',
    ],
)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(RequestError, match="removed"):
        parse_removed(text)


def test_a_path_that_is_removed_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="twice"):
        parse_removed(json.dumps(["a", "b", "a"]).encode())


def test_removed_paths_belong_to_a_change() -> None:
    change = Change(VERSION, DIGEST)
    assert with_removed(change, None) == change
    assert with_removed(change, b'["a.py"]') == change._replace(removed=("a.py",))
    assert with_removed(None, None) is None
    with pytest.raises(RequestError, match="for an upload with base"):
        with_removed(None, b"[]")


def test_a_list_of_removed_paths_that_is_too_long_is_refused_with_a_way_out() -> None:
    with pytest.raises(RequestError, match="49,152 bytes") as error:
        parse_removed(json.dumps(["x" * MAX_REMOVED_BYTES]).encode())
    assert "complete tree" in error.value.hint


def test_a_folder_that_exclude_rules_match_is_refused() -> None:
    for under in ("", "team-a/", "git/"):
        refuse_excluded(under, (".git/", "*.pyc"))
    for under in (".git/", "team-a/.git/", ".git/x/", "a.pyc/"):
        with pytest.raises(RequestError, match="excludes"):
            refuse_excluded(under, (".git/", "*.pyc"))
