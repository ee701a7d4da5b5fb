"""The archive of a dags folder: what the server accepts, the same from everywhere, never of two states."""

import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tarmaker
import treemaker
from dagferry_client.local.errors import FolderChanged, PackFailed
from dagferry_client.local.pack import change_between, pack
from dagferry_client.local.tree import LocalTree
from dagferry_core.limits import PIECE_BYTES
from localtrees import packed, read, write

FILES = {
    "a.py": b"a = 1\n",
    "dags/inner.py": b"inner = 1\n",
    "caf\xe9/na\xefve.py": b"x",
    "empty/__init__.py": b"",
    "run.sh": b"#!/bin/sh\n",
    "n" * 100 + "/" + "n" * 200 + ".py": b"long",
    "zero": bytes(512),
    "data.bin": bytes(range(256)) * 4000,
}


@pytest.fixture
def tree(tmp_path: Path) -> LocalTree:
    dags = write(tmp_path / "dags", FILES)
    (dags / "run.sh").chmod(0o755)
    return read(dags)


def test_the_server_s_check_makes_the_same_bundle_of_it(tree: LocalTree) -> None:
    assert tarmaker.check(packed(tree)).manifest.digest == tree.manifest.digest
    assert tarmaker.tree(packed(tree)) == {path: (content, path == "run.sh") for path, content in FILES.items()}


def test_a_change_has_its_files_at_their_plain_paths(tree: LocalTree) -> None:
    changed = ["run.sh", "dags/inner.py"]
    assert packed(tree, changed) == packed(tree, sorted(changed))
    assert tarmaker.tree(packed(tree, changed), root=".") == {
        "dags/inner.py": (b"inner = 1\n", False),
        "run.sh": (b"#!/bin/sh\n", True),
    }


def test_a_change_without_files_is_an_archive_without_members(tree: LocalTree) -> None:
    assert tarmaker.check(packed(tree, []), allow_empty=True).manifest.files == {}


def test_the_bytes_are_always_the_same(tree: LocalTree, tmp_path: Path) -> None:
    again = write(tmp_path / "elsewhere" / "dags", dict(reversed(FILES.items())))
    (again / "run.sh").chmod(0o711)
    (again / "a.py").chmod(0o600)
    os.utime(again / "a.py", (1, 1))
    assert packed(read(again)) == packed(tree)
    # What other machines have to come to, too. It may only change with another version of zstd.
    assert tree.manifest.digest == treemaker.manifest_of(FILES, {"run.sh": 0o755}).digest


def test_it_is_one_zstd_frame_with_a_checksum_that_every_reader_can_hold(tree: LocalTree) -> None:
    data = packed(tree)
    assert data[:4] == b"\x28\xb5\x2f\xfd"
    assert data[4] & 0b100


@pytest.mark.parametrize("damage", [b"a = 2\n", b"a = 11\n", b"a =\n", None])
def test_a_file_that_is_not_what_was_read_is_an_error(tree: LocalTree, damage: bytes | None) -> None:
    source = Path(tree.sources["a.py"])
    source.unlink()
    if damage is not None:
        source.write_bytes(damage)
    with pytest.raises(FolderChanged, match=r"'a\.py'"):
        pack(tree)


def test_one_more_byte_behind_the_last_whole_piece_is_found(tmp_path: Path) -> None:
    dags = write(tmp_path / "dags", {"a.bin": bytes(2 * PIECE_BYTES)})
    tree = read(dags)
    with (dags / "a.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(FolderChanged):
        pack(tree)


def test_a_file_that_grows_without_end_is_an_error(tree: LocalTree) -> None:
    with pytest.raises(FolderChanged):
        pack(tree._replace(sources={**tree.sources, "a.py": "/dev/zero"}))


def test_progress_is_the_bytes_of_content(tree: LocalTree) -> None:
    counted: list[int] = []
    pack(tree, count=counted.append).close()
    assert sum(counted) == tree.manifest.size


def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    with (dags / "big.bin").open("wb") as file:
        file.truncate(64 << 20)
    tree = read(dags)
    tracemalloc.start()
    try:
        pack(tree).close()
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_full_disk_is_an_error_that_names_the_folder(tree: LocalTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: Path("/dev/full").open("w+b", buffering=0))  # noqa: SIM115
    with pytest.raises(PackFailed, match=f"cannot be written .*{tempfile.gettempdir()}.*No space left"):
        pack(tree)


def test_a_folder_for_temporary_files_that_is_closed_is_an_error(tree: LocalTree, monkeypatch) -> None:
    def refused() -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(PackFailed, match=r"Nothing can be written .*Permission denied"):
        pack(tree)


NAMES = st.text("ab\xe9z-_ ", min_size=1, max_size=5).map(lambda name: f"n{name}")
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + ".f"),
    st.binary(max_size=2000),
    min_size=1,
    max_size=8,
)


@given(old=TREES, new=TREES)
def test_a_change_leads_from_any_tree_to_any_other(old, new) -> None:
    with tempfile.TemporaryDirectory() as folder:
        before = read(write(Path(folder) / "old" / "dags", old))
        after = read(write(Path(folder) / "new" / "dags", new))
        change = change_between(before.manifest, after.manifest)
        sent = {
            path: found[0]
            for path, found in tarmaker.tree(packed(after, change.changed), root=".", allow_empty=True).items()
        }
    kept = {path: content for path, content in old.items() if path not in change.removed}
    assert {**kept, **sent} == new
    assert not sent.items() & old.items(), "nothing is sent that is there"
