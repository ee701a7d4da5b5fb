"""Which tree a task gets whose run keeps its version, that it holds that tree, and what its log says."""

import datetime as dt
import os
import shutil
from types import SimpleNamespace

import pytest

from dagferry_airflow import pin as pins
from dagferry_core.names import make_version
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.volume import in_use
from dagferry_follow.volume.lookup import tree_at, trees_of
from dagferry_follow.volume.records import TreeRules
from dagferry_follow.volume.volume import Volume
from treemaker import manifest_of

START = 1_800_000_000
MINUTE = 60
NONE = TreeRules(0, 0, 1 << 60)


class Pod:
    """A volume on which a deploy went live every minute, and a process that begins on it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.volume = Volume(root)

    def publish(self, number: int, made: int, *, written: float | None = None, version: str = "") -> str:
        """Make a deploy live, and return its version; ``written``: when its tree was, by this volume's clock."""
        manifest = manifest_of({"dag.py": b"number = %d\n" % number})
        version = version or make_version(made, number)
        with self.volume.stage(DeployRef("log", number, version, manifest.digest), manifest) as staging:
            staging.populate((entry, [b"number = %d\n" % number]) for entry in manifest.files.values())
            self.volume.swap(staging, lambda: made)
        if written is not None:
            os.utime(f"{self.root}/.trees/{self.volume.live.unique}/deploy.json", (written, written))
        return version

    def begins(self, started: float | None, *, by_run: bool = True, dag_file: str = "dag.py") -> tuple[str, str]:
        """A task of a run that started then: the version it gets, and how it was chosen."""
        pins._held.clear()
        moment = None if started is None else dt.datetime.fromtimestamp(started, tz=dt.timezone.utc)
        self.settings = SimpleNamespace(DAGS_FOLDER=f"{self.root}/current")
        self.environment: dict[str, str] = {}
        (pinned,) = pins.pin(self.settings, None, self.environment, [], pins.Wish(by_run, moment, dag_file))
        assert os.path.basename(self.settings.DAGS_FOLDER) == pinned.version
        return pinned.version, pinned.how


@pytest.fixture
def held(monkeypatch):
    """What the process holds, until the test ends."""
    fds: list[int] = []
    hold = in_use.hold

    def noted(root: str, unique: str) -> int:
        fds.append(hold(root, unique))
        return fds[-1]

    monkeypatch.setattr(in_use, "hold", noted)
    yield fds
    pins._held.clear()
    for fd in fds:
        os.close(fd)


@pytest.fixture
def pod(tmp_path, held) -> Pod:
    pod = Pod(str(tmp_path / "root"))
    yield pod
    pod.volume.close()


def test_a_run_gets_the_version_that_was_live_when_it_started(pod) -> None:
    versions = [pod.publish(number, START + number * MINUTE) for number in range(1, 5)]
    for number, version in enumerate(versions, start=1):
        for seconds in (1, MINUTE - 1):
            assert pod.begins(START + number * MINUTE + seconds) == (version, pins.RUN)
    assert pod.begins(START + 100 * MINUTE) == (versions[-1], pins.RUN)
    assert pod.begins(START + 2 * MINUTE + 1, by_run=False) == (versions[-1], pins.NEWEST)


def test_a_tree_that_went_live_here_late_counts_from_when_its_deploy_was_made(pod) -> None:
    """A pod that started later, or whose sidecar was slow, gives the run what the other pods give it."""
    old = pod.publish(3, START, written=START + 30 * MINUTE)
    pod.publish(4, START + 20 * MINUTE, written=START + 31 * MINUTE)
    assert pod.begins(START + 10 * MINUTE) == (old, pins.RUN)


def test_within_the_second_of_a_deploy_the_moment_its_tree_was_written_decides(pod) -> None:
    old = pod.publish(1, START)
    new = pod.publish(2, START + MINUTE, written=START + MINUTE + 0.5)
    assert pod.begins(START + MINUTE + 0.4) == (old, pins.RUN)
    assert pod.begins(START + MINUTE + 0.6) == (new, pins.RUN)


def test_a_tree_that_was_built_again_counts_as_the_deploy_it_is_of(pod) -> None:
    pod.publish(1, START)
    version = pod.publish(2, START + MINUTE)
    first = pod.volume.live.unique
    pod.publish(2, START + MINUTE, written=START + 9 * MINUTE, version=version)
    pod.publish(3, START + 10 * MINUTE)
    assert pod.begins(START + 5 * MINUTE) == (version, pins.RUN)
    assert first not in pod.settings.DAGS_FOLDER, "the newest of them, which is intact"


def test_a_seed_counts_from_when_it_was_written(pod) -> None:
    pod.publish(0, START, written=START, version="seed")
    version = pod.publish(1, START + MINUTE)
    assert pod.begins(START + 1) == ("seed", pins.RUN)
    assert pod.begins(START - 1) == (version, pins.NEWEST_INSTEAD)


def test_where_its_tree_is_gone_or_was_never_there_a_run_gets_the_newest_and_the_log_says_so(pod) -> None:
    versions = [pod.publish(number, START + number * MINUTE) for number in range(1, 4)]
    pod.volume.retire(NONE, START + 10 * MINUTE)
    assert trees_of(pod.root, versions[0]) == []
    assert pod.begins(START + MINUTE + 1) == (versions[2], pins.NEWEST_INSTEAD)
    assert pod.environment["DAGFERRY_TASK_VERSION"] == (
        f"dagferry version={versions[2]} chosen=newest_instead run_started=2027-01-15T08:01:01Z root={pod.root} "
        "What was live when the run started is not on this volume or lacks the DAG file: this is the newest."
    )
    assert pod.begins(None) == (versions[2], pins.NEWEST_INSTEAD)
    assert "It is not known when the run of this task started" in pod.environment["DAGFERRY_TASK_VERSION"]


