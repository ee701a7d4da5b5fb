"""Files of credentials are regular files that not everybody may write; nothing else is waited for."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from dagferry_core.errors import SetupError
from dagferry_runtime.regular import read_regular
from dagferry_server.auth.fetch import FetchFailed, credentials
from dagferry_server.auth.issuers import KeySource
from dagferry_server.http.tls import watched_certificate
from issuer import make_certificate


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


KINDS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "folder": os.mkdir,
    "socket": a_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path / "f")
    with pytest.raises(SetupError, match=f"{tmp_path}/f (is not a regular file|cannot be read)"):
        read_regular(str(tmp_path / "f"), 10)


def test_a_file_of_the_most_bytes_is_read_and_a_longer_one_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 10)
    assert read_regular(str(tmp_path / "f"), 10) == b"x" * 10
    with pytest.raises(SetupError, match="larger than 9 bytes"):
        read_regular(str(tmp_path / "f"), 9)


@pytest.mark.parametrize(
    ("mode", "fine"), [(0o600, True), (0o664, True), (0o440, True), (0o602, False), (0o666, False)]
)
def test_a_guarded_file_that_everybody_may_write_is_refused(tmp_path: Path, mode: int, fine: bool) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    path.chmod(mode)
    assert read_regular(str(path), 10) == b"x"
    if fine:
        assert read_regular(str(path), 10, guarded=True) == b"x"
    else:
        with pytest.raises(SetupError, match="every user of this machine") as caught:
            read_regular(str(path), 10, guarded=True)
        assert caught.value.hint == f"Run: chmod o-w {path}"


@pytest.mark.parametrize("name", ["ca_file", "bearer_token_file"])
def test_what_a_fetch_needs_is_not_waited_for_either(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "f")
    source = KeySource(**{**dict.fromkeys(KeySource._fields), name: str(tmp_path / "f")})
    with pytest.raises(FetchFailed, match="is not a regular file"):
        credentials(source)


@pytest.mark.parametrize("name", ["tls.crt", "tls.key"])
def test_nor_are_a_certificate_and_its_key(tmp_path: Path, name: str) -> None:
    certificate, key = make_certificate(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(SetupError, match=f"{tmp_path}/{name} is not a regular file"):
        watched_certificate(certificate, key)
