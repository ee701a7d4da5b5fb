"""The certificates of a cluster, and who trusts them."""

import ipaddress
import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=30)
_PEM = serialization.Encoding.PEM


def write_signing_key(path: Path) -> Path:
    """Write a key for service account tokens, and its public half beside it with the suffix ``.pub``."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write_key(path, key)
    public = key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)
    return path


class Authority:
    """A certificate authority as kubeadm makes it, in ``folder``: ``ca.crt``, and what it signs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.certificate = folder / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
        self.certificate.write_bytes(self._sign(self._name, self._key, is_authority=True).public_bytes(_PEM))

    def issue(
        self, name: str, user: str, group: str = "", addresses: Sequence[str] = (), hosts: Sequence[str] = ()
    ) -> tuple[Path, Path]:
        """Write ``name.crt`` and ``name.key`` for a user and their group, or for a server's addresses."""
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
        if group:
            subject.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        names += [x509.DNSName(host) for host in hosts]
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(x509.Name(subject), key, names)
        path = self.folder / f"{name}.crt"
        path.write_bytes(certificate.public_bytes(_PEM))
        _write_key(path.with_suffix(".key"), key)
        return path, path.with_suffix(".key")

    def kubeconfig(self, name: str, server: str, user: str, group: str = "") -> Path:
        """Write ``name.kubeconfig``, with which a program is this user at the API server of this URL."""
        certificate, key = self.issue(name, user, group)
        # JSON is YAML too.
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "dagferry", "cluster": {"server": server, "certificate-authority": str(self.certificate)}}
            ],
            "users": [{"name": name, "user": {"client-certificate": str(certificate), "client-key": str(key)}}],
            "contexts": [{"name": "dagferry", "context": {"cluster": "dagferry", "user": name}}],
            "current-context": "dagferry",
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(config, indent=2))
        path.chmod(0o600)
        return path

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        names: Sequence[x509.GeneralName] = (),
        *,
        is_authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + VALID)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(issued_by, critical=False)
            # Python 3.13 refuses a CA that does not say that it may sign certificates.
            .add_extension(_usage(signs=is_authority), critical=True)
        )
        if not is_authority:
            both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
            builder = builder.add_extension(both, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: "ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey") -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
