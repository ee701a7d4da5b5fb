"""Small files that are replaced as a whole: who reads one gets the old content or the new one.

A DAG file may have put anything in the place of one that Airflow can write: reading it never blocks.
"""

import contextlib
import errno
import os
import stat

from dagferry_follow.volume.attributes import set_mode

# O_NONBLOCK: a FIFO in the place of a file must not block the reader.
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_file(path: str) -> int:
    """Return a descriptor to read a regular file; ``OSError`` if it is something else, as a link or a FIFO."""
    fd = os.open(path, OPEN_FILE)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_bytes(path: str, max_bytes: int) -> bytes:
    """Return the first ``max_bytes`` of a regular file; ``OSError`` if that is not possible."""
    with open(open_file(path), "rb") as file:
        return file.read(max_bytes)


def read_text(path: str, max_bytes: int) -> str:
    """Return the first ``max_bytes`` of a regular file in UTF-8; ``""`` if it cannot be read."""
    with contextlib.suppress(OSError):
        return read_bytes(path, max_bytes).decode("utf-8", "replace")
    return ""


def replace_text(path: str, text: str, mode: int | None = None) -> None:
    """Write text in UTF-8 as ``replace_bytes`` does."""
    replace_bytes(path, text.encode(), mode)


def replace_bytes(path: str, data: bytes, mode: int | None = None) -> None:
    """Write a file, or another one in its place; ``OSError`` if that fails, and nothing is left behind.

    With a ``mode`` it has these permissions, whatever the umask. A crash of the machine may lose it.
    """
    new = f"{path}.{os.urandom(4).hex()}"
    try:
        with open(new, "xb") as file:
            file.write(data)
            if mode is not None:
                set_mode(file.fileno(), mode)
        os.rename(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
