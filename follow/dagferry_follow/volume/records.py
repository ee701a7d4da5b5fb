"""What is recorded about each tree on a volume, and which old trees are kept."""

import contextlib
import errno
import json
import os
from bisect import bisect_right
from collections.abc import Container, Sequence
from itertools import pairwise
from typing import NamedTuple

import zstandard

from dagferry_core.bundle.manifest import MAX_MANIFEST_BYTES, Manifest
from dagferry_core.errors import FormatError
from dagferry_core.typed import typed_json
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.small_files import read_bytes
from dagferry_follow.volume.attributes import set_mode
from dagferry_follow.volume.tree import BLOCK_BYTES, SECOND_NS, folders_of, on_disk

MANIFEST = "manifest.zst"
RECORD = "deploy.json"
ENDED = "ended"
HOUR_SECONDS = 3600
MAX_RECORD_BYTES = 64 * 1024


class Record(NamedTuple):
    """What ``deploy.json`` says about a tree.

    ``serial`` counts the swaps on this volume, so that trees have an order whatever the clock does. ``size`` is what
    the tree takes on disk, in bytes; ``new_bytes`` is the part that it does not share with the previous tree.
    ``entry_sha256`` is that of the deploy. Records of older releases do not have it, and older releases ignore it.
    """

    log_id: str
    sequence: int
    version: str
    digest: str
    serial: int
    size: int
    new_bytes: int
    entry_sha256: str = ""

    @property
    def deploy(self) -> DeployRef:
        """The deploy that the tree belongs to."""
        return DeployRef(*self[:4], self.entry_sha256)


class OldTree(NamedTuple):
    """A tree that was live until ``ended``, in seconds since the epoch."""

    unique: str
    record: Record
    ended: float


class TreeRules(NamedTuple):
    """Which old trees are kept: the newest ``keep_trees``, and those that were live within ``keep_hours``.

    Those that processes use are kept too (``in_use``). All trees together must fit into ``max_tree_bytes``.
    """

    keep_trees: int
    keep_hours: float
    max_tree_bytes: int


def stored_bytes(newest_first: Sequence[Record]) -> int:
    """Return the bytes of these trees together; a file that several share counts once.

    A tree has links to files of the previous one, so whatever the oldest does not have is in the ``new_bytes`` of a
    newer one. (Where one between two was removed, they are ``recounted``.)
    """
    return sum(record.new_bytes for record in newest_first[:-1]) + sum(record.size for record in newest_first[-1:])


def superseded_repairs(old: Sequence[OldTree], rules: TreeRules) -> list[OldTree]:
    """Return the ``old`` trees, newest first, beyond ``keep_trees`` that were replaced by a tree of the same deploy.

    If someone keeps writing into the dags folder there are many of them; kept for hours, they would fill the volume.
    """
    first = max(rules.keep_trees, 1)
    return [tree for after, tree in pairwise(old[first - 1 :]) if tree.record.deploy == after.record.deploy]


class Kept(NamedTuple):
    """Which old trees are kept, newest first.

    ``given_up`` are those that processes use but that are removed nevertheless, because all do not fit.
    """

    trees: list[OldTree]
    given_up: list[OldTree]


def choose_kept(live: Record, old: Sequence[OldTree], rules: TreeRules, now: float, used: Container[str]) -> Kept:
    """Return which of the ``old`` trees, newest first, are kept at ``now``, in seconds since the epoch.

    The one that was live last is always kept. ``used`` has the unique names of those that processes use: they are
    kept whatever ``rules`` say of their number and age. If all do not fit into ``max_tree_bytes``, the oldest that is
    not used goes first; when only used ones are left, the oldest of those.
    """
    superseded = {tree.unique for tree in superseded_repairs(old, rules)}
    wanted = _wanted([tree for tree in old if tree.unique not in superseded], rules, now)
    first = old[:1]
    busy = [tree for tree in old[1:] if tree.unique in used]
    idle = [tree for tree in wanted[1:] if tree.unique not in used]

    def chosen(others: Sequence[OldTree]) -> list[OldTree]:
        names = {tree.unique for tree in (*first, *others)}
        return [tree for tree in old if tree.unique in names]

    def size(others: Sequence[OldTree]) -> int:
        return stored_bytes([live, *(tree.record for tree in chosen(others))])

    kept = [*busy, *idle]
    if size(kept) > rules.max_tree_bytes:
        # The more trees, the more bytes; so the number of those that fit is found by bisection.
        count = bisect_right(range(1, len(kept) + 1), rules.max_tree_bytes, key=lambda number: size(kept[:number]))
        kept = kept[:count]
    return Kept(chosen(kept), busy[len(kept) :])


