"""Two servers sweep one store and commit to it, each paused for hours at any of their requests: nothing kept is lost.

The requests of each server are those that the real code makes, to a bucket in memory. A schedule says who makes how
many requests, and how much time passes then. After each of them, the bundle of the newest entry must be stored: it is
the one that is always kept.

A commit may take ``MAX_COMMIT_SECONDS``, and then its last request may be late, by less than a deletion waits.
"""

import itertools
import threading
from collections.abc import Callable, Collection, Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bucket_in_memory import Bucket, shared_store
from dagferry_core.bundle.manifest import Changes
from dagferry_core.deploylog import Deploy, decode, entry_sha256, next_deploy
from dagferry_server.deploys.retention import _delete_batch, _Seen
from dagferry_server.store.base import DELETION_PAUSE_SECONDS, MAX_COMMIT_SECONDS, Store
from dagferry_server.store.object_store import ObjectStore

PROD = "prod"
OLD, NEW = ("sha256:" + letter * 64 for letter in "ab")
LONG = DELETION_PAUSE_SECONDS + 1
LATE = DELETION_PAUSE_SECONDS - 1
"""How late the entry of a commit may at most be created, after its bundle was found or stored."""


class Late(Exception):
    """A commit took longer than it may."""


class Lost(Exception):
    """A bundle is gone that the newest entry names."""


