"""Reads stored bundles for people: which files a version has, one of them, and what differs between two versions.

Everything here is synchronous and runs in threads. A manifest is read line by line and never held: with many files it
takes tens of MiB. All functions raise ``BundleGone``, ``StoreDamaged`` and ``StoreAway``.
"""

import json
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from typing import NamedTuple, TypeVar

from dagferry_core.bundle.frames import Frames
from dagferry_core.bundle.manifest import Entry
from dagferry_core.bundle.reader import stored_frames
from dagferry_core.bundle.walk import places
from dagferry_server.store.base import Store, decoding

MAX_DIFF_FILES = 1000
"""How many files a diff lists of each kind: added, changed, removed."""
_BATCH_FILES = 500

_Found = TypeVar("_Found")


class Place(NamedTuple):
    """A file of a stored bundle, and at which byte of the bundle's tar its content starts."""

    entry: Entry
    offset: int


class Differences(NamedTuple):
    """The files that differ between two bundles, by path; of changed ones the old and the new entry.

    Each list has ``MAX_DIFF_FILES`` at most; ``cut`` says whether one has more.
    """

    added: list[Entry]
    changed: list[tuple[Entry, Entry]]
    removed: list[Entry]
    cut: bool


def listing(store: Store, deployment: str, digest: str) -> Generator[bytes, None, None]:
    """Yield the files of a bundle as a JSON list of objects with path, size, mode and sha256, in pieces."""
    comma = b"["
    with closing(stored_places(store, deployment, digest)) as found:
        while batch := [place.entry._asdict() for place in islice(found, _BATCH_FILES)]:
            yield comma + json.dumps(batch, ensure_ascii=False, separators=(",", ":"))[1:-1].encode()
            comma = b","
    yield b"]" if comma == b"," else b"[]"


def find(store: Store, deployment: str, digest: str, path: str) -> Place | None:
    """Return where in a bundle the file ``path`` is; ``None`` if there is none."""
    with closing(stored_places(store, deployment, digest)) as found:
        return next((place for place in found if place.entry.path == path), None)


def content(store: Store, deployment: str, digest: str, place: Place) -> Generator[bytes, None, None]:
    """Yield the content of the file at ``place``, which ``find`` returned for this bundle, in pieces."""
    with store.open_bundle(deployment, digest) as source, decoding(f"Bundle {digest} of {deployment}"):
        frames = Frames(source.read, stored_frames(source.encoded_index))
        yield from frames.pieces(place.offset, place.entry.size)


def differences(store: Store, deployment: str, old_digest: str | None, new_digest: str) -> Differences:
    """Return which files differ between two bundles; ``None`` is the bundle without files."""
    added: list[Entry] = []
    changed: list[tuple[Entry, Entry]] = []
    removed: list[Entry] = []
    if old_digest != new_digest:
        with (
            closing(stored_places(store, deployment, old_digest)) as olds,
            closing(stored_places(store, deployment, new_digest)) as news,
        ):
            for old, new in pairs(olds, news):
                if old is None and new:
                    _add(added, new.entry)
                elif old and new is None:
                    _add(removed, old.entry)
                elif old and new and old.entry != new.entry:
                    _add(changed, (old.entry, new.entry))
    cut = max(len(added), len(changed), len(removed)) > MAX_DIFF_FILES
    return Differences(added[:MAX_DIFF_FILES], changed[:MAX_DIFF_FILES], removed[:MAX_DIFF_FILES], cut)


def pairs(olds: Iterator[Place], news: Iterator[Place]) -> Iterator[tuple[Place | None, Place | None]]:
    """Yield the files of each path in one or both bundles, which are sorted by path."""
    old, new = next(olds, None), next(news, None)
    while old or new:
        only_old = old and (new is None or old.entry.path < new.entry.path)
        only_new = new and (old is None or new.entry.path < old.entry.path)
        yield old if not only_new else None, new if not only_old else None
        old, new = old if only_new else next(olds, None), new if only_old else next(news, None)


def _add(found: list[_Found], item: _Found) -> None:
    if len(found) <= MAX_DIFF_FILES:  # one more, as the proof that there are more
        found.append(item)


def stored_places(store: Store, deployment: str, digest: str | None) -> Generator[Place, None, None]:
    """Yield the files of a bundle, sorted by path, and where each is; of ``None``, which has no files, nothing."""
    if digest is None:
        return
    with store.open_bundle(deployment, digest) as source, decoding(f"Bundle {digest} of {deployment}"):
        yield from map(Place._make, places(source.read, stored_frames(source.encoded_index)))
