"""A CA that somebody named is trusted also where it lacks what Python 3.13 asks of one; nothing else gets easier."""

import socket
import ssl
import threading
from pathlib import Path

import pytest

from authorities import make_plain_authority, strict_as_from_python_3_13
from dagferry_follow.remote.connection import tls_context


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    strict_as_from_python_3_13(monkeypatch)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1") -> None:
    """Let a client with ``client`` meet a server with ``server`` that it takes for ``name``."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()  # the client did not believe it

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(ours, server_hostname=name).close()
    finally:
        ours.close()
        thread.join(10)


def test_a_cluster_s_ca_without_key_usage_and_key_identifiers_is_trusted(tmp_path: Path) -> None:
    ca_file, server = make_plain_authority(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, ssl.create_default_context(cafile=ca_file))  # what this is about
    shake_hands(server, tls_context(ca_file))


def test_another_ca_and_another_name_are_not(tmp_path: Path) -> None:
    ca_file, server = make_plain_authority(tmp_path)
    other, _ = make_plain_authority(tmp_path, "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, tls_context(other))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"127\.0\.0\.2"):
        shake_hands(server, tls_context(ca_file), "127.0.0.2")


def test_the_machine_s_own_cas_are_held_to_what_python_asks() -> None:
    assert tls_context(None).verify_flags & ssl.VERIFY_X509_STRICT
