"""A form with one file (``multipart/form-data``, RFC 7578) as the body of a request: its size is known, it can be sent
again, and no more than a piece of the file is in memory.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import IO

from dagferry_core.limits import PIECE_BYTES


class Form:
    """Text ``fields``, and after them ``file``, which must be open for as long as the form is sent.

    ``sent`` is called with how many bytes of the file an attempt has sent so far. Names are those of the protocol, and
    need no quotes.
    """

    def __init__(
        self,
        fields: Mapping[str, str],
        name: str,
        file: IO[bytes],
        sent: Callable[[int], object] = lambda _: None,
    ) -> None:
        # No content can contain a boundary that is made after it.
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{text}\r\n'
            for field, text in fields.items()
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        self._head = "".join(parts).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._file = file
        self._sent = sent
        self._size = len(self._head) + file.seek(0, 2) + len(self._tail)

    def __len__(self) -> int:
        """Return the size of the body in bytes."""
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        """Yield the body in pieces, from its start."""
        yield self._head
        self._file.seek(0)
        count = 0
        while piece := self._file.read(PIECE_BYTES):
            yield piece
            count += len(piece)
            self._sent(count)
        yield self._tail
