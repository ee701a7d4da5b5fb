"""Why there is no answer is said in one sentence, and what to check in another."""

import socket
import ssl
import threading

import pytest
import requests
import urllib3

from authorities import make_plain_authority, make_strict_authority
from dagferry_client.credentials import Credentials, TokenSource
from dagferry_client.errors import ConnectionLost
from dagferry_client.failures import failure, lost
from dagferry_client.http import Http
from dagferry_client.settings import Flags, resolve
from dagferry_core.errors import SetupError
from dagferry_follow.errors import ProxyFailed, ServerUnreachable
from scripted_server import ScriptedServer

URL = "https://dags.example.com"


def get(url: str, folder, **flags: str):
    """Ask once."""
    target = resolve(Flags(server=url, **flags), {}, folder, lambda *_: "")
    http = Http(target, Credentials(TokenSource(), url, {}), pytest.fail)
    return http.request("GET", "/a", repeat_seconds=0)


@pytest.fixture
def secure(clean_environment, tmp_path):
    """A server with TLS, and the CA that signed its certificate."""
    ca_file, _ = make_plain_authority(tmp_path)
    server = ScriptedServer(tmp_path / "cluster.pem")
    yield server, ca_file
    server.stop()


def test_a_ca_file_is_trusted(secure, tmp_path) -> None:
    server, ca_file = secure
    server.answer("GET /a", {"x": 1})
    assert get(server.url, tmp_path, ca_file=ca_file).body == b'{"x": 1}'


def test_without_it_the_certificate_is_not_trusted_and_the_hint_names_it(secure, tmp_path) -> None:
    server, _ = secure
    with pytest.raises(ServerUnreachable, match="is not trusted: ") as caught:
        get(server.url, tmp_path)
    assert not isinstance(caught.value, ConnectionLost)
    assert "--ca-file" in caught.value.hint


def test_another_ca_file_is_the_only_one_that_is_trusted(secure, tmp_path, monkeypatch) -> None:
    server, ca_file = secure
    other, _ = make_plain_authority(tmp_path, "other")
    # None of these may add to what was named.
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, ca_file)
    with pytest.raises(ServerUnreachable, match="is not trusted") as caught:
        get(server.url, tmp_path, ca_file=other)
    assert other in caught.value.hint


def test_the_machine_s_own_cas_are_trusted(clean_environment, tmp_path, monkeypatch) -> None:
    # As strictly as from Python 3.13 on; a CA that --ca-file names need not be as complete.
    monkeypatch.setenv("SSL_CERT_FILE", make_strict_authority(tmp_path))
    server = ScriptedServer(tmp_path / "strict.pem")
    server.answer("GET /a", {})
    get(server.url, tmp_path)
    server.stop()


def test_a_name_that_the_certificate_lacks_is_not_trusted(secure, tmp_path) -> None:
    server, ca_file = secure
    with pytest.raises(ServerUnreachable, match="is not trusted") as caught:
        get(server.url.replace("127.0.0.1", "localhost"), tmp_path, ca_file=ca_file)
    assert "host name that is in the server's certificate" in caught.value.hint


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_is_none_is_a_mistake(clean_environment, tmp_path, content) -> None:
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with pytest.raises(SetupError, match=f"The CA file {path} cannot be used"):
        get(URL, tmp_path, ca_file=str(path))


def test_https_to_a_port_without_tls(clean_environment, tmp_path) -> None:
    server = ScriptedServer()
    with pytest.raises(ServerUnreachable) as caught:
        get(server.url.replace("http:", "https:"), tmp_path)
    server.stop()
    assert "Write http:// in the server's URL" in caught.value.hint


def test_http_to_a_port_with_tls(clean_environment, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def alert() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46\n")

        thread = threading.Thread(target=alert)
        thread.start()
        with pytest.raises(ServerUnreachable) as caught:
            get(f"http://127.0.0.1:{listening.getsockname()[1]}", tmp_path)
        thread.join()
    assert "Write https:// in the server's URL" in caught.value.hint


def wrapped(cause: Exception, kind: type[Exception] = requests.ConnectionError) -> Exception:
    """As requests raises what urllib3 raises."""
    pool = urllib3.HTTPConnectionPool("x")
    return kind(urllib3.exceptions.MaxRetryError(pool, "/a", cause))


@pytest.mark.parametrize(
    ("cause", "kind", "said"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), ConnectionLost, "cannot be found: Temporary failure"),
        (socket.gaierror(socket.EAI_NONAME, "Name not known"), ServerUnreachable, "cannot be found: Name not known"),
        (ConnectionRefusedError(111, "refused"), ConnectionLost, "refuses connections"),
        (OSError(113, "No route to host"), ServerUnreachable, "cannot be reached: No route to host"),
        (TimeoutError("timed out"), ConnectionLost, "it sent nothing for too long"),
        (ConnectionResetError(104, "Connection reset by peer"), ConnectionLost, "Connection reset by peer"),
        (ssl.SSLError(1, "handshake failure (_ssl.c:1006)"), ConnectionLost, "does not answer: handshake failure."),
    ],
)
def test_each_cause_has_its_sentence(cause, kind, said) -> None:
    error = failure(wrapped(cause), URL, None, "")
    assert type(error) is kind
    assert said in error.message
    assert error.message.startswith((URL, f"The host of {URL}"))


def test_a_proxy_that_wants_a_login_is_the_cause() -> None:
    cause = urllib3.exceptions.ProxyError("no", OSError("Tunnel connection failed: 407 Proxy Authentication Required"))
    error = failure(wrapped(cause, requests.exceptions.ProxyError), URL, None, "proxy:3128")
    assert type(error) is ProxyFailed
    assert error.message.startswith(f"The proxy proxy:3128 did not connect to {URL}: ")
    assert "USER:PASSWORD" in error.hint


def test_what_failed_behind_a_proxy_names_the_proxy() -> None:
    error = failure(wrapped(ConnectionResetError(104, "reset")), URL, None, "proxy:3128")
    assert error.message == f"{URL} does not answer, through the proxy proxy:3128: reset."


def test_an_answer_that_broke_off_says_how_far_it_came() -> None:
    error = lost(urllib3.exceptions.ProtocolError("broken", ConnectionResetError(104, "reset")), URL, 7)
    assert error.message == f"The answer of {URL} broke off after 7 bytes: reset."


def test_causes_in_a_circle_end() -> None:
    one, two = OSError("one"), OSError("two")
    one.__cause__, two.__cause__ = two, one
    assert failure(one, URL, None, "").message == f"{URL} does not answer: two."
