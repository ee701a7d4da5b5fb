"""``dagferry.toml``, or ``[tool.dagferry]`` in ``pyproject.toml``: the servers and deployments of a project.

::

    server = "https://dags.example.com"      # for every target that does not say otherwise
    token-file = "~/.config/dagferry/token"

    [targets.prod]
    deployment = "prod"
    branch = "main"                          # the target while this branch is checked out

The file is looked for in the current folder and its parents, up to the root of the git repository. Paths in it are
relative to it. A token itself never belongs in it, because it is committed. It decides where a token is sent, so a file
of another user in a parent folder is not used.
"""

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from dagferry_core.errors import SetupError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "dagferry.toml"
PROJECT_FILE = "pyproject.toml"
MAX_FILE_BYTES = 1 << 20

_TEXTS = ("server", "deployment", "token-file", "token-env", "ca-file", "airflow-python", "airflow")
_PATHS = ("token-file", "ca-file")
_SWITCHES = ("allow-plain-http",)
_BRANCH = "branch"


class Entry(NamedTuple):
    """The settings of a target; ``None`` where the file says nothing. The paths are absolute."""

    server: str | None = None
    deployment: str | None = None
    token_file: str | None = None
    token_env: str | None = None
    ca_file: str | None = None
    allow_plain_http: bool | None = None
    branches: tuple[str, ...] = ()
    airflow_python: str | None = None
    airflow: str | None = None


class TargetsFile(NamedTuple):
    """What the file at ``path`` says; each of ``targets`` already has the values of ``defaults`` that it lacks."""

    path: Path
    defaults: Entry
    targets: dict[str, Entry]


def find_targets_file(folder: Path) -> tuple[TargetsFile | None, list[str]]:
    """Return the file for ``folder``, ``None`` if there is none; and warnings. ``SetupError`` if it is invalid."""
    start = Path(os.path.abspath(folder))
    for place in (start, *start.parents):
        for name in (FILE, PROJECT_FILE):
            path = place / name
            tables = _tables(path)
            if tables is None:
                continue
            if place != start and _is_foreign(path, start):
                return None, [f"{path} belongs to another user, so it is not used."]
            return _read(path, tables), []
        if (place / ".git").exists():
            break
    return None, []


def _tables(path: Path) -> dict[str, Any] | None:
    """Return what the file says about Dagferry; ``None`` if it does not exist or says nothing."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        if path.name == PROJECT_FILE:
            return None
        raise SetupError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    if path.name == PROJECT_FILE and b"tool.dagferry" not in data:
        return None
    if len(data) > MAX_FILE_BYTES:
        raise SetupError(f"{path} is longer than {MAX_FILE_BYTES} bytes.", "Is it the right file?")
    try:
        tables = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # includes invalid UTF-8
        raise SetupError(f"{path} is not valid TOML: {error}.", "Correct the file.") from None
    if path.name == FILE:
        return tables
    tool = tables.get("tool")
    found = tool.get("dagferry") if isinstance(tool, dict) else None
    return found if isinstance(found, dict) else None


def _is_foreign(path: Path, start: Path) -> bool:
    """Return whether somebody may have put ``path`` there who owns neither this process nor the folder it works in."""
    if sys.platform == "win32":
        return False
    return path.stat().st_uid not in {0, os.getuid(), start.stat().st_uid}


def _read(path: Path, tables: dict[str, Any]) -> TargetsFile:
    targets = tables.pop("targets", {})
    if not isinstance(targets, dict) or not all(isinstance(table, dict) for table in targets.values()):
        raise SetupError(f"{path}: a target is a table, such as [targets.prod].", "Correct the file.")
    defaults = _entry(path, "", tables)
    if defaults.branches:
        raise SetupError(f"{path}: branch belongs in a target, such as [targets.prod].", "Correct the file.")
    return TargetsFile(
        path,
        defaults,
        {name: _merged(defaults, _entry(path, f"targets.{name}.", table)) for name, table in targets.items()},
    )


def _entry(path: Path, where: str, table: dict[str, Any]) -> Entry:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key == "token":
            raise SetupError(
                f"{path} has {where}token: a file that is committed must not contain a token.",
                "Revoke that token if it was committed. Use token-env (a variable's name) or token-file.",
            )
        if key == _BRANCH:
            values["branches"] = _branches(path, where, value)
        elif key in _SWITCHES:
            if type(value) is not bool:
                raise SetupError(f"{path}: {where}{key} must be true or false.", "Correct the file.")
            values[key.replace("-", "_")] = value
        elif key in _TEXTS:
            if type(value) is not str or not value:
                raise SetupError(f"{path}: {where}{key} must be a text.", "Correct the file.")
            values[key.replace("-", "_")] = str(path.parent / Path(value).expanduser()) if key in _PATHS else value
        else:
            raise SetupError(f"{path} has the unknown key {where}{key}.", f"The keys are {', '.join(_KEYS)}.")
    if "token_file" in values and "token_env" in values:
        raise SetupError(f"{path} has both {where}token-file and {where}token-env.", "Remove one of them.")
    return Entry(**values)


_KEYS = (*_TEXTS, *_SWITCHES, _BRANCH, "targets")


def _branches(path: Path, where: str, value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(one, str) and one for one in listed):
        raise SetupError(
            f"{path}: {where}branch must be the name of a branch, or a list of names.", "Correct the file."
        )
    return tuple(listed)


def _merged(defaults: Entry, entry: Entry) -> Entry:
    """Return ``entry`` with what it lacks from ``defaults``; those belong to the server that is named beside them."""
    if entry.server is not None and entry.server != defaults.server:
        defaults = Entry(None, defaults.deployment, airflow_python=defaults.airflow_python, airflow=defaults.airflow)
    given = {name: value for name, value in entry._asdict().items() if value not in (None, ())}
    if "token_file" in given or "token_env" in given:
        defaults = defaults._replace(token_file=None, token_env=None)
    return defaults._replace(**given)
