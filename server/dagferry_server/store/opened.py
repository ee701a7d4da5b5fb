"""A store that a command opens, and closes when it ends: any store, whether a server uses it or not.

What a command reads from a bucket is kept in a temporary folder (in ``TMPDIR``), one bundle at a time: the data folder
belongs to the server.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager

from dagferry_core.errors import SetupError
from dagferry_server.store.address import Address, open_store
from dagferry_server.store.base import Store
from dagferry_server.store.data_folder import DataFolder

NO_CACHE_BYTES = 1
"""So that each bundle is read from the bucket, also one that was just written."""


def local(folder: str) -> Address:
    """Return the address of the store in a data folder."""
    return Address("file", "", os.path.abspath(folder))


@contextmanager
def opened(address: Address, *, write: bool = False) -> Iterator[Store]:
    """Open the store at an address during the block.

    To ``write`` to a data folder, its lock is needed: ``StoreInUse`` while a server runs; the folder is created if it
    is missing. Servers may use a bucket at the same time; it is probed first. Raises ``SetupError`` if it cannot be
    used, and ``StoreError``.
    """
    if address.scheme == "file" and write:
        with closing(DataFolder(address.path)):
            yield open_store(None, address.path, None, os.environ)
    elif address.scheme == "file":
        if not os.path.isdir(address.path):
            raise SetupError(f"{address.path} is not a folder.", "Check the path.")
        yield open_store(None, address.path, None, os.environ)
    else:
        with tempfile.TemporaryDirectory(prefix="dagferry-") as folder:
            store = open_store(address, folder, NO_CACHE_BYTES, os.environ)
            if write:
                store.probe()
            yield store
