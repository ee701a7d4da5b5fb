"""The store on a local disk: what is durable when, and what it makes of damage and leftovers."""

import errno
import json
import logging
import os
import tempfile
import time
from pathlib import Path

import pytest

from dagferry_server.errors import StoreAway, StoreDamaged, StoreFull
from dagferry_server.store import files
from dagferry_server.store.base import CANDIDATES, LEASES, storage_errors
from dagferry_server.store.local import LocalStore

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(str(tmp_path))
    store.prepare("prod")
    return store


def put(store: LocalStore, content: bytes = b"bundle") -> None:
    store.put_bundle("prod", DIGEST, lambda out: b"index"[: out.write(content)])


def test_the_layout_is_the_documented_one(store, tmp_path) -> None:
    put(store)
    store.put_details("prod", 42, "0123456789abcdef", b"{}")
    store.create_entry("prod", 42, b"{}")
    store.write_state("prod", "freeze", b"{}")
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    hexadecimal = "a" * 64
    assert found == {
        "prod/log.json",
        "prod/freeze.state",
        "prod/deploys/000000000042.0123456789abcdef.details",
        "prod/deploys/000000000042.json",
        f"prod/bundles/{hexadecimal}.tar.zst",
        f"prod/bundles/{hexadecimal}.index",
    }


def test_a_bundle_takes_what_its_two_files_take(store) -> None:
    put(store, b"bundle")
    assert store.bundles("prod") == {DIGEST: len(b"bundle" + b"index")}


def test_a_backup_from_before_there_was_a_log_id_is_a_deployment(store, tmp_path) -> None:
    (tmp_path / "prod" / "log.json").unlink()
    assert store.deployments() == ["prod"]


def test_a_bundle_that_can_be_opened_and_not_read_is_away(store, monkeypatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    put(store)
    with store.open_bundle("prod", DIGEST) as source:
        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(StoreAway, match=f"Reading bundle {DIGEST} of prod failed: Input/output error"):
            source.read(0, 6)


def test_foreign_files_are_nothing_to_the_store(store, tmp_path) -> None:
    for name in ("prod/deploys/42.json", "prod/deploys/000000000001.json.bak", "prod/deploys/README"):
        (tmp_path / name).write_text("x")
    for name in ("prod/bundles/x.tar.zst", "prod/bundles/" + "g" * 64 + ".tar.zst"):
        (tmp_path / name).write_text("x")
    assert store.sequences("prod") == []
    assert store.bundles("prod") == {}


def test_leftovers_of_an_earlier_run_are_swept(store, tmp_path) -> None:
    for folder in ("prod", "prod/deploys", "prod/bundles"):
        (tmp_path / folder / (files.TEMPORARY + "0123")).write_text("half")
    (tmp_path / "prod/bundles" / ("b" * 64 + ".index")).write_text("an index without its bundle")
    (tmp_path / "prod/deploys/000000000001.0123456789abcdef.details").write_text("details without their entry")
    store.prepare("prod")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["log.json"]


def test_a_leftover_is_never_listed(store, tmp_path) -> None:
    (tmp_path / "prod/deploys" / (files.TEMPORARY + "0123")).write_text("half")
    (tmp_path / "prod/bundles" / (files.TEMPORARY + "0123")).write_text("half")
    assert store.sequences("prod") == []
    assert store.bundles("prod") == {}


def test_what_is_gone_before_it_is_measured_does_not_fail_the_list(store, tmp_path, monkeypatch) -> None:
    put(store)
    temporary = tmp_path / "prod/bundles" / (files.TEMPORARY + "0123")
    temporary.write_text("half")

    def listed_before_a_commit_ends(entries):
        listed = list(entries)
        temporary.unlink(missing_ok=True)
        return listed

    monkeypatch.setattr("dagferry_server.store.local.paced", listed_before_a_commit_ends)
    assert store.bundles("prod") == {DIGEST: len(b"bundle" + b"index")}
    assert not temporary.exists()


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"log_id": 7}', b'{"log_id": "../x"}', b"\xff"])
def test_a_damaged_log_id_is_replaced_and_reported_if_there_are_deploys(store, tmp_path, damage, caplog) -> None:
    first = store.log_id("prod")
    store.create_entry("prod", 1, b"{}")
    (tmp_path / "prod/log.json").write_bytes(damage)
    with pytest.raises(StoreDamaged):
        store.log_id("prod")
    store.prepare("prod")
    assert store.log_id("prod") != first
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_everything_is_synced_before_it_has_its_name_and_the_folder_after(store, monkeypatch) -> None:
    calls: list[str] = []

    def note(name: str) -> None:
        real = getattr(os, name)

        def noted(*arguments: object, **options: object) -> object:
            calls.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, noted)

    for name in ("fsync", "link", "rename"):
        note(name)
    store.create_entry("prod", 1, b"{}")
    assert calls == ["fsync", "link", "fsync"]
    calls.clear()
    put(store)
    assert calls == ["fsync", "rename", "fsync", "rename", "fsync"]
    calls.clear()
    store.write_state("prod", "freeze", b"{}")
    assert calls == ["fsync", "rename", "fsync"]
    calls.clear()
    store.delete_state("prod", "freeze")
    assert calls == ["fsync"]


