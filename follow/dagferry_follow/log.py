"""The log of a follower: Python's logging, or another writer that a program sets.

A cold start waits 5 ms for logging, so it is imported at the first record, and not at all by the sidecar.
"""

from collections.abc import Callable, Mapping
from typing import Any

Writer = Callable[[str, str, Mapping[str, object], str], None]
"""Gets the level (``info``), the message, its fields, and the traceback if there is one."""

_writer: Writer | None = None


def write_with(writer: Writer | None) -> None:
    """Let ``writer`` write all records from now on; ``None``: Python's logging."""
    global _writer  # noqa: PLW0603 - as logging's own set-up, it is the whole process's
    _writer = writer


class Log:
    """A logger with the methods of ``logging.Logger`` that are used here; ``extra`` holds ``fields``."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, message: str, *values: object) -> None:
        """Log what only helps to find a bug."""
        self._record("debug", message, values)

    def info(self, message: str, *values: object, extra: Mapping[str, Any] | None = None) -> None:
        """Log what happens."""
        self._record("info", message, values, extra)

    def warning(self, message: str, *values: object, extra: Mapping[str, Any] | None = None) -> None:
        """Log what someone should look at."""
        self._record("warning", message, values, extra)

    def error(self, message: str, *values: object, extra: Mapping[str, Any] | None = None) -> None:
        """Log what failed."""
        self._record("error", message, values, extra)

    def exception(self, message: str, *values: object, extra: Mapping[str, Any] | None = None) -> None:
        """Log what failed with the traceback of the exception that is being handled."""
        self._record("error", message, values, extra, failed=True)

    def _record(
        self,
        level: str,
        message: str,
        values: tuple[object, ...],
        extra: Mapping[str, Any] | None = None,
        *,
        failed: bool = False,
    ) -> None:
        if _writer is None:
            import logging  # noqa: PLC0415 - see above

            write = getattr(logging.getLogger(self._name), level)
            write(message, *values, extra=extra, exc_info=failed, stacklevel=3)
            return
        exception = ""
        if failed:
            import traceback  # noqa: PLC0415 - it is rarely needed

            exception = traceback.format_exc().rstrip("\n")
        _writer(level, message % values if values else message, (extra or {}).get("fields", {}), exception)
