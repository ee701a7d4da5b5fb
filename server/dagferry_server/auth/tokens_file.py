"""Adds entries to a tokens file and removes them, and leaves everything else in it unchanged.

The text is edited, then parsed as the server parses it, and written only if nothing but the intended change differs.
The file is replaced by a rename, so the server never sees a partial file.
"""

import contextlib
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator

from dagferry_core.errors import SetupError
from dagferry_server.auth.tokens import Token, Tokens, parse_tokens
from dagferry_server.config.regular import read_regular
from dagferry_server.config.watched import MAX_WATCHED_BYTES

_ARRAY = re.compile(r"^([ \t]*tokens[ \t]*=[ \t]*\[)(?:[ \t]*\n)?", re.MULTILINE)
_NEW_FILE = "tokens = [\n]\n"
_NEW_MODE = 0o600


def read_tokens(path: str) -> Tokens:
    """Return the content of the file, with or without users; raise ``SetupError`` if it cannot be used."""
    return _parsed(_read(path))


def add_entry(path: str, entry: str) -> None:
    """Add an entry to the array of tokens; a missing file is created, readable only by its owner."""
    with _locked(path):
        text = _read(path) if os.path.lexists(path) else _NEW_FILE
        before = _parsed(text)
        [added] = _parsed(f"tokens = [\n{entry}\n]").tokens
        changed = _ARRAY.sub(lambda array: f"{array[1]}\n  {entry}\n", text, count=1)
        _replace(path, changed, before._replace(tokens=(added, *before.tokens)), "the entry cannot be added")


def remove_entries(path: str, chosen: Callable[[Token], bool]) -> tuple[Token, ...]:
    """Remove the entries that are ``chosen``, each of which must be on a line of its own, and return them."""
    with _locked(path):
        text = _read(path)
        before = _parsed(text)
        gone = tuple(token for token in before.tokens if chosen(token))
        if gone:
            changed = "".join(line for line in text.splitlines(keepends=True) if _entry_of(line) not in gone)
            left = tuple(token for token in before.tokens if token not in gone)
            _replace(path, changed, before._replace(tokens=left), "an entry is not on a line of its own")
    return gone


def _entry_of(line: str) -> Token | None:
    if "{" not in line:
        return None
    try:
        tokens = parse_tokens(f"tokens = [\n{line}\n]".encode(), with_users=None).tokens
    except SetupError:
        return None
    return tokens[0] if len(tokens) == 1 else None


def _read(path: str) -> str:
    try:
        return read_regular(path, MAX_WATCHED_BYTES, guarded=True).decode()
    except UnicodeDecodeError as error:
        raise SetupError(f"{path} is not UTF-8.") from error


def _parsed(text: str) -> Tokens:
    return parse_tokens(text.encode(), with_users=None)


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


def _replace(path: str, text: str, wanted: Tokens, why: str) -> None:
    """Write ``text`` to the file and keep its owner and mode if it parses as ``wanted``; else raise ``SetupError``."""
    try:
        parsed = _parsed(text)
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
