"""A follower's side of HTTP, against a real server that behaves and one that does not."""

import socket
import threading
import time

import pytest

from dagferry_core.bundle.patch import MAX_PATCH_BYTES
from dagferry_follow.errors import AnswerInvalid, ServerRefused, ServerUnreachable, VolumeFailed
from dagferry_follow.remote.connection import Timeouts
from dagferry_follow.remote.server import MAX_ANSWER_BYTES, Report, Server

FILES = {"dag.py": b"x = 1\n" * 1000}
LIVE = Report("v-1", None)


@pytest.fixture
def server(fake, request):
    """The test may say how patient it is, with ``with_patience``."""
    timeouts = getattr(request, "param", None)
    made = Server(fake.url, "default", "pod-1", "worker", agent="test", timeouts=timeouts)
    yield made
    made.close()


def with_patience(**seconds: float):
    timeouts = Timeouts(10, 20, 900)._replace(**seconds)
    return pytest.mark.parametrize("server", [timeouts], indirect=True, ids=[""])


def raw(answer: bytes):
    """Answer with these very bytes and close."""

    def intercept(_kind, handler) -> bool:
        handler.connection.sendall(answer)
        handler.close_connection = True
        return True

    return intercept


def json_answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


# --- what is deployed ------------------------------------------------------------------------------------------------


def test_nothing_deployed_is_an_answer(fake, server) -> None:
    assert server.current("", 0, LIVE) == ("log-1", 0, "", "", "")
    assert server.current("none", 0, LIVE) is None


def test_the_newest_deploy_is_named_and_not_again_once_seen(fake, server) -> None:
    version = fake.deploy(FILES)
    deploy = server.current("", 0, LIVE)
    assert deploy[:4] == ("log-1", 1, version, fake.deploys[0][1].manifest.digest)
    assert server.current(version, 0, LIVE) is None


def test_it_waits_for_a_deploy(fake, server) -> None:
    first = fake.deploy(FILES)
    threading.Timer(0.1, fake.deploy, [{}]).start()
    deploy = server.current(first, 30, LIVE)
    assert deploy is not None
    assert deploy.sequence == 2


def test_requests_report_the_sidecar_and_its_state(fake, server) -> None:
    server.current("", 0, Report("v-1", VolumeFailed("Kein Platz: größer, 100 % voll\n" * 40)))
    sent = fake.requests[-1][1]
    assert sent["Dagferry-Instance"] == "pod-1"
    assert sent["Dagferry-Component"] == "worker"
    assert sent["Dagferry-Live"] == "v-1"
    assert sent["Dagferry-Error"].startswith("volume_failed: Kein Platz: gr%C3%B6%C3%9Fer%2C 100 %25 voll%0A")
    assert len(sent["Dagferry-Error"]) <= 300
    assert "no-cache" in sent["Cache-Control"]


def test_a_report_has_the_id_of_the_volume_and_of_the_log(fake) -> None:
    server = Server(fake.url, "default", "pod-1", "worker", agent="test", volume="0123")
    server.current("", 0, Report("v-1", None, "log-1"))
    sent = fake.requests[-1][1]
    assert (sent["Dagferry-Volume"], sent["Dagferry-Log"]) == ("0123", "log-1")
    assert "Dagferry-Once" not in sent
    server.current("", 0, Report("", None))
    assert not {"Dagferry-Log", "Dagferry-In-Use"} & set(fake.requests[-1][1])
    server.current("", 0, Report("v-1", None, "log-1", in_use=2))
    assert fake.requests[-1][1]["Dagferry-In-Use"] == "2"
    server.deregister(Report("v-1", None, "log-1"))
    sent = fake.requests[-1][1]
    assert (sent["Dagferry-Volume"], sent["Dagferry-Log"]) == ("0123", "log-1")
    server.close()


def test_who_runs_once_names_no_pod(fake) -> None:
    server = Server(fake.url, "default", "pod-1", agent="test", once=True)
    server.current("", 0, None)
    sent = fake.requests[-1][1]
    assert sent["Dagferry-Once"] == "1"
    assert not {"Dagferry-Instance", "Dagferry-Volume", "Dagferry-Live", "Dagferry-Log"} & set(sent)
    server.close()


def test_an_error_text_is_never_truncated_within_an_escape(fake, server) -> None:
    for length in range(3):
        server.current("", 0, Report("", VolumeFailed("x" * length + "ö" * 300)))
        assert fake.requests[-1][1]["Dagferry-Error"][-3] == "%"


def test_without_a_report_the_server_does_not_learn_of_an_instance(fake, server) -> None:
    server.current("", 0, None)
    assert "Dagferry-Instance" not in fake.requests[-1][1]


def test_a_path_prefix_is_kept(fake) -> None:
    server = Server(fake.url + "/some/where/", "default", agent="test")
    with pytest.raises(ServerRefused):
        server.current("", 0, LIVE)
    assert fake.requests[-1][0] == "/some/where/default/dags/current"
    server.close()


