"""Requests are bounded, repeated only where that helps, and carry no secret of this machine."""

import socket
import time

import pytest

import dagferry_client.http
from dagferry_client.credentials import Credentials
from dagferry_client.errors import ConnectionLost, RequestRefused, ServerUnavailable
from dagferry_client.http import Http
from dagferry_client.settings import Flags, resolve
from dagferry_core import __version__
from dagferry_follow.errors import AnswerInvalid, ProxyFailed, ServerUnreachable
from harness import free_port

BUSY = {"code": "busy", "message": "The server is busy.", "hint": "Wait."}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def connect(clean_environment, tmp_path, said):
    """An ``Http`` for a URL; what it says goes to ``said``."""

    def make(url: str, **flags: str) -> Http:
        target = resolve(Flags(server=url, **flags), {}, tmp_path, lambda *_: "")
        return Http(target, Credentials(target.token, target.server, {}), said.append)

    return make


def test_an_answer_has_status_headers_and_body(connect, server) -> None:
    server.answer("GET /a?b=c+d", {"x": 1}, ETag='"7"')
    answer = connect(server.url).request("GET", "/a", query={"b": "c d"})
    assert (answer.status, answer.headers["etag"], answer.body) == (200, '"7"', b'{"x": 1}')


def test_a_path_of_the_server_s_url_comes_first(connect, server) -> None:
    server.answer("GET /behind/proxy/-/whoami", {})
    connect(f"{server.url}/behind/proxy/").request("GET", "/-/whoami")


