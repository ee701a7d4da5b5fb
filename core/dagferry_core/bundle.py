"""The canonical form of a bundle: one tar in zstd, manifest first. The server stores it and sends it as it is.

The tar holds ``manifest.txt`` and then every file as ``dags/<path>`` in the order of the manifest, each header a pure
function of the file's manifest entry. So a reader does not parse headers: it compares them with what must be there,
and anything else is refused. ``zstd -d`` and ``tar`` read it too.

The tar is cut into pieces of exactly 1 MiB, each a zstd frame of its own with a checksum; the ``Index`` beside the
bundle says where they start. That gives the server single files out of a bundle without decompressing the rest, which
a patch needs.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import zstandard

from dagferry_core.errors import AnswerInvalid, DigestMismatch, StoreFailed
from dagferry_core.limits import MAX_ZSTD_WINDOW_BYTES, PIECE_BYTES
from dagferry_core.manifest import Entry, Manifest

MANIFEST_NAME = "manifest.txt"
FOLDER = "dags/"
FRAME_BYTES = 1 << 20
BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
MAX_MANIFEST_BYTES = 256 << 20
"""Far more than a server's limits on files and paths let through: with the defaults, 25 MB."""

_USTAR = struct.Struct("100s 8s 8s 8s 12s 12s 8s 1s 100s 8s 32s 32s 8s 8s 155s 12x")
_NAME_BYTES = 100

Read = Callable[[int], bytes]
"""``read(n)`` returns 1 to n bytes, or nothing at the end."""


def _block(name: bytes, size: int, mode: int, kind: bytes) -> bytes:
    fields = [name, b"%07o" % mode, b"0000000", b"0000000", b"%011o" % size, b"00000000000", b" " * 8, kind]
    fields += [b"", b"ustar\x0000", b"", b"", b"0000000", b"0000000", b""]
    fields[6] = b"%06o\x00 " % sum(_USTAR.pack(*fields))
    return _USTAR.pack(*fields)


def padding(size: int) -> int:
    """Return how many zeros follow ``size`` bytes of content, to fill its last block."""
    return -size % BLOCK_BYTES


def member_header(path: str, size: int, mode: int) -> bytes:
    """Return the tar header of a file: one ustar block, after a PAX ``path`` record if the path is over 100 bytes."""
    name = path.encode()
    if len(name) <= _NAME_BYTES:
        return _block(name, size, mode, b"0")
    record = b" path=" + name + b"\n"
    length = len(record) + len(str(len(record)))
    length = len(record) + len(str(length))
    record = b"%d%b" % (length, record)
    extension = _block(b"long-path", len(record), 0o644, b"x") + record + bytes(padding(len(record)))
    return extension + _block(name[:_NAME_BYTES], size, mode, b"0")


def entry_header(entry: Entry) -> bytes:
    """Return the tar header of a file of the bundle."""
    return member_header(FOLDER + entry.path, entry.size, entry.mode)


def _header_bytes(entry: Entry) -> int:
    is_short = len(FOLDER + entry.path) <= _NAME_BYTES and entry.path.isascii()
    return BLOCK_BYTES if is_short else len(entry_header(entry))


class Index(NamedTuple):
    """What is stored beside a bundle: its frames (see ``dagferry_core.packing``), what each Python file imports, and
    hints to the data that it reads (see ``dagferry_core.reads``). ``reads`` is ``None`` in an index that was written
    before hints were looked for.
    """

    frames: list[int]
    imports: dict[str, tuple[str, ...]]
    reads: dict[str, tuple[str, ...]] | None = None

    def encode(self) -> bytes:
        """Return the index as it is stored."""
        text = json.dumps(self._asdict(), ensure_ascii=False).encode()
        return zstandard.ZstdCompressor(write_checksum=True).compress(text)

    @classmethod
    def decode(cls, data: bytes) -> "Index":
        """Read a stored index; raise ``StoreFailed`` if it is damaged."""
        try:
            raw: Any = json.loads(zstandard.decompress(data))
            imports, reads = (
                None if found is None else {path: tuple(names) for path, names in found.items()}
                for found in (raw["imports"], raw.get("reads"))
            )
            return cls([int(offset) for offset in raw["frames"]], imports or {}, reads)
        except Exception as error:
            raise StoreFailed(f"The index of a stored bundle is damaged: {error}.") from error


