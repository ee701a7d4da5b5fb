"""The deploy log of a deployment: its entries, how the next one is made, and which bundles retention keeps.

An entry is a JSON file that is written once. The log is ordered by sequence alone; an entry's time never runs
backwards, even if the clock does.

Format 2 added the fields after ``removed`` in ``Deploy``. Entries of format 1, which has none of them, are read as they
are, and so will be entries of later formats: unknown fields are ignored, and unknown kinds are kept as they are. Fields
at their defaults are not stored, so ``under``, ``flags`` and ``source``, which came later, changed no entry without
them. Each entry has the hash of the bytes of the previous one, so that a log cannot be rewritten unnoticed.
"""

import hashlib
import heapq
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dagferry_core.bundle.manifest import Changes
from dagferry_core.errors import FormatError
from dagferry_core.names import MAX_SEQUENCE, is_digest, make_version, version_sequence
from dagferry_core.typed import typed_json

FORMAT = 2
MAX_DESCRIPTION_CHARACTERS = 1000
DAY_SECONDS = 86400
NONCE_BYTES = 8

UPLOAD, ROLLBACK, PROMOTE = "upload", "rollback", "promote"
"""The kinds of deploys."""
REPEATED = "repeated"
"""The flag of a deploy whose content its actor had deployed just before others did."""

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_NONCE = re.compile(rf"[0-9a-f]{{{2 * NONCE_BYTES}}}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Deploy(NamedTuple):
    """One entry of the deploy log.

    ``kind`` is ``upload``, ``rollback`` or ``promote``; a later server may write others, and they are read as they are.
    ``time`` is in whole seconds since the epoch, UTC; ``added``, ``changed`` and ``removed`` count files compared with
    the previous deploy. ``nonce`` is random, in hex: no two writers ever write the same entry. ``previous`` is the
    sha256, in hex, of the previous entry as it was stored, empty in the first one; ``details`` that of the file with
    the deploy's details (see ``dagferry_core.deploy_details``), empty if it has none. ``git`` says where the content
    comes from. ``under`` is the folder that was deployed, such as ``team-a/``, empty for all of the tree. ``flags`` are
    the words for what was unusual, such as ``repeated`` or ``skip_gate``; ``None`` if nothing was. ``source`` is the
    version that was rolled back to, or the ``deployment@version`` that was promoted.
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
    under: str = ""
    flags: list[str] | None = None
    source: str = ""

    def encode(self) -> bytes:
        """Return the entry as it is stored, without fields at their defaults: an entry of format 1 stays as it was."""
        optional = {name: value for name, value in Deploy._field_defaults.items() if getattr(self, name) == value}
        stored = {name: value for name, value in self._asdict().items() if name not in optional}
        return json.dumps(stored, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def entry_sha256(data: bytes) -> str:
    """Return the hash of a stored entry, as the entry after it names it."""
    return hashlib.sha256(data).hexdigest()


class Known(NamedTuple):
    """An entry that somebody remembers or wrote down: its sequence, and the hash of its bytes in hex."""

    sequence: int
    sha256: str

    def problem(self, newest: int, sha256: str) -> str:
        """Return what is wrong with a log that has this entry no more; empty if nothing is.

        ``newest`` is the sequence of its newest entry, ``sha256`` the hash of this one there; empty if it is missing.
        """
        if newest < self.sequence:
            return f"entry {self.sequence} was cut off: the log ends with entry {newest}"
        if not sha256:
            return f"entry {self.sequence}, which is known, is missing"
        if sha256 != self.sha256:
            return (
                f"entry {self.sequence} was rewritten, or one before it: its sha256 was {self.sha256} and now is "
                f"{sha256}"
            )
        return ""


def read_known(text: str) -> Known:
    """Return the entry that ``SEQUENCE:SHA256`` names; ``ValueError`` if the text is not such."""
    sequence, _, sha256 = text.partition(":")
    if not re.fullmatch("[0-9]{1,12}", sequence) or not int(sequence) or not _SHA256.fullmatch(sha256):
        raise ValueError("it is not SEQUENCE:SHA256, with 64 hexadecimal digits")
    return Known(int(sequence), sha256)


def decode(data: bytes, sequence: int) -> Deploy:
    """Read the stored entry number ``sequence``; raise ``FormatError`` if it is damaged or not that entry."""
    deploy = typed_json(Deploy, data)
    try:
        numbers = {deploy.sequence, version_sequence(deploy.version)}
    except ValueError as error:
        raise FormatError(str(error)) from error
    if numbers != {sequence}:
        raise FormatError(f"it is entry {deploy.sequence}, of version {deploy.version}")
    if not is_digest(deploy.digest):
        raise FormatError("its digest is not a digest")
    if not _KIND.fullmatch(deploy.kind):
        raise FormatError("its kind is not a word")
    if deploy.format < 1:
        raise FormatError("its format is less than 1")
    if deploy.nonce and not is_nonce(deploy.nonce):
        raise FormatError("its nonce is not a nonce")
    if not all(_SHA256.fullmatch(text) for text in (deploy.previous, deploy.details) if text):
        raise FormatError("its previous or details is not a sha256")
    return deploy


def is_nonce(text: str) -> bool:
    """Return whether ``text`` can be the nonce of an entry."""
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
    git: Mapping[str, str] | None = None,
    under: str = "",
    flags: Sequence[str] = (),
    source: str = "",
) -> Deploy:
    """Return the entry that follows ``newest``, the newest readable one.

    ``highest_sequence`` also counts entries that cannot be read: a sequence is never used twice. ``OverflowError`` if
    no higher sequence is possible.
    """
    sequence = highest_sequence + 1
    if sequence > MAX_SEQUENCE:
        raise OverflowError(f"sequence {highest_sequence} is the highest possible sequence")
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
        git=git,
        under=under,
        flags=list(flags) or None,
        source=source,
    )


class Retention(NamedTuple):
    """What a deployment keeps: its newest ``keep_deploys``, and all younger than ``keep_days``."""

    keep_deploys: int
    keep_days: float


class Stored(NamedTuple):
    """The state of a deployment that retention works on: its deploys in ascending sequence, and its rules.

    ``bundle_bytes`` has the size of each bundle that is there, by digest; ``needed`` are those that DAG runs or
    candidates need.
    """

    deploys: Sequence[Deploy]
    bundle_bytes: Mapping[str, int]
    rules: Retention
    needed: Collection[str] = ()


def kept_bundles(
    stored: Mapping[str, Stored],
    max_store_bytes: float,
    now: float,
    paced: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, set[str]]:
    """Return the digests of the bundles to keep, by deployment.

    The newest ``keep_deploys`` of each deployment stay whatever their size, and so the current one; and so does what is
    needed. Then come the younger ones, newest first over all deployments, until the next would take the store over
    ``max_store_bytes``. Every long loop goes through ``paced``, which may pause between two items.
    """
    kept: dict[str, set[str]] = {}
    young: dict[str, dict[str, Deploy]] = {}
    total = young_bytes = 0
    for name, (deploys, bundle_bytes, rules, needed) in stored.items():
        mine, later = kept.setdefault(name, set(needed)), young.setdefault(name, {})
        total += sum(bundle_bytes.get(digest, 0) for digest in mine)
        oldest = now - rules.keep_days * DAY_SECONDS
        for place, deploy in enumerate(paced(reversed(deploys))):
            if deploy.digest in mine or deploy.digest in later:
                continue
            if place < max(1, rules.keep_deploys):
                mine.add(deploy.digest)
                total += bundle_bytes.get(deploy.digest, 0)
            elif deploy.time >= oldest:
                later[deploy.digest] = deploy
                young_bytes += bundle_bytes.get(deploy.digest, 0)
    if total + young_bytes <= max_store_bytes:
        for name, later in young.items():
            kept[name].update(later)
        return kept
    for name, deploy in paced(_newest_first(young)):
        size = stored[name].bundle_bytes.get(deploy.digest, 0)
        if total + size > max_store_bytes:
            break
        total += size
        kept[name].add(deploy.digest)
    return kept


def _newest_first(young: Mapping[str, Mapping[str, Deploy]]) -> Iterator[tuple[str, Deploy]]:
    def moment(item: tuple[str, Deploy]) -> tuple[int, int]:
        return item[1].time, item[1].sequence

    # Merged, not sorted as a whole: sorting a million items would block every other thread until it ends.
    return heapq.merge(
        *(
            sorted(((name, deploy) for deploy in later.values()), key=moment, reverse=True)
            for name, later in young.items()
        ),
        key=moment,
        reverse=True,
    )
