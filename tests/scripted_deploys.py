"""A server of a script that takes deploys: what is asked for before an upload, and what a form contained."""

import io
import tarfile
from email import message_from_bytes
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import zstandard

from recorded_answers import deployed, logged
from scripted_server import Received, ScriptedServer

HEAD = "GET /prod/dags/deploys?limit=1"
UPLOAD = "POST /prod/dags/upload"


class Upload(NamedTuple):
    """One upload as the server received it."""

    query: dict[str, str]
    headers: dict[str, str]
    fields: dict[str, str]
    files: dict[str, bytes]


def empty(server: ScriptedServer) -> None:
    """Nothing is deployed yet."""
    server.answer(HEAD, {"deploys": [], "next": None})


def newest(server: ScriptedServer, **changed: Any) -> dict[str, Any]:
    """The newest deploy is version 42."""
    entry = logged(**changed)
    server.answer(HEAD, {"deploys": [entry], "next": None})
    return entry


def accept(server: ScriptedServer, digest: str, query: str = "", **changed: Any) -> dict[str, Any]:
    """The next upload becomes version 43."""
    answer = deployed(digest, **changed)
    server.answer(UPLOAD + query, answer)
    return answer


def refuse(server: ScriptedServer, code: str, status: int, query: str = "", **details: Any) -> None:
    """The next upload is refused."""
    error = {"code": code, "message": f"It is {code}.", "hint": "Do something.", **details}
    server.answer(UPLOAD + query, error, status)


def uploads(server: ScriptedServer) -> list[Upload]:
    """What was uploaded, in order."""
    return [_read(one) for one in server.requests if one.method == "POST" and "/dags/upload" in one.path]


def _read(received: Received) -> Upload:
    assert int(received.headers["Content-Length"]) == len(received.body)
    query = {name: value for name, [value] in parse_qs(urlsplit(received.path).query, strict_parsing=False).items()}
    form = message_from_bytes(
        b"Content-Type: " + received.headers["Content-Type"].encode() + b"\r\n\r\n" + received.body
    )
    fields, files = {}, {}
    for part in form.get_payload():
        name = part.get_param("name", header="Content-Disposition")
        content = part.get_payload(decode=True)
        if part.get_filename():
            files = _unpacked(content)
        else:
            fields[name] = content.decode()
    return Upload(query, received.headers, fields, files)


def _unpacked(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().decompressobj().decompress(archive))) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
