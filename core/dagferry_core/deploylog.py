"""The deploy log of a deployment: its entries, how the next one is made, and which bundles retention keeps.

An entry is a JSON file that is written once. The log is ordered by sequence alone; an entry's time never runs
backwards, even if the clock does.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dagferry_core.errors import StoreDamaged, StoreFailed
from dagferry_core.manifest import Changes
from dagferry_core.names import MAX_SEQUENCE, is_digest, make_version, version_sequence

KINDS = ("upload", "rollback")
MAX_DESCRIPTION_CHARACTERS = 1000


class Deploy(NamedTuple):
    """One entry of the deploy log.

    ``time`` is in whole seconds since the epoch, UTC; ``added``, ``changed`` and ``removed`` count files against the
    deploy before.
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

    def encode(self) -> bytes:
        """Return the entry as it is stored."""
        return json.dumps(self._asdict(), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


_TYPES: Mapping[str, type] = {
    name: int if name in {"sequence", "time", "added", "changed", "removed"} else str for name in Deploy._fields
}


def decode(data: bytes, sequence: int) -> Deploy:
    """Read the stored entry number ``sequence``; raise ``StoreDamaged`` if it is damaged or not that entry."""
    try:
        raw: Any = json.loads(data)
        deploy = Deploy(**{name: raw[name] for name in Deploy._fields})
        right_types = all(type(getattr(deploy, name)) is kind for name, kind in _TYPES.items())
        if (
            not right_types
            or deploy.sequence != sequence
            or version_sequence(deploy.version) != sequence
            or not is_digest(deploy.digest)
            or deploy.kind not in KINDS
        ):
            raise ValueError("a field is not what it must be")
    except Exception as error:
        raise StoreDamaged(f"Entry {sequence} of the deploy log is damaged: {error}.") from error
    return deploy


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