def test_a_link_that_was_made_though_its_answer_says_no_is_one_s_own(store, monkeypatch) -> None:
    """As over NFS, where a request whose answer got lost is sent again."""
    real = os.link

    def made_and_repeated(*arguments: str) -> None:
        real(*arguments)
        real(*arguments)

    monkeypatch.setattr(os, "link", made_and_repeated)
    assert store.create_entry("prod", 1, b"mine")
    assert not store.create_entry("prod", 1, b"yours")


def test_an_entry_whose_name_could_not_be_synced_is_taken_back(store, monkeypatch) -> None:
    def fail(folder: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("dagferry_server.store.local.sync_folder", fail)
    with pytest.raises(StoreAway, match="Writing deploy 1 of prod failed: Input/output error"):
        store.create_entry("prod", 1, b"{}")
    monkeypatch.undo()
    assert store.sequences("prod") == []


def test_what_a_killed_writer_named_but_did_not_sync_is_synced_before_anybody_sees_it(store, monkeypatch) -> None:
    put(store)
    store.create_entry("prod", 1, b"{}")
    store.write_state("prod", "freeze", b"{}")
    synced = []
    monkeypatch.setattr(
        "dagferry_server.store.local.sync_folder", lambda folder: synced.append(os.path.basename(folder))
    )
    store.prepare("prod")
    assert store.sequences("prod") == [1]
    assert store.has_bundle("prod", DIGEST)
    assert store.newer("prod", 0) == [b"{}"]
    assert store.read_state("prod", "freeze") == b"{}"
    assert synced == ["prod", "deploys", "bundles", "deploys", "prod"]
    assert store.newer("prod", 1) == []
    assert store.read_state("prod", "lifecycle") is None
    assert len(synced) == 5, "nothing new needs no sync"


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, StoreFull), (errno.EDQUOT, StoreFull), (errno.EIO, StoreAway)]
)
def test_a_failed_write_leaves_nothing_and_says_why(store, tmp_path, monkeypatch, number, kind) -> None:
    before = set(tmp_path.rglob("*"))

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind):
        put(store)
    with pytest.raises(kind):
        store.create_entry("prod", 1, b"{}")
    with pytest.raises(kind):
        store.write_state("prod", "freeze", b"{}")
    with pytest.raises(kind):
        store.check_writable()
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ENOTDIR])
@pytest.mark.parametrize("kind", [LEASES, CANDIDATES])
def test_notes_that_cannot_be_listed_are_not_missing(store, monkeypatch, number, kind) -> None:
    """Else retention would delete the bundles that they keep."""

    def fail(path: str) -> None:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(StoreAway, match=f"Listing the {kind} of prod failed: {os.strerror(number)}"):
        store.notes("prod", kind)


@pytest.mark.parametrize(("number", "known"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)])
def test_what_time_it_is_can_be_asked_of_a_full_volume_but_not_of_one_that_is_away(
    store, tmp_path, monkeypatch, number, known
) -> None:
    def fail(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    os.utime(tmp_path, (1, 1))
    began = time.time()
    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    if known:
        assert began - 1 <= store.now() <= time.time() + 1
    else:
        with pytest.raises(StoreAway, match="Asking the volume for the time failed: Input/output error"):
            store.now()


def test_an_error_says_what_failed() -> None:
    with (
        pytest.raises(StoreAway, match="Feeding the cat failed: Permission denied"),
        storage_errors("Feeding the cat"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_the_log_id_is_a_line_of_json(store, tmp_path) -> None:
    assert json.loads((tmp_path / "prod/log.json").read_text()) == {"log_id": store.log_id("prod")}


def test_a_bundle_without_its_index_is_not_stored(store, tmp_path) -> None:
    put(store)
    (tmp_path / "prod/bundles" / ("a" * 64 + ".index")).unlink()
    assert not store.has_bundle("prod", DIGEST)


def test_a_bundle_that_cannot_be_stored_again_stays_as_it_was(store) -> None:
    def fail(out: object) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    put(store)
    with pytest.raises(StoreFull):
        store.put_bundle("prod", DIGEST, fail)
    assert store.has_bundle("prod", DIGEST)
    with store.open_bundle("prod", DIGEST) as source:
        assert (source.read(0, source.size), source.encoded_index) == (b"bundle", b"index")


def test_what_an_older_version_left_readable_for_others_becomes_private(store, tmp_path) -> None:
    put(store)
    folder = tmp_path / "prod/bundles"
    files = sorted(folder.iterdir())
    for path in (folder, *files):
        path.chmod(0o755 if path.is_dir() else 0o644)
    store.prepare("prod")
    assert [path.stat().st_mode & 0o777 for path in (folder, *files)] == [0o700, 0o600, 0o600]
