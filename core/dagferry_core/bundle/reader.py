"""The canonical form of a bundle: one tar in zstd, manifest first. The server stores it and sends it as it is.

The tar holds ``manifest.txt`` and then every file as ``dags/<path>`` in the order of the manifest, each header a pure
function of the file's manifest entry. So a reader does not parse headers: it compares them with the expected bytes, and
anything else is rejected. ``zstd -d`` and ``tar`` read it too.

The tar is cut into pieces of at most 1 MiB, each a zstd frame of its own with a checksum; the ``Index`` beside the
bundle says where they start. That gives the server single files out of a bundle without decompressing the rest, which a
patch needs. Cuts are at borders of files (``dagferry_core.bundle.layout``), so that a bundle can be stored with frames
of the previous one. In bundles of older servers each frame but the last holds exactly 1 MiB.
"""

import json
import re
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import zstandard

from dagferry_core.bundle import frames
from dagferry_core.bundle.manifest import MAX_MANIFEST_BYTES, Entry, Manifest
from dagferry_core.errors import FormatError, Truncated
from dagferry_core.limits import LARGE_MANIFEST_BYTES, MAX_ZSTD_WINDOW_BYTES, PIECE_BYTES

MANIFEST_NAME = "manifest.txt"
FOLDER = "dags/"
FRAME_BYTES = frames.FRAME_BYTES
_PIECE_ITEMS = 1000
_AFTER_FRAMES = b'], "imports": '
"""What follows the frames in an index. Nothing in them looks like it: they are numbers and hashes."""
BLOCK_BYTES = frames.BLOCK_BYTES
END = bytes(2 * BLOCK_BYTES)

_USTAR = struct.Struct("100s 8s 8s 8s 12s 12s 8s 1s 100s 8s 32s 32s 8s 8s 155s 12x")
_NAME_BYTES = 100
_OCTAL = re.compile(rb"[0-7]{11}")

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


def header_bytes(entry: Entry) -> int:
    """Return the size of ``entry_header(entry)``."""
    is_short = len(FOLDER + entry.path) <= _NAME_BYTES and entry.path.isascii()
    return BLOCK_BYTES if is_short else len(entry_header(entry))


class Part(NamedTuple):
    """Bytes of one member of the tar: ``size`` of them from ``start``, which counts from the start of its header."""

    entry: Entry
    start: int
    size: int


class Index(NamedTuple):
    """What is stored beside a bundle: its frames (see ``dagferry_core.bundle.writer``), what each Python file imports,
    hints to the data that it reads (see ``dagferry_core.source.reads``), and the DAG ids of those that have some (see
    ``dagferry_core.source.dag_ids``). ``reads`` and ``dags`` are ``None`` in an index that was written before they were
    looked for.
    """

    frames: list[frames.Frame]
    imports: dict[str, tuple[str, ...]]
    reads: dict[str, tuple[str, ...]] | None = None
    dags: dict[str, tuple[str, ...]] | None = None

    def encode(self) -> bytes:
        """Return the index as it is stored."""
        text = bytearray(b"{")
        for field, value in self._asdict().items():
            text += b'%b"%b": ' % (b", " if len(text) > 1 else b"", field.encode())
            for piece in _json(value) if isinstance(value, dict) else (json.dumps(value).encode(),):
                text += piece
        text += b"}"
        return zstandard.ZstdCompressor(write_checksum=True).compress(text)

    @classmethod
    def decode(cls, data: bytes) -> "Index":
        """Read a stored index; raise ``FormatError`` if it is damaged."""
        try:
            raw: Any = json.loads(zstandard.decompress(data))
            imports, reads, dags = (
                None if found is None else {path: tuple(names) for path, names in found.items()}
                for found in (raw["imports"], raw.get("reads"), raw.get("dags"))
            )
            return cls(_frame_starts(raw["frames"]), imports or {}, reads, dags)
        except Exception as error:
            raise FormatError(f"the index is damaged: {error}") from error


def stored_frames(data: bytes) -> list[frames.Frame]:
    """Return only the frames of a stored index; raise ``FormatError`` if they are damaged.

    They come first in its text. The rest, what each file imports and reads, would take 100 MB for 90,000 files.
    """
    text = bytearray()
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            while (end := text.find(_AFTER_FRAMES)) < 0 and (piece := reader.read(PIECE_BYTES)):
                text += piece
        return _frame_starts(json.loads(text if end < 0 else text[: end + 1] + b"}")["frames"])
    except Exception as error:
        raise FormatError(f"the index is damaged: {error}") from error


def _frame_starts(raw: list[Any]) -> list[frames.Frame]:
    if raw and isinstance(raw[0], int):  # of an older server: the offsets alone
        return [frames.Frame(int(offset), number * FRAME_BYTES) for number, offset in enumerate(raw)]
    return [frames.Frame(int(offset), int(start), str(sha256)) for offset, start, sha256 in raw]


def _json(value: dict[str, Any]) -> Iterator[bytes]:
    """Yield a dict as JSON, in pieces: as one text and its bytes, a large one would be in memory twice."""
    items = iter(value.items())
    comma = b""
    yield b"{"
    while batch := dict(islice(items, _PIECE_ITEMS)):
        yield comma + json.dumps(batch, ensure_ascii=False)[1:-1].encode()
        comma = b", "
    yield b"}"