def test_a_tree_that_a_task_holds_does_not_stand_in_for_a_newer_one_that_was_removed(pod, held) -> None:
    versions = [pod.publish(number, START + number * MINUTE) for number in range(1, 4)]
    assert pod.begins(START + MINUTE + 1) == (versions[0], pins.RUN)
    versions.append(pod.publish(4, START + 4 * MINUTE))
    pod.volume.retire(NONE, START + 10 * MINUTE)
    assert [bool(trees_of(pod.root, version)) for version in versions] == [True, False, True, True]
    assert pod.begins(START + 2 * MINUTE + 1) == (versions[3], pins.NEWEST_INSTEAD)
    assert pod.begins(START + MINUTE + 1) == (versions[0], pins.RUN)
    assert pod.begins(START + 3 * MINUTE + 1) == (versions[2], pins.RUN)


def test_a_tree_that_is_half_removed_is_gone(pod) -> None:
    versions = [pod.publish(number, START + number * MINUTE) for number in range(1, 3)]
    os.unlink(f"{pod.root}/.trees/{pod.volume.old[0].unique}/ended")
    assert pod.begins(START + MINUTE + 1) == (versions[1], pins.NEWEST_INSTEAD)
    assert tree_at(pod.root, START) is None
    assert tree_at(f"{pod.root}/nowhere", START) is None


def test_an_old_tree_without_the_folder_that_airflow_reads_is_not_taken(pod) -> None:
    pod.publish(1, START)
    new = pod.publish(2, START + MINUTE)
    os.mkdir(f"{pod.root}/current/sub")
    settings = SimpleNamespace(DAGS_FOLDER=f"{pod.root}/current/sub")
    wish = pins.Wish(by_run=True, run_started=dt.datetime.fromtimestamp(START + 1, tz=dt.timezone.utc))
    (pinned,) = pins.pin(settings, None, {}, [], wish)
    assert (pinned.version, pinned.how) == (new, pins.NEWEST_INSTEAD)


def test_an_old_tree_without_the_dag_file_that_the_newest_has_is_not_taken(pod) -> None:
    old, new = pod.publish(1, START), pod.publish(2, START + MINUTE)
    os.rename(f"{pod.root}/.trees/{pod.volume.old[0].unique}/{old}/dag.py", f"{pod.root}/elsewhere.py")
    assert pod.begins(START + 1, dag_file="dag.py") == (new, pins.NEWEST_INSTEAD)
    assert pod.begins(START + 1, dag_file="nowhere.py") == (old, pins.RUN), "then the newest does not help either"


def test_all_folders_of_one_root_get_one_tree_whatever_is_swapped_meanwhile(pod, monkeypatch) -> None:
    version = pod.publish(1, START)
    place_of = pins.place_of

    def swapped(folder: str) -> pins.Place | None:
        found = place_of(folder)
        if len(pod.volume.old) < 3:
            pod.publish(len(pod.volume.old) + 2, START + MINUTE)
        return found

    monkeypatch.setattr(pins, "place_of", swapped)
    os.symlink(f"{pod.root}/current", f"{pod.root}/other")
    environment: dict[str, str] = {}
    bundles = [{"name": name, "kwargs": {"path": f"{pod.root}/{name}"}} for name in ("current", "other")]
    (pinned,) = pins.pin(SimpleNamespace(DAGS_FOLDER=f"{pod.root}/current"), bundles, environment, [])
    assert pinned.version == version
    assert environment[pins.BUNDLES_VARIABLE].count(version) == 2
    assert environment[pins.FOLDER_VARIABLE].endswith(version)


def test_a_pinned_process_holds_its_tree_and_so_does_the_program_that_replaces_it(pod, held) -> None:
    versions = [pod.publish(number, START + number * MINUTE) for number in range(1, 4)]
    pod.begins(START + MINUTE + 1)
    (tree,) = trees_of(pod.root, versions[0])
    assert in_use.used(pod.root, [tree]) == {tree}
    pins.pin(pod.settings, None, pod.environment, [])
    assert len(held) == 1, "a child that was forked has it already"
    os.close(held.pop())
    pins._held.clear()
    assert pins.pin(pod.settings, None, pod.environment, []) == []
    assert in_use.used(pod.root, [tree]) == {tree}
    assert pod.volume.retire(NONE, START + 100 * 3600) == 0


def test_a_tree_that_is_removed_before_it_is_held_is_not_taken(pod, monkeypatch) -> None:
    versions = [pod.publish(number, START + number * MINUTE) for number in range(1, 4)]
    hold = in_use.hold

    def late(root: str, unique: str) -> int:
        for tree in (*trees_of(root, versions[0]), *trees_of(root, versions[2])):
            shutil.rmtree(f"{root}/.trees/{tree}")
            versions.append(pod.publish(4, START + 9 * MINUTE))
        return hold(root, unique)

    monkeypatch.setattr(in_use, "hold", late)
    assert pod.begins(START + MINUTE + 1) == (versions[-1], pins.NEWEST_INSTEAD)
    assert len(pins._held) == 1


def test_without_locks_a_task_is_pinned_all_the_same(pod, monkeypatch, caplog) -> None:
    caplog.set_level("INFO")
    version = pod.publish(1, START)
    monkeypatch.setattr(in_use, "hold", lambda *_: (_ for _ in ()).throw(OSError(37, "No locks available")))
    assert pod.begins(START + 1) == (version, pins.RUN)
    assert "cannot be locked (No locks available): it stays by its age only" in caplog.text
    assert pins._held == set()
