"""What Airflow was seen to read is written, read and bounded; a swap touches by it, and by the guess without it."""

import json
import os
import time
from pathlib import Path

import pytest

from dagferry_core.bundle.patch import Patch
from dagferry_core.source.observed import Contents, Observation, observe
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.volume import known_reads
from dagferry_follow.volume.known_reads import MAX_READS_BYTES, READS, encode, read_known, write_reads
from dagferry_follow.volume.volume import Volume
from treemaker import Stored, manifest_of

KNOWN = {
    "dag.py": Observation("ab", frozenset({"dag.py", "größe.yml"}), frozenset({"", "sql"}), 10**18, whole=True),
    "b.py": Observation("cd", frozenset({"b.py"}), frozenset(), 1, whole=False),
}
GUESSED = b"load('conf/*.yml')\n"
A = {"one.py": GUESSED, "two.py": GUESSED, "never.py": GUESSED, "conf/a.yml": b"a", "conf/b.yml": b"b", "big.sql": b"x"}


# --- the file --------------------------------------------------------------------------------------------------------


def write_known(trees, known) -> None:
    write_reads(str(trees), encode(known))


def test_what_was_written_is_read(tmp_path) -> None:
    write_known(tmp_path, KNOWN)
    assert read_known(str(tmp_path)) == KNOWN
    write_known(tmp_path, {})
    assert read_known(str(tmp_path)) == {}
    assert os.listdir(tmp_path) == [READS]


def test_without_a_file_nothing_is_known(tmp_path) -> None:
    assert read_known(str(tmp_path)) == {}


def of(**changes) -> bytes:
    raw = {"format": 1, "paths": ["dag.py"], "files": {}}
    one = {"inputs": "", "opened": [0], "listed": [], "mtime": 1, "whole": True}
    files = {"dag.py": one | {key: value for key, value in changes.items() if key in one}}
    return json.dumps(raw | {"files": files} | {key: changes[key] for key in changes if key in raw}).encode()


def test_the_file_that_the_next_test_damages_is_read(tmp_path) -> None:
    (tmp_path / READS).write_bytes(of())
    assert read_known(str(tmp_path)) == {"dag.py": Observation("", frozenset({"dag.py"}), frozenset(), 1)}


@pytest.mark.parametrize(
    "damaged",
    [
        *(b"", b"{", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000, of()[:-1]),
        *(of(format=2), of(paths=[1]), of(paths={}), of(paths=None), of(files=[]), of(files={"dag.py": None})),
        *(of(files={"dag.py": {}}), of(opened=[1]), of(opened=[-1]), of(opened=["0"]), of(opened=[True]), of(opened=0)),
        *(of(listed=None), of(listed=[9]), of(inputs=1), of(whole=1), of(mtime=1.0), of(mtime=True)),
    ],
)
def test_a_damaged_file_is_ignored(tmp_path, damaged) -> None:
    (tmp_path / READS).write_bytes(damaged)
    assert read_known(str(tmp_path)) == {}


def test_a_file_that_is_too_large_is_ignored(tmp_path) -> None:
    (tmp_path / READS).write_bytes(of() + b" " * (MAX_READS_BYTES - len(of())))
    assert read_known(str(tmp_path))
    (tmp_path / READS).write_bytes(of() + b" " * (MAX_READS_BYTES - len(of()) + 1))
    assert read_known(str(tmp_path)) == {}


def test_what_is_no_file_is_ignored_and_does_not_block(tmp_path) -> None:
    (tmp_path / "elsewhere").write_bytes(of())
    (tmp_path / READS).symlink_to("elsewhere")
    assert read_known(str(tmp_path)) == {}
    (tmp_path / READS).unlink()
    os.mkfifo(tmp_path / READS)
    assert read_known(str(tmp_path)) == {}
    (tmp_path / READS).unlink()
    (tmp_path / READS).mkdir()
    assert read_known(str(tmp_path)) == {}


def test_a_failed_write_leaves_what_was_and_nothing_else(tmp_path, monkeypatch) -> None:
    write_known(tmp_path, KNOWN)
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):  # noqa: PT011
        write_known(tmp_path, {})
    assert read_known(str(tmp_path)) == KNOWN
    assert os.listdir(tmp_path) == [READS]


