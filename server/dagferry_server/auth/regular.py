"""Reads a small file as a whole, and nothing that only looks like one: to open a FIFO is to wait for its writer."""

import os
import stat

from dagferry_core.errors import SetupError


def read_regular(path: str, most_bytes: int, *, guarded: bool = False) -> bytes:
    """Return the content of a regular file of at most ``most_bytes``; raise ``SetupError`` if it cannot be had.

    With ``guarded`` a file that everybody on this machine may write is refused: it says who may do what. Blocks, on a
    network mount that hangs for as long as that does.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise SetupError(f"{path} is not a regular file.", "Put a file there, not a FIFO, device or socket.")
            if guarded and mode & stat.S_IWOTH:
                raise SetupError(
                    f"{path} can be written by every user of this machine, and says who may do what.",
                    f"Run: chmod o-w {path}",
                )
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > most_bytes:
        raise SetupError(f"{path} has more than {most_bytes} bytes.")
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
