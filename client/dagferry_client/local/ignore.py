"""Which files of a dags folder are excluded from a deploy: those of ``.dagferryignore``, and what no pod needs.

``.dagferryignore`` has the syntax of ``.gitignore``. There may be one in the dags folder, whose paths are relative to
it, and one in the folder above, whose paths start with the name of the dags folder (``dags/``). The last pattern that
matches decides, that of the dags folder first; ``!pattern`` also keeps what is excluded by default. As in Git,
nothing below an excluded folder can be kept.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from dagferry_client.local.errors import IgnoreFileInvalid
from dagferry_client.local.folder import DagsFolder
from dagferry_core.archive.paths import DEFAULT_EXCLUDES, Excludes, quoted

IGNORE_FILE = ".dagferryignore"
MAX_IGNORE_FILE_BYTES = 64 * 1024

EXCLUDED_BY_DEFAULT = (
    *DEFAULT_EXCLUDES,
    *(".hg/", ".svn/", ".venv/", ".tox/", ".nox/", "node_modules/", ".ipynb_checkpoints/", ".idea/", ".vscode/"),
    *(".mypy_cache/", ".pytest_cache/", ".ruff_cache/", "Thumbs.db", "desktop.ini", IGNORE_FILE),
)
"""What the server excludes, and what version control, tools and other systems leave behind."""
VENV_MARK = "pyvenv.cfg"
"""A folder with this file is a virtual environment, whatever its name, and is excluded."""

Matches = Callable[[str], bool | None]
"""Whether the patterns of a file exclude a path (of a folder: with a slash behind it); ``None`` if none matches."""


class _Rules(NamedTuple):
    prefix: str
    matches: Matches


class Ignore:
    """The rules of one dags folder."""

    def __init__(self, folder: DagsFolder) -> None:
        self._defaults = Excludes(EXCLUDED_BY_DEFAULT)
        self._rules = [
            _Rules(prefix, matches)
            for place, prefix in ((folder.path, ""), (folder.project, f"{folder.name}/"))
            if (matches := _read(os.path.join(place, IGNORE_FILE)))
        ]

    def ignores(self, path: str, *, folder: bool) -> bool:
        """Return whether ``path``, as it would be deployed, is excluded; a link may be a folder. The folders that it is
        in were asked about before.
        """
        for prefix, matches in self._rules:
            verdict = matches(f"{prefix}{path}/" if folder else prefix + path)
            if verdict is not None:
                return verdict
        return self._defaults.excluded(path.rpartition("/")[2], folder=folder) is not None


def _read(path: str) -> Matches | None:
    """Return what matches the patterns of a file, ``None`` if it does not exist. Raises ``IgnoreFileInvalid``."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_IGNORE_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IgnoreFileInvalid(
            f"{quoted(path)} cannot be read: {error.strerror}.", "Check its permissions."
        ) from error
    if len(data) > MAX_IGNORE_FILE_BYTES:
        raise IgnoreFileInvalid(f"{quoted(path)} has more than {MAX_IGNORE_FILE_BYTES} bytes.")
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise IgnoreFileInvalid(f"{quoted(path)} is not UTF-8.") from error
    return _compiled(path, lines)


def _compiled(path: str, lines: list[str]) -> Matches:
    # Most folders have no such file, and the import would take them a twentieth of a deploy.
    from pathspec import GitIgnoreSpec  # noqa: PLC0415

    for number, line in enumerate(lines, 1):
        _check(path, number, line, GitIgnoreSpec)
    spec: Any = GitIgnoreSpec.from_lines(lines)

    def matches(candidate: str) -> bool | None:
        include: bool | None = spec.check_file(candidate).include
        return include

    return matches


def _check(path: str, number: int, line: str, spec: Any) -> None:
    try:
        spec.from_lines([line]).check_file("a")
    except Exception as error:  # pathspec's own, and those of the regular expressions that it makes
        raise IgnoreFileInvalid(f"Line {number} of {quoted(path)} is not a pattern: {quoted(line)}.") from error