class BundleFile:
    """A stored bundle, open for reading single files. Several threads may read at once.

    ``fd`` stays the caller's to close. Holds at most one decompressed frame.
    """

    def __init__(self, fd: int, index: Index) -> None:
        self._fd = fd
        self._frames = index.frames
        self._last: tuple[int, bytes] = (-1, b"")
        self.imports = index.imports
        self.reads = index.reads
        try:
            size = int(self._range(0, BLOCK_BYTES)[124:135], 8)
            self.manifest = Manifest.parse(self._range(BLOCK_BYTES, size))
        except (ValueError, AnswerInvalid) as error:
            raise StoreFailed(f"A stored bundle has no manifest: {error}.") from error
        self._offsets: dict[str, int] = {}
        offset = BLOCK_BYTES + size + padding(size)
        for entry in self.manifest.files.values():
            offset += _header_bytes(entry)
            self._offsets[entry.path] = offset
            offset += entry.size + padding(entry.size)
        self._size = offset + len(END)

    @property
    def stored_bytes(self) -> int:
        """The size of the bundle as it is stored and sent."""
        return self._frames[-1]

    def contents(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file in pieces."""
        start, left = self._offsets[path], self.manifest.files[path].size
        while left:
            piece = self._range(start, min(left, PIECE_BYTES))
            start, left = start + len(piece), left - len(piece)
            yield piece

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        return b"".join(self.contents(path))

    def verify(self) -> None:
        """Read all of it; raise ``StoreFailed`` if any byte is damaged."""
        size = sum(len(self._frame(number)) for number in range(len(self._frames) - 1))
        if size != self._size:  # as of a frame that, by one flipped bit, claims to hold nothing
            raise StoreFailed(f"A stored bundle is damaged: it has {size} bytes, and should have {self._size}.")

    def _range(self, start: int, length: int) -> bytes:
        pieces = []
        while length:
            number, skip = divmod(start, FRAME_BYTES)
            piece = self._frame(number)[skip : skip + length]
            if not piece:
                raise StoreFailed(f"A stored bundle ends early: it has no byte {start}.")
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
        return b"".join(pieces)

    def _frame(self, number: int) -> bytes:
        cached, content = self._last
        if cached != number:
            try:
                start, end = self._frames[number : number + 2]
                frame = os.pread(self._fd, end - start, start)
                # What a damaged one says of its own size would be allocated.
                if not 0 <= (size := zstandard.frame_content_size(frame)) <= FRAME_BYTES:
                    raise ValueError(f"it claims to hold {size} bytes")
                content = zstandard.decompress(frame)
            except (OSError, ValueError, zstandard.ZstdError) as error:
                raise StoreFailed(f"A stored bundle is damaged in frame {number}: {error}.") from error
            self._last = (number, content)
        return content


def decompressed(read: Read) -> Read:
    """Return a ``read`` of the tar inside the compressed bundle that ``read`` gives."""

    class Source:
        def read(self, size: int) -> bytes:
            return read(size)

    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
    # closefd and the source's own end do not matter here: the end of the tar says whether all arrived.
    reader = decompressor.stream_reader(Source(), read_across_frames=True, read_size=PIECE_BYTES)  # type: ignore[arg-type]

    def read_tar(size: int) -> bytes:
        try:
            return reader.read(size)
        except zstandard.ZstdError as error:
            raise DigestMismatch(f"The bundle was damaged on its way: {error}.") from error

    return read_tar


def _exactly(read: Read, size: int) -> memoryview:
    data = read(size)
    while len(data) < size:
        more = read(size - len(data))
        if not more:
            raise DigestMismatch("The bundle ends early: part of the download is missing.")
        data += more
    return memoryview(data)


def read_tar(read: Read) -> tuple[Manifest, Iterator[tuple[Entry, Iterator[memoryview]]]]:
    """Read a canonical bundle that is decompressed already: its manifest, then its files in order, in pieces.

    Each file's pieces are to be consumed before the next file is asked for. Raises ``AnswerInvalid`` or
    ``DigestMismatch`` as soon as a byte is not what the manifest says, and if the bundle is cut. Contents and the
    manifest's digest are for the caller to check: ``dagferry_core.tree`` hashes what it writes.
    """
    header = bytes(_exactly(read, BLOCK_BYTES))
    size = int(header[124:135], 8) if header[124:135].isdigit() else 0
    if header != member_header(MANIFEST_NAME, size, 0o644) or size > MAX_MANIFEST_BYTES:
        raise AnswerInvalid("The download is no bundle: it does not start with a manifest.")
    manifest = Manifest.parse(bytes(_exactly(read, size + padding(size))[:size]))

    def pieces(first: memoryview, size: int) -> Iterator[memoryview]:
        while size:
            piece = (first or _exactly(read, min(size + padding(size), PIECE_BYTES)))[:size]
            first = first[:0]
            size -= len(piece)
            yield piece

    def files() -> Iterator[tuple[Entry, Iterator[memoryview]]]:
        for entry in manifest.files.values():
            expected = entry_header(entry)
            padded = entry.size + padding(entry.size)
            # Header and first piece come in one read: calls are what costs here.
            data = _exactly(read, len(expected) + min(padded, PIECE_BYTES))
            if data[: len(expected)] != expected:
                raise DigestMismatch(f"The bundle is not in its canonical form at {entry.path!r}.")
            yield entry, pieces(data[len(expected) :], entry.size)
        if _exactly(read, len(END)) != END or read(1):
            raise DigestMismatch("The bundle is not in its canonical form at its end.")

    return manifest, files()
