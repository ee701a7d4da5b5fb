"""The folder for what can be made again, below the user's cache folder, and how files in it are written.

Nothing depends on it: a cache that cannot be read or written is not an error.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping


def cache_folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> str:
    """Return Dagferry's cache folder, which need not exist: below ``$XDG_CACHE_HOME``, or where the system has it."""
    if os.path.isabs(chosen := environ.get("XDG_CACHE_HOME", "")):  # a relative one is to be ignored, says XDG
        return os.path.join(chosen, "dagferry")
    home = os.path.expanduser("~")
    if platform == "win32":
        return os.path.join(environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local"), "dagferry", "cache")
    if platform == "darwin":
        return os.path.join(home, "Library", "Caches", "dagferry")
    return os.path.join(home, ".cache", "dagferry")


def write_cached(path: str, data: bytes) -> None:
    """Write a file so that readers see all of it or nothing; other users cannot read it. Errors are ignored."""
    with contextlib.suppress(OSError):
        folder = os.path.dirname(path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=folder)
        try:
            with open(handle, "wb") as file:
                file.write(data)
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise


def prune(folder: str, max_files: int, max_bytes: int) -> None:
    """Remove the files in ``folder`` that were not used for longest, until these limits are kept. Ignores errors."""
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            found = sorted(((entry.stat(), entry.path) for entry in entries), key=lambda item: -item[0].st_mtime_ns)
        size = 0
        for number, (status, path) in enumerate(found):
            size += status.st_size
            if number >= max_files or size > max_bytes:
                with contextlib.suppress(OSError):
                    os.unlink(path)
