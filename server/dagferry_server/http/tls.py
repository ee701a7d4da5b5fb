"""TLS on the public listener: a renewed certificate is loaded without interrupting connections.

A new handshake gets the newest certificate that could be loaded together with its key; files that are invalid or do not
match never replace a working pair.
"""

import ssl
from typing import NamedTuple

from dagferry_core.errors import SetupError
from dagferry_runtime.regular import read_regular
from dagferry_server.config.watched import MAX_WATCHED_BYTES, WatchedFile


class Certificate(NamedTuple):
    """A context with a certificate and its key, and when the first of its chain expires (seconds since the epoch)."""

    context: ssl.SSLContext
    expires: float


def watched_certificate(cert_file: str, key_file: str) -> WatchedFile[Certificate]:
    """Return the watched certificate; raise ``SetupError`` if it and its key cannot be used."""

    def load(content: bytes) -> Certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        read_regular(key_file, MAX_WATCHED_BYTES)  # OpenSSL itself would wait for the writer of a FIFO
        try:
            context.load_cert_chain(cert_file, key_file, password=_refuse_password)
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            raise SetupError(f"{cert_file} and {key_file} cannot be used together: {why}.") from error
        return Certificate(context, _expires(content))

    return WatchedFile(cert_file, load)


def _expires(content: bytes) -> float:
    # It takes 9 MiB of memory, which a server without TLS and issuers does not need.
    from cryptography import x509  # noqa: PLC0415

    return min(found.not_valid_after_utc.timestamp() for found in x509.load_pem_x509_certificates(content))


def listening_context(certificate: WatchedFile[Certificate]) -> ssl.SSLContext:
    """Return the context to listen with, which passes every handshake to the newest one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def newest(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = certificate.value.context

    # Called for every handshake, even without a server name.
    context.sni_callback = newest
    return context


def _refuse_password() -> str:
    # Without this, OpenSSL would prompt on the terminal.
    raise ValueError("the key is encrypted")
