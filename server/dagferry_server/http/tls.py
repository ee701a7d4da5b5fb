"""TLS on the public listener: a renewed certificate is loaded without interrupting connections.

A new handshake gets the newest certificate that could be loaded together with its key; files that are invalid or do not
match never replace a working pair.
"""

import ssl

from dagferry_core.errors import SetupError
from dagferry_runtime.regular import read_regular
from dagferry_server.config.watched import MAX_WATCHED_BYTES, WatchedFile


def watched_certificate(cert_file: str, key_file: str) -> WatchedFile[ssl.SSLContext]:
    """Return the watched certificate, whose value is a context with its key; ``SetupError`` if they cannot be used."""

    def load(_: bytes) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        read_regular(key_file, MAX_WATCHED_BYTES)  # OpenSSL itself would wait for the writer of a FIFO
        try:
            context.load_cert_chain(cert_file, key_file, password=_refuse_password)
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            raise SetupError(f"{cert_file} and {key_file} cannot be used together: {why}.") from error
        return context

    return WatchedFile(cert_file, load)


def listening_context(certificate: WatchedFile[ssl.SSLContext]) -> ssl.SSLContext:
    """Return the context to listen with, which passes every handshake to the newest one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def newest(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = certificate.value

    # Called for every handshake, even without a server name.
    context.sni_callback = newest
    return context


def _refuse_password() -> str:
    # Without this, OpenSSL would prompt on the terminal.
    raise ValueError("the key is encrypted")
