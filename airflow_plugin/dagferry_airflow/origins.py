"""Which deploy log the versions of a DAG bundle are from: two logs may have versions of one name.

The first deploys of two deployments, made within one second, have the same version. Airflow keeps the folder of a
bundle by its name, so a bundle that is pointed at another deployment, or at another server, finds what is there of the
previous one. ::

    <folder>/origin.json            the server and the deployment that were asked last, and the id of their log
    <folder>/origins/<version>      the id of the log that versions/<version> is from

A task knows a name and a version, and often must do without the server: so the log of an address is remembered.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from dagferry_follow.small_files import read_text, replace_text

MAX_BYTES = 4096


class Origins:
    """What is remembered in ``folder``, a bundle's, by and for those who ask ``deployment`` of ``server``."""

    def __init__(self, folder: Path, server: str, deployment: str) -> None:
        self._file = folder / "origin.json"
        self._folder = folder / "origins"
        self._versions = folder / "versions"
        self._address = {"server": server, "deployment": deployment}

    def log_id(self) -> str | None:
        """Return the id of the log that this address has; ``""`` if nothing was ever noted.

        ``None`` if another address was asked last: then the server has to be asked.
        """
        known = _read(self._file)
        if not known:
            return ""
        if any(known.get(name) != value for name, value in self._address.items()):
            return None
        return str(known.get("log_id", ""))

    def note(self, log_id: str) -> None:
        """Note what the server says: this address has the log ``log_id``."""
        if log_id and self.log_id() != log_id:
            _write(self._file, json.dumps({**self._address, "log_id": log_id}))

    def of(self, version: str) -> str:
        """Return the id of the log that the folder of a version is from; empty if that was not noted."""
        return str(_read(self._folder / version).get("log_id", ""))

    def note_version(self, version: str, log_id: str) -> None:
        """Note the log that the folder of a version is from, before it is there; forget versions that are gone."""
        with contextlib.suppress(OSError):
            for name in set(os.listdir(self._folder)).difference(os.listdir(self._versions)):
                os.unlink(self._folder / name)
        _write(self._folder / version, json.dumps({"log_id": log_id}))

    def is_usable(self, version: str, log_id: str) -> bool:
        """Return whether the folder of a version is there, and not known to be from another log than ``log_id``."""
        return (self._versions / version).is_dir() and (not log_id or self.of(version) in {"", log_id})


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(read_text(str(path), MAX_BYTES))
        return found if isinstance(found, dict) else {}
    return {}


def _write(path: Path, text: str) -> None:
    # Another user's, with run_as_user: then it is noted by the next who may.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(str(path), text)
