"""A tree on disk: what counts as damage, what does not, and what touching and removing it does."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from dagferry_follow.errors import AnswerInvalid
from dagferry_follow.volume.removal import remove
from dagferry_follow.volume.tree import AHEAD_NS, Folders, Tree, check, read_and_check, touch
from treemaker import manifest_of

FILES = {
    "dag.py": b"import team.helper\n",
    "team/helper.py": b"rate = 1\n",
    "team/deep/er/query.sql": b"select 1\n",
    "team/empty.py": b"",
    "run.sh": b"#!/bin/sh\n",
    "ünï code/ä b.py": b"pass\n",
}
MODES = {"run.sh": 0o755}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A sound tree, as it was published."""
    manifest = manifest_of(FILES, MODES)
    folder = tmp_path / "tree"
    for entry in manifest.files.values():
        path = folder / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FILES[entry.path])
        path.chmod(entry.mode)
    for parent in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        parent.chmod(0o755)
    mtimes = {path: os.stat(folder / path).st_mtime_ns for path in FILES}
    return Tree(str(folder), manifest, mtimes)


def path_of(tree: Tree, name: str) -> Path:
    return Path(tree.folder, name)


# --- checking --------------------------------------------------------------------------------------------------------


def test_an_intact_tree_is_intact_at_both_looks(tree) -> None:
    assert not check(tree)
    found, damage = read_and_check(tree.folder, tree.manifest)
    assert not damage
    assert found == tree


def rewrite(path: Path) -> None:
    path.write_bytes(b"rate = 2\n")
    os.utime(path, ns=(1, 1))


