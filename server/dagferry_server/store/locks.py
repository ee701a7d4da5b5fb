"""The local store's lock between commits and deletions of a deployment's bundles: shared by commits, or exclusive.

The kernel releases the lock when the process dies. Each open file description holds it separately.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dagferry_server.errors import StoreAway
from dagferry_server.store.base import COMMIT_WAIT_SECONDS, storage_errors
from dagferry_server.store.files import open_private

LOCK_POLL_SECONDS = 0.01


@contextmanager
def committing(path: str, deployment: str) -> Iterator[None]:
    """Keep others from deleting; ``StoreAway`` if a deletion goes on for ``COMMIT_WAIT_SECONDS``."""
    deadline = time.monotonic() + COMMIT_WAIT_SECONDS
    with _open(path, deployment) as lock:
        while not _try_lock(lock, fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                raise StoreAway(f"Another server has deleted bundles of {deployment} for {COMMIT_WAIT_SECONDS:g} s.")
            time.sleep(LOCK_POLL_SECONDS)
        yield


@contextmanager
def deleting(path: str, deployment: str) -> Iterator[bool]:
    """Keep others from committing; ``False`` if a commit is in progress."""
    with _open(path, deployment) as lock:
        yield _try_lock(lock, fcntl.LOCK_EX)


@contextmanager
def _open(path: str, deployment: str) -> Iterator[int]:
    with storage_errors(f"Locking the bundles of {deployment}"):
        lock = open_private(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        yield lock
    finally:
        os.close(lock)


def _try_lock(lock: int, kind: int) -> bool:
    with storage_errors("Locking the bundles of a deployment"):
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
