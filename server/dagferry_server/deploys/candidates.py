"""Candidates: contents that a checker imports before they are deployed. It is not an entry of the deploy log.

A candidate is a note in the store, beside its bundle, which is stored as that of a deploy is. Its id follows from the
log, from the version that is live and from its digest: who deploys the same content again, through whatever server,
finds the candidate that is there. So is the verdict a note, and remembered for as long as the candidate is.

Several servers use one store: what is in memory is what the last look at the store found. It is never changed, only
replaced, so that threads may read it.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple

from dagferry_core.errors import FormatError
from dagferry_core.names import is_digest
from dagferry_core.typed import typed_json
from dagferry_runtime.logs import log_failure
from dagferry_server.deploys.verdict import Verdict, decode_verdict
from dagferry_server.errors import StoreDamaged, TooManyUploads
from dagferry_server.store.base import CANDIDATES, Store

MAX_CANDIDATES = 100
"""Of one deployment, those included that have a verdict."""
CANDIDATE_SECONDS = 3600.0
"""How long a candidate waits for a checker, and how long its verdict is remembered, by the storage's clock."""
JOINED_SECONDS = CANDIDATE_SECONDS / 2
"""How old a candidate is that is written anew when another deploy joins it: it must not go while that waits."""
MAX_DESCRIPTION_CHARACTERS = 500
MAX_ACTOR_CHARACTERS = 300
ID_DIGITS = 32
_CANDIDATE, _VERDICT, _CHECKER = ".json", ".verdict", ".checker"


class Candidate(NamedTuple):
    """A content that is to be checked, in place of the version ``base`` (empty: nothing is deployed).

    ``created`` is in seconds since the epoch, by the server's clock. ``actor`` and ``description`` are those of the
    deploy that made it; others may have joined.
    """

    id: str
    base: str
    digest: str
    actor: str
    description: str
    created: int


class CheckerNote(NamedTuple):
    """What servers let each other know of a checker; ``beat`` changes with each time it is written."""

    instance: str
    airflow: str
    python: str
    variables: str
    warming: bool
    beat: str


class Notes(NamedTuple):
    """What the store has about candidates of one deployment; candidates in the order in which they came."""

    written: Mapping[str, float] = {}
    candidates: Mapping[str, Candidate] = {}
    verdicts: Mapping[str, Verdict] = {}
    checkers: Mapping[str, CheckerNote] = {}

    @property
    def open(self) -> list[Candidate]:
        """Those that have no verdict yet, first in first out."""
        return [candidate for candidate in self.candidates.values() if candidate.id not in self.verdicts]

    def verdict_on(self, digest: str, base: str) -> Verdict | None:
        """Return the verdict on a content, if there is one: the one that compares it with ``base``, or else any."""
        found = None
        for candidate in self.candidates.values():
            verdict = self.verdicts.get(candidate.id)
            if candidate.digest == digest and verdict and not verdict.failed:
                if candidate.base == base:
                    return verdict
                found = verdict
        return found


def candidate_id(log_id: str, base: str, digest: str) -> str:
    """Return the id of a candidate."""
    return hashlib.sha256(f"{log_id} {base} {digest}".encode()).hexdigest()[:ID_DIGITS]


def add_candidate(store: Store, deployment: str, candidate: Candidate) -> None:
    """Write a candidate, whose bundle is stored, unless there is one; blocks.

    One whose check failed is checked anew; one that was there for long is kept as long as a new one. Raises
    ``TooManyUploads`` if there are too many, and ``StoreError``.
    """
    name = candidate.id + _CANDIDATE
    written = store.notes(deployment, CANDIDATES)
    if name in written:
        data = store.read_note(deployment, CANDIDATES, candidate.id + _VERDICT)
        if data is None:
            if store.now() - written[name] > JOINED_SECONDS:
                candidate = _read_candidate(store, deployment, name) or candidate
                store.write_note(deployment, CANDIDATES, name, _encode(candidate))
            return
        if not _failed(data):
            return
        store.delete_note(deployment, CANDIDATES, candidate.id + _VERDICT)
    _make_room(store, deployment, written)
    store.write_note(deployment, CANDIDATES, name, _encode(candidate))


def _failed(data: bytes) -> bool:
    try:
        return bool(decode_verdict(data).failed)
    except ValueError:
        return True


def _make_room(store: Store, deployment: str, written: Mapping[str, float]) -> None:
    ids = sorted((at, name.removesuffix(_CANDIDATE)) for name, at in written.items() if name.endswith(_CANDIDATE))
    surplus = len(ids) - MAX_CANDIDATES + 1
    for _, id_ in ids if surplus > 0 else ():
        if id_ + _VERDICT in written:
            remove_candidate(store, deployment, id_)
            surplus -= 1
            if surplus == 0:
                break
    if surplus > 0 and expire(store, deployment) < surplus:
        raise TooManyUploads(f"{MAX_CANDIDATES} deploys to {deployment} are waiting for a checker already.")


def remove_candidate(store: Store, deployment: str, id_: str) -> None:
    """Forget a candidate and its verdict; blocks."""
    # The verdict first: one that stayed after a kill would judge the next candidate of this content, unchecked.
    store.delete_note(deployment, CANDIDATES, id_ + _VERDICT)
    store.delete_note(deployment, CANDIDATES, id_ + _CANDIDATE)


def write_verdict(store: Store, deployment: str, id_: str, data: bytes) -> bool:
    """Write the encoded verdict on a candidate, unless it has one that did not fail; return whether it was; blocks."""
    before = store.read_note(deployment, CANDIDATES, id_ + _VERDICT)
    if before is not None and not _failed(before):
        return False
    store.write_note(deployment, CANDIDATES, id_ + _VERDICT, data)
    return True


