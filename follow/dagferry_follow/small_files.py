"""Small files that are replaced as a whole: who reads one gets the old content or the new one."""

import contextlib
import os

from dagferry_follow.volume.attributes import set_mode


def read_text(path: str, max_bytes: int) -> str:
    """Return the first ``max_bytes`` of a file in UTF-8; ``""`` if it cannot be read."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(max_bytes).decode("utf-8", "replace")
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
