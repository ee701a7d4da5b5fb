"""Over https only a server is believed that the certificate authorities vouch for; only that one gets the token."""

import datetime as dt
import ipaddress
import json
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from authorities import make_plain_authority, strict_as_from_python_3_13
from dagferry_follow.errors import ServerUnreachable
from dagferry_follow.remote.connection import ConnectionOptions
from dagferry_follow.remote.server import Server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> str:
    """A file with a key and a certificate for 127.0.0.1 that nobody but itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return str(path)


@pytest.fixture
def listener(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(context) as http:
        yield http


@contextmanager
def serving(context: ssl.SSLContext):
    """A server with nothing deployed."""
    authorizations: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            authorizations.append(self.headers["Authorization"])
            body = json.dumps({"log_id": "log", "sequence": 0, "version": "", "digest": ""}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    class Listener(HTTPServer):
        def handle_error(self, request, client_address) -> None:
            pass  # a client that does not believe us hangs up

        def get_request(self):
            plain, address = super().get_request()
            try:
                return context.wrap_socket(plain, server_side=True), address
            except OSError:
                plain.close()
                raise

    http = Listener(("127.0.0.1", 0), Handler)
    http.authorizations = authorizations
    http.url = f"https://127.0.0.1:{http.server_address[1]}"
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield http
    http.shutdown()
    http.server_close()


def ask(url: str, **options) -> None:
    server = Server(url, "default", agent="test", access=ConnectionOptions(**options))
    try:
        assert server.current("", 0, None).sequence == 0
    finally:
        server.close()


def test_a_server_that_the_ca_file_vouches_for_gets_the_token(listener, certificate) -> None:
    ask(listener.url, token="secret", ca_file=certificate)
    ask(listener.url, ca_file=certificate)
    assert listener.authorizations == ["Bearer secret", None]


def test_another_server_is_not_spoken_to(listener) -> None:
    with pytest.raises(ServerUnreachable, match="is not trusted: ") as caught:
        ask(listener.url, token="secret")
    assert "secret" not in str(caught.value)
    assert listener.authorizations == []


def test_a_ca_file_that_is_missing_is_an_error_of_ours(listener, tmp_path) -> None:
    with pytest.raises(ServerUnreachable, match="No such file"):
        ask(listener.url, ca_file=str(tmp_path / "none"))


def test_a_cluster_s_ca_without_key_usage_and_key_identifiers_is_trusted(tmp_path, monkeypatch) -> None:
    strict_as_from_python_3_13(monkeypatch)
    ca_file, context = make_plain_authority(tmp_path)
    with serving(context) as http:
        ask(http.url, token="secret", ca_file=ca_file)
    assert http.authorizations == ["Bearer secret"]