def test_deregistration_is_sent_on_a_connection_of_its_own_and_at_once(fake, server) -> None:
    fake.deploy(FILES)
    server.deregister(LIVE)
    assert fake.requests[-1][1]["Dagferry-Deregister"] == "1"


# --- the connection --------------------------------------------------------------------------------------------------


def test_one_connection_is_used_for_all(fake, server) -> None:
    version = fake.deploy(FILES)
    peers = set()
    fake.intercept = lambda _kind, handler: peers.add(handler.client_address) or False
    for _ in range(3):
        server.current("", 0, LIVE)
        download = server.download(version, "")
        while download.read():
            pass
    assert len(peers) == 1


def test_a_kept_connection_that_the_server_closed_is_no_failure(fake, server) -> None:
    server.current("", 0, LIVE)
    fake.stop()
    fake.start()
    assert server.current("", 0, LIVE) == ("log-1", 0, "", "", "")


def test_a_server_that_is_away_is_unreachable_and_back_when_it_is(fake, server) -> None:
    fake.stop()
    with pytest.raises(ServerUnreachable, match="refused"):
        server.current("", 0, LIVE)
    fake.start()
    assert server.current("", 0, LIVE)


def test_a_name_that_leads_nowhere_is_unreachable() -> None:
    with pytest.raises(ServerUnreachable):
        Server("http://no-such-host.invalid", "default", agent="test").current("", 0, LIVE)


@with_patience(answer=0.05)
def test_silence_ends(fake, server) -> None:
    over = threading.Event()
    fake.intercept = lambda _kind, _handler: over.wait(30)
    try:
        with pytest.raises(ServerUnreachable, match="nothing for too long"):
            server.current("", 0, LIVE)
    finally:
        over.set()


@pytest.mark.parametrize(
    "request_of",
    [
        lambda server, version, timeout: server.current(version, 300, LIVE, timeout=timeout),
        lambda server, version, timeout: server.download(version, "", timeout=timeout),
    ],
    ids=["current", "download"],
)
def test_a_request_takes_no_longer_than_its_own_timeout_and_the_next_has_another(fake, server, request_of) -> None:
    over = threading.Event()
    version = fake.deploy(FILES)
    fake.intercept = lambda _kind, _handler: over.wait(30)
    try:
        with pytest.raises(ServerUnreachable, match="nothing for too long"):
            request_of(server, version, 0.05)
    finally:
        over.set()
    fake.intercept = lambda _kind, _handler: time.sleep(0.2)
    assert server.current("", 0, LIVE)


@with_patience(connect=0.1, answer=0.3)
@pytest.mark.parametrize("what", ["headers", "body"])
def test_an_answer_that_drips_ends_too(fake, server, what) -> None:
    fake.intercept = lambda _kind, handler: drip(handler, b"X: y\r\n" if what == "headers" else b"\r\n")
    with pytest.raises((ServerUnreachable, AnswerInvalid)):
        server.current("", 0, LIVE)
    fake.intercept = lambda _kind, _handler: False
    assert server.current("", 0, LIVE)


@with_patience(download=0.3)
def test_a_download_that_drips_ends_too(fake, server) -> None:
    version = fake.deploy(FILES)
    fake.intercept = lambda _kind, handler: drip(handler, b"Content-Type: application/zstd\r\n\r\n")
    with pytest.raises(ServerUnreachable, match=r"The download (failed|ended) after"):
        read_all(server.download(version, ""))
    fake.intercept = lambda _kind, _handler: False
    assert read_all(server.download(version, ""))


