"""What parses read is noted on the volume, bounded and throttled; not where nothing can be known."""

import errno
import time
from pathlib import Path

import pytest

from dagferry_airflow import noting
from dagferry_airflow.noting import Noting
from dagferry_airflow.reads import Parse
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import ServerRefused
from dagferry_follow.volume.known_reads import READS, read_known, write_reads
from dagferry_follow.volume.volume import Volume
from treemaker import manifest_of

A = {"dag.py": b"import helper\n", "helper.py": b"x = 1\n", "a.yml": b"a\n", "frames.py": b"import polars\n"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Site:
    """A volume with published trees, and what is noted of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.volume = Volume(str(root))
        self.clock = Clock()
        self.noting = Noting(str(root), clock=self.clock)

    def publish(self, files: dict[str, bytes]) -> str:
        """Publish files; return the tree."""
        manifest = manifest_of(files)
        number = len(self.volume.old) + 2
        with self.volume.stage(DeployRef("log", number, f"v-{number}", manifest.digest), manifest) as staging:
            staging.populate((entry, [files[path]]) for path, entry in manifest.files.items())
            self.volume.swap(staging, time.time)
        return f"{self.volume.live.unique}/{self.volume.live.record.version}"

    def note(self, *trees: str, file="dag.py", opened=("dag.py", "a.yml"), listed=(), **rest) -> None:
        rest = {"started": 1.0, "ended": 2.0, "well": True} | rest
        self.noting.note(
            Parse(file, trees=frozenset(trees), opened=frozenset(opened), listed=frozenset(listed), **rest)
        )

    def known(self, *, seconds: float = 60):
        """What is known on the volume after some time."""
        self.clock.now += seconds
        self.noting.flush()
        return read_known(f"{self.root}/.trees")


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "root")
    yield site
    site.volume.close()


def test_a_parse_is_noted_with_what_it_opened_and_listed(site) -> None:
    tree = site.publish(A)
    site.note(tree, listed=["", "sql"])
    found = site.known()["dag.py"]
    assert (found.opened, found.listed, found.whole) == ({"dag.py", "a.yml"}, {"", "sql"}, True)
    assert found.mtime == site.volume.live.tree.mtimes["dag.py"]


@pytest.mark.parametrize("rest", [{"well": False}, {"ended": None}, {"cut": True}, {"opened": ["frames.py"]}])
def test_a_parse_that_may_have_read_more_is_noted_as_partial(site, rest) -> None:
    site.note(site.publish(A), **rest)
    assert not site.known()["dag.py"].whole


def test_of_a_parse_that_saw_two_trees_or_none_nothing_is_noted(site) -> None:
    trees = site.publish(A), site.publish(A | {"a.yml": b"b\n"})
    for seen in (trees, (), ("../x",), ("0" * 16 + "/gone",), (trees[0].replace("v-", "../v-"),)):
        site.note(*seen)
    site.note(trees[0], file="other.py")
    assert site.known() == {}


def test_paths_outside_of_the_bundle_and_caches_are_left_out(site) -> None:
    opened = ["../x.yml", "/etc/x", "a//b", "", "__pycache__/x.pyc", "sub/__pycache__/y.pyc", "late.yml"]
    site.note(site.publish(A), opened=opened, listed=["__pycache__", "..", "sub"])
    assert site.known()["dag.py"][1:3] == ({"dag.py", "late.yml"}, {"sub"})


def test_a_parse_of_an_older_tree_is_noted_with_what_that_had(site) -> None:
    old, new = site.publish(A), site.publish(A | {"a.yml": b"b\n"})
    site.note(old)
    first = site.known()
    site.note(new)
    assert first["dag.py"].inputs != site.known()["dag.py"].inputs


def test_writes_are_throttled_and_none_is_made_if_nothing_is_new(site) -> None:
    tree = site.publish(A)
    file = site.root / ".trees" / READS
    site.note(tree)
    assert site.known(seconds=0)
    file.unlink()
    site.note(tree)
    assert site.known() == {}, "nothing is new"
    site.note(tree, file="helper.py", opened=["helper.py"])
    assert set(site.known(seconds=0)) == {"dag.py", "helper.py"}
    site.note(tree, file="frames.py")
    assert set(site.known(seconds=noting.WRITE_SECONDS - 0.1)) == {"dag.py", "helper.py"}
    assert set(site.known(seconds=0.2)) == {"dag.py", "frames.py", "helper.py"}


def test_after_a_restart_what_was_known_is_still_known_and_what_is_gone_is_dropped(site) -> None:
    site.note(site.publish(A | {"old.py": b"dag"}), file="old.py")
    site.note(site.publish(A), file="helper.py", opened=["helper.py"])
    assert set(site.known()) == {"helper.py"}
    site.noting = Noting(str(site.root), clock=site.clock)
    site.note(f"{site.volume.live.unique}/{site.volume.live.record.version}")
    assert set(site.known()) == {"dag.py", "helper.py"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ServerRefused("no")])
def test_a_write_that_fails_is_tried_again_later(site, error) -> None:
    calls = []

    def write(encoded: bytes) -> None:
        calls.append(encoded)
        if len(calls) == 1:
            raise error
        write_reads(f"{site.root}/.trees", encoded)

    site.noting = Noting(str(site.root), write, clock=site.clock)
    site.note(site.publish(A))
    assert site.known() == {}
    assert site.known(seconds=noting.FAILED_SECONDS - 0.1) == {}
    assert set(site.known(seconds=0.2)) == {"dag.py"}
    assert len(calls) == 2


def test_an_observation_that_is_too_large_is_dropped(site, monkeypatch) -> None:
    tree = site.publish(A)
    site.note(tree)
    assert site.known()
    monkeypatch.setattr("dagferry_core.source.observed.MAX_PATHS", 2)
    site.note(tree, opened=["a.yml", "b.yml"])
    assert site.known() == {}


def test_damaged_records_of_a_tree_end_nothing(site) -> None:
    tree = site.publish(A)
    (site.root / ".trees" / tree.partition("/")[0] / "manifest.zst").write_bytes(b"damaged")
    site.note(tree)
    assert site.known() == {}


def test_whether_sources_open_files_unseen_is_kept_within_bounds(site, monkeypatch) -> None:
    monkeypatch.setattr(noting, "MAX_SOURCES", 1)
    tree = site.publish(A)
    for file, whole in (("dag.py", True), ("frames.py", False), ("dag.py", True), ("frames.py", False)):
        site.note(tree, file=file, opened=[file, "helper.py"])
        assert site.known()[file].whole is whole
