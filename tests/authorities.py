"""Certificate authorities as clusters have them, and what Python 3.13 thinks of them."""

import ipaddress
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def strict_as_from_python_3_13(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``ssl.create_default_context`` check certificates as it does from Python 3.13 on, on any Python."""
    make = ssl.create_default_context

    def strict(*arguments: object, **options: object) -> ssl.SSLContext:
        context = make(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)


def make_plain_authority(folder: Path, name: str = "cluster") -> tuple[str, ssl.SSLContext]:
    """The path of a CA without key usage and key identifiers, as plain openssl makes it, and a server's context by it.

    The server's certificate is for 127.0.0.1.
    """
    return _make_authority(folder, name, strict=False)


def make_strict_authority(folder: Path, name: str = "strict") -> str:
    """The path of a CA that Python 3.13 accepts also among the machine's own; ``NAME.pem`` is the server's."""
    return _make_authority(folder, name, strict=True)[0]


def _make_authority(folder: Path, name: str, *, strict: bool) -> tuple[str, ssl.SSLContext]:
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    is_ca = x509.BasicConstraints(ca=True, path_length=None)
    ca = _certificate(ca_name, ca_name, ca_key, ca_key, is_ca, strict=strict)
    leaf = _certificate(x509.Name([]), ca_name, key, ca_key, address, strict=strict)
    (folder / f"{name}-ca.crt").write_bytes(ca.public_bytes(PEM))
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.pem").write_bytes(private + leaf.public_bytes(PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem")
    return str(folder / f"{name}-ca.crt"), context


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signed_by: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
    *,
    strict: bool,
) -> x509.Certificate:
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(extension, critical=True)
    )
    if strict:
        issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key())
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(issued_by, critical=False).add_extension(own, critical=False)
        if isinstance(extension, x509.BasicConstraints):
            builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
    return builder.sign(signed_by, hashes.SHA256())
