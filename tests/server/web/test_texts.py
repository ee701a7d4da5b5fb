"""Facts are written as people write them, and no text of others looks like something else."""

import pytest
from markupsafe import Markup

from dagferry_core.deploylog import Deploy
from dagferry_server.web.texts import (
    ago,
    count,
    has_hidden,
    path_url,
    shown,
    shown_deploy,
    size,
    span,
    time_tag,
    utc,
    web_address,
)

DEPLOY = Deploy(7, "20261120T064501Z-000007", "sha256:" + "0" * 64, "upload", "Fix", "token:ci", 1, 1, 2, 3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "just now"), (0.4, "just now"), (1, "1 s ago"), (59, "59 s ago"), (60, "1 min ago"), (7200, "2 h ago"),
     (86400, "1 day ago"), (86400 * 45, "1 month ago"), (86400 * 800, "2 years ago")],
)  # fmt: skip
def test_how_long_ago_is_said_in_the_largest_unit(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_a_duration_is_said_without_ago() -> None:
    assert (span(61), span(0.2)) == ("1 min", "0 s")


def test_a_time_has_its_exact_value_beside_it() -> None:
    assert time_tag(1_795_157_182, 1_795_157_190) == Markup(
        '<time datetime="2026-11-20T06:46:22Z" title="2026-11-20T06:46:22Z">8 s ago</time>'
    )
    assert utc(1_795_157_182) == "20 Nov 2026, 06:46 UTC"
    assert utc(1_793_515_582) == "1 Nov 2026, 06:46 UTC"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (1536, "1.5 KiB"), (15 << 20, "15 MiB"), (1 << 30, "1 GiB"),
     (1 << 44, "16384 GiB")],
)  # fmt: skip
def test_sizes_are_in_the_largest_unit(number: int, text: str) -> None:
    assert size(number) == text


def test_a_number_has_the_noun_that_fits() -> None:
    assert (count(1, "pod"), count(2, "pod"), count(1000, "reply", "replies")) == ("1 pod", "2 pods", "1,000 replies")


@pytest.mark.parametrize(
    "character", ["\u202e", "\u2066", "\u200b", "\x1b", "\x00", "\u2028", "\ufeff", "\U000e0041", "\ud800"]
)
def test_what_cannot_be_seen_is_shown_as_its_number(character: str) -> None:
    text = f"a{character}b"
    assert has_hidden(text)
    assert shown(text) == f"a⟨U+{ord(character):04X}⟩b"


def test_letters_of_all_scripts_and_emoji_stay() -> None:
    text = "größer שלום 日本 🚢\tif a < b:\n"
    assert shown(text) == text
    assert not has_hidden(text)


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//evil.example", "https://", "http://[", "https://a@b/", "x",
            "JaVaScRiPt://x/%0aalert(1)", "https://a/\u202ex", "vbscript:x", "file:///etc/passwd"],
)  # fmt: skip
def test_only_addresses_of_the_web_become_links(url: str) -> None:
    assert web_address(url) == ""


def test_an_address_of_the_web_becomes_a_link() -> None:
    assert web_address("https://github.com/a/b/commit/1?x=1#y") == "https://github.com/a/b/commit/1?x=1#y"


def test_the_path_of_a_file_keeps_its_slashes_only() -> None:
    assert path_url("a b/c%#?.py") == "a%20b/c%25%23%3F.py"


def test_a_deploy_is_shown_with_its_source_and_what_was_unusual() -> None:
    git = {"commit": "0123456789abcdef", "branch": "main\u202e", "author": "Ann", "url": "javascript:1"}
    deploy = DEPLOY._replace(
        kind="rollback", source="20261120T064501Z-000004", flags=["override_freeze", "new"], git=git
    )
    seen = shown_deploy(deploy, warnings=2, is_current=True)
    assert (seen.source, seen.marks) == ("rollback to #4", ["freeze overridden", "new"])
    assert (seen.commit, seen.branch, seen.url) == ("0123456789", "main⟨U+202E⟩", "")
    promoted = shown_deploy(DEPLOY._replace(kind="promote", source="staging@v"), warnings=None, is_current=False)
    assert promoted.source == "promoted from staging@v"
    assert shown_deploy(DEPLOY._replace(kind="rollback", source="?"), warnings=0, is_current=False).source == "rollback"