TORN = {
    "another content": rewrite,
    "another size": lambda path: path.write_bytes(b"rate = 1000\n"),
    "gone": lambda path: path.unlink(),
    "unreadable for others": lambda path: path.chmod(0o600),
    "executable": lambda path: path.chmod(0o755),
    "a folder now": lambda path: (path.unlink(), path.mkdir()),
    "a link now": lambda path: (path.rename(path.with_suffix(".bak")), path.symlink_to("helper.bak")),
    "a FIFO now": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("harm", TORN.values(), ids=TORN)
def test_a_file_that_is_not_what_was_published_is_corrupt_at_both_looks(tree, harm) -> None:
    harm(path_of(tree, "team/helper.py"))
    assert check(tree).corrupt == ["team/helper.py"]
    found, damage = read_and_check(tree.folder, tree.manifest)
    assert damage.corrupt == ["team/helper.py"]
    assert check(found).corrupt == ["team/helper.py"], "the mtime of a torn file must not make it pass later"


def test_another_content_of_the_same_size_and_mtime_is_found_by_reading(tree) -> None:
    path = path_of(tree, "team/helper.py")
    path.write_bytes(b"rate = 9\n")
    os.utime(path, ns=(0, tree.mtimes["team/helper.py"]))
    assert not check(tree)
    assert read_and_check(tree.folder, tree.manifest)[1].corrupt == ["team/helper.py"]


def test_another_mtime_alone_is_seen_without_reading_and_is_no_damage_when_read(tree) -> None:
    os.utime(path_of(tree, "dag.py"), ns=(5, 5))
    assert check(tree).corrupt == ["dag.py"]
    found, damage = read_and_check(tree.folder, tree.manifest)
    assert not damage
    assert found.mtimes["dag.py"] == 5


def test_a_missing_folder_and_a_missing_tree_are_corrupt_files(tree) -> None:
    shutil.rmtree(path_of(tree, "team/deep"))
    assert check(tree).corrupt == ["team/deep/er/query.sql"]
    shutil.rmtree(tree.folder)
    assert check(tree).corrupt == list(tree.manifest.files)


def test_a_folder_that_became_a_link_is_not_followed(tree, tmp_path) -> None:
    path_of(tree, "team").rename(tmp_path / "elsewhere")
    path_of(tree, "team").symlink_to(tmp_path / "elsewhere")
    assert [path.partition("/")[0] for path in check(tree).corrupt] == ["team"] * 3


ODD = {
    "an extra file": (lambda folder: (folder / "extra.py").write_bytes(b""), ["extra.py"]),
    "an extra folder": (lambda folder: (folder / "team" / "new").mkdir(), ["team/new"]),
    "an extra link": (lambda folder: (folder / "team" / "link").symlink_to("/etc"), ["team/link"]),
    "a folder that others cannot enter": (lambda folder: (folder / "team").chmod(0o700), ["team/"]),
    "a name that is no text": (
        lambda folder: Path(os.fsdecode(b"%b/\xff" % bytes(folder))).write_bytes(b""),
        ["\udcff"],
    ),
}


@pytest.mark.parametrize(("harm", "found"), ODD.values(), ids=ODD)
def test_an_extra_name_is_unexpected_and_no_file_is_corrupt(tree, harm, found) -> None:
    harm(Path(tree.folder))
    for damage in (check(tree), read_and_check(tree.folder, tree.manifest)[1]):
        assert damage
        assert (damage.corrupt, damage.unexpected) == ([], found)


HARMLESS = {
    "bytecode": lambda folder: subprocess.run(["python3", "-m", "compileall", "-q", folder], check=True),
    "bytecode in folders of its own": lambda folder: (folder / "team/__pycache__/deeper").mkdir(parents=True),
    "group bits of a fsGroup": lambda folder: [
        path.chmod(stat.S_IMODE(path.stat().st_mode) | (0o2070 if path.is_dir() else 0o060))
        for path in [folder, *folder.rglob("*")]
    ],
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_bytecode_and_group_bits_are_no_damage(tree, change) -> None:
    change(Path(tree.folder))
    assert not check(tree)
    assert not read_and_check(tree.folder, tree.manifest)[1]


def test_bytecode_that_belongs_to_the_bundle_is_checked(tmp_path) -> None:
    manifest = manifest_of({"__pycache__/a.pyc": b"1"})
    (tmp_path / "__pycache__").mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    assert check(Tree(str(tmp_path), manifest, {"__pycache__/a.pyc": 1})).corrupt == ["__pycache__/a.pyc"]


# --- touching --------------------------------------------------------------------------------------------------------


def test_touching_sets_the_mtime_and_the_tree_stays_intact(tree) -> None:
    touch(tree, ["dag.py", "no such file.py", "team/helper.py"], 4_000_000_000.5)
    for path in ("dag.py", "team/helper.py"):
        assert path_of(tree, path).stat().st_mtime == pytest.approx(4_000_000_000.5, abs=AHEAD_NS / 0.9e9)
    assert path_of(tree, "run.sh").stat().st_mtime_ns == tree.mtimes["run.sh"]
    assert not check(tree)


def test_touching_never_makes_a_file_older(tree) -> None:
    before = tree.mtimes["dag.py"]
    touch(tree, ["dag.py"], 1.0)
    assert path_of(tree, "dag.py").stat().st_mtime_ns == before == tree.mtimes["dag.py"]


def test_touching_does_not_hide_damage(tree) -> None:
    rewrite(path_of(tree, "dag.py"))
    touch(tree, ["dag.py"], 4_000_000_000.0)
    assert check(tree).corrupt == ["dag.py"]


def test_a_volume_that_keeps_whole_seconds_only_does_not_make_a_tree_look_damaged(tree, monkeypatch) -> None:
    utime = os.utime
    monkeypatch.setattr(os, "utime", lambda path, ns, **how: utime(path, ns=(ns[0] // 10**9 * 10**9,) * 2, **how))
    touch(tree, ["dag.py"], 4_000_000_000.5)
    assert not check(tree)


# --- removing --------------------------------------------------------------------------------------------------------


def test_removing_takes_all_of_it_and_nothing_that_a_link_leads_to(tree, tmp_path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"")
    path_of(tree, "team/link").symlink_to(tmp_path / "precious")
    path_of(tree, "team").chmod(0o500)
    remove(tree.folder)
    assert not os.path.exists(tree.folder)
    assert (tmp_path / "precious" / "file").exists()
    remove(tree.folder)  # what is gone is gone


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/x", "a//x", "a/./x", "..", "", "a/", "a\0b", "\0/x"])
def test_no_path_leads_out_of_the_tree(tree, path) -> None:
    folders = Folders(tree.folder, make=True)
    with pytest.raises(AnswerInvalid, match="leaves the tree"):
        folders.enter(path)
    folders.close()


def test_each_folder_is_opened_once_and_few_are_open_at_a_time(tmp_path, monkeypatch) -> None:
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *more, **how: opened.append(path) or real(path, *more, **how))
    paths = sorted(f"a{n % 20}/b{n % 7}/c{n % 3}/f{n}.py" for n in range(500))
    folders = Folders(str(tmp_path), make=True)
    for path in paths:
        fd, name = folders.enter(path)
        assert name.startswith("f")
        assert os.path.samestat(os.fstat(fd), os.stat(tmp_path / os.path.dirname(path)))
    assert len(folders._fds) <= 4
    folders.close()
    assert len(opened) == 1 + len({parent for path in paths for parent in Path(path).parents} - {Path()})