def write_checker(store: Store, deployment: str, note: CheckerNote) -> None:
    """Let other servers know of a checker; blocks."""
    data = json.dumps(note._asdict()).encode()
    store.write_note(deployment, CANDIDATES, _checker_name(note.instance), data)


def remove_checker(store: Store, deployment: str, instance: str) -> None:
    """Let other servers know that a checker has ended; blocks."""
    store.delete_note(deployment, CANDIDATES, _checker_name(instance))


def _checker_name(instance: str) -> str:
    return hashlib.sha256(instance.encode()).hexdigest()[:ID_DIGITS] + _CHECKER


def expire(store: Store, deployment: str) -> int:
    """Delete the notes that are older than an hour, by the storage's clock; return how many candidates; blocks."""
    written = store.notes(deployment, CANDIDATES)
    if not written:
        return 0
    now, count = store.now(), 0
    # A verdict lasts as long as its candidate. Killed in between, none may stay without one: it would judge the next.
    for name in sorted(written, key=lambda name: not name.endswith(_VERDICT)):
        belongs = name.removesuffix(_VERDICT) + _CANDIDATE if name.endswith(_VERDICT) else name
        if now - written.get(belongs, 0.0) > CANDIDATE_SECONDS:
            store.delete_note(deployment, CANDIDATES, name)
            count += name.endswith(_CANDIDATE)
    return count


def forget_verdicts(store: Store, deployment: str, seconds: float) -> int:
    """Forget the candidates whose verdict is older, by the storage's clock; return how many they are; blocks."""
    written = store.notes(deployment, CANDIDATES)
    verdicts = {name: at for name, at in written.items() if name.endswith(_VERDICT)}
    now = store.now() if verdicts else 0.0
    old = [name for name, at in verdicts.items() if now - at > seconds]
    for name in old:
        remove_candidate(store, deployment, name.removesuffix(_VERDICT))
    return len(old)


def spared(store: Store, deployment: str) -> set[str]:
    """Return the digests of the bundles that retention has to keep for checkers; blocks. Raises ``StoreError``.

    The bundle of one that is too old is not kept; ``expire`` deletes its note.
    """
    written = store.notes(deployment, CANDIDATES)
    if not written:
        return set()
    now, found = store.now(), set()
    for name, at in written.items():
        is_open = name.endswith(_CANDIDATE) and name.removesuffix(_CANDIDATE) + _VERDICT not in written
        if is_open and now - at <= CANDIDATE_SECONDS:
            candidate = _read_candidate(store, deployment, name)
            if candidate:
                found.add(candidate.digest)
    return found


def read_notes(store: Store, deployment: str, known: Notes) -> Notes:
    """Return what the store has, after ``known``: only what changed since is read; blocks. Raises ``StoreError``."""
    written = store.notes(deployment, CANDIDATES)
    # Only a failed verdict is replaced; and that may be within the second that a bucket's times are exact to.
    failed = {id_ for id_, verdict in known.verdicts.items() if verdict.failed}
    if written == known.written and not failed:
        return known
    candidates: dict[str, Candidate] = {}
    verdicts: dict[str, Verdict] = {}
    checkers: dict[str, CheckerNote] = {}
    for name in sorted(written, key=lambda name: (written[name], name)):
        id_, _, kind = name.partition(".")
        changed = known.written.get(name) != written[name]
        if kind == "json":
            candidate = _read_candidate(store, deployment, name) if changed else known.candidates.get(id_)
            if candidate:
                candidates[id_] = candidate
        elif kind == "verdict":
            is_known = not changed and id_ not in failed
            verdict = known.verdicts.get(id_) if is_known else _read_verdict(store, deployment, name)
            if verdict:
                verdicts[id_] = verdict
        elif kind == "checker":
            checker = _read_checker(store, deployment, name) if changed else known.checkers.get(name)
            if checker:
                checkers[name] = checker
    return Notes(written, candidates, verdicts, checkers)


def _encode(candidate: Candidate) -> bytes:
    short = candidate._replace(
        actor=candidate.actor[:MAX_ACTOR_CHARACTERS], description=candidate.description[:MAX_DESCRIPTION_CHARACTERS]
    )
    return json.dumps(short._asdict()).encode()


def _read_candidate(store: Store, deployment: str, name: str) -> Candidate | None:
    data = store.read_note(deployment, CANDIDATES, name)
    if data is None:
        return None
    try:
        candidate = typed_json(Candidate, data)
        if candidate.id + _CANDIDATE != name or not is_digest(candidate.digest):
            raise FormatError("it is about another content")
    except FormatError as error:
        _log_damaged(deployment, name, error)
        return None
    return candidate


def _read_verdict(store: Store, deployment: str, name: str) -> Verdict | None:
    data = store.read_note(deployment, CANDIDATES, name)
    try:
        return None if data is None else decode_verdict(data)
    except ValueError as error:
        _log_damaged(deployment, name, error)
        return Verdict(failed="What the checker found cannot be read any more.")


def _read_checker(store: Store, deployment: str, name: str) -> CheckerNote | None:
    data = store.read_note(deployment, CANDIDATES, name)
    try:
        return None if data is None else typed_json(CheckerNote, data)
    except FormatError as error:
        _log_damaged(deployment, name, error)
        return None


def _log_damaged(deployment: str, name: str, error: Exception) -> None:
    damaged = StoreDamaged(f"The note {name} about a candidate does not decode: {str(error)[:200]}.")
    log_failure("A candidate cannot be read", damaged, deployment=deployment)
