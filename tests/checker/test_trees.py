"""The work folder: trees that share files, the link that DAG files see, and one owner."""

import os
from pathlib import Path

import pytest

from dagferry_checker.trees import MAX_TREES, TreeStore
from dagferry_follow.errors import DigestMismatch, RootInUse, RootUnusable
from treemaker import manifest_of


def content(files: dict[str, bytes]):
    manifest = manifest_of(files)
    return manifest, [(entry, [files[path]]) for path, entry in manifest.files.items()]


@pytest.fixture
def store(tmp_path):
    made = TreeStore(str(tmp_path / "work"))
    yield made
    made.close()


def make(store: TreeStore, files: dict[str, bytes], old=None):
    return store.make(*content(files), old)


def test_a_tree_shares_unchanged_files_with_the_one_before(store) -> None:
    old = make(store, {"a.sql": b"a", "b.py": b"b"})
    new = make(store, {"a.sql": b"a", "b.py": b"B"}, old)
    assert Path(new.folder, "b.py").read_bytes() == b"B"
    assert Path(old.folder, "b.py").read_bytes() == b"b"
    assert os.path.samefile(f"{old.folder}/a.sql", f"{new.folder}/a.sql")


def test_the_path_that_dag_files_see_is_always_the_same(store, tmp_path) -> None:
    old, new = make(store, {"a.py": b"1"}), make(store, {"a.py": b"2"})
    for tree, text in ((old, b"1"), (new, b"2"), (old, b"1")):
        with store.showing(tree) as folder:
            assert folder == f"{tmp_path}/work/current"
            assert Path(folder, "a.py").read_bytes() == text


def test_a_tree_that_is_not_complete_leaves_nothing(store, tmp_path) -> None:
    manifest, _ = content({"a.py": b"1"})
    with pytest.raises(DigestMismatch):
        store.make(manifest, [(manifest.files["a.py"], [b"2"])], None)
    assert os.listdir(tmp_path / "work/.checker/trees") == []


def test_old_trees_are_removed_but_never_the_live_one(store, tmp_path) -> None:
    trees = [make(store, {"a.py": str(number).encode()}) for number in range(10)]
    store.retire(trees[0])
    left = [tree for tree in trees if os.path.isdir(tree.folder)]
    assert left == [trees[0], *trees[-MAX_TREES + 1 :]]
    assert store.find(trees[0].manifest.digest) is trees[0]
    assert store.find(trees[1].manifest.digest) is None


def test_trees_of_other_deployments_are_kept_beside_the_others(store) -> None:
    trees = [make(store, {"a.py": str(number).encode()}) for number in range(10)]
    store.retire(trees[0], trees[1:3])
    left = [tree for tree in trees if os.path.isdir(tree.folder)]
    assert left == [*trees[:3], *trees[-MAX_TREES + 1 :]]


def test_a_folder_has_one_owner_and_is_empty_after_it(tmp_path) -> None:
    store = TreeStore(str(tmp_path / "work"))
    with pytest.raises(RootInUse):
        TreeStore(str(tmp_path / "work"))
    with store.showing(make(store, {"a.py": b"1"})):
        pass
    store.close()
    assert [path.name for path in (tmp_path / "work").rglob("*")] == [".checker", "lock"]
    TreeStore(str(tmp_path / "work")).close()


def test_what_an_earlier_run_left_is_removed(tmp_path) -> None:
    left = tmp_path / "work/.checker/trees/1"
    left.mkdir(parents=True)
    store = TreeStore(str(tmp_path / "work"))
    assert not left.exists()
    store.close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path, store) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RootUnusable, match="file"):
        TreeStore(str(tmp_path / "file"))
    (tmp_path / "work/current").mkdir()
    with pytest.raises(RootUnusable, match="current"), store.showing(make(store, {"a.py": b"1"})):
        pass


def test_what_cannot_be_removed_is_put_aside_and_the_next_run_starts(tmp_path, monkeypatch) -> None:
    folder = str(tmp_path / "work")
    left = tmp_path / "work/.checker/scratch/of another user"
    left.mkdir(parents=True)

    def refuse(_path: str) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr("dagferry_checker.leftovers.remove", refuse)
        store = TreeStore(folder)
        assert os.listdir(store.scratch) == []
        os.close(store._lock)
    aside = [name for name in os.listdir(tmp_path / "work/.checker") if name.startswith("scratch.left-")]
    assert len(aside) == 1
    TreeStore(folder).close()
    assert os.listdir(tmp_path / "work/.checker") == ["lock"], "it is tried again"


@pytest.mark.parametrize("what", ["file", "link", "pipe"])
def test_what_a_dag_file_put_in_the_place_of_a_folder_goes(tmp_path, what) -> None:
    store = TreeStore(str(tmp_path / "work"))
    os.rmdir(store.scratch)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/mine").touch()
    make_it = {
        "file": lambda: Path(store.scratch).touch(),
        "link": lambda: os.symlink(tmp_path / "outside", store.scratch),
        "pipe": lambda: os.mkfifo(store.scratch),
    }
    make_it[what]()
    os.close(store._lock)
    TreeStore(str(tmp_path / "work")).close()
    assert (tmp_path / "outside/mine").exists()