def _wanted(old: Sequence[OldTree], rules: TreeRules, now: float) -> Sequence[OldTree]:
    """Return the trees that ``rules`` keep for their number and age; without a gap, so that they share their files."""
    for place, tree in enumerate(old):
        if place and place >= rules.keep_trees and tree.ended <= now - rules.keep_hours * HOUR_SECONDS:
            return old[:place]
    return old


def recounted(newer: OldTree, newer_files: Manifest, older_files: Manifest) -> OldTree:
    """Return the ``newer`` of two trees as it counts when those between them are gone: more may be its alone now."""
    same = newer_files.files.items() & older_files.files.items()
    alone = newer.record.size - sum(on_disk(entry.size) for _, entry in same)
    return newer._replace(record=newer.record._replace(new_bytes=max(newer.record.new_bytes, alone)))


def write_records(folder: str, record: Record, manifest: Manifest) -> Record:
    """Write both into ``folder``, for a tree that is about to be published, and return the record as written.

    Its sizes include the folders of the tree and the two files written here.
    """
    packed = zstandard.compress(manifest.text)
    own = on_disk(len(packed)) + BLOCK_BYTES * (
        1 + 2 + len(folders_of(manifest))
    )  # the record, and the two folders at the top
    record = record._replace(size=record.size + own, new_bytes=record.new_bytes + own)
    _write(f"{folder}/{MANIFEST}", packed)
    write_record(folder, record)
    return record


def write_record(folder: str, record: Record) -> None:
    """Write only the record, in place of one that cannot be read."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{folder}/{RECORD}")
    stored = {name: value for name, value in record._asdict().items() if name != "entry_sha256" or value}
    _write(f"{folder}/{RECORD}", json.dumps(stored).encode())


def _write(path: str, content: bytes) -> None:
    with open(path, "xb", buffering=0) as file:
        if file.write(content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)  # a short write to a file means that
        set_mode(file.fileno(), 0o644)


def _read(path: str, max_bytes: int) -> bytes:
    data = read_bytes(path, max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"{path} has more than {max_bytes} bytes")
    return data


def mark_ended(folder: str, now: float) -> None:
    """Record that the tree in ``folder`` stopped being live at ``now``, in seconds since the epoch."""
    fd = os.open(f"{folder}/{ENDED}", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        os.utime(fd, ns=(int(now * SECOND_NS), int(now * SECOND_NS)))
    finally:
        os.close(fd)


def read_record(folder: str) -> Record:
    """Return the record in ``folder``; raise ``OSError`` or ``ValueError`` if it is missing or damaged."""
    path = f"{folder}/{RECORD}"
    try:
        return typed_json(Record, _read(path, MAX_RECORD_BYTES))
    except FormatError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def read_manifest(folder: str) -> Manifest:
    """Return the manifest in ``folder``; raise ``OSError`` or ``ValueError`` if it is damaged."""
    path = f"{folder}/{MANIFEST}"
    data = _read(path, MAX_MANIFEST_BYTES)
    try:
        if not 0 <= zstandard.frame_content_size(data) <= MAX_MANIFEST_BYTES:
            raise ValueError(f"{path} is damaged")
        return Manifest.parse(zstandard.decompress(data))
    except zstandard.ZstdError as error:
        raise ValueError(f"{path} cannot be decompressed: {error}") from error
