"""What stands between a server and its storage may answer instead: that is never taken for what the storage has."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dagferry_core.errors import SetupError
from dagferry_server.errors import StoreAway
from dagferry_server.store.objects import Objects
from dagferry_server.store.probe import probe

PAGE = b"<html><head><title>Maintenance</title></head><body></body></html>"
FACTS = {"ETag": '"1"', "Last-Modified": "Tue, 01 Jan 2030 00:00:00 GMT"}
Answer = tuple[int, bytes]
NO_KEY = 404, b"<Error><Code>NoSuchKey</Code></Error>"
EMPTY_LIST = 200, b"<ListBucketResult></ListBucketResult>"


@contextlib.contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], Answer]) -> Iterator[Objects]:
    """Give the objects of a storage on loopback that answers each request so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answer(self)
            self.send_response(status)
            for name, value in {**FACTS, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    config = {"endpoint": f"http://127.0.0.1:{server.server_port}", "region": "r"}
    keys = {"access_key_id": "key", "secret_access_key": "secret"}
    try:
        yield Objects("s3", "bucket", "", {**config, **keys}, {"allow_http": True})
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("body", [b"404 page not found\n", b"", PAGE])
def test_a_404_that_is_not_the_storages_is_not_an_object_that_is_missing(body) -> None:
    with answering(lambda _: (404, body)) as objects:
        for call in (
            objects.get,
            objects.delete,
            lambda key: objects.get(key, 100),
            lambda key: list(objects.list(key)),
        ):
            with pytest.raises(StoreAway, match="404 Not Found"):
                call("a/b")
        with pytest.raises(StoreAway) as caught:
            objects.get("a/b")
        assert "proxy" in caught.value.hint


def test_a_page_with_status_200_is_neither_an_object_nor_an_empty_list() -> None:
    with answering(lambda _: (200, PAGE)) as objects:
        for call in (lambda: objects.get("a"), lambda: list(objects.list("a")), objects.folders):
            with pytest.raises(StoreAway, match="a page instead"):
                call()


def test_an_error_with_status_200_is_neither_an_object_nor_an_empty_list() -> None:
    with answering(lambda _: (200, b'<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>')) as objects:
        for call in (lambda: objects.get("a"), lambda: list(objects.list("a")), objects.folders):
            with pytest.raises(StoreAway):
                call()


def test_a_list_that_is_cut_is_no_list() -> None:
    item = b"<Contents><Key>a/1</Key><LastModified>2030-01-01T00:00:00Z</LastModified><Size>1</Size></Contents>"
    with answering(lambda _: (200, b"<ListBucketResult>" + item)) as objects, pytest.raises(StoreAway):
        list(objects.list("a"))


def test_what_the_storage_says_is_missing_is_missing() -> None:
    with answering(lambda request: EMPTY_LIST if "list-type" in request.path else NO_KEY) as objects:
        assert (objects.get("a"), list(objects.list("a")), objects.folders()) == (None, [], [])


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeout", "AuthorizationHeaderMalformed"])
def test_a_storage_that_refuses_every_write_with_400_is_away_and_not_unfit(code) -> None:
    refusal = 400, f"<Error><Code>{code}</Code></Error>".encode()
    with answering(lambda _: refusal) as objects, pytest.raises(StoreAway, match=code):
        probe(objects)


def test_a_storage_that_refuses_only_conditional_writes_with_400_is_unfit() -> None:
    def answer(request: BaseHTTPRequestHandler) -> Answer:
        return (
            (400, b"<Error><Code>InvalidArgument</Code></Error>")
            if request.headers.get("If-None-Match")
            else (200, b"")
        )

    with answering(answer) as objects, pytest.raises(SetupError, match="does not know conditional writes"):
        probe(objects)
