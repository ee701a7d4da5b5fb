"""Decompresses a bundle in a second thread while it is downloaded, so that the first thread can write files.

Every task pod of Airflow's KubernetesExecutor waits for a cold start, and this makes it a third shorter. The threads
pass a few buffers back and forth: memory for new ones would stay allocated for the whole life of the sidecar.
"""

import contextlib
import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import zstandard

from dagferry_core.limits import MAX_ZSTD_WINDOW_BYTES, PIECE_BYTES
from dagferry_follow.errors import DigestMismatch

BUFFERS = 8
"""Buffers of ``PIECE_BYTES`` each: how far decompressing may be ahead of writing."""
HEARTBEAT_SECONDS = 1.0
"""How often the reader reports that it is alive while no data comes."""
COMPRESSED_BYTES = 64 * 1024
"""How much is read from the connection at a time."""


class _Source(NamedTuple):
    """The source that zstandard reads from."""

    read: Callable[[int], bytes]


class Inflated:
    """The tar inside a compressed bundle that ``read`` gives; a context manager that ends its thread.

    ``abort`` must make a ``read`` that is under way in the other thread return or raise. ``heartbeat`` is called in
    this thread, for each piece and every second while none comes.
    """

    __slots__ = (
        *("_abort", "_empty", "_ended", "_filled", "_heartbeat"),
        *("_piece", "_read", "_start", "_stopped", "_thread"),
    )

    def __init__(
        self, read: Callable[[int], bytes], abort: Callable[[], None], heartbeat: Callable[[], None] = lambda: None
    ) -> None:
        self._heartbeat = heartbeat
        self._read = read
        self._abort = abort
        self._empty: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._filled: queue.SimpleQueue[memoryview | BaseException] = queue.SimpleQueue()
        for _ in range(BUFFERS):
            self._empty.put(bytearray(PIECE_BYTES))
        self._piece = memoryview(b"")
        self._start = 0
        self._ended = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="inflate", daemon=True)

    def __enter__(self) -> Callable[[int], bytes]:
        self._thread.start()
        return self._next_bytes

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stopped = True
            self._abort()
            self._empty.put(bytearray())
        self._thread.join()

    def _run(self) -> None:
        try:
            decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
            source: Any = _Source(self._read)
            stream = decompressor.stream_reader(source, read_size=COMPRESSED_BYTES, read_across_frames=True)
            size = 1
            while size and not self._stopped:
                buffer = self._empty.get()
                size = stream.readinto(buffer)
                self._filled.put(memoryview(buffer)[:size])
        except zstandard.ZstdError as error:
            self._filled.put(DigestMismatch(f"The bundle was damaged in transit: {error}."))
        except BaseException as error:  # noqa: BLE001 - the other thread raises it
            self._filled.put(error)

    def _wait(self) -> memoryview | BaseException:
        while True:
            self._heartbeat()
            with contextlib.suppress(queue.Empty):
                return self._filled.get(timeout=HEARTBEAT_SECONDS)

    def _next_bytes(self, size: int) -> bytes:
        if self._start == len(self._piece) and not self._ended:
            piece = self._wait()
            if isinstance(piece, BaseException):
                raise piece
            if isinstance(self._piece.obj, bytearray):
                self._empty.put(self._piece.obj)
            self._piece, self._start, self._ended = piece, 0, not piece
        taken = self._piece[self._start : self._start + size].tobytes()
        self._start += len(taken)
        return taken
