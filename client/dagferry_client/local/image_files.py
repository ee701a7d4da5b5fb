"""Files beside the dags folder that go into Airflow's image: whether they changed since the last deploy.

A deploy of DAGs does not carry them, so a DAG may need what no pod has. Each deploy records a short hash of each, and
the next one compares: that needs no Git, which in CI often has the newest commit alone.
"""

import hashlib
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase

from dagferry_client.local.folder import DagsFolder, is_within
from dagferry_client.local.ignore import EXCLUDED_BY_DEFAULT
from dagferry_core.archive.paths import Excludes
from dagferry_core.limits import MIB

PATTERNS = ("Dockerfile", "requirements*.txt", "packages.txt", "plugins", "include")
MAX_NAMES = 8
MAX_IMAGE_FILES = 2000
MAX_IMAGE_BYTES = 64 * MIB
"""How many names are recorded; how many files and bytes one may have, or it is not looked at."""
MAX_RECORD_CHARACTERS = 200
"""The longest record that a server takes; names that do not fit are not looked at."""
HASH_CHARACTERS = 8
DEPLOYED = "dags"
"""In place of the hash, for what is part of the dags folder through a link or ``--include``."""


def image_record(folder: DagsFolder, outside: list[str]) -> str:
    """Return what to record with a deploy: ``Dockerfile=1a2b3c4d plugins=dags``. ``outside`` is that of the tree."""
    try:
        names = sorted(name for name in os.listdir(folder.project) if _is_for_the_image(name))
    except OSError:
        return ""
    found: list[str] = []
    for name in names[:MAX_NAMES]:
        path = os.path.join(folder.project, name)
        real = os.path.realpath(path)
        if is_within(folder.path, real) or is_within(real, folder.path):
            continue
        value = DEPLOYED if any(is_within(real, place) for place in outside) else _hash(path)
        if value and len(" ".join([*found, f"{name}={value}"])) <= MAX_RECORD_CHARACTERS:
            found.append(f"{name}={value}")
    return " ".join(found)


def changed_image_files(before: str, now: str) -> list[str]:
    """Return the names that are new, different or gone between two records; an empty record says nothing."""
    if not before:
        return []
    old, new = _parsed(before), _parsed(now)
    return sorted(name for name in old.keys() | new.keys() if DEPLOYED != new.get(name) != old.get(name) != DEPLOYED)


def image_note(changed: list[str]) -> str:
    """Return the sentence for the user, ``""`` if nothing changed."""
    if not changed:
        return ""
    return f"These need an image deploy; DAGs alone were sent: {', '.join(changed)} changed since the last deploy."


def _is_for_the_image(name: str) -> bool:
    return name.isprintable() and not {" ", "="} & set(name) and any(fnmatchcase(name, pattern) for pattern in PATTERNS)


def _parsed(record: str) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in record.split())}


def _hash(top: str) -> str:
    digest = hashlib.sha256()
    size = 0
    try:
        for number, (path, name) in enumerate(_files(top)):
            size += os.path.getsize(path)
            if number == MAX_IMAGE_FILES or size > MAX_IMAGE_BYTES:
                return ""
            with open(path, "rb") as file:
                content = hashlib.sha256(file.read(MAX_IMAGE_BYTES)).digest()
            digest.update(os.fsencode(name) + b"\0" + content)
    except OSError:
        return ""
    return digest.hexdigest()[:HASH_CHARACTERS]


def _files(top: str) -> Iterator[tuple[str, str]]:
    """Yield the regular files at and below ``top``, with their paths relative to it, in a fixed order."""
    if os.path.isfile(top):
        yield top, ""
        return
    excludes = Excludes(EXCLUDED_BY_DEFAULT)
    for parent, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if excludes.excluded(name, folder=True) is None)
        for name in sorted(names):
            path = os.path.join(parent, name)
            if excludes.excluded(name, folder=False) is None and os.path.isfile(path):
                yield path, os.path.relpath(path, top).replace(os.sep, "/")
