"""TLS on the public listener: the certificate is read again when it is renewed, and no connection notices.

A new handshake gets the newest certificate that could be loaded together with its key; what is broken or does not go
together never replaces what works.
"""

import ssl

from dagferry_core.errors import SetupError
from dagferry_server.auth.regular import read_regular
from dagferry_server.auth.watched import MAX_WATCHED_BYTES, WatchedFile


def watched_certificate(cert_file: str, key_file: str) -> WatchedFile[ssl.SSLContext]:
    """Return the certificate's file, whose value is a context with it and its key; ``SetupError`` if it has none."""

    def load(_: bytes) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        read_regular(key_file, MAX_WATCHED_BYTES)  # what OpenSSL opens, it waits for
        try:
            context.load_cert_chain(cert_file, key_file, password=_refuse_password)
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            raise SetupError(f"{cert_file} and {key_file} cannot be used together: {why}.") from error
        return context

    return WatchedFile(cert_file, load)


def listening_context(certificate: WatchedFile[ssl.SSLContext]) -> ssl.SSLContext:
    """Return the context to listen with: it hands every handshake over to the newest one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def newest(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = certificate.value

    # Called for every handshake, also if the client names no server.
    context.sni_callback = newest
    return context


def _refuse_password() -> str:
    # Without this, OpenSSL would ask the terminal.
    raise ValueError("the key is encrypted")
