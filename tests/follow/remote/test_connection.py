"""How a follower reaches its server, and that its token is shown to nobody else."""

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from dagferry_core.errors import SetupError
from dagferry_follow.errors import TokenUnreadable
from dagferry_follow.remote.connection import (
    MAX_TOKEN_BYTES,
    ConnectionOptions,
    check_url,
    connect,
    proxy_for,
    read_token,
)
from dagferry_follow.remote.server import Server

TOKEN = ConnectionOptions(token="dgf_secret")


@contextmanager
def a_proxy(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that notes the head of one request and answers it."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (piece := connection.recv(4096)):
                    head += piece
                heard.append(head)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://me:pass@127.0.0.1:{listener.getsockname()[1]}", heard
        thread.join(10)


# --- the token ---------------------------------------------------------------------------------------------------


def test_a_token_is_sent_as_a_bearer_and_none_as_nothing() -> None:
    assert TOKEN.headers() == {"Authorization": "Bearer dgf_secret"}
    assert ConnectionOptions().headers() == {}


def test_a_token_file_is_read_anew_each_time(tmp_path) -> None:
    file = tmp_path / "token"
    access = ConnectionOptions(token_file=str(file))
    for text in ("one", "two\n"):
        file.write_text(text)
        assert access.headers() == {"Authorization": f"Bearer {text.strip()}"}


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff\xfe", b"a\nb", b"x" * (MAX_TOKEN_BYTES + 1)])
def test_a_file_without_a_token_is_reported_and_not_shown(tmp_path, content) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(TokenUnreadable, match="does not hold a token") as caught:
        read_token(str(file))
    assert "words" not in caught.value.message
    file.unlink()
    with pytest.raises(TokenUnreadable, match="cannot be read: No such file"):
        read_token(str(file))


def test_a_request_carries_the_token(fake, tmp_path) -> None:
    (tmp_path / "token").write_text("t1")
    server = Server(fake.url, "default", agent="test", access=ConnectionOptions(token_file=str(tmp_path / "token")))
    server.current("", 0, None)
    (tmp_path / "token").write_text("t2")
    server.current("", 0, None)
    server.close()
    assert [headers["Authorization"] for _, headers in fake.requests] == ["Bearer t1", "Bearer t2"]


# --- plain http --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://dagferry:8000", "http://10.0.0.1", "http://localhost.evil.example", "http://127.0.0.1.nip.io"]
)
def test_a_token_goes_over_plain_http_to_nobody_else(url) -> None:
    for access in (TOKEN, ConnectionOptions(token_file="/var/run/token")):
        with pytest.raises(SetupError, match="plain HTTP") as caught:
            access.check(url, allow_plain_http=False)
        assert "--allow-plain-http" in caught.value.hint
        access.check(url, allow_plain_http=True)
    ConnectionOptions().check(url, allow_plain_http=False)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost", "https://dagferry"])
def test_but_to_this_machine_and_over_tls(url) -> None:
    TOKEN.check(url, allow_plain_http=False)


