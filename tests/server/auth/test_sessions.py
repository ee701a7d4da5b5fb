"""A cookie counts until it ends, and only if it was signed with this key; so do the words of forms."""

from pathlib import Path

import pytest

from dagferry_core.errors import SetupError
from dagferry_server.auth.sessions import Sessions, parse_key
from dagferry_server.config.watched import WatchedFile

SHA256 = bytes(range(32))


def sessions(folder: Path, key: str) -> Sessions:
    path = folder / key[:8]
    path.write_text(key)
    return Sessions(WatchedFile(str(path), parse_key))


def test_a_cookie_says_which_token_it_is_of_and_until_when() -> None:
    made = Sessions()
    read = made.read(made.new(SHA256, 2000), now=1999.9)
    assert read is not None
    assert (read.sha256, read.expires) == (SHA256, 2000)


def test_a_cookie_ends() -> None:
    made = Sessions()
    assert made.read(made.new(SHA256, 2000), now=2000) is None


@pytest.mark.parametrize("place", range(0, 138, 7))
def test_a_cookie_with_any_other_character_is_not_valid(place: int) -> None:
    made = Sessions()
    cookie = made.new(SHA256, 2000)
    assert len(cookie) == 2 + 64 + 1 + 4 + 1 + 64
    place = min(place, len(cookie) - 1)
    forged = cookie[:place] + ("0" if cookie[place] != "0" else "1") + cookie[place + 1 :]
    assert made.read(forged, now=0) is None


@pytest.mark.parametrize("cookie", ["", "1", "1.2.3", "é" * 64, "1." + "0" * 64 + ".99." + "0" * 64, "\udcff"])
def test_what_is_no_cookie_of_ours_is_not_valid(cookie: str) -> None:
    assert Sessions().read(cookie, now=0) is None


def test_servers_with_one_key_accept_each_others_cookies_and_forms(tmp_path) -> None:
    one, other = sessions(tmp_path, "k" * 32), sessions(tmp_path, "k" * 32)
    assert other.read(one.new(SHA256, 10), now=1) is not None
    assert other.is_form_word("ann", one.form_word("ann"))


def test_servers_with_other_keys_do_not(tmp_path) -> None:
    one, other = sessions(tmp_path, "a" * 32), sessions(tmp_path, "b" * 32)
    assert other.read(one.new(SHA256, 10), now=1) is None
    assert not other.is_form_word("ann", one.form_word("ann"))


def test_without_a_file_each_process_has_its_own_key() -> None:
    assert Sessions().read(Sessions().new(SHA256, 10), now=1) is None


def test_the_word_of_a_form_is_its_owners_only() -> None:
    made = Sessions()
    assert made.is_form_word("ann", made.form_word("ann"))
    for word in (made.form_word("bob"), made.form_word(""), "", "é", "\ud800", made.new(SHA256, 10)):
        assert not made.is_form_word("ann", word)


def test_no_cookie_is_the_word_of_a_form() -> None:
    made = Sessions()
    cookie = made.new(SHA256, 10)
    assert made.form_word(cookie.rpartition(".")[0]) != cookie.rpartition(".")[2]


def test_a_short_key_is_rejected_with_what_makes_one() -> None:
    with pytest.raises(SetupError, match="31 bytes; at least 32") as raised:
        parse_key(b"x" * 31 + b"\n")
    assert "openssl rand" in raised.value.hint
