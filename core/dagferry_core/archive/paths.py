"""Which paths a bundle may have, which are excluded, and which collide on other file systems.

A path that passes here is safe to join to a folder on Linux, to print on one line and to write into a manifest.
"""

import fnmatch
import re
import unicodedata
from collections.abc import Iterable

from dagferry_core.archive.errors import PathRefused
from dagferry_core.limits import MAX_COMPONENT_BYTES, MAX_DEPTH, MAX_PATH_BYTES, MAX_WARNINGS

ROOT = "dags"
"""The top folder that is removed from the paths of a bundle if it contains them all."""

DEFAULT_EXCLUDES = (".git/", "__pycache__/", "*.pyc", "._*", ".DS_Store")
"""Default of ``--exclude``: what no pod needs. ``._*`` and ``.DS_Store`` are what macOS adds."""

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_SHOWN_CHARACTERS = 120


def quoted(path: str | bytes) -> str:
    """Return a path for a message: quoted, escaped, on one line, and shortened in the middle if it is long."""
    text = path if isinstance(path, str) else path.decode(errors="backslashreplace")
    half = _SHOWN_CHARACTERS // 2
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:half]}…{text[-half:]}")


def check_path(raw: bytes) -> str:
    """Return a member's path as the bundle has it, or ``""`` for the top folder itself (``.`` or ``./``).

    One leading ``./`` and one trailing slash are dropped. ``PathRefused`` if the rest is absolute, has an empty, ``.``
    or ``..`` component, a backslash or a control character, is not UTF-8, or is longer or deeper than the limits. The
    top folder ``dags/`` counts for neither: a bundle must pass with it and without it.
    """
    try:
        path = raw.decode()
    except UnicodeDecodeError as error:
        raise PathRefused(f"The path {quoted(raw)} is not UTF-8.") from error
    if path in {".", "./"}:
        return ""
    path = path.removeprefix("./")
    if path.startswith("/"):
        raise PathRefused(f"The path {quoted(raw)} is absolute.")
    path = path.removesuffix("/")
    if _FORBIDDEN.search(path):
        raise PathRefused(f"The path {quoted(raw)} has a backslash or a control character.")
    for component in path.split("/"):
        if component in {"", ".", ".."}:
            raise PathRefused(f"The path {quoted(raw)} has an empty, '.' or '..' component.")
    check_length(path.removeprefix(f"{ROOT}/"))
    return path


def check_prefix(text: str) -> str:
    """Return the folder ``text`` as the prefix of all paths below it: ``team-a/`` for ``team-a`` and for ``team-a/``.

    ``PathRefused`` if ``check_path`` refuses it, or if it is the top folder.
    """
    try:
        path = check_path(text.encode())
    except UnicodeEncodeError as error:
        raise PathRefused(f"The path {quoted(text)} is not UTF-8.") from error
    if not path:
        raise PathRefused(f"The path {quoted(text)} is the top folder, and not a folder in it.")
    return f"{path}/"


def check_length(path: str) -> None:
    """Raise ``PathRefused`` if ``path`` is longer or deeper than the limits, or has too long a component."""
    size = len(path.encode())
    if size > MAX_PATH_BYTES:
        raise PathRefused(f"The path {quoted(path)} is {size} bytes long; at most {MAX_PATH_BYTES} are allowed.")
    components = path.split("/")
    if len(components) > MAX_DEPTH:
        raise PathRefused(
            f"The path {quoted(path)} is {len(components)} folders deep; at most {MAX_DEPTH} are allowed."
        )
    if size > MAX_COMPONENT_BYTES and any(len(name.encode()) > MAX_COMPONENT_BYTES for name in components):
        raise PathRefused(f"The path {quoted(path)} has a name of more than {MAX_COMPONENT_BYTES} bytes.")


def _one_of(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, patterns)) or "(?!)")


class Excludes:
    """The rules of ``--exclude``: shell patterns, each matched against every component of a path.

    A pattern with a trailing slash is for folders only. ``ValueError`` for one that could never match.
    """

    __slots__ = ("_file", "_folder")

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = tuple(patterns)
        for pattern in patterns:
            if pattern.removesuffix("/") in {"", ".", ".."} or "/" in pattern[:-1]:
                raise ValueError(f"{pattern!r} is not a valid exclude rule: it has to match one component of a path")
        self._file = _one_of(pattern for pattern in patterns if not pattern.endswith("/"))
        self._folder = _one_of(pattern.removesuffix("/") for pattern in patterns)

    def excluded(self, path: str, *, folder: bool) -> str | None:
        """Return the part of ``path`` down to the first component that a rule excludes, ``None`` if none does."""
        end = path.find("/")
        start = 0
        while end >= 0:
            if self._folder.match(path[start:end]):
                return path[:end]
            start = end + 1
            end = path.find("/", start)
        rule = self._folder if folder else self._file
        return path if rule.match(path[start:]) else None


def _folded(name: str) -> str:
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def case_collisions(paths: Iterable[str]) -> list[str]:
    """Return a warning for each two names in a folder that differ only in case or Unicode form, 20 at most.

    On Linux they are two files, on macOS and Windows one: a checkout there loses one of them.
    """
    warnings: list[str] = []
    seen: set[str] = set()
    first: dict[tuple[str, str], str] = {}
    for path in paths:
        here = path
        while here and here not in seen:
            seen.add(here)
            folder, _, name = here.rpartition("/")
            twin = first.setdefault((folder, _folded(name)), here)
            if twin != here:
                warnings.append(
                    f"{quoted(twin)} and {quoted(here)} differ only in case or Unicode form; "
                    "where file names ignore that, one hides the other."
                )
                if len(warnings) == MAX_WARNINGS:
                    return warnings
            here = folder
    return warnings