class Actor:
    """A thread that makes one request to the bucket for each ``step``."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.ended = False
        self.error: BaseException | None = None
        self._go, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        self._stands.acquire()

    def _run(self, work: Callable[[], object]) -> None:
        _current.actor = self
        try:
            work()
        except Late:
            pass
        except Exception as error:  # noqa: BLE001 - it is raised in the test's thread
            self.error = error
        self.ended = True
        self._stands.release()

    def stand(self) -> None:
        """Wait, in the thread, until it may go on."""
        self._stands.release()
        self._go.acquire()

    def step(self) -> None:
        if not self.ended:
            self._go.release()
            self._stands.acquire()
        if self.error:
            raise self.error


_current = threading.local()


class World:
    """A bucket with two deploys, ``OLD`` and ``NEW``, and what a server does with it."""

    def __init__(self, kind: type[ObjectStore], *, marked: bool) -> None:
        self.bucket = Bucket()
        self.store = shared_store(self.bucket, kind)
        self.kind = kind
        self.store.prepare(PROD)
        for digest in (OLD, NEW):
            self.commit(self.store, digest)
            self.bucket.now += LONG
        if marked:
            self.store.may_delete(PROD, [OLD])
            self.bucket.now += LONG
        self.bucket.before = self._before

    def _before(self, operation: str, name: str) -> None:
        if actor := getattr(_current, "actor", None):
            actor.stand()
            if operation == "create" and "/deploys/" in name and self.bucket.now - _current.started > LATE:
                raise Late

    def deploys(self, store: Store) -> list[Deploy]:
        return [decode(data, sequence) for sequence, data in enumerate(store.newer(PROD, 0), 1)]

    def commit(self, store: Store, digest: str) -> None:
        """Commit as ``Committer`` does, or raise ``Late``."""
        while True:
            before = self.deploys(store)
            started = self.bucket.now
            if not store.keeps_bundle(PROD, digest):
                store.put_bundle(PROD, digest, lambda out: out.write(b"bundle") and b"index")
            if self.bucket.now - started > MAX_COMMIT_SECONDS:
                raise Late
            newest = before[-1] if before else None
            deploy = next_deploy(
                newest,
                len(before),
                digest=digest,
                kind="upload",
                description="",
                actor="",
                now=self.bucket.now,
                changes=Changes([], [], []),
                nonce="0" * 16,
                previous=entry_sha256(newest.encode()) if newest else "",
                details="",
            )
            _current.started = started
            if store.create_entry(PROD, deploy.sequence, deploy.encode()):
                return

    prod = SimpleNamespace(name=PROD, checking=SimpleNamespace(needed=set()))

    def sweep(self, store: Store) -> None:
        """Delete what the newest deploy does not name, as ``RetentionRunner`` does."""
        deploys = self.deploys(store)
        surplus = store.bundles(PROD).keys() - {deploys[-1].digest}
        allowed = store.may_delete(PROD, surplus)
        seen = _Seen(self.prod, deploys[-1].sequence, deploys, unreadable=False)  # type: ignore[arg-type]
        _delete_batch(store, seen, allowed)

    def check(self) -> None:
        """Fail unless the bundle of the newest entry is stored."""
        entries = [name for name in self.bucket.objects if "/deploys/" in name]
        newest = max(entries)
        digest = decode(self.bucket.objects[newest].data, int(newest[-17:-5])).digest
        if not self.store.has_bundle(PROD, digest):
            raise Lost(f"{digest} of {newest} is gone")

    def start(self, what: str) -> Actor:
        store = shared_store(self.bucket, self.kind)
        work = {
            "sweep": lambda: self.sweep(store),
            "old": lambda: self.commit(store, OLD),
            "new": lambda: self.commit(store, NEW),
        }[what]
        return Actor(work)


Step = tuple[int, int | None, float]
"""An actor, how many requests it makes (``None``: all that are left), and how many seconds pass then."""


def play(kind: type[ObjectStore], actors: Sequence[str], schedule: Sequence[Step], *, marked: bool) -> list[int]:
    """Let the actors act by a schedule, then to their ends; return how many requests each has made."""
    world = World(kind, marked=marked)
    acting = [world.start(what) for what in actors]
    made = [0] * len(acting)
    rest: list[Step] = [(number, None, 0.0) for number in range(len(acting))]
    try:
        for number, count, seconds in (*schedule, *rest):
            steps = itertools.count() if count is None else range(count)
            for _ in steps:
                if acting[number].ended:
                    break
                acting[number].step()
                made[number] += 1
                world.check()
            world.bucket.now += seconds
    finally:
        world.bucket.before = lambda *_: None
        for actor in acting:
            while not actor.ended:
                actor.step()
    return made


JUMPS = (0.0, LONG)


def schedules(actors: Sequence[str], *, marked: bool) -> list[list[Step]]:
    """Each way to pause the first two actors once, anywhere, while the others act; with and without time in between."""
    most = play(ObjectStore, actors, [], marked=marked)
    found: list[list[Step]] = []
    for first, second in itertools.product(range(most[0] + 1), range(most[1] + 1)):
        found += [
            [(0, first, jumps[0]), (1, second, 0.0), (2, None, jumps[1]), (1, None, LONG)]
            for jumps in itertools.product(JUMPS, repeat=2)
        ]
    return found


def loses(kind: type[ObjectStore], actors: Sequence[str], schedule: Sequence[Step], marked: bool) -> bool:
    """Whether a bundle that is kept is gone at some point of a schedule."""
    try:
        play(kind, actors, schedule, marked=marked)
    except Lost:
        return True
    return False


CASES = [
    (("sweep", "sweep", "old"), False),
    (("sweep", "sweep", "old"), True),
    (("sweep", "old", "sweep"), False),
    (("old", "sweep", "sweep"), True),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("actors", "marked"), CASES, ids=lambda value: "-".join(value) if isinstance(value, tuple) else str(value)
)
def test_whoever_is_paused_wherever_what_the_newest_deploy_names_is_stored(actors, marked) -> None:
    assert [
        schedule for schedule in schedules(actors, marked=marked) if loses(ObjectStore, actors, schedule, marked)
    ] == []


@settings(max_examples=100, deadline=None)
@given(
    actors=st.lists(st.sampled_from(("sweep", "old", "new")), min_size=2, max_size=5),
    schedule=st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 12), st.sampled_from((0.0, MAX_COMMIT_SECONDS, LONG, 3 * LONG))),
        max_size=16,
    ),
    marked=st.booleans(),
)
def test_nor_is_it_lost_among_more_servers_that_are_paused_again_and_again(actors, schedule, marked) -> None:
    play(ObjectStore, actors, [step for step in schedule if step[0] < len(actors)], marked=marked)


class TrustsWhatIsMarked(ObjectStore):
    """A commit relies on a bundle that is marked."""

    def keeps_bundle(self, deployment: str, digest: str) -> bool:
        return self.has_bundle(deployment, digest)


class DoesNotWait(ObjectStore):
    """What is marked may be deleted at once."""

    def may_delete(self, deployment: str, digests: Collection[str]) -> set[str]:
        super().may_delete(deployment, digests)
        self._pause = 0
        try:
            return super().may_delete(deployment, digests)
        finally:
            self._pause = DELETION_PAUSE_SECONDS


class DeletesWhatIsMarkedByThen(ObjectStore):
    """A deletion takes what was marked long enough ago by then, and not what was allowed before the log was read."""

    def delete_bundle(self, deployment: str, digest: str) -> None:
        if self.may_delete(deployment, [digest]):
            super().delete_bundle(deployment, digest)


class DeletesAllThatIsThere(ObjectStore):
    """A deletion takes what is there by then, and not what was allowed."""

    def delete_bundle(self, deployment: str, digest: str) -> None:
        folder = f"{deployment}/bundles/{digest.removeprefix('sha256:')}"
        for meta in self._objects.list(folder):
            self._objects.delete(meta.key)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [TrustsWhatIsMarked, DoesNotWait, DeletesWhatIsMarkedByThen, DeletesAllThatIsThere])
def test_a_store_that_breaks_one_of_its_promises_is_noticed(broken) -> None:
    assert any(
        loses(broken, actors, schedule, marked)
        for actors, marked in CASES
        for schedule in schedules(actors, marked=marked)
    )