class BundleFile:
    """A stored bundle, open for reading single files. Several threads may read at once, if ``read`` lets them.

    Holds at most one decompressed frame. Manifest entries that are also in ``known`` share its memory. ``when_large``
    is called before a manifest over ``LARGE_MANIFEST_BYTES`` is read. Reading raises ``FormatError`` if the bundle is
    damaged, and what ``read`` raises.
    """

    def __init__(
        self,
        read: frames.RangeRead,
        index: Index,
        known: Manifest | None = None,
        when_large: Callable[[], object] = lambda: None,
    ) -> None:
        self._frames = frames.Frames(read, index.frames)
        self.imports = index.imports
        self.reads = index.reads
        self.dags = index.dags
        size = self._frames.manifest_bytes()
        if size > LARGE_MANIFEST_BYTES:
            when_large()
        self.manifest = Manifest.parse(self._frames.range(BLOCK_BYTES, size), known)
        # In the order of the paths: as a dict, these would take seven times the memory.
        self._paths = list(self.manifest.files)
        self._offsets = array("Q")
        offset = BLOCK_BYTES + size + padding(size)
        for entry in self.manifest.files.values():
            offset += header_bytes(entry)
            self._offsets.append(offset)
            offset += entry.size + padding(entry.size)
        self._size = offset + len(END)

    def forget_sources(self) -> None:
        """Free the memory of what was found in its Python files: with many of them, it is tens of MiB."""
        self.imports, self.reads, self.dags = {}, None, None

    @property
    def stored_bytes(self) -> int:
        """The size of the bundle as it is stored and sent."""
        return self._frames.stored_bytes

    def contents(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file in pieces."""
        size = self.manifest.files[path].size
        return self._frames.pieces(self._offsets[bisect_left(self._paths, path)], size)

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        return b"".join(self.contents(path))

    def open_content(self, entry: Entry) -> frames.RangeRead:
        """Return what reads the content of one of its files at any place."""
        first = self._offsets[bisect_left(self._paths, entry.path)]

        def read(offset: int, size: int) -> bytes:
            return self._frames.range(first + offset, max(0, min(size, entry.size - offset)))

        return read

    def stored_frame(self, parts: Sequence[Part]) -> tuple[bytes, str] | None:
        """Return the frame that holds exactly ``parts``, and the sha256 that it had when it was written.

        Both are returned as stored, without a comparison; ``None`` if there is no such frame.
        """
        entry, start, _ = parts[0]
        number = bisect_left(self._paths, entry.path)
        paths = self._paths[number : number + len(parts)]
        if [self.manifest.files[path] for path in paths] != [part.entry for part in parts]:
            return None
        return self._frames.stored_frame(
            self._offsets[number] - header_bytes(entry) + start, sum(part.size for part in parts)
        )

    def verify(self) -> None:
        """Read all of it; raise ``FormatError`` if any byte is damaged."""
        self._frames.verify(self._size)


def decompressed(read: Read) -> Read:
    """Return a ``read`` of the tar inside the compressed bundle that ``read`` gives; it raises ``FormatError``."""

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
            raise FormatError(f"it cannot be decompressed: {error}") from error

    return read_tar


def _exactly(read: Read, size: int) -> bytes:
    data = read(size)
    if len(data) == size:
        return data
    pieces, left = [data], size - len(data)
    while left:
        more = read(left)
        if not more:
            raise Truncated("it ends early: part of it is missing")
        pieces.append(more)
        left -= len(more)
    return b"".join(pieces)


def read_tar(read: Read) -> tuple[Manifest, Iterator[tuple[Entry, Iterator[memoryview]]]]:
    """Read a canonical bundle that is decompressed already: its manifest, then its files in order, in pieces.

    Each file's pieces are to be consumed before the next file is asked for. Raises ``FormatError`` as soon as a byte is
    not what the manifest says, and ``Truncated`` if the bundle ends early. The caller checks the contents and the
    manifest's digest: ``dagferry_follow.volume.staging`` hashes what it writes.
    """
    header = _exactly(read, BLOCK_BYTES)
    size = int(header[124:135], 8) if _OCTAL.fullmatch(header, 124, 135) else 0
    if header != member_header(MANIFEST_NAME, size, 0o644):
        raise FormatError("it is not a bundle: it does not start with a manifest")
    if size > MAX_MANIFEST_BYTES:
        raise FormatError(f"the manifest claims {size} bytes; at most {MAX_MANIFEST_BYTES} are read")
    text = _exactly(read, size)
    _exactly(read, padding(size))
    manifest = Manifest.parse(text)
    del text

    def pieces(first: memoryview, size: int) -> Iterator[memoryview]:
        while size > 0:
            piece = (first or memoryview(_exactly(read, min(size + padding(size), PIECE_BYTES))))[:size]
            first = first[:0]
            size -= len(piece)
            yield piece

    def files() -> Iterator[tuple[Entry, Iterator[memoryview]]]:
        for entry in manifest.files.values():
            expected = entry_header(entry)
            padded = entry.size + padding(entry.size)
            # Header and first piece come in one read: the number of calls determines the speed here.
            data = memoryview(_exactly(read, len(expected) + min(padded, PIECE_BYTES)))
            if data[: len(expected)] != expected:
                raise FormatError(f"it is not in its canonical form at {entry.path!r}")
            yield entry, pieces(data[len(expected) :], entry.size)
        if _exactly(read, len(END)) != END or read(1):
            raise FormatError("it is not in its canonical form at its end")

    return manifest, files()
