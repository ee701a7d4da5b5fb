"""What is recorded of each tree on a volume, and which old trees stay."""

import contextlib
import errno
import json
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import zstandard

from dagferry_core.bundle.manifest import MAX_MANIFEST_BYTES, Manifest
from dagferry_core.errors import FormatError
from dagferry_core.typed import typed_json
from dagferry_follow.volume.attributes import set_mode
from dagferry_follow.volume.tree import BLOCK_BYTES, SECOND_NS, folders_of, on_disk

MANIFEST = "manifest.zst"
RECORD = "deploy.json"
ENDED = "ended"
HOUR_SECONDS = 3600
MAX_RECORD_BYTES = 64 * 1024


class DeployRef(NamedTuple):
    """Names a deploy. Sequence 0: nothing was deployed; the version of its tree is ``seed`` or ``empty``."""

    log_id: str
    sequence: int
    version: str
    digest: str


class Record(NamedTuple):
    """What ``deploy.json`` says of a tree.

    ``serial`` counts the swaps on this volume, so that trees have an order whatever the clock does. ``size`` is what
    the tree takes on disk, in bytes; ``new_bytes`` of them are not in files that are links into the tree before.
    """

    log_id: str
    sequence: int
    version: str
    digest: str
    serial: int
    size: int
    new_bytes: int

    @property
    def deploy(self) -> DeployRef:
        """The deploy the tree is of."""
        return DeployRef(*self[:4])


class OldTree(NamedTuple):
    """A tree that was live until ``ended``, in seconds since the epoch."""

    unique: str
    record: Record
    ended: float


class TreeRules(NamedTuple):
    """Which old trees stay: the newest ``keep_trees``, all live within ``keep_hours``, within ``max_tree_bytes``."""

    keep_trees: int
    keep_hours: float
    max_tree_bytes: int


def stored_bytes(newest_first: Sequence[Record]) -> int:
    """Return the bytes of these trees together, a file that several share counted once.

    A tree links into the one before it, so all that the oldest does not have is in the ``new_bytes`` of a newer one.
    (Where ``repaired`` left a gap it may be a little more: what the tree that is gone had, and its repair has still.)
    """
    return sum(record.new_bytes for record in newest_first[:-1]) + sum(record.size for record in newest_first[-1:])


def repaired(old: Sequence[OldTree], rules: TreeRules) -> list[OldTree]:
    """Return those of the ``old`` trees, newest first, that only their number would keep, and does not.

    They gave way to a tree of the same deploy. If someone writes into the dags folder all the time there are many;
    kept for hours they would fill the volume.
    """
    first = max(rules.keep_trees, 1)
    return [tree for after, tree in pairwise(old[first - 1 :]) if tree.record.deploy == after.record.deploy]


def count_kept(live: Record, old: Sequence[OldTree], rules: TreeRules, now: float) -> int:
    """Return how many of the ``old`` trees, newest first, stay. The one before the live one always does."""
    shared = live.new_bytes  # what the trees so far have, but for the whole of the oldest
    for place, tree in enumerate(old, start=1):
        wanted = place <= rules.keep_trees or tree.ended > now - rules.keep_hours * HOUR_SECONDS
        if place > 1 and not (wanted and shared + tree.record.size <= rules.max_tree_bytes):
            return place - 1
        shared += tree.record.new_bytes
    return len(old)


def write_records(folder: str, record: Record, manifest: Manifest) -> Record:
    """Write both into ``folder``, for a tree that is about to be published, and return the record as written.

    That counts what every tree has for itself, too: its folders, and what is written here.
    """
    packed = zstandard.compress(manifest.text)
    own = on_disk(len(packed)) + BLOCK_BYTES * (1 + 2 + len(folders_of(manifest)))  # the record, and the two on top
    record = record._replace(size=record.size + own, new_bytes=record.new_bytes + own)
    _write(f"{folder}/{MANIFEST}", packed)
    write_record(folder, record)
    return record


def write_record(folder: str, record: Record) -> None:
    """Write the record alone, in place of one that cannot be read."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{folder}/{RECORD}")
    _write(f"{folder}/{RECORD}", json.dumps(record._asdict()).encode())


def _write(path: str, content: bytes) -> None:
    with open(path, "xb", buffering=0) as file:
        if file.write(content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)  # what a short write to a file means
        set_mode(file.fileno(), 0o644)


def _read(path: str, max_bytes: int) -> bytes:
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"{path} has over {max_bytes} bytes")
    return data


def mark_ended(folder: str, now: float) -> None:
    """Note that the tree beside this mark stopped being live at ``now``, in seconds since the epoch."""
    fd = os.open(f"{folder}/{ENDED}", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.utime(fd, ns=(int(now * SECOND_NS), int(now * SECOND_NS)))
    finally:
        os.close(fd)


def read_record(folder: str) -> Record:
    """Return the record in ``folder``; raise ``OSError`` or ``ValueError`` if there is none, or it is damaged."""
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
            raise ValueError(f"{path} is not what it must be")
        return Manifest.parse(zstandard.decompress(data))
    except zstandard.ZstdError as error:
        raise ValueError(f"{path} cannot be decompressed: {error}") from error
