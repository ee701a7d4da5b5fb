"""Raw connections to a server in the test's event loop, and uploads byte by byte."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from running import Running

BOUNDARY = "d0f13a5e"


class Wire:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        length = int(headers.get("content-length", "0"))
        content = await self.reader.readexactly(length)
        return int(head[0].split()[1]), headers, json.loads(content) if content else None

    async def silent(self, seconds: float = 0.05) -> bool:
        """Return whether nothing comes for a moment."""
        try:
            await asyncio.wait_for(self.reader.readexactly(1), seconds)
        except asyncio.TimeoutError:
            return True
        return False

    def reset(self) -> None:
        """Break the connection as a crash does."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()


@asynccontextmanager
async def connected(server: Running, context: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection(server.host, server.port, ssl=context)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def post(length: int | str, *headers: str, path: str = "/default/dags/upload") -> bytes:
    framing = f"Content-Length: {length}" if isinstance(length, int) else length
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: 127.0.0.1", framing, *headers, "", ""]).encode()


def multipart(file: bytes, *, end: str = "--\r\n") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="/home/me/dags.tar.gz"\r\n\r\n'
    return head.encode() + file + f"\r\n--{BOUNDARY}{end}".encode()


FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"


async def sequence(server: Running) -> int:
    return (await server.get("/default/dags/current")).json["sequence"]
