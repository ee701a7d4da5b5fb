"""The certificate: read with its key, and again when both are renewed."""

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dagferry_core.errors import SetupError
from dagferry_server.http.tls import watched_certificate
from issuer import make_certificate


def test_what_cannot_be_used_ends_the_command_with_an_explanation(tmp_path) -> None:
    certificate, key = make_certificate(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, other_key = make_certificate(other)
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    (tmp_path / "locked").write_bytes(locked)
    (tmp_path / "junk").write_text("junk")
    for bad_certificate, bad_key, why in (
        (certificate, other_key, "MISMATCH"),
        (certificate, str(tmp_path / "none"), "No such file"),
        (str(tmp_path / "none"), key, "cannot be read"),
        (certificate, str(tmp_path / "locked"), "encrypted"),
        (certificate, str(tmp_path / "junk"), "cannot be used"),
        (str(tmp_path / "junk"), key, "cannot be used"),
    ):
        with pytest.raises(SetupError, match=why):
            watched_certificate(bad_certificate, bad_key)


@pytest.mark.parametrize("days", [[1, 9], [9, 1]], ids=str)
def test_it_expires_with_the_first_certificate_of_its_chain(tmp_path, days) -> None:
    chain = []
    for number in days:
        certificate, key = make_certificate(tmp_path, days=number)
        chain.insert(0, Path(certificate).read_bytes())
    Path(certificate).write_bytes(b"".join(chain))
    left = watched_certificate(certificate, key).value.expires - time.time()
    assert 22.9 < left / 3600 <= 23  # they began an hour ago


def test_a_renewed_pair_is_taken_and_a_broken_one_is_not(tmp_path) -> None:
    certificate, key = make_certificate(tmp_path)
    watched = watched_certificate(certificate, key)
    first = watched.value
    (tmp_path / "tls.crt").write_text("half")
    watched.look()
    watched.look()
    assert watched.value is first
    assert watched.last_error
    make_certificate(tmp_path)
    watched.look()
    watched.look()
    assert watched.value is not first
    assert watched.last_error is None
