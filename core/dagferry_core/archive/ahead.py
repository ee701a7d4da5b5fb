"""Expands an upload in a second thread, while the first one checks the expanded bytes.

Neither inflating nor hashing nor writing holds the interpreter's lock, so both threads work at the same time. The
result does not change: pieces come in order, and an error comes after all pieces before it. The thread is ahead by
``AHEAD_PIECES`` at most, so memory stays bounded and a bomb is stopped as early as without it.
"""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AHEAD_PIECES = 8
"""How many pieces may wait to be checked; a piece has at most 256 KiB and ``MIN_PIECE_BYTES``."""
MIN_PIECE_BYTES = 64 * 1024
"""Smaller pieces are joined: passing one on costs more than expanding it, and a zstd frame may have a million."""


@contextmanager
def expand_ahead(source: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """Yield the pieces of ``source``, up to and with ``b""``, which is its end and is repeated from then on.

    What ``source`` raises is raised where the piece would have come. The thread ends before the block does.
    """
    pieces = _Ahead(source)
    thread = threading.Thread(target=pieces.run, name="expand", daemon=True)
    thread.start()
    try:
        yield pieces.take()
    finally:
        pieces.stop()
        thread.join()


class _Ahead:
    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._stopped = False
        self._expanded: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(AHEAD_PIECES):
            self._room.put(None)

    def run(self) -> None:
        """Expand all of the source, unless ``stop`` is called first."""
        small: list[bytes] = []
        waiting_bytes = 0
        try:
            while not self._stopped:
                piece = next(self._source)
                small.append(piece)
                waiting_bytes += len(piece)
                if not piece or waiting_bytes >= MIN_PIECE_BYTES:
                    self._put(small)
                    waiting_bytes = 0
                if not piece:
                    self._expanded.put(b"")
                    return
        except BaseException as error:  # noqa: BLE001 - whatever it is, the other thread has to hear of it
            self._put(small)
            self._expanded.put(error)

    def _put(self, small: list[bytes]) -> None:
        piece = b"".join(small)
        small.clear()
        if piece:  # an empty one is the end
            self._room.get()
            self._expanded.put(piece)

    def take(self) -> Iterator[bytes]:
        while not isinstance(piece := self._expanded.get(), BaseException):
            self._room.put(None)
            yield piece
            while not piece:
                yield b""
        raise piece

    def stop(self) -> None:
        self._stopped = True
        self._room.put(None)
