"""Packs a stored bundle as an archive that can be uploaded again. Runs in threads."""

import tarfile
import zlib
from collections.abc import Generator

from dagferry_core.bundle.manifest import Entry
from dagferry_core.bundle.reader import BLOCK_BYTES, FOLDER
from dagferry_core.deploylog import Deploy
from dagferry_core.limits import PIECE_BYTES
from dagferry_server.deploys.bundles import contents_of
from dagferry_server.store.base import Store

_GZIP = 31
"""The ``wbits`` of zlib that make the gzip format."""


def packed(store: Store, deployment: str, deploy: Deploy) -> Generator[bytes, None, None]:
    """Yield the bundle of ``deploy`` as a tar.gz with all files under ``dags/``, in pieces."""
    gzip = zlib.compressobj(wbits=_GZIP)
    pending = bytearray()
    for entry, content in contents_of(store, deployment, deploy.digest):
        pending += gzip.compress(_header(entry, deploy.time))
        for piece in content:
            pending += gzip.compress(piece)
            if len(pending) >= PIECE_BYTES:
                yield bytes(pending)
                pending.clear()
        pending += gzip.compress(bytes(-entry.size % BLOCK_BYTES))
    yield bytes(pending) + gzip.compress(bytes(2 * BLOCK_BYTES)) + gzip.flush()


def _header(entry: Entry, mtime: int) -> bytes:
    member = tarfile.TarInfo(FOLDER + entry.path)
    member.size, member.mode, member.mtime = entry.size, entry.mode, mtime
    return member.tobuf(tarfile.PAX_FORMAT)