# --- proxies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://dags.example.com", {}, None),
        ("https://dags.example.com", {"https_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://dags.example.com", {"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ("https://dags.example.com", {"http_proxy": "http://proxy:3128"}, None),
        ("http://dags.example.com", {"http_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ("http://dags.example.com", {"ALL_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://dags.example.com", {"all_proxy": "http://proxy", "no_proxy": "example.com"}, None),
        ("https://dags.example.com", {"all_proxy": "http://proxy", "NO_PROXY": "x, .example.com"}, None),
        ("https://dags.example.com", {"all_proxy": "http://proxy", "no_proxy": "*.example.com"}, None),
        ("https://dags.example.com", {"all_proxy": "http://proxy", "no_proxy": "*"}, None),
        ("https://dags.example.com", {"all_proxy": "http://proxy", "no_proxy": "ample.com,"}, "http://proxy"),
        ("http://dags:8000", {"all_proxy": "http://proxy", "no_proxy": "dags:8000"}, None),
        ("http://dags:8000", {"all_proxy": "http://proxy", "no_proxy": "dags:8001"}, "http://proxy"),
        ("https://a.dags", {"all_proxy": "http://proxy", "no_proxy": ".dags:443"}, None),
        ("http://10.1.2.3:8000", {"all_proxy": "http://proxy", "no_proxy": "x,10.0.0.0/8"}, None),
        ("http://10.1.2.3:8000", {"all_proxy": "http://proxy", "no_proxy": "10.1.2.3"}, None),
        ("http://10.1.2.3:8000", {"all_proxy": "http://proxy", "no_proxy": "10.1.2.3:8000"}, None),
        ("http://10.1.2.3:8000", {"all_proxy": "http://proxy", "no_proxy": "10.2.0.0/16,fd00::/8"}, "http://proxy"),
        ("http://[fd00::7]:8000", {"all_proxy": "http://proxy", "no_proxy": "fd00::/8"}, None),
        ("http://127.0.0.1:8000", {"http_proxy": "http://proxy:3128"}, None),
        ("http://localhost:8000", {"all_proxy": "http://proxy:3128"}, None),
    ],
)
def test_the_environment_says_which_proxy(url, environment, proxy) -> None:
    found = proxy_for(urlsplit(url), environment)
    assert (found and found.geturl()) == proxy


def test_plain_http_goes_through_a_proxy(monkeypatch) -> None:
    body = b'{"log_id":"l","sequence":0,"version":"","digest":""}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
    with a_proxy(answer) as (url, heard):
        monkeypatch.setenv("http_proxy", url)
        server = Server("http://dagferry.invalid:8000/base", "prod", agent="test", access=TOKEN)
        assert server.current("", 0, None).sequence == 0
    [head] = heard
    assert head.startswith(b"GET http://dagferry.invalid:8000/base/prod/dags/current HTTP/1.1\r\n")
    assert b"Host: dagferry.invalid:8000\r\n" in head
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:pass") in head


def test_tls_goes_through_a_tunnel_and_the_proxy_does_not_see_the_token(monkeypatch) -> None:
    with a_proxy(b"HTTP/1.1 403 No\r\n\r\n") as (url, heard):
        monkeypatch.setenv("https_proxy", url)
        server = Server("https://dagferry.invalid", "prod", agent="test", access=TOKEN)
        with pytest.raises(Exception, match="403"):
            server.current("", 0, None)
    [head] = heard
    assert head.startswith(b"CONNECT dagferry.invalid:443 HTTP/1.")
    assert b"Proxy-Authorization: Basic " in head
    assert b"dgf_secret" not in head


@pytest.mark.parametrize("proxy", ["socks5://proxy:1080", "https://proxy", "http://"])
def test_a_proxy_of_another_kind_is_an_error_and_not_passed_by(proxy) -> None:
    with pytest.raises(ValueError, match="proxy"):
        connect(urlsplit("https://dags.example.com"), ConnectionOptions(), {"https_proxy": proxy}, 1)


@pytest.mark.parametrize(
    "proxy",
    ["http://u:CANARY/PW@proxy:3128", "http://u:CAN#ARY@proxy", "http://u:CANARY\u2100@proxy", "http://[CANARY"],
)
def test_a_proxy_s_password_is_not_shown(proxy) -> None:
    with pytest.raises(ValueError, match="the proxy in the environment is not an http:// address") as caught:
        connect(urlsplit("https://dags.example.com"), ConnectionOptions(), {"https_proxy": proxy}, 1)
    assert "CAN" not in str(caught.value)


# --- the server's URL ------------------------------------------------------------------------------------------------


def test_a_servers_url_has_a_scheme_a_host_and_nothing_that_would_be_dropped() -> None:
    assert check_url("https://dagferry.example.com:8443/prefix/") == "https://dagferry.example.com:8443/prefix"
    for text in ("", "nohttp", "ftp://x", "http://", "http://x:port", "http://x?y", "http://x#y", "http://me@x"):
        with pytest.raises(ValueError, match="is expected"):
            check_url(text)
    for text in ("https://u:[CANARY]@h", "http://u:CANARY\u2100@h"):
        with pytest.raises(ValueError, match="is expected") as caught:
            check_url(text)
        assert "CANARY" not in str(caught.value)
