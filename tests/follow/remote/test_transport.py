"""What fails between a follower and its server is told with who is to blame, and nothing that is sent harms it."""

import contextlib
import gc
import re
import socket
import ssl
import sys
import threading
from collections.abc import Iterator

import pytest

from dagferry_core.errors import DagferryError
from dagferry_follow.errors import AnswerInvalid, ProxyFailed, ServerRefused, ServerUnreachable
from dagferry_follow.remote.connection import ConnectionOptions, Timeouts
from dagferry_follow.remote.server import NO_ACCESS, Server
from harness import free_port
from issuer import make_certificate

BODY = b'{"log_id":"l","sequence":0,"version":"","digest":""}'


if sys.version_info < (3, 11):
    # http.client leaves what a proxy answers to CONNECT open if that fails, until nobody has the error any more.
    pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _nothing_is_left_for_another_test() -> Iterator[None]:
    yield
    gc.collect()


@contextlib.contextmanager
def speaker(
    answer: bytes, context: ssl.SSLContext | None = None, *, endless: bytes = b"", host: str = "127.0.0.1"
) -> Iterator[int]:
    """Answer each connection with these bytes, then with ``endless`` ones until nobody takes them; yield the port."""
    with socket.create_server((host, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), connection:
                    connection.settimeout(10)
                    with context.wrap_socket(connection, server_side=True) if context else connection as talk:
                        talk.recv(65536)
                        talk.sendall(answer)
                        while endless:
                            talk.sendall(endless)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def ask(url: str, access: ConnectionOptions = NO_ACCESS, **timeouts: float) -> DagferryError | None:
    """The error that a question ends with."""
    server = Server(url, "prod", agent="test", access=access, timeouts=Timeouts(10, 10, 10)._replace(**timeouts))
    try:
        server.current("", 0, None)
    except DagferryError as error:
        return error
    finally:
        server.close()
    return None


# --- the proxy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://dagferry.invalid:8000", "https://dagferry.invalid"])
def test_a_proxy_that_is_down_is_named_and_its_password_is_not(monkeypatch, url) -> None:
    port = free_port()
    monkeypatch.setenv("all_proxy", f"http://me:CANARY@127.0.0.1:{port}")
    error = ask(url)
    assert isinstance(error, ProxyFailed)
    assert error.message == f"The proxy 127.0.0.1:{port} cannot be reached: Connection refused."
    assert "no_proxy" in error.hint


@pytest.mark.parametrize("url", ["http://dagferry.invalid:8000", "https://dagferry.invalid:8000"])
def test_a_proxy_that_wants_a_login_is_named_with_what_to_do(monkeypatch, url) -> None:
    with speaker(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as port:
        monkeypatch.setenv("all_proxy", f"http://127.0.0.1:{port}")
        error = ask(url)
    assert isinstance(error, ProxyFailed)
    assert f"The proxy 127.0.0.1:{port} refused a connection to dagferry.invalid:8000: 407" in error.message
    assert "http://USER:PASSWORD@HOST:PORT" in error.hint


def test_a_proxy_that_cannot_reach_the_server_is_named(monkeypatch) -> None:
    with speaker(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n") as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        error = ask("https://dagferry.invalid")
    assert isinstance(error, ProxyFailed)
    assert "to dagferry.invalid: 503 Service Unavailable" in error.message
    assert "USER" not in error.hint


def test_a_proxy_that_goes_silent_is_named(monkeypatch) -> None:
    with speaker(b"") as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        error = ask("http://dagferry.invalid")
    assert isinstance(error, ServerUnreachable)
    assert f"does not answer, through the proxy 127.0.0.1:{port}" in error.message


def test_a_tunnel_that_drips_ends(monkeypatch) -> None:
    with speaker(b"HTTP/1.1 200 OK\r\n", endless=b"X: y\r\n") as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        assert isinstance(ask("https://dagferry.invalid", connect=0.2, answer=0.2), ProxyFailed)


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> list[tuple[str, str]]:
    return [
        make_certificate(tmp_path_factory.mktemp("good")),
        make_certificate(tmp_path_factory.mktemp("other")),
        make_certificate(tmp_path_factory.mktemp("expired"), days=0),
    ]


def context_of(certificate: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def test_the_error_for_an_untrusted_certificate_names_the_flag(certificates) -> None:
    good, other, expired = certificates
    with speaker(b"", context_of(good)) as port:
        unknown = ask(f"https://127.0.0.1:{port}")
        wrong = ask(f"https://127.0.0.1:{port}", ConnectionOptions(ca_file=other[0]))
    with speaker(b"", context_of(good), host="127.0.0.2") as port:
        named = ask(f"https://127.0.0.2:{port}", ConnectionOptions(ca_file=good[0]))
    with speaker(b"", context_of(expired)) as port:
        old = ask(f"https://127.0.0.1:{port}", ConnectionOptions(ca_file=expired[0]))
    for error in (unknown, wrong, named, old):
        assert isinstance(error, ServerUnreachable)
        assert re.match(r"The certificate of https://127\.0\.0\.[12]:\d+ is not trusted: \w", error.message)
        assert "does not answer" not in error.message
    assert unknown.hint.startswith("Pass the certificate of the CA")
    assert unknown.hint.endswith("--ca-file.")
    assert f"to {other[0]} (--ca-file)" in wrong.hint
    assert "a host name that is in the server's certificate" in named.hint
    assert "Renew the server's certificate" in old.hint


def test_http_to_the_https_port_is_asked_whether_it_is_https(certificates, serve) -> None:
    server = serve("--tls-cert", certificates[0][0], "--tls-key", certificates[0][1])
    error = ask(f"http://127.0.0.1:{server.port}")
    assert "If the server uses https, " in error.hint


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nThe plain HTTP request was sent to HTTPS port",
    ],
    ids=["closed", "alert", "nginx", "close"],
)
def test_what_servers_of_tls_answer_to_plain_http_is_asked_whether_it_is_https(answer) -> None:
    with speaker(answer) as port:
        assert "If the server uses https, " in ask(f"http://127.0.0.1:{port}").hint


def test_https_to_the_http_port_is_asked_whether_it_is_http() -> None:
    with speaker(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert "If the server uses http, " in ask(f"https://127.0.0.1:{port}").hint


def test_a_server_that_answered_before_is_not_asked_whether_it_is_https(fake) -> None:
    server = Server(fake.url, "default", agent="test")
    server.current("", 0, None)
    fake.intercept = lambda _kind, handler: handler.connection.shutdown(socket.SHUT_RDWR) or True
    with pytest.raises(ServerUnreachable) as caught:
        server.current("", 0, None)
    assert caught.value.hint == ServerUnreachable.default_hint
    server.close()


# --- the token -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden"])
def test_a_refusal_says_whether_a_token_is_missing_or_not_taken(status) -> None:
    body = b'{"code":"x","message":"No.","hint":""}'
    with speaker(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)) as port:
        without, refused = ask(f"http://127.0.0.1:{port}"), ask(f"http://127.0.0.1:{port}", ConnectionOptions("dgf_x"))
    assert "give the sidecar a token with --token-file" in without.hint
    assert "The server's log says why" in refused.hint
    assert "dgf_x" not in refused.message + refused.hint


def test_a_refusal_cannot_write_control_characters_into_a_log() -> None:
    body = b'{"code":"x","message":"\\u001b[2J","hint":""}'
    with speaker(b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as port:
        assert ask(f"http://127.0.0.1:{port}").message == "The server answered 500: ?[2J (x)"


# --- what a hostile server may say -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [b"-1", b"-5"])
def test_a_chunk_of_negative_size_is_not_read_to_the_end_of_the_stream(size) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\n"
    with speaker(head, endless=bytes(1 << 20)) as port:
        error = ask(f"http://127.0.0.1:{port}", connect=1, answer=1)
    assert isinstance(error, ServerUnreachable)
    assert "0 bytes read" in error.message


def test_a_refusal_of_any_depth_is_a_refusal() -> None:
    body = b"[" * 60_000
    with speaker(b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as port:
        assert isinstance(ask(f"http://127.0.0.1:{port}"), ServerRefused)


def test_chunks_as_a_proxy_makes_them_are_read() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
    with speaker(chunked % (BODY[:16], len(BODY) - 16, BODY[16:])) as port:
        assert ask(f"http://127.0.0.1:{port}") is None
    with speaker(chunked % (b"x" * 16, 100_000, b"y" * 100_000)) as port:
        assert isinstance(ask(f"http://127.0.0.1:{port}"), AnswerInvalid)
