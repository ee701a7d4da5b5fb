"""The forwarding proxy: believed for its secret alone, and for nothing without it."""

from pathlib import Path

import pytest
from multidict import CIMultiDict

from dagferry_core.errors import SetupError
from dagferry_server.auth.access import Grant
from dagferry_server.auth.proxy import MIN_SECRET_BYTES, PROXY_SECRET_HEADER, Proxy, parse_secret, proxy_caller
from dagferry_server.auth.tokens import User
from dagferry_server.config.watched import WatchedFile
from dagferry_server.errors import CredentialsRefused

SECRET = "p" * MIN_SECRET_BYTES
READ, DEPLOY = Grant(frozenset({"read"}), ("*",)), Grant(frozenset({"deploy"}), ("prod",))
USERS = (User("*@example.com", READ), User("ann@example.com", DEPLOY))
GOOD = {PROXY_SECRET_HEADER: SECRET, "X-User": "ann@example.com", "Host": "dagferry.example.com"}


@pytest.fixture
def proxy(tmp_path: Path) -> Proxy:
    (tmp_path / "secret").write_text(SECRET + "\n")
    return Proxy("X-User", WatchedFile(str(tmp_path / "secret"), parse_secret))


def test_a_name_gets_what_the_tokens_file_lists(proxy: Proxy) -> None:
    ann = proxy_caller(proxy, USERS, CIMultiDict(GOOD))
    assert ann == ("proxy:ann@example.com", (READ, DEPLOY), None, True, None)
    bob = proxy_caller(proxy, USERS, CIMultiDict({**GOOD, "X-User": "bob@example.com"}))
    assert bob == ("proxy:bob@example.com", (READ,), None, True, None)


def test_a_name_that_no_entry_knows_gets_nothing(proxy: Proxy) -> None:
    assert proxy_caller(proxy, USERS, CIMultiDict({**GOOD, "X-User": "eve@evil.example"})) == (
        "proxy:eve@evil.example",
        (),
        None,
        True,
        None,
    )


def test_a_name_without_the_secret_counts_for_nothing(proxy: Proxy) -> None:
    assert proxy_caller(proxy, USERS, CIMultiDict({"X-User": "ann@example.com"})) is None


@pytest.mark.parametrize(
    "changes",
    [
        [(PROXY_SECRET_HEADER, "")],
        [(PROXY_SECRET_HEADER, SECRET[:-1])],
        [(PROXY_SECRET_HEADER, SECRET + "p")],
        [(PROXY_SECRET_HEADER, "\udcff")],
        [(PROXY_SECRET_HEADER, SECRET), (PROXY_SECRET_HEADER, SECRET)],
        [("X-User", "")],
        [("X-User", "ann@example.com"), ("X-User", "bob@example.com")],
        [("X-User", "ann@example.com\udcff")],
        [("X-User", "a" * 257)],
        [("X-User", "{http.reverse_proxy.header.X-Auth-Request-User}")],
    ],
)
def test_a_wrong_secret_or_an_unclear_name_is_refused(proxy: Proxy, changes: list[tuple[str, str]]) -> None:
    headers = CIMultiDict({name: value for name, value in GOOD.items() if name != changes[0][0]})
    headers.extend(changes)
    with pytest.raises(CredentialsRefused) as caught:
        proxy_caller(proxy, USERS, headers)
    assert SECRET not in caught.value.message


def test_a_missing_name_is_refused(proxy: Proxy) -> None:
    with pytest.raises(CredentialsRefused, match="exactly one user name"):
        proxy_caller(proxy, USERS, CIMultiDict({PROXY_SECRET_HEADER: SECRET}))


@pytest.mark.parametrize("short", [b"", b"\n", b"x" * (MIN_SECRET_BYTES - 1) + b"\n"])
def test_a_secret_that_could_be_guessed_is_refused(short: bytes) -> None:
    with pytest.raises(SetupError, match="at least 32"):
        parse_secret(short)
