"""Compares two stored bundles for people who page through the files that differ, and read some of them.

Everything here is synchronous and runs in threads, as in ``browse``. Manifests are read line by line and never held: a
page of a long comparison reads both of them again.
"""

from contextlib import closing
from typing import NamedTuple

from dagferry_server.deploys.browse import Place, content, pairs, stored_places
from dagferry_server.store.base import Store


class FileChange(NamedTuple):
    """A file that differs: where it is in the old and in the new bundle; ``None``: it is not there."""

    path: str
    old: Place | None
    new: Place | None


class Comparison(NamedTuple):
    """How many files differ, and some of them, by path."""

    added: int
    changed: int
    removed: int
    files: list[FileChange]

    @property
    def total(self) -> int:
        """How many files differ."""
        return self.added + self.changed + self.removed


def compare(
    store: Store,
    deployment: str,
    old_digest: str | None,
    new_digest: str,
    *,
    first: int,
    most: int,
    under: str = "",
    path: str | None = None,
) -> Comparison:
    """Compare two bundles; ``None`` is the bundle without files.

    Of the files that differ, ``most`` are returned, from number ``first`` on, which counts from 0. Only files below the
    folder ``under`` count, or only the file ``path``. Raises ``BundleGone``, ``StoreDamaged`` and ``StoreAway``.
    """
    counts = {"added": 0, "changed": 0, "removed": 0}
    files: list[FileChange] = []
    if old_digest != new_digest:
        with (
            closing(stored_places(store, deployment, old_digest)) as olds,
            closing(stored_places(store, deployment, new_digest)) as news,
        ):
            for old, new in pairs(olds, news):
                there = new or old
                if there is None:
                    continue
                name = there.entry.path
                if (old and new and old.entry == new.entry) or not name.startswith(under) or path not in {None, name}:
                    continue
                number = sum(counts.values())
                counts["changed" if old and new else "added" if new else "removed"] += 1
                if first <= number < first + most:
                    files.append(FileChange(name, old, new))
    return Comparison(**counts, files=files)


def read_all(store: Store, deployment: str, digest: str, place: Place) -> bytes:
    """Return the content of the file at ``place`` of a bundle; raises what ``compare`` raises."""
    with closing(content(store, deployment, digest, place)) as pieces:
        return b"".join(pieces)
