"""Reads a download of a version, and proves that it is what the deploy log says.

The download is a tar.gz. Nothing in it is trusted: it is read by the strict rules for uploads, and the digest of what
it contained must be the one that is expected.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator

from dagferry_client.errors import DownloadDamaged
from dagferry_core.archive.errors import ArchiveError, BundleError
from dagferry_core.archive.paths import ROOT, check_path, quoted
from dagferry_core.archive.tar import Kind, Member, members
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.limits import MOST_EXPANDED_BYTES, MOST_FILES, PIECE_BYTES

_GZIP = 31
"""The ``wbits`` of zlib that make the gzip format."""
_EXECUTABLE, _PLAIN = 0o755, 0o644

Store = Callable[[Entry, Iterator[bytes]], None]
"""Takes a file and its content in pieces; the sha256 in the entry is not known yet, and empty."""


def read_download(pieces: Iterator[bytes], store: Store) -> Manifest:
    """Give each file of a download to ``store``, and return the manifest of all of them.

    Raises ``DownloadDamaged`` if it is not a whole archive of regular files.
    """
    source = _Expanded(pieces)
    entries: dict[str, Entry] = {}
    try:
        for member in members(source.read, MOST_FILES):
            entry = _read(member, store)
            if entries.setdefault(entry.path, entry) is not entry:
                raise DownloadDamaged(f"The download has {quoted(entry.path)} twice.")
    except (ArchiveError, BundleError) as error:
        raise DownloadDamaged(f"The download cannot be read: {error.message}") from error
    return Manifest(entries.values())


def check_digest(version: str, found: Manifest, digest: str) -> None:
    """Raise ``DownloadDamaged`` unless what was downloaded has the digest of the version."""
    if found.digest != digest:
        raise DownloadDamaged(f"The download of {version} has the digest {found.digest}, not {digest}.")


def _read(member: Member, store: Store) -> Entry:
    path = check_path(member.path)
    if member.kind is not Kind.FILE or not path.startswith(f"{ROOT}/"):
        raise DownloadDamaged(f"The download has {quoted(member.path)}, which is not a file below {ROOT}/.")
    mode = _EXECUTABLE if member.mode & 0o100 else _PLAIN
    entry = Entry(path.removeprefix(f"{ROOT}/"), member.size, mode, "")
    content = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for piece in member.chunks():
            content.update(piece)
            yield piece

    rest = hashed()
    store(entry, rest)
    for _ in rest:
        pass
    return entry._replace(sha256=content.hexdigest())


class _Expanded:
    """The tar in a gzip stream: ``read(n)`` returns n bytes, fewer only at its proven end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._inflate = zlib.decompressobj(wbits=_GZIP)
        self._ready = bytearray()
        self._at = self._expanded = 0

    def read(self, size: int) -> bytes:
        while len(self._ready) - self._at < size and self._more():
            pass
        piece = bytes(self._ready[self._at : self._at + size])
        self._at += len(piece)
        if self._at >= PIECE_BYTES:
            del self._ready[: self._at]
            self._at = 0
        return piece

    def _more(self) -> bool:
        """Expand some more; return whether this was not the end."""
        inflate = self._inflate
        data = inflate.unconsumed_tail
        if inflate.eof:
            if inflate.unused_data or next(self._pieces, b""):
                raise DownloadDamaged("The download goes on after its end.")
            return False
        if not data:
            data = next(self._pieces, b"")
            if not data:
                raise DownloadDamaged("The download ends too early.")
        try:
            piece = inflate.decompress(data, PIECE_BYTES)
        except zlib.error as error:
            raise DownloadDamaged(f"The download cannot be expanded: {error}.") from error
        self._expanded += len(piece)
        if self._expanded > 2 * MOST_EXPANDED_BYTES:
            raise DownloadDamaged("The download expands to more than any server accepts.")
        self._ready += piece
        return True
