"""Adds entries to a tokens file and removes them, and leaves everything else in it unchanged.

The text is edited, then parsed, and written only if nothing but the intended change differs. What a file may contain is
for the caller: ``Parse`` reads it, and raises ``SetupError``.
The file is replaced by a rename, so the server never sees a partial file.
"""

import contextlib
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from dagferry_core.errors import SetupError
from dagferry_runtime.regular import read_regular

MAX_BYTES = 1024 * 1024
"""The largest tokens file."""

_ARRAY = re.compile(r"^([ \t]*tokens[ \t]*=[ \t]*\[)(?:[ \t]*\n)?", re.MULTILINE)
_NEW_FILE = "tokens = [\n]\n"
_NEW_MODE = 0o600


class Content(Protocol):
    """A parsed file: its tokens, and whatever else it has, to compare; a NamedTuple."""

    @property
    def tokens(self) -> tuple[Any, ...]:
        """The tokens in their order."""

    def _replace(self, *, tokens: tuple[Any, ...]) -> Any: ...


Parsed = TypeVar("Parsed", bound=Content)
Parse = Callable[[bytes], Parsed]


def read_tokens(path: str, parse: Parse[Parsed]) -> Parsed:
    """Return the content of the file; raise ``SetupError`` if it cannot be used."""
    return parse(_read(path).encode())


def add_entry(path: str, entry: str, parse: Parse[Parsed]) -> None:
    """Add an entry to the array of tokens; a missing file is created, readable only by its owner."""
    with _locked(path):
        text = _read(path) if os.path.lexists(path) else _NEW_FILE
        before = parse(text.encode())
        [added] = parse(f"tokens = [\n{entry}\n]".encode()).tokens
        changed = _ARRAY.sub(lambda array: f"{array[1]}\n  {entry}\n", text, count=1)
        wanted = before._replace(tokens=(added, *before.tokens))
        _replace(path, changed, parse, wanted, "the entry cannot be added")


def remove_entries(path: str, chosen: Callable[[Any], bool], parse: Parse[Parsed]) -> tuple[Any, ...]:
    """Remove the entries that are ``chosen``, each of which must be on a line of its own, and return them."""
    with _locked(path):
        text = _read(path)
        before = parse(text.encode())
        gone = tuple(token for token in before.tokens if chosen(token))
        if gone:
            changed = "".join(line for line in text.splitlines(keepends=True) if _entry_of(line, parse) not in gone)
            left = tuple(token for token in before.tokens if token not in gone)
            _replace(path, changed, parse, before._replace(tokens=left), "an entry is not on a line of its own")
    return gone


def _entry_of(line: str, parse: Parse[Parsed]) -> Any:
    if "{" not in line:
        return None
    try:
        tokens = parse(f"tokens = [\n{line}\n]".encode()).tokens
    except SetupError:
        return None
    return tokens[0] if len(tokens) == 1 else None


def _read(path: str) -> str:
    try:
        return read_regular(path, MAX_BYTES, guarded=True).decode()
    except UnicodeDecodeError as error:
        raise SetupError(f"{path} is not UTF-8.") from error


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Lock the folder of the file, so that no other command changes a file in it at the same time."""
    folder = os.path.dirname(os.path.realpath(path))
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise SetupError(f"{folder} cannot be opened: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: str, text: str, parse: Parse[Parsed], wanted: object, why: str) -> None:
    """Write ``text`` to the file and keep its owner and mode if it parses as ``wanted``; else raise ``SetupError``."""
    try:
        parsed: object = parse(text.encode())
    except SetupError:
        parsed = None
    if parsed != wanted:
        raise SetupError(f"{path} was not changed: {why}.", "Edit it by hand.")
    path = os.path.realpath(path)  # replace the target of a link
    try:
        status = os.stat(path) if os.path.exists(path) else None
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=os.path.dirname(path), delete=False) as file:
            try:
                os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode) if status else _NEW_MODE)
                if status and (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                os.rename(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}.") from error