def drip(handler, start: bytes) -> bool:
    """Answer with ``start``, and then byte by byte until nobody takes them any more."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n" + start)
    while True:
        try:
            handler.wfile.write(b"x")
            handler.wfile.flush()
        except OSError:
            return True
        time.sleep(0.01)


# --- answers that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(fake, server, status) -> None:
    elsewhere = socket.create_server(("127.0.0.1", 0))
    elsewhere.settimeout(0.1)
    to = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"
    fake.intercept = raw(b"HTTP/1.1 %d Moved\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, to.encode()))
    with elsewhere, pytest.raises(AnswerInvalid, match="Redirects are not followed"):
        server.current("", 0, LIVE)
    with socket.socket() as probe:
        assert probe.connect_ex(elsewhere.getsockname() if elsewhere.fileno() >= 0 else ("127.0.0.1", 1)) != 0


def test_an_error_is_reported_in_the_message_of_the_server(fake, server) -> None:
    with pytest.raises(ServerRefused, match=r"404: No such version\. \(version_not_found\)"):
        server.download("20261120T064501Z-000042", "")


def test_an_error_that_is_not_the_servers_own_is_reported_too(fake, server) -> None:
    fake.intercept = raw(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>")
    with pytest.raises(ServerRefused, match="502: Bad Gateway"):
        server.current("", 0, LIVE)


VERSION = "20261120T064501Z-000042"
GOOD = f'{{"log_id":"l","sequence":42,"version":"{VERSION}","digest":"sha256:{"0" * 64}"}}'.encode()


def test_the_good_answer_of_the_next_test_is_good(fake, server) -> None:
    fake.intercept = raw(json_answer(GOOD))
    assert server.current("", 0, LIVE)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"<html>sign in</html>",
        b"[" * 60_000,
        GOOD.replace(b"42,", b"43,"),
        GOOD.replace(b"42,", b"true,"),
        GOOD.replace(b"42,", b'"42",'),
        GOOD.replace(b"42,", b"-1,"),
        GOOD.replace(VERSION.encode(), b"../../../etc"),
        GOOD.replace(b"sha256:", b"md5:"),
        GOOD.replace(b'"l"', b'""'),
        GOOD.replace(b'"l"', b'"a\\nb"'),
        GOOD.replace(b'"l"', b"7"),
        GOOD + b" " * MAX_ANSWER_BYTES,
    ],
)
def test_an_answer_that_does_not_say_what_is_deployed_is_invalid(fake, server, body) -> None:
    fake.intercept = raw(json_answer(body))
    with pytest.raises(AnswerInvalid):
        server.current("", 0, LIVE)


def test_a_304_that_was_not_asked_for_is_invalid(fake, server) -> None:
    fake.intercept = raw(b"HTTP/1.1 304 Not Modified\r\n\r\n")
    with pytest.raises(AnswerInvalid):
        server.current("", 0, LIVE)


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200]
)
def test_what_is_not_http_is_unreachable(fake, server, answer) -> None:
    fake.intercept = raw(answer)
    with pytest.raises(ServerUnreachable):
        server.current("", 0, LIVE)


def test_an_answer_that_breaks_off_is_unreachable(fake, server) -> None:
    fake.intercept = raw(json_answer(GOOD)[:-10])
    with pytest.raises((ServerUnreachable, AnswerInvalid)):
        server.current("", 0, LIVE)


# --- downloads -------------------------------------------------------------------------------------------------------


def read_all(download) -> bytes:
    pieces = []
    while piece := download.read():
        pieces.append(piece)
    return b"".join(pieces)


def test_a_whole_bundle_and_a_patch_are_distinguished(fake, server) -> None:
    one, two = fake.deploy(FILES), fake.deploy({**FILES, "new.py": b"pass\n"})
    download = server.download(two, "")
    assert (download.kind, read_all(download)) == ("whole", fake.deploys[1][1].body)
    patch = server.download(two, one)
    body = patch.read_patch()
    assert (patch.kind, patch.received) == ("patch", len(body))
    assert body == fake.deploys[1][1].patch_from(fake.deploys[0][1])
    assert server.download(two, "20261120T064501Z-000099").kind == "whole"


@pytest.mark.parametrize("after", [0, 1, 50])
def test_a_truncated_download_says_after_how_many_bytes(fake, server, after) -> None:
    version = fake.deploy(FILES)
    body = fake.deploys[0][1].body
    fake.intercept = lambda _kind, handler: fake.cut(handler, body, after, "application/zstd") or True
    download = server.download(version, "")
    with pytest.raises(ServerUnreachable, match=f"after {after} of {len(body)} bytes|after {after} bytes"):
        read_all(download)


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Type: text/html",
        b"Content-Length: 3",
        b"Content-Type: application/vnd.dagferry.patch",
        b"Content-Type: application/zstd\r\nContent-Encoding: gzip",
    ],
    ids=["another type", "no type", "a patch nobody asked for", "compressed on the way"],
)
def test_a_body_that_is_no_bundle_is_not_read(fake, server, headers) -> None:
    version = fake.deploy(FILES)
    fake.intercept = raw(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\nabc")
    with pytest.raises(AnswerInvalid):
        server.download(version, "")


def test_a_patch_is_read_no_further_than_it_may_be_long(fake, server) -> None:
    one, two = fake.deploy(FILES), fake.deploy({"b.py": b"", **FILES})
    fake.corrupt = lambda _kind, body: body + bytes(MAX_PATCH_BYTES)
    with pytest.raises(AnswerInvalid, match="more than"):
        server.download(two, one).read_patch()


def test_closing_ends_a_read_that_is_under_way_in_another_thread(fake, server) -> None:
    version = fake.deploy(FILES)
    body = fake.deploys[0][1].body
    sent, over = threading.Event(), threading.Event()

    def stall(_kind, handler) -> bool:
        handler.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/zstd\r\nContent-Length: 999999\r\n\r\n" + body
        )
        handler.wfile.flush()
        sent.set()
        return over.wait(30)

    fake.intercept = stall
    download = server.download(version, "")
    ended = []

    def read() -> None:
        try:
            read_all(download)
        except ServerUnreachable:
            ended.append(True)

    reader = threading.Thread(target=read)
    reader.start()
    assert sent.wait(30)
    while reader.is_alive() and not ended:
        server.close()
        time.sleep(0.01)
    reader.join(30)
    over.set()
    assert ended
