"""Packs a stored bundle as an archive that can be uploaded again and then is the same bundle. Runs in threads.

So it must not look like a decompression bomb, as an archive of much that repeats would: it is filled up.
"""

import tarfile
import zlib
from collections.abc import Generator, Iterator

from dagferry_core.bundle.manifest import Entry
from dagferry_core.bundle.reader import BLOCK_BYTES, FOLDER
from dagferry_core.deploylog import Deploy
from dagferry_core.limits import MAX_RATIO, PIECE_BYTES, ratio_too_high
from dagferry_server.deploys.bundles import contents_of
from dagferry_server.store.base import Store

_GZIP = 31
"""The ``wbits`` of zlib that make the gzip format."""
_EMPTY_BLOCK = b"\0\0\0\xff\xff"
"""A block of deflate that holds nothing (RFC 1951 §3.2.4), where a block may begin on a whole byte."""


def packed(store: Store, deployment: str, deploy: Deploy) -> Generator[bytes, None, None]:
    """Yield the bundle of ``deploy`` as a tar.gz with all files under ``dags/``, in pieces."""
    gzip = zlib.compressobj(wbits=_GZIP)
    pending = bytearray()
    expanded = sent = 0
    for entry, content in contents_of(store, deployment, deploy.digest):
        header = _header(entry, deploy.time)
        pending += gzip.compress(header)
        for piece in content:
            pending += gzip.compress(piece)
            if len(pending) >= PIECE_BYTES:
                sent += len(pending)
                yield bytes(pending)
                pending.clear()
        padding = -entry.size % BLOCK_BYTES
        pending += gzip.compress(bytes(padding))
        expanded += len(header) + entry.size + padding
    end = bytes(2 * BLOCK_BYTES)
    pending += gzip.compress(end) + gzip.flush(zlib.Z_SYNC_FLUSH)
    expanded, sent = expanded + len(end), sent + len(pending)
    yield bytes(pending)
    if ratio_too_high(expanded, sent):
        yield from _filling(expanded // MAX_RATIO + 1 - sent)
    yield gzip.flush()


def _filling(size: int) -> Iterator[bytes]:
    """Yield at least ``size`` bytes that expand to nothing, in pieces."""
    for start in range(0, size, PIECE_BYTES):
        yield _EMPTY_BLOCK * (min(size - start, PIECE_BYTES) // len(_EMPTY_BLOCK) + 1)


def _header(entry: Entry, mtime: int) -> bytes:
    member = tarfile.TarInfo(FOLDER + entry.path)
    member.size, member.mode, member.mtime = entry.size, entry.mode, mtime
    return member.tobuf(tarfile.PAX_FORMAT)