def test_what_is_sent_says_who_asks_and_nothing_more(connect, server, tmp_path, monkeypatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.answer("GET /a", {})
    connect(server.url).request("GET", "/a")
    headers = server.requests[0].headers
    assert headers.pop("Host") == f"127.0.0.1:{server.port}"
    headers.pop("Connection", None)
    assert headers == {"User-Agent": f"dagferry/{__version__}", "Accept": "*/*", "Accept-Encoding": "gzip"}


def test_a_token_wins_over_netrc_and_is_sent_as_bearer(connect, server, tmp_path, monkeypatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.answer("GET /a", {})
    connect(server.url, token="t").request("GET", "/a")
    assert server.requests[0].headers["Authorization"] == "Bearer t"


def test_a_redirect_is_not_followed(connect, server) -> None:
    server.answer("GET /a", b"", 302, Location=f"{server.url}/b")
    with pytest.raises(AnswerInvalid, match="Redirects are not followed"):
        connect(server.url, token="t").request("GET", "/a")


def test_a_body_may_be_bytes_or_pieces(connect, server) -> None:
    http = connect(server.url)
    server.answer("POST /a", {})
    server.answer("POST /a", {})
    http.request("POST", "/a", body=b"12")
    http.request("POST", "/a", body=lambda: iter([b"1", b"2"]))
    assert [request.body for request in server.requests] == [b"12", b"12"]


def test_a_gzipped_answer_is_unpacked_and_still_bounded(connect, server) -> None:
    import gzip

    for _ in range(2):
        server.answer("GET /a", gzip.compress(b"x" * 1_000_000), Content_Encoding="gzip")
    http = connect(server.url)
    assert http.request("GET", "/a").body == b"x" * 1_000_000
    with pytest.raises(AnswerInvalid, match="longer than 999999 bytes"):
        http.request("GET", "/a", max_bytes=999_999)


# --- again and again --------------------------------------------------------------------------------------------------


def test_busy_is_tried_again_and_said(connect, server, said, pauses) -> None:
    server.answer("GET /a", BUSY, 503)
    server.answer("GET /a", BUSY, 503, Retry_After="4")
    server.answer("GET /a", {})
    connect(server.url).request("GET", "/a")
    assert said == ["The server is busy. Trying again in 1 s.", "The server is busy. Trying again in 4 s."]
    assert [1 <= pauses[0] <= 1.25, 4 <= pauses[1] <= 5] == [True, True]


def test_it_ends_after_the_time_that_is_allowed(connect, server, said, pauses) -> None:
    for _ in range(4):
        server.answer("GET /a", BUSY, 503)
    with pytest.raises(ServerUnavailable, match="The server is busy"):
        connect(server.url).request("GET", "/a")
    assert len(server.requests) == 4
    assert sum(pauses) <= dagferry_client.http.READ_REPEAT_SECONDS


def test_a_server_cannot_make_it_wait_long(connect, server, said, pauses) -> None:
    server.answer("POST /a", BUSY, 503, Retry_After="99999")
    server.answer("POST /a", {})
    connect(server.url).request("POST", "/a", repeat_seconds=60)
    assert said == ["The server is busy. Trying again in 20 s."]


def test_only_get_is_repeated_by_itself(connect, server, said, pauses) -> None:
    server.answer("POST /a", BUSY, 503)
    with pytest.raises(ServerUnavailable):
        connect(server.url).request("POST", "/a")
    assert (len(server.requests), said, pauses) == (1, [], [])


GOES_ON = {"code": "checking", "message": "It is being checked.", "hint": "Ask again."}


def test_what_the_server_goes_on_with_is_asked_for_again_as_often_as_it_says(connect, server, said, pauses) -> None:
    for _ in range(20):
        server.answer("POST /a", GOES_ON, 503, Retry_After="5")
    server.answer("POST /a", {})
    connect(server.url).request("POST", "/a", body=b"x", repeat_seconds=60, unfinished=("checking", 300))
    assert said == ["It is being checked. Asking again in 5 s."] * 20
    assert all(5 <= pause <= 6.25 for pause in pauses)


def test_that_ends_too(connect, server, pauses) -> None:
    for _ in range(4):
        server.answer("POST /a", GOES_ON, 503, Retry_After="10")
    with pytest.raises(ServerUnavailable, match="It is being checked") as caught:
        connect(server.url).request("POST", "/a", body=b"x", unfinished=("checking", 38))
    assert caught.value.reason == "checking"
    assert len(pauses) == 3


def test_what_is_busy_meanwhile_has_no_more_time_than_ever(connect, server, said, pauses) -> None:
    server.answer("POST /a", GOES_ON, 503, Retry_After="20")
    for _ in range(9):
        server.answer("POST /a", BUSY, 503, Retry_After="20")
    with pytest.raises(ServerUnavailable, match="busy"):
        connect(server.url).request("POST", "/a", body=b"x", repeat_seconds=60, unfinished=("checking", 300))
    server.answers.clear()
    assert sum(pauses[1:]) <= 60
    assert said[1] == "The server is busy. Trying again in 20 s."


def test_pieces_are_made_anew_for_each_attempt(connect, server, pauses) -> None:
    server.answer("POST /a", BUSY, 503)
    server.answer("POST /a", {})
    connect(server.url).request("POST", "/a", body=lambda: iter([b"1", b"2"]), repeat_seconds=60)
    assert [request.body for request in server.requests] == [b"12", b"12"]


def test_a_refusal_is_final(connect, server, pauses) -> None:
    server.answer("GET /a", {"code": "x", "message": "No.", "hint": "."}, 422)
    with pytest.raises(RequestRefused):
        connect(server.url).request("GET", "/a")
    assert pauses == []


def test_a_lost_connection_is_tried_again(connect, server, said, pauses) -> None:
    def hang_up(handler) -> None:
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.act("GET /a", hang_up)
    server.answer("GET /a", {"x": 1})
    assert connect(server.url).request("GET", "/a").body == b'{"x": 1}'
    assert len(said) == 1
    assert said[0].startswith(f"{server.url} does not answer: ")


def test_an_answer_that_breaks_off_is_tried_again(connect, server, said, pauses) -> None:
    def break_off(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"x" * 40)
        handler.close_connection = True

    server.act("GET /a", break_off)
    server.answer("GET /a", {"x": 1})
    assert connect(server.url).request("GET", "/a").body == b'{"x": 1}'
    assert "broke off after 40 bytes" in said[0]


def test_a_trickle_ends(connect, server, monkeypatch) -> None:
    def trickle(handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.01)

    monkeypatch.setattr(dagferry_client.http, "ANSWER_SECONDS", 0.1)
    server.act("GET /a", trickle)
    with pytest.raises(ConnectionLost, match="was not complete after 0 s"):
        connect(server.url).request("GET", "/a", repeat_seconds=0)


def test_silence_ends(connect, server) -> None:
    server.act("GET /a", lambda _handler: time.sleep(1))
    with pytest.raises(ConnectionLost, match="it sent nothing for too long"):
        connect(server.url).request("GET", "/a", silence_seconds=0.1, repeat_seconds=0)


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_comes_in_pieces_with_its_headers(connect, server) -> None:
    server.answer("GET /a?v=1", b"x" * 1_000_000, ETag='"1"')
    with connect(server.url).stream("/a", query={"v": "1"}) as (headers, pieces):
        assert headers["ETag"] == '"1"'
        assert sum(map(len, pieces)) == 1_000_000


def test_an_error_comes_before_the_first_piece(connect, server) -> None:
    server.answer("GET /a", {"code": "x", "message": "No.", "hint": "."}, 422)
    with pytest.raises(RequestRefused), connect(server.url).stream("/a"):
        pytest.fail("there is nothing to read")


# --- the way there ----------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_tried_again_and_says_what_to_check(connect, said, pauses) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServerUnreachable, match="refuses connections") as caught:
        connect(url).request("GET", "/a")
    assert "Check the port" in caught.value.hint
    assert len(said) == 3


def test_a_host_that_nobody_knows_is_final(connect, said) -> None:
    with pytest.raises(ServerUnreachable, match=r"The host of http://nobody\.invalid cannot be found") as caught:
        connect("http://nobody.invalid").request("GET", "/a")
    assert "DNS" in caught.value.hint
    assert said == [] or "cannot be found" in said[0]


def test_the_proxy_of_the_environment_is_used_but_not_for_this_machine(connect, server, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{server.port}")
    server.answer("GET http://dags.example.com/a", {"proxied": True})
    server.answer("GET /a", {"proxied": False})
    assert connect("http://dags.example.com").request("GET", "/a").body == b'{"proxied": true}'
    assert server.requests[0].headers["Proxy-Authorization"].startswith("Basic ")
    assert connect(server.url).request("GET", "/a").body == b'{"proxied": false}'
    assert "Proxy-Authorization" not in server.requests[1].headers


def test_a_proxy_that_cannot_be_reached_is_the_cause(connect, monkeypatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{free_port()}")
    http = connect("https://dags.example.com")
    with pytest.raises(ProxyFailed, match=r"The proxy 127\.0\.0\.1:") as caught:
        http.request("GET", "/a")
    assert "secret" not in caught.value.message


def test_a_proxy_that_is_no_address_is_named(connect, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:secret@[broken")
    with pytest.raises(ProxyFailed) as caught:
        connect("http://dags.example.com")
    assert "secret" not in caught.value.message
