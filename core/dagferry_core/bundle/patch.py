"""The patch between two bundles: what a sidecar that has the old one needs to build the new one.

It is small when the change is small: unchanged files cost nothing, and a changed file is compressed with its own old
content as the zstd dictionary. A patch is a sequence of parts, each a zstd frame behind its length (four bytes, big
endian). The first part is text::

    dagferry-patch 1
    to <hex of the digest that must come out>
    remove <path>
    copy <line of a manifest>      content that the old bundle has somewhere else, or with another mode; or any content,
                                   for a sidecar that still has a tree of the new bundle
    batch <number of files that follow>
    file <line of a manifest>      a new content
    touch <path>                   unchanged, but it imports or reads what changed: gets a new modification time

Each further part holds the contents of one batch, one after the other. Its dictionary is the old contents of those
files of the batch that were there before, in the same order, unless they are too large (``BATCH_BYTES``).
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import zstandard

from dagferry_core.bundle.manifest import Changes, Entry, Manifest, parse_line
from dagferry_core.bundle.reader import BundleFile
from dagferry_core.errors import FormatError
from dagferry_core.limits import MAX_ZSTD_WINDOW_BYTES, MIB, MOST_FILES

HEADER = "dagferry-patch 1"
MAX_PATCH_BYTES = 8 * MIB
"""A patch is held in memory at both ends; a larger change is sent as a full bundle."""
BATCH_BYTES = 4 * MIB
"""Old and new contents of a batch together, so that the window reaches the dictionary and memory stays small."""
MAX_FILE_BYTES = 16 * MIB
"""A larger file that changed is not worth a patch: it would have to be held in memory."""

MAX_TEXT_BYTES = 8 * MIB
"""The same holds for the first part: a hundred thousand files with long paths can come to more."""
MAX_PATCH_FILES = 20_000
"""If more files were changed, added and removed, a patch saves little and takes much memory at both ends."""

MAX_LINES = 4 * MOST_FILES
"""A line for each file that is removed or carried, for each batch, and for each file that is touched."""

_LENGTH_BYTES = 4
_SMALL_BYTES = 256 * 1024
"""Up to this size a batch is compressed as well as possible; above it, speed matters more than the last percent."""


def _batches(entries: Iterable[Entry], old: Manifest) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    total = 0
    for entry in entries:
        weight = entry.size + (old.files[entry.path].size if entry.path in old.files else 0)
        if batch and total + weight > BATCH_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(entry)
        total += weight
    if batch:
        yield batch


def _dictionary(
    batch: Iterable[Entry], old: Manifest, read_old: Callable[[str], bytes]
) -> zstandard.ZstdCompressionDict | None:
    known = [old.files[entry.path] for entry in batch if entry.path in old.files]
    if not 0 < sum(entry.size for entry in known) <= BATCH_BYTES:
        return None
    content = b"".join(read_old(entry.path) for entry in known)
    return zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _part(content: bytes, dictionary: zstandard.ZstdCompressionDict | None = None) -> bytes:
    known = len(dictionary) if dictionary else 0
    window_log = min(MAX_ZSTD_WINDOW_BYTES.bit_length() - 1, max(10, (len(content) + known).bit_length()))
    if not dictionary and len(content) > _SMALL_BYTES:  # the tables below would be 32 MiB for nothing
        frame = zstandard.ZstdCompressor(level=3).compress(content)
        return len(frame).to_bytes(_LENGTH_BYTES, "big") + frame
    # Tables as large as the window: the library's own choice forgets most of a large dictionary.
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19 if len(content) + known <= _SMALL_BYTES else 9,
        window_log=window_log,
        hash_log=min(window_log, 22),
        chain_log=min(window_log, 22),
    )
    frame = zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary).compress(content)
    return len(frame).to_bytes(_LENGTH_BYTES, "big") + frame


def worth_a_patch(changes: Changes) -> bool:
    """Return whether there are few enough changes for a patch to be worthwhile."""
    return sum(map(len, changes)) <= MAX_PATCH_FILES


def make_patch(
    old: BundleFile, new: BundleFile, touch: Sequence[str], max_bytes: int, *, bare: bool = False
) -> bytes | None:
    """Return the patch from ``old`` to ``new``, or ``None`` if it would be larger than ``max_bytes`` or useless.

    ``touch`` are the unchanged paths that import or read something that changed (``graph.touched``). A ``bare`` patch
    has no contents: it is for a sidecar that still has a tree of ``new``.
    """
    changes = new.manifest.changes_from(old.manifest)
    old_contents = {entry.sha256 for entry in old.manifest.files.values()}
    entries = [new.manifest.files[path] for path in sorted((*changes.added, *changes.changed))]
    copied = [entry for entry in entries if bare or entry.sha256 in old_contents]
    written = [entry for entry in entries if not bare and entry.sha256 not in old_contents]
    if any(entry.size > MAX_FILE_BYTES for entry in written):
        return None
    batches = list(_batches(written, old.manifest))
    text = bytearray("\n".join(_head(new.manifest.digest)).encode())
    for line in _lines(changes.removed, copied, batches, touch):
        text += f"\n{line}".encode()
        if len(text) > MAX_TEXT_BYTES:
            return None
    parts = [_part(bytes(text))]
    limit = min(max_bytes, new.stored_bytes)
    for batch in batches:
        if sum(map(len, parts)) > limit:
            return None
        content = b"".join(new.read(entry.path) for entry in batch)
        parts.append(_part(content, _dictionary(batch, old.manifest, old.read)))
    patch = b"".join(parts)
    return patch if len(patch) <= limit else None


def _head(digest: str) -> tuple[str, str]:
    return HEADER, f"to {digest.removeprefix('sha256:')}"


def _lines(
    removed: Iterable[str], copied: Iterable[Entry], batches: Iterable[Sequence[Entry]], touch: Iterable[str]
) -> Iterator[str]:
    yield from (f"remove {path}" for path in removed)
    yield from (f"copy {entry.line()}" for entry in copied)
    for batch in batches:
        yield f"batch {len(batch)}"
        yield from (f"file {entry.line()}" for entry in batch)
    yield from (f"touch {path}" for path in touch)


def _parts(body: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(body):
        length = int.from_bytes(body[start : start + _LENGTH_BYTES], "big")
        if not length:
            raise ValueError("it has an empty part")
        start += _LENGTH_BYTES + length
        if start > len(body):
            raise ValueError("it is cut short")
        yield body[start - length : start]


class Patch(NamedTuple):
    """A received patch. None of it is trusted before ``apply_to`` has checked the digest."""

    digest: str
    removed: list[str]
    copied: list[Entry]
    batches: list[list[Entry]]
    touch: list[str]
    parts: list[bytes]

    @classmethod
    def parse(cls, body: bytes) -> "Patch":
        """Read a patch; raise ``FormatError`` if it is not one."""
        try:
            return cls._parse(body)
        except (ValueError, IndexError, zstandard.ZstdError) as error:
            raise FormatError(f"it is not a patch: {error}") from error

    @classmethod
    def _parse(cls, body: bytes) -> "Patch":
        parts = list(_parts(body))
        text = _decompress(parts[0], None, MAX_TEXT_BYTES) + b"\n"
        if text.count(b"\n") > MAX_LINES:
            raise ValueError(f"it has more than {MAX_LINES} lines")
        lines = io.BytesIO(text)  # one at a time: a list of them all would take more memory than the text
        header, to = next(lines).decode().rstrip("\n"), next(lines, b"").decode().rstrip("\n")
        if header != HEADER:
            raise ValueError(f"it starts with {header[:40]!r}")
        patch = cls("sha256:" + to.removeprefix("to "), [], [], [], [], parts[1:])
        for line in lines:
            patch._add(line)
        if len(patch.batches) != len(patch.parts):
            raise ValueError(f"it has {len(patch.parts)} contents for {len(patch.batches)} batches")
        for batch in patch.batches:
            if sum(entry.size for entry in batch) > (MAX_FILE_BYTES if len(batch) == 1 else BATCH_BYTES):
                raise ValueError("a batch of it claims more bytes than may be held in memory")
        return patch

    def _add(self, line: bytes) -> None:
        word, _, rest = line.partition(b" ")
        if word == b"remove":
            self.removed.append(rest[:-1].decode())
        elif word == b"copy":
            self.copied.append(parse_line(rest)[0])
        elif word == b"batch" and len(self.batches) < len(self.parts):
            self.batches.append([])
        elif word == b"file":
            self.batches[-1].append(parse_line(rest)[0])
        elif word == b"touch":
            self.touch.append(rest[:-1].decode())
        else:
            raise ValueError(f"it has a line {line[:40]!r}")

    @property
    def written(self) -> list[Entry]:
        """The files whose contents the patch carries."""
        return [entry for batch in self.batches for entry in batch]

    def bare(self) -> bytes:
        """Return the bare patch to the same bundle, see ``make_patch``: what this one writes, that one copies."""
        copied = sorted((*self.copied, *self.written), key=lambda entry: entry.path)
        text = "\n".join((*_head(self.digest), *_lines(self.removed, copied, [], self.touch)))
        return _part(text.encode())

    def apply_to(self, old: Manifest) -> Manifest:
        """Return the resulting manifest; raise ``ValueError`` unless its digest is the expected one.

        ``FormatError`` if it claims more than any server accepts.
        """
        removed = set(self.removed)
        files = {path: entry for path, entry in old.files.items() if path not in removed}
        files.update((entry.path, entry) for entry in (*self.copied, *self.written))
        new = Manifest(files.values())
        new.check_amounts()
        if new.digest != self.digest:
            raise ValueError(f"it leads to {new.digest} here, not to {self.digest}")
        return new

    def contents(self, old: Manifest, read_old: Callable[[str], bytes]) -> Iterator[tuple[Entry, bytes]]:
        """Yield each file of ``written`` with its content, which the caller checks against its sha256.

        ``read_old`` returns the content of a file of the old tree. Raises ``ValueError`` if a part does not fit it.
        """
        for batch, part in zip(self.batches, self.parts, strict=True):
            size = sum(entry.size for entry in batch)
            try:
                content = _decompress(part, _dictionary(batch, old, read_old), size)
            except zstandard.ZstdError as error:
                raise ValueError(f"it does not fit the files that are here: {error}") from error
            if len(content) != size:
                raise ValueError(f"it holds {len(content)} bytes where its header says {size}")
            start = 0
            for entry in batch:
                yield entry, content[start : start + entry.size]
                start += entry.size


def _decompress(part: bytes, dictionary: zstandard.ZstdCompressionDict | None, max_bytes: int) -> bytes:
    # The size in the frame's header decides how much memory is allocated, so it is checked first.
    size = zstandard.frame_content_size(part)
    if not 0 <= size <= max_bytes:
        raise zstandard.ZstdError(f"it claims to hold {size} bytes, {max_bytes} at most were expected")
    decompressor = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=MAX_ZSTD_WINDOW_BYTES)
    return decompressor.decompress(part)
