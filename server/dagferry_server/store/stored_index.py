"""What an object store has beside a bundle: a line of JSON that describes the bundle's object, then its index."""

import json
from typing import NamedTuple

from dagferry_core.errors import FormatError
from dagferry_core.typed import typed_json

MAX_HEAD_BYTES = 256
"""The line is shorter than this."""


class Blob(NamedTuple):
    """The object of a bundle: its size in bytes, and its hash in hex digits."""

    size: int
    sha256: str


def encode_index(blob: Blob, index: bytes) -> bytes:
    """Return what is stored beside the bundle."""
    return json.dumps(blob._asdict()).encode() + b"\n" + index


def decode_head(data: bytes) -> Blob:
    """Return what the line at the start says; raise ``FormatError`` if it does not decode."""
    line, end, _ = data.partition(b"\n")
    if not end:
        raise FormatError("its first line is too long, or not complete")
    return typed_json(Blob, line)


def decode_index(data: bytes) -> tuple[Blob, bytes]:
    """Return the bundle's object, and its index; raise ``FormatError`` if the line does not decode."""
    return decode_head(data), data.partition(b"\n")[2]
