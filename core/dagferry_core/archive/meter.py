"""Counts the bytes that an archive expands to while it is read, and stops where they exceed a limit."""

from collections.abc import Callable

from dagferry_core.archive.errors import ExpandedTooLarge, PathsTooLarge, RatioTooHigh
from dagferry_core.limits import MAX_PATHS_BYTES, MAX_RATIO, MIB, ratio_too_high


class Meter:
    """Counts the bytes of contents and of paths, including the copies that links make."""

    __slots__ = ("_expanded", "_max_expanded_bytes", "_paths", "_read", "_upload_bytes")

    def __init__(self, read: Callable[[int], bytes], upload_bytes: int, max_expanded_bytes: int) -> None:
        self._read = read
        self._upload_bytes = upload_bytes
        self._max_expanded_bytes = max_expanded_bytes
        self._expanded = 0
        self._paths = 0

    def read(self, size: int) -> bytes:
        """Read on in the archive."""
        data = self._read(size)
        self.add(len(data))
        return data

    def add(self, size: int) -> None:
        """Count bytes that the archive expands to."""
        self._expanded += size
        if self._expanded > self._max_expanded_bytes:
            raise ExpandedTooLarge(
                f"The archive expands to at least {self._expanded:,} bytes; the limit is "
                f"{self._max_expanded_bytes:,} bytes (--max-expanded-bytes)."
            )
        if ratio_too_high(self._expanded, self._upload_bytes):
            raise RatioTooHigh(
                f"The archive has {self._upload_bytes:,} bytes and expands to more than {MAX_RATIO} times as many, "
                f"at least {self._expanded // MIB} MiB."
            )

    def add_path(self, path: bytes) -> None:
        """Count a path, or the target of a link."""
        self._paths += len(path)
        if self._paths > MAX_PATHS_BYTES:
            raise PathsTooLarge(
                f"The paths in the archive are at least {self._paths:,} bytes long in total; the limit is "
                f"{MAX_PATHS_BYTES:,} bytes."
            )
