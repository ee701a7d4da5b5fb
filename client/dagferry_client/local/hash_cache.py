"""Hashes of the files of a dags folder, kept so that a deploy reads only what changed since the last one.

As for Git and make, a file with the same size, times and inode is the same. One that was written so shortly before it
was hashed that another write could leave its times as they are is hashed again (Git calls such an entry racy). 2,000
files of 60 MB take 60 to 90 ms to read and hash, a quarter of the deploy of a changed line.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping

from dagferry_client.local.cache_folder import prune, write_cached
from dagferry_client.local.scan import LocalFile
from dagferry_core.limits import MIB

MAX_FOLDERS = 20
MAX_CACHED_BYTES = 256 * MIB
"""Of how many dags folders the hashes are kept, and how many bytes they may take together."""
RACY_NS = 2 * 10**9
"""The times of files are that coarse on some file systems (FAT)."""


class HashCache:
    """The hashes of the files in one dags folder, kept in a file in ``folder``, which need not exist."""

    def __init__(self, folder: str, dags: str) -> None:
        self._folder = folder
        self._path = os.path.join(folder, hashlib.sha256(os.fsencode(dags)).hexdigest()[:32] + ".json")
        self._started = time.time_ns()
        self._known = _load(self._path)
        self._found: dict[str, list[object]] = {}

    def get(self, file: LocalFile) -> str | None:
        """Return the sha256 of a file in hex, ``None`` if it is not known or the file may have changed."""
        known = self._known.get(file.source)
        if known is None or known[:-1] != list(file.stamp):
            return None
        self._found[file.source] = known
        return str(known[-1])

    def put(self, file: LocalFile, sha256: str) -> None:
        """Note the hash of a file, which was read after the cache was created."""
        _, modified, changed, *_ = file.stamp
        if max(modified, changed) < self._started - RACY_NS:
            self._found[file.source] = [*file.stamp, sha256]

    def save(self) -> None:
        """Keep what was got and put; the files of other paths are forgotten."""
        if self._found == self._known:
            with contextlib.suppress(OSError):
                os.utime(self._path)
            return
        text = json.dumps(self._found, separators=(",", ":")).encode()
        write_cached(self._path, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
        prune(self._folder, MAX_FOLDERS, MAX_CACHED_BYTES)


def _load(path: str) -> Mapping[str, list[object]]:
    """Read a file of hashes; one that is damaged or not there is empty."""
    try:
        with open(path, "rb") as file:
            sha256, _, text = file.read(MAX_CACHED_BYTES).partition(b"\n")
        if hashlib.sha256(text).hexdigest().encode() != sha256:
            return {}
        known: dict[str, list[object]] = json.loads(text)
    except (OSError, ValueError):
        return {}
    return known
