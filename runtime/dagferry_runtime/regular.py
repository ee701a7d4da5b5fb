"""Reads a small regular file, and rejects FIFOs and devices, which could block."""

import os
import stat

from dagferry_core.errors import SetupError


def read_regular(path: str, most_bytes: int, *, guarded: bool = False) -> bytes:
    """Return the content of a regular file of at most ``most_bytes``; raise ``SetupError`` if it cannot be read.

    With ``guarded``, a world-writable file is rejected, because it controls access. Blocks, on a hanging network mount
    for as long as it hangs.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise SetupError(f"{path} is not a regular file.", "Put a file there, not a FIFO, device or socket.")
            if guarded and mode & stat.S_IWOTH:
                raise SetupError(
                    f"{path} controls access, but every user of this machine can write to it.",
                    f"Run: chmod o-w {path}",
                )
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > most_bytes:
        raise SetupError(f"{path} is larger than {most_bytes} bytes.")
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
