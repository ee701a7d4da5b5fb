"""The XML API of Google Cloud Storage, in front of fake-gcs-server, which knows conditions in its JSON API alone.

Clients that speak S3's dialect to GCS, as obstore does, use this API for everything but deletions.
"""

import contextlib
import http.client
import http.server
import itertools
import json
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit
from xml.sax.saxutils import escape

from harness import PATIENCE_SECONDS

MAX_KEYS = 1000
_PASSED = ("etag", "last-modified", "content-type", "content-range", "x-goog-generation")


class XmlApi:
    """Listens on ``port`` of loopback, in threads; ``upstream`` is the port of a fake-gcs-server."""

    def __init__(self, upstream: int) -> None:
        api = self
        self._upstream = upstream
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._numbers = itertools.count(1)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def _any(self) -> None:
                api._handle(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any  # noqa: N815 - http.server wants these names

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, request: http.server.BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        size = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(size)
        if len(body) < size:  # the client went away
            request.close_connection = True
            return
        if bucket in ("storage", "batch", "upload"):
            target, kind = request.path, {"Content-Type": request.headers.get("Content-Type", "application/json")}
            status, _, answer = self._ask(request.command, target, body, kind)
            _answer(request, status, answer)
        elif request.command == "GET" and not key:
            self._list(request, bucket, query)
        elif "uploads" in query or "uploadId" in query:
            self._upload(request, bucket, key, query, body)
        elif request.command == "PUT":
            self._store(request, bucket, key, body)
        else:
            self._object(request, bucket, key)

    def _list(self, request: http.server.BaseHTTPRequestHandler, bucket: str, query: Mapping[str, str]) -> None:
        asked = {
            "prefix": query.get("prefix", ""),
            "delimiter": query.get("delimiter", ""),
            "startOffset": query.get("start-after", ""),
            "maxResults": query.get("max-keys", str(MAX_KEYS)),
            "pageToken": query.get("continuation-token", ""),
        }
        target = f"/storage/v1/b/{bucket}/o?" + urlencode({name: value for name, value in asked.items() if value})
        status, _, answer = self._ask("GET", target)
        if status != http.HTTPStatus.OK:
            _answer(request, status, answer)
            return
        page = json.loads(answer)
        pieces = [
            f"<Contents><Key>{escape(item['name'])}</Key><LastModified>{item['updated']}</LastModified>"
            f"<ETag>{escape(_quoted(item['etag']))}</ETag><Size>{item['size']}</Size></Contents>"
            for item in page.get("items", [])
            if item["name"] != query.get("start-after")
        ]
        pieces += [
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in page.get("prefixes", [])
        ]
        if token := page.get("nextPageToken"):
            pieces += [f"<NextContinuationToken>{escape(token)}</NextContinuationToken>"]
        _answer(request, 200, f"<ListBucketResult>{''.join(pieces)}</ListBucketResult>".encode())

    def _upload(
        self, request: http.server.BaseHTTPRequestHandler, bucket: str, key: str, query: Mapping[str, str], body: bytes
    ) -> None:
        if "uploads" in query:
            upload = str(next(self._numbers))
            self._uploads[upload] = {}
            result = f"<UploadId>{upload}</UploadId>"
            answer = f"<InitiateMultipartUploadResult>{result}</InitiateMultipartUploadResult>"
            _answer(request, 200, answer.encode())
        elif query["uploadId"] not in self._uploads:
            _answer(request, 404, b"<Error><Code>NoSuchUpload</Code></Error>")
        elif request.command == "PUT":
            number = int(query["partNumber"])
            self._uploads[query["uploadId"]][number] = body
            _answer(request, 200, b"", {"ETag": f'"{number}"'})
        elif request.command == "DELETE":
            del self._uploads[query["uploadId"]]
            _answer(request, 204)
        else:
            parts = self._uploads.pop(query["uploadId"])
            self._store(request, bucket, key, b"".join(parts[number] for number in sorted(parts)), whole=False)

    def _store(
        self, request: http.server.BaseHTTPRequestHandler, bucket: str, key: str, body: bytes, *, whole: bool = True
    ) -> None:
        asked = {"uploadType": "media", "name": key}
        if (generation := request.headers.get("x-goog-if-generation-match")) is not None:
            asked["ifGenerationMatch"] = generation
        kind = {"Content-Type": request.headers.get("Content-Type", "application/octet-stream")}
        status, _, answer = self._ask("POST", f"/upload/storage/v1/b/{bucket}/o?{urlencode(asked)}", body, kind)
        if status != http.HTTPStatus.OK:
            code = {412: "PreconditionFailed", 404: "NoSuchBucket"}.get(status, "InternalError")
            _answer(request, status, f"<Error><Code>{code}</Code></Error>".encode())
            return
        stored: dict[str, Any] = json.loads(answer)
        tag = _quoted(stored["etag"])
        headers = {"ETag": tag, "x-goog-generation": stored["generation"]}
        result = f"<CompleteMultipartUploadResult><ETag>{escape(tag)}</ETag></CompleteMultipartUploadResult>"
        _answer(request, 200, b"" if whole else result.encode(), headers)

    def _object(self, request: http.server.BaseHTTPRequestHandler, bucket: str, key: str) -> None:
        asked = {
            name: request.headers[name] for name in ("Range", "If-Match", "If-None-Match") if name in request.headers
        }
        target = f"/{bucket}/{quote(key, safe='')}"
        if request.command == "DELETE":
            target = f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}"
        status, headers, answer = self._ask(request.command, target, b"", asked)
        passed = {name: value for name, value in headers.items() if name in _PASSED}
        if "etag" in passed:
            passed["etag"] = _quoted(passed["etag"])
        if request.command == "HEAD":
            passed["Content-Length"] = headers.get("content-length", "0")
        elif status == http.HTTPStatus.NOT_FOUND:
            answer = b"<Error><Code>NoSuchKey</Code></Error>"
        _answer(request, status, answer, passed)

    def _ask(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=PATIENCE_SECONDS)
        ) as store:
            store.request(method, target, body, dict(headers or {}))
            response = store.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def _quoted(tag: str) -> str:
    return '"' + tag.strip('"') + '"'


def _answer(
    request: http.server.BaseHTTPRequestHandler,
    status: int,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> None:
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    if "Content-Length" not in (headers or {}) and status != http.HTTPStatus.NO_CONTENT:
        request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)