def test_what_is_too_much_is_left_out_the_largest_first(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(known_reads, "MAX_READS_BYTES", 5000)
    known = {
        f"{n}.py": Observation("x", frozenset(f"{n}/{i}.yml" for i in range(n)), frozenset(), 1) for n in range(40)
    }
    write_known(tmp_path, known)
    kept = read_known(str(tmp_path))
    assert 3 < len(kept) < 40
    assert kept == {f"{n}.py": known[f"{n}.py"] for n in range(len(kept))}


def test_the_file_can_be_read_by_all_whatever_the_umask(tmp_path) -> None:
    before = os.umask(0o077)
    try:
        write_known(tmp_path, KNOWN)
    finally:
        os.umask(before)
    assert (tmp_path / READS).stat().st_mode & 0o777 == 0o644


# --- swaps -----------------------------------------------------------------------------------------------------------


class Site:
    """A volume on which deploys are published, one after the other."""

    def __init__(self, root: Path) -> None:
        self.volume = Volume(str(root))
        self.files: dict[str, bytes] = {}
        self.now = time.time() - 1000

    def publish(self, files: dict[str, bytes], *, whole: bool = False) -> list[str]:
        """Publish, by a patch if there is a tree; return the fresh files."""
        number = len(self.volume.old) + 2
        stored = Stored(files)
        deploy = DeployRef("log", number, f"v-{number}", stored.manifest.digest)
        body = None if whole or not self.files else stored.patch_from(Stored(self.files))
        content = (
            Patch.parse(body) if body else [(entry, [files[path]]) for path, entry in stored.manifest.files.items()]
        )
        self.now += 100
        with self.volume.stage(deploy, manifest_of(files)) as staging:
            staging.populate(content)
            fresh = self.volume.swap(staging, lambda: self.now)
        self.files = files
        return sorted(fresh)

    def know(self, **reads: tuple[list[str], list[str]]) -> None:
        """Note for DAG files (without ``.py``) what they opened and listed in the live tree."""
        tree = self.volume.live.tree
        known = {
            f"{name}.py": observe(
                f"{name}.py", opened, listed, Contents(tree.manifest), mtime=tree.mtimes[f"{name}.py"]
            )
            for name, (opened, listed) in reads.items()
        }
        write_known(self.volume.root.trees, known)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.publish(A)
    yield site
    site.volume.close()


CHANGED = {**A, "conf/a.yml": b"changed"}
SEEN = {"one": (["conf/a.yml"], []), "two": (["conf/b.yml"], ["conf"])}


def test_a_swap_touches_who_read_the_file_and_by_the_guess_who_was_never_parsed(site) -> None:
    site.know(**SEEN)
    assert site.publish(CHANGED) == ["conf/a.yml", "never.py", "one.py"]


def test_without_the_file_or_with_a_damaged_one_a_swap_touches_by_the_guess(site) -> None:
    assert site.publish(CHANGED) == ["conf/a.yml", "never.py", "one.py", "two.py"]
    site.know(**SEEN)
    Path(site.volume.root.trees, READS).write_bytes(b"damaged")
    assert site.publish(A) == ["conf/a.yml", "never.py", "one.py", "two.py"]


def test_an_observation_counts_until_its_file_is_touched(site) -> None:
    site.know(**SEEN)
    again = {**CHANGED, "conf/b.yml": b"changed"}
    assert site.publish(CHANGED) == ["conf/a.yml", "never.py", "one.py"]
    assert site.publish(again) == ["conf/b.yml", "never.py", "one.py", "two.py"], "of one.py nothing is known now"
    site.know(**SEEN)
    assert site.publish({**again, "conf/b.yml": b"again"}) == ["conf/b.yml", "never.py", "two.py"]


def test_a_new_file_in_a_listed_folder_touches_the_lister(site) -> None:
    files = {**A, "one.py": b"computed()\n", "two.py": b"computed()\n", "never.py": b""}
    site.publish(files)
    site.know(one=([], ["conf"]), two=([], [""]))
    assert site.publish({**files, "conf/c.txt": b"new"}) == ["conf/c.txt", "one.py"]


def test_a_patch_of_several_kinds_of_changes_looks_into_the_sources_on_the_volume(site) -> None:
    site.know(**SEEN)
    assert site.publish({**CHANGED, "new.sql": b"new"}) == ["conf/a.yml", "never.py", "new.sql", "one.py"]
    site.know(**SEEN)
    both = {**A, "conf/new.yml": b"new", "new.sql": b"new"}
    assert site.publish(both) == ["conf/a.yml", "conf/new.yml", "never.py", "one.py", "two.py"]


def test_a_whole_bundle_touches_all_sources_of_which_nothing_else_is_known(site) -> None:
    files = {**A, "helper.py": b"x = 1\n"}
    site.publish(files)
    site.know(**SEEN)
    changed = {**files, "conf/a.yml": b"changed"}
    assert site.publish(changed, whole=True) == ["conf/a.yml", "helper.py", "never.py", "one.py"]
    assert site.publish({**changed, "big.sql": b"y"}, whole=True) == ["big.sql", "helper.py", "never.py", "one.py"]


def test_a_whole_bundle_in_place_of_a_corrupt_tree_touches_all_sources(site) -> None:
    site.know(**SEEN)
    Path(site.volume.live.tree.folder, "conf/b.yml").write_bytes(b"?")
    assert site.publish(CHANGED, whole=True) == ["conf/a.yml", "conf/b.yml", "never.py", "one.py", "two.py"]


def test_the_file_stays_when_the_volume_is_swept_and_loaded_again(site, tmp_path) -> None:
    site.know(**SEEN)
    site.volume.close()
    volume = Volume(str(tmp_path))
    try:
        assert not volume.load()
        assert volume.sweep() == 0
        assert set(read_known(volume.root.trees)) == {"one.py", "two.py"}
    finally:
        volume.close()
