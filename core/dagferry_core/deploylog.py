"""The deploy log of a deployment: its entries, how the next one is made, and which bundles retention keeps.

An entry is a JSON file that is written once. The log is ordered by sequence alone; an entry's time never runs
backwards, even if the clock does.

Format 2 added what stands behind ``removed`` in ``Deploy``. Entries of format 1, which has none of it, are read as they
are, and so will be entries of later formats: a field that is not known is passed over, and so is a kind that has no
meaning here. Each entry names the bytes of the one before by their hash, so that a log cannot be rewritten unnoticed.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dagferry_core.errors import StoreDamaged, StoreFailed
from dagferry_core.manifest import Changes
from dagferry_core.names import MAX_SEQUENCE, is_digest, make_version, version_sequence

FORMAT = 2
KINDS = ("upload", "rollback", "promote")
"""What this server knows. Whatever looks like one is a kind to those who read."""
MAX_DESCRIPTION_CHARACTERS = 1000
NONCE_BYTES = 8

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_NONCE = re.compile(rf"[0-9a-f]{{{2 * NONCE_BYTES}}}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Deploy(NamedTuple):
    """One entry of the deploy log.

    ``time`` is in whole seconds since the epoch, UTC; ``added``, ``changed`` and ``removed`` count files against the
    deploy before. ``nonce`` is random, in hex: no two writers ever write the same entry. ``previous`` is the sha256, in
    hex, of the entry before as it was stored then, empty in a first one; ``details`` that of the file with the deploy's
    details (see ``dagferry_core.deploydetails``), empty if it has none. ``git`` says where the content comes from.
    """

    sequence: int
    version: str
    digest: str
    kind: str
    description: str
    actor: str
    time: int
    added: int
    changed: int
    removed: int
    format: int = 1
    nonce: str = ""
    previous: str = ""
    details: str = ""
    git: Mapping[str, str] | None = None

    def encode(self) -> bytes:
        """Return the entry as it is stored; without what it does not have, so one of format 1 as it was."""
        optional = {name: value for name, value in Deploy._field_defaults.items() if getattr(self, name) == value}
        stored = {name: value for name, value in self._asdict().items() if name not in optional}
        return json.dumps(stored, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


_REQUIRED: Mapping[str, type] = {
    name: int if name in {"sequence", "time", "added", "changed", "removed"} else str
    for name in Deploy._fields
    if name not in Deploy._field_defaults
}


def entry_sha256(data: bytes) -> str:
    """Return the hash of a stored entry, as the entry after it names it."""
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes, sequence: int) -> Deploy:
    """Read the stored entry number ``sequence``; raise ``StoreDamaged`` if it is damaged or not that entry."""
    try:
        raw: Any = json.loads(data)
        required = {name: raw[name] for name in _REQUIRED}
        deploy = Deploy(**required, **{name: raw[name] for name in Deploy._field_defaults if name in raw})
        if (
            any(type(getattr(deploy, name)) is not kind for name, kind in _REQUIRED.items())
            or deploy.sequence != sequence
            or version_sequence(deploy.version) != sequence
            or not is_digest(deploy.digest)
            or not _KIND.fullmatch(deploy.kind)
            or not _right_optional(deploy)
        ):
            raise ValueError("a field is not what it must be")
    except Exception as error:
        raise StoreDamaged(f"Entry {sequence} of the deploy log is damaged: {error}.") from error
    return deploy


def _right_optional(deploy: Deploy) -> bool:
    hashes = [text for text in (deploy.previous, deploy.details) if text]
    git = {} if deploy.git is None else deploy.git
    return (
        type(deploy.format) is int
        and deploy.format >= 1
        and all(_SHA256.fullmatch(text) for text in hashes)
        and (not deploy.nonce or is_nonce(deploy.nonce))
        and isinstance(git, dict)
        and all(isinstance(text, str) for pair in git.items() for text in pair)
    )


def is_nonce(text: str) -> bool:
    """Tell whether ``text`` can be the nonce of an entry."""
    return _NONCE.fullmatch(text) is not None


def next_deploy(
    newest: Deploy | None,
    highest_sequence: int,
    *,
    digest: str,
    kind: str,
    description: str,
    actor: str,
    now: float,
    changes: Changes,
    nonce: str,
    previous: str = "",
    details: str = "",
) -> Deploy:
    """Return the entry that follows ``newest``, the newest readable one.

    ``highest_sequence`` also counts entries that cannot be read: a sequence is never used twice.
    """
    sequence = highest_sequence + 1
    if sequence > MAX_SEQUENCE:
        raise StoreFailed(f"The deploy log is full: sequence {highest_sequence} is the last there can be.")
    moment = max(int(now), newest.time if newest else 0)
    return Deploy(
        sequence=sequence,
        version=make_version(moment, sequence),
        digest=digest,
        kind=kind,
        description=description[:MAX_DESCRIPTION_CHARACTERS],
        actor=actor,
        time=moment,
        added=len(changes.added),
        changed=len(changes.changed),
        removed=len(changes.removed),
        format=FORMAT,
        nonce=nonce,
        previous=previous,
        details=details,
    )


class Retention(NamedTuple):
    """What is kept: the newest ``keep_deploys``, all younger than ``keep_days``, within ``max_store_bytes``."""

    keep_deploys: int
    keep_days: float
    max_store_bytes: int


class StoredDeploy(NamedTuple):
    """A deploy of some deployment together with the size of its bundle in bytes, 0 if it is gone already."""

    deployment: str
    deploy: Deploy
    bundle_bytes: int


def kept_bundles(stored: Iterable[StoredDeploy], rules: Retention, now: float) -> set[tuple[str, str]]:
    """Return the (deployment, digest) of every bundle that stays.

    The newest ``keep_deploys`` of each deployment stay whatever their size, and so the current one. Then come the
    younger ones, newest first over all deployments, until the next would take the store over ``max_store_bytes``.
    """
    ordered = sorted(stored, key=lambda item: item.deploy.sequence, reverse=True)
    seen: dict[str, int] = {}
    young: list[StoredDeploy] = []
    kept: set[tuple[str, str]] = set()
    total = 0
    for item in ordered:
        seen[item.deployment] = seen.get(item.deployment, 0) + 1
        key = (item.deployment, item.deploy.digest)
        if seen[item.deployment] <= max(1, rules.keep_deploys):
            total += 0 if key in kept else item.bundle_bytes
            kept.add(key)
        elif item.deploy.time >= now - rules.keep_days * 86400:
            young.append(item)
    young.sort(key=lambda item: (item.deploy.time, item.deploy.sequence), reverse=True)
    for item in young:
        key = (item.deployment, item.deploy.digest)
        if key in kept:
            continue
        if total + item.bundle_bytes > rules.max_store_bytes:
            break
        total += item.bundle_bytes
        kept.add(key)
    return kept
