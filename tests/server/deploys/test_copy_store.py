"""A copy of a deployment in another store is complete, checked, continued where it ended, and never overwrites."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dagferry_server
from bucket_in_memory import Bucket, shared_store
from dagferry_core.bundle.manifest import EMPTY, Changes
from dagferry_core.deploy_details import DeployDetails
from dagferry_core.deploylog import decode, entry_sha256, next_deploy
from dagferry_server.deploys import copy_store
from dagferry_server.deploys.bundles import put_bundle
from dagferry_server.deploys.copy_store import STATE_KEYS, Copied, StoreCopy, StoresDiffer
from dagferry_server.deploys.tree import Tree
from dagferry_server.deploys.verify import Verification
from dagferry_server.errors import StoreAway, StoreFull
from dagferry_server.store.base import DELETION_PAUSE_SECONDS, Store
from dagferry_server.store.local import LocalStore
from treemaker import manifest_of, range_read

PROD = "prod"
NONCE = "0123456789abcdef"


class Ended(BaseException):
    """The process is killed."""


def deploy(store: Store, number: int) -> None:
    """Add a deploy to the log, as a server does."""
    files = {"dag.py": b"number = %d\n" % number, "other.py": b"pass\n"}
    manifest = manifest_of(files)
    put_bundle(store, PROD, Tree("the files", manifest, lambda entry: range_read(files[entry.path])))
    before = store.sequences(PROD)
    newest = decode(store.read_entry(PROD, before[-1]), before[-1]) if before else None
    details = DeployDetails(["careful"], [], *Changes([], [], [])).encode()
    entry = next_deploy(
        newest,
        before[-1] if before else 0,
        digest=manifest.digest,
        kind="upload",
        description=f"number {number}",
        actor="anna",
        now=1_800_000_000.0 + number,
        changes=manifest.changes_from(EMPTY),
        nonce=NONCE,
        previous=entry_sha256(newest.encode()) if newest else "",
        details=hashlib.sha256(details).hexdigest(),
    )
    store.put_details(PROD, entry.sequence, NONCE, details)
    assert store.create_entry(PROD, entry.sequence, entry.encode())


@pytest.fixture
def origin(tmp_path: Path) -> LocalStore:
    """A store with three deploys and a freeze."""
    (tmp_path / "origin").mkdir()
    store = LocalStore(str(tmp_path / "origin"))
    store.prepare(PROD)
    for number in range(3):
        deploy(store, number)
    store.write_state(PROD, "freeze", b'{"reason": "moving", "until": null, "actor": "anna", "time": 1}\n')
    return store


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def target(bucket: Bucket) -> Store:
    return shared_store(bucket)


def copy(origin: Store, target: Store, tell: Callable[[Copied], None] = lambda _: None) -> StoreCopy:
    one = StoreCopy(origin, target, PROD, tell)
    one.run()
    return one


def bundle(store: Store, digest: str) -> tuple[bytes, bytes]:
    with store.open_bundle(PROD, digest) as source:
        return source.read(0, source.size), source.encoded_index


def contents(store: Store) -> dict[str, Any]:
    """All that a store has of the deployment."""
    return {
        "log_id": store.log_id(PROD),
        "entries": {sequence: store.read_entry(PROD, sequence) for sequence in store.sequences(PROD)},
        "details": {sequence: store.read_details(PROD, sequence, NONCE) for sequence in store.sequences(PROD)},
        "bundles": {digest: bundle(store, digest) for digest in store.bundles(PROD)},
        "states": {key: store.read_state(PROD, key) for key in STATE_KEYS},
    }


def digests(store: Store) -> list[str]:
    return [decode(store.read_entry(PROD, sequence), sequence).digest for sequence in store.sequences(PROD)]


def test_all_of_it_is_there_afterwards_and_on_the_way_back(origin, target, tmp_path) -> None:
    told: list[Copied] = []
    one = copy(origin, target, told.append)
    assert (one.result[:4], one.problems) == ((3, 3, 3, 3), [])
    assert told[-1] == one.result
    assert contents(target) == contents(origin)
    assert list(Verification(target, PROD).problems()) == []
    (tmp_path / "back").mkdir()
    back = LocalStore(str(tmp_path / "back"))
    copy(target, back)
    assert contents(back) == contents(origin)
    assert list(Verification(back, PROD).problems()) == []


def test_what_is_there_is_read_and_not_written_again(origin, target, bucket) -> None:
    copy(origin, target)
    before = dict(bucket.objects)
    one = copy(origin, shared_store(bucket))
    assert one.result == Copied(0, 3, 0, 3, 0)
    assert bucket.objects == before


def test_only_what_is_new_is_copied_and_records_are_replaced_and_removed(origin, target) -> None:
    copy(origin, target)
    deploy(origin, 3)
    origin.delete_state(PROD, "freeze")
    origin.write_state(PROD, "lifecycle", b'{"change": "created", "actor": "anna", "time": 1, "floor": 0}\n')
    assert copy(origin, target).result[:4] == (1, 4, 1, 4)
    assert contents(target) == contents(origin)


@pytest.mark.parametrize("error", [Ended, StoreFull, StoreAway])
def test_ended_at_any_operation_it_is_an_earlier_state_and_the_next_run_completes_it(origin, error) -> None:
    clean = Bucket()
    copy(origin, shared_store(clean))
    operations = sum(clean.asked.values())
    expected = contents(origin)
    for number in range(operations):
        bucket = Bucket()

        def strike(operation: str, key: str, bucket: Bucket = bucket, number: int = number) -> None:
            if sum(bucket.asked.values()) == number:
                raise error(f"{operation} {key}")

        bucket.before = strike
        with pytest.raises(error):
            copy(origin, shared_store(bucket))
        bucket.before = lambda *_: None
        store = shared_store(bucket)
        if store.deployments():
            sequences = store.sequences(PROD)
            assert sequences == origin.sequences(PROD)[: len(sequences)]
            assert all(store.has_bundle(PROD, digest) for digest in digests(store))
            assert not sequences or store.log_id(PROD) == origin.log_id(PROD)
        assert copy(origin, store).problems == []
        assert contents(shared_store(bucket)) == expected


def other_entry(target: Store) -> None:
    deploy(target, 7)


def more_entries(target: Store) -> None:
    for number in range(4):
        deploy(target, number)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(other_entry, "deploy 1 is another one"), (more_entries, "the target has a deploy 4, which")],
)
def test_what_differs_is_named_and_nothing_is_changed(origin, target, bucket, spoil, words) -> None:
    target.prepare(PROD)
    target.write_log_id(PROD, origin.log_id(PROD))
    spoil(target)
    before = dict(bucket.objects)
    with pytest.raises(StoresDiffer, match=words):
        copy(origin, target)
    assert bucket.objects == before


def test_a_log_with_another_id_is_another_log(origin, target) -> None:
    copy(origin, target)
    before = contents(target)
    origin.new_log_id(PROD)
    with pytest.raises(StoresDiffer, match="another id"):
        copy(origin, target)
    assert contents(target) == before


def test_an_empty_log_that_a_server_made_gets_the_id_of_the_original(origin, target) -> None:
    target.prepare(PROD)
    assert target.log_id(PROD) != origin.log_id(PROD)
    copy(origin, target)
    assert contents(target) == contents(origin)


def test_what_a_server_deploys_meanwhile_is_for_the_next_run(origin, target, monkeypatch) -> None:
    put = target.put_bundle

    def put_and_deploy(*arguments: Any) -> None:
        put(*arguments)
        if len(origin.sequences(PROD)) == 3:
            deploy(origin, 3)

    monkeypatch.setattr(target, "put_bundle", put_and_deploy)
    copy(origin, target)
    assert target.sequences(PROD) == [1, 2, 3]
    copy(origin, target)
    assert contents(target) == contents(origin)


def test_what_retention_deletes_meanwhile_is_not_missed(origin, target, monkeypatch) -> None:
    put, first = target.put_bundle, digests(origin)[0]
    deleted: list[str] = []

    def put_and_delete(deployment: str, digest: str, write: Any) -> None:
        put(deployment, digest, write)
        if not deleted:
            deleted.append(next(found for found in digests(origin) if found != digest))
            origin.delete_bundle(PROD, deleted[0])

    monkeypatch.setattr(target, "put_bundle", put_and_delete)
    assert copy(origin, target).problems == []
    assert first in digests(target)
    assert set(target.bundles(PROD)) == set(digests(origin)) - set(deleted)


def test_a_damaged_bundle_is_named_and_the_rest_is_copied(origin, target, tmp_path) -> None:
    damaged = digests(origin)[0]
    path = tmp_path / "origin" / PROD / "bundles" / f"{damaged.removeprefix('sha256:')}.tar.zst"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    one = copy(origin, target)
    [problem] = one.problems
    assert problem.startswith(f"bundle {damaged} is damaged, and was not copied: ")
    assert set(target.bundles(PROD)) == set(digests(origin)) - {damaged}
    assert target.sequences(PROD) == [1, 2, 3]


def test_a_damaged_entry_is_copied_as_it_is(origin, target, tmp_path) -> None:
    (tmp_path / "origin" / PROD / "deploys" / "000000000002.json").write_bytes(b"\xff")
    assert copy(origin, target).problems == []
    assert target.read_entry(PROD, 2) == b"\xff"
    assert target.sequences(PROD) == [1, 2, 3]


def test_a_bundle_that_is_damaged_in_the_target_is_stored_again(origin, target, bucket) -> None:
    copy(origin, target)
    key = next(key for key in bucket.objects if key.endswith(".tar.zst"))
    data = bytearray(bucket.objects[key].data)
    data[-5] ^= 1
    bucket.objects[key] = bucket.objects[key]._replace(data=bytes(data))
    assert copy(origin, shared_store(bucket)).result.bundles == 1
    assert contents(shared_store(bucket)) == contents(origin)


def test_in_a_folder_too(origin, tmp_path) -> None:
    (tmp_path / "copy").mkdir()
    store = LocalStore(str(tmp_path / "copy"))
    copy(origin, store)
    path = next((tmp_path / "copy" / PROD / "bundles").glob("*.tar.zst"))
    path.write_bytes(bytes(path.stat().st_size))
    assert copy(origin, store).result.bundles == 1
    assert contents(store) == contents(origin)


def test_a_bundle_that_is_marked_in_the_target_is_stored_again(origin, target, bucket) -> None:
    copy(origin, target)
    bucket.now += DELETION_PAUSE_SECONDS
    target.may_delete(PROD, digests(origin)[:1])
    bucket.now += DELETION_PAUSE_SECONDS
    store = shared_store(bucket)
    assert copy(origin, store).result.bundles == 1
    for digest in store.may_delete(PROD, digests(origin)[:1]):
        store.delete_bundle(PROD, digest)
    assert store.has_bundle(PROD, digests(origin)[0])


def test_a_storage_that_changes_what_is_written_is_noticed(origin, bucket, monkeypatch) -> None:
    put = bucket.put

    def lossy(key: str, data: bytes) -> None:
        put(key, bytes(len(data)) if key.endswith(".tar.zst") else data)

    monkeypatch.setattr(bucket, "put", lossy)
    store = shared_store(bucket)
    store._cache._max_bytes = 1  # as a command opens it: what was written is read from the bucket
    with pytest.raises(copy_store.StoreDamaged):
        copy(origin, store)
    assert store.sequences(PROD) == []


def test_so_is_one_that_does_not_know_the_hash_of_what_is_written(origin, tmp_path, monkeypatch) -> None:
    (tmp_path / "copy").mkdir()
    store = LocalStore(str(tmp_path / "copy"))
    put = store.put_bundle

    def lossy(deployment: str, digest: str, write: Any) -> None:
        put(deployment, digest, write)
        path = tmp_path / "copy" / deployment / "bundles" / f"{digest.removeprefix('sha256:')}.tar.zst"
        path.write_bytes(bytes(path.stat().st_size))

    monkeypatch.setattr(store, "put_bundle", lossy)
    with pytest.raises(copy_store.StoreDamaged, match="is not what was written"):
        copy(origin, store)
    assert store.sequences(PROD) == []


def test_every_record_of_the_state_is_copied() -> None:
    sources = (path.read_text() for path in Path(dagferry_server.__file__).parent.rglob("*.py"))
    written = {key for source in sources for key in re.findall(r"store\.write_state\(\w+, ([A-Z_]+),", source)}
    names = {name for name, value in vars(copy_store).items() if name.endswith("_KEY") and value in STATE_KEYS}
    assert written == names
    assert len(STATE_KEYS) == len(names) > 0
