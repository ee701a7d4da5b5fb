"""The volume of a dags folder: one swap at a time, nothing half done, nothing left behind, nothing foreign touched."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from dagferry_core.bundle.manifest import EMPTY
from dagferry_follow.errors import DigestMismatch, RootInUse, RootUnusable, VolumeFailed
from dagferry_follow.volume import records
from dagferry_follow.volume.records import DeployRef, TreeRules
from dagferry_follow.volume.staging import StagingTree
from dagferry_follow.volume.volume import FEWEST, REMOVE_AGAIN_SECONDS, Volume
from treemaker import manifest_of

HOUR = 3600.0
ALL = TreeRules(1000, 1000, 1 << 60)


def files_of(number: int) -> dict[str, bytes]:
    return {"dag.py": b"number = %d\n" % number, "same.py": b"pass\n" * 100, "team/same.sql": b"select 1\n"}


def publish(volume: Volume, number: int, now: float = 2e9) -> list[str]:
    files = files_of(number)
    manifest = manifest_of(files)
    with volume.stage(DeployRef("log", number, f"v-{number}", manifest.digest), manifest) as staging:
        staging.fill((entry, [files[path]]) for path, entry in manifest.files.items())
        return volume.swap(staging, lambda: now)


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def opened(root):
    """Open the volume as one process after another would: each open gives up the one before."""
    volumes: list[Volume] = []

    def again() -> Volume:
        for volume in volumes:
            volume.close()
        volumes[:] = [Volume(str(root))]
        return volumes[0]

    yield again
    for volume in volumes:
        volume.close()


def live_files(root: Path) -> dict[str, bytes]:
    current = root / "current"
    return {str(path.relative_to(current)): path.read_bytes() for path in current.rglob("*") if path.is_file()}


def trees_of(root: Path) -> set[str]:
    return {path.name for path in (root / ".trees").iterdir()} - {"lock"}


# --- publishing ------------------------------------------------------------------------------------------------------


def test_what_is_published_is_the_documented_layout(root, opened) -> None:
    publish(opened(), 1)
    link = os.readlink(root / "current")
    trees, unique, version = link.split("/")
    assert (trees, version) == (".trees", "v-1")
    assert live_files(root) == files_of(1)
    assert {path.name for path in (root / ".trees" / unique).iterdir()} == {"v-1", "manifest.zst", "deploy.json"}
    assert {path.name for path in root.iterdir()} == {"current", ".trees"}


def test_a_swap_keeps_the_old_tree_and_an_open_handle(root, opened) -> None:
    volume = opened()
    publish(volume, 1)
    before = (root / "current").resolve()
    with (root / "current" / "dag.py").open() as handle:
        publish(volume, 2)
        assert handle.read() == "number = 1\n"
    assert live_files(root) == files_of(2)
    assert (before / "dag.py").read_text() == "number = 1\n"
    assert [tree.record.version for tree in volume.old] == ["v-1"]


def test_each_tree_has_the_next_serial_also_after_a_restart(opened) -> None:
    publish(opened(), 1)
    volume = opened()
    volume.load()
    publish(volume, 2)
    assert [tree.record.serial for tree in (volume.live, *volume.old) if tree] == [2, 1]


@pytest.mark.parametrize("reason", [PermissionError(errno.EACCES, "Permission denied"), FileNotFoundError()])
def test_an_old_tree_that_cannot_be_marked_stops_no_swap(root, opened, monkeypatch, reason) -> None:
    volume = opened()
    publish(volume, 1)
    monkeypatch.setattr("dagferry_follow.volume.volume.mark_ended", Mock(side_effect=reason))
    publish(volume, 2)
    assert live_files(root) == files_of(2)
    assert [tree.record.version for tree in volume.old] == ["v-1"]


def test_all_of_it_can_be_read_by_others_whatever_the_umask(root, opened) -> None:
    before = os.umask(0o077)
    try:
        publish(opened(), 1)
    finally:
        os.umask(before)
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink() and path.name != "lock":
            assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_an_empty_tree_can_be_published(root, opened) -> None:
    volume = opened()
    ref = DeployRef("log", 0, "empty", EMPTY.digest)
    with volume.stage(ref, EMPTY) as staging:
        staging.fill([])
        volume.swap(staging, lambda: 2e9)
    assert live_files(root) == {}
    assert volume.root.published_version() == "empty"
    assert publish(volume, 1) == [], "nobody can have read a file of an empty tree, so none needs to be touched again"


@pytest.mark.parametrize("step", ["fill", "write_records", "finalize", "symlink", "rename"])
@pytest.mark.parametrize("reason", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_whatever_fails_the_live_tree_stays_and_nothing_is_left(root, opened, monkeypatch, step, reason) -> None:
    def fail(*_args: object, **_kinds: object) -> None:
        raise reason

    volume = opened()
    publish(volume, 1)
    before = trees_of(root)
    places = {
        "fill": (StagingTree, "fill"),
        "write_records": (sys.modules["dagferry_follow.volume.volume"], "write_records"),
        "finalize": (StagingTree, "finalize"),
        "symlink": (os, "symlink"),
        "rename": (os, "rename"),
    }
    monkeypatch.setattr(*places[step], fail)
    with pytest.raises(VolumeFailed if isinstance(reason, OSError) else KeyboardInterrupt):
        publish(volume, 2)
    monkeypatch.undo()
    assert live_files(root) == files_of(1)
    assert trees_of(root) == before
    assert not volume.check()
    publish(volume, 2)
    assert live_files(root) == files_of(2)


def test_a_wrong_content_is_not_published(root, opened) -> None:
    manifest = manifest_of({"a.py": b"right\n"})

    deploy = DeployRef("log", 1, "v-1", manifest.digest)
    with pytest.raises(DigestMismatch), opened().stage(deploy, manifest) as staging:
        staging.fill([(manifest.files["a.py"], [b"wrong\n"])])
    assert trees_of(root) == set()


def test_a_tree_that_is_not_swapped_in_is_removed(root, opened) -> None:
    volume = opened()
    publish(volume, 1)
    before = trees_of(root)
    manifest = manifest_of(files_of(2))
    with volume.stage(DeployRef("log", 2, "v-2", manifest.digest), manifest):
        assert len(trees_of(root)) == 2
    assert trees_of(root) == before
    assert live_files(root) == files_of(1)


def test_a_signal_right_after_the_swap_does_not_cost_the_live_tree(root, opened, monkeypatch) -> None:
    rename = os.rename

    def interrupted(*paths: str) -> None:
        rename(*paths)
        raise KeyboardInterrupt

    volume = opened()
    publish(volume, 1)
    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(volume, 2)
    monkeypatch.undo()
    assert live_files(root) == files_of(2)
    volume = opened()
    assert not volume.load()
    assert volume.sweep() == 0
    assert [tree.record.version for tree in volume.old] == ["v-1"]


def test_a_write_cut_short_by_a_full_volume_leaves_nothing(root, opened, monkeypatch) -> None:
    real = records._write

    def short(path: str, content: bytes) -> None:
        real(path, content[:-1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(records, "_write", short)
    with pytest.raises(VolumeFailed, match=r"manifest\.zst.*No space left"):
        publish(opened(), 1)
    assert trees_of(root) == set()
    assert not (root / "current").is_symlink()


# --- starting --------------------------------------------------------------------------------------------------------


def test_a_root_that_does_not_exist_is_made_readable_for_all(tmp_path) -> None:
    before = os.umask(0o077)
    try:
        Volume(str(tmp_path / "root")).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "root").stat().st_mode) == 0o755


def test_what_was_published_is_found_and_checked(root, opened) -> None:
    publish(opened(), 1)
    volume = opened()
    assert not volume.load()
    assert volume.live is not None
    assert volume.live.record.deploy == ("log", 1, "v-1", manifest_of(files_of(1)).digest)
    assert volume.live.tree.mtimes.keys() == files_of(1).keys()


def test_content_that_a_power_cut_tore_is_found(root, opened) -> None:
    publish(opened(), 1)
    (root / "current" / "same.py").write_bytes(b"")
    assert opened().load().corrupt == ["same.py"]


@pytest.mark.parametrize("name", ["deploy.json", "manifest.zst"])
@pytest.mark.parametrize(
    "harm", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")], ids=["gone", "empty"]
)
def test_a_published_tree_without_its_records_counts_as_torn_and_unknown(root, opened, name, harm) -> None:
    publish(opened(), 1)
    harm((root / "current").resolve().parent / name)
    volume = opened()
    assert volume.load().corrupt
    assert volume.live is None
    assert volume.sweep() == 0, "it is what Airflow reads, so it stays until something better is published"
    publish(volume, 2)
    assert live_files(root) == files_of(2)


@pytest.mark.parametrize("name", ["deploy.json", "manifest.zst"])
def test_what_replaces_a_tree_without_its_records_is_all_fresh_and_the_tree_stays_for_its_tasks(
    root, opened, name
) -> None:
    publish(opened(), 1)
    publish(opened(), 2)
    before = (root / "current").resolve()
    (before.parent / name).write_bytes(b"")
    volume = opened()
    volume.load()
    volume.sweep()
    assert set(publish(volume, 2)) == set(files_of(2))
    for again in (volume, opened()):
        if again is not volume:
            assert not again.load()
            assert again.sweep() == 0
        assert [tree.record.version for tree in again.old] == ["v-2"]
        assert again.retire(TreeRules(1, 24, 1 << 60), 2e9 + HOUR) == 0
    assert (before / "same.py").exists()


def test_records_of_another_tree_are_not_believed(root, opened) -> None:
    volume = opened()
    publish(volume, 1)
    first = (root / "current").resolve().parent
    publish(volume, 2)
    shutil.copy(first / "deploy.json", (root / "current").resolve().parent)
    volume = opened()
    assert volume.load().corrupt
    assert volume.live is None


def test_a_link_to_a_tree_that_is_gone_is_no_tree(root, opened) -> None:
    publish(opened(), 1)
    shutil.rmtree((root / "current").resolve())
    volume = opened()
    assert not volume.load()
    assert volume.live is None
    assert volume.root.published_version() == ""
    publish(volume, 2)
    assert live_files(root) == files_of(2)


@pytest.mark.parametrize(
    "harm",
    [
        lambda link: link.unlink(),
        lambda link: (link.unlink(), link.symlink_to(".trees/0123456789abcdef/v-9")),
        lambda link: (link.unlink(), link.symlink_to(link.parent / ".trees")),
        lambda link: (link.unlink(), link.write_text("a file")),
    ],
    ids=["gone", "dangling", "foreign", "a file"],
)
def test_a_link_that_leads_nowhere_is_led_to_the_newest_tree_before_any_is_swept(root, opened, harm, caplog) -> None:
    volume = opened()
    for number in (1, 2):
        publish(volume, number)
    known = trees_of(root)
    harm(root / "current")
    volume = opened()
    assert not volume.load()
    assert volume.live is not None
    assert volume.live.record.version == "v-2"
    assert volume.sweep() == 0
    assert live_files(root) == files_of(2)
    assert trees_of(root) == known
    assert "It leads to v-2 now" in caplog.text


@pytest.mark.parametrize("harm", ["content", "record", "manifest", "gone"])
def test_a_tree_that_is_not_whole_is_not_what_the_link_is_led_to(root, opened, harm) -> None:
    volume = opened()
    for number in (1, 2):
        publish(volume, number)
    newest = (root / "current").resolve()
    (root / "current").unlink()
    if harm == "gone":
        shutil.rmtree(newest)
    else:
        places = {"content": newest / "dag.py", "record": newest.parent / "deploy.json"}
        places.get(harm, newest.parent / "manifest.zst").write_bytes(b"")
    volume = opened()
    assert not volume.load()
    volume.sweep()
    assert live_files(root) == files_of(1)


def test_a_torn_tree_that_was_live_when_the_link_was_lost_stays_for_its_tasks(root, opened) -> None:
    volume = opened()
    for number in (1, 2):
        publish(volume, number)
    corrupt = (root / "current").resolve()
    (root / "current").unlink()
    (corrupt / "dag.py").write_bytes(b"torn")
    volume = opened()
    volume.load()
    assert volume.sweep() == 0
    assert live_files(root) == files_of(1)
    assert corrupt.is_dir()


def test_where_a_dangling_link_was_and_no_tree_is_whole_all_files_are_fresh(root, opened) -> None:
    publish(opened(), 1)
    shutil.rmtree((root / "current").resolve())
    volume = opened()
    volume.load()
    assert set(publish(volume, 2)) == set(files_of(2))


def test_leftovers_of_an_earlier_run_are_swept_and_foreign_files_are_not(root, opened) -> None:
    volume = opened()
    for number in (1, 2):
        publish(volume, number)
    known = trees_of(root)
    trees = root / ".trees"
    (trees / "0123456789abcdef" / "v-9").mkdir(parents=True)
    (trees / "0123456789abcdef" / "v-9" / "half.py").write_bytes(b"")
    (trees / "link-0123456789abcdef").symlink_to(".trees/0123456789abcdef/v-9")
    shutil.copytree(trees / os.readlink(root / "current").split("/")[1], trees / "00000000000000ff")
    (trees / "notes.txt").write_text("mine")
    (trees / "0123456789abcdef.mine").mkdir()
    (trees / "link-0123456789abcdef.mine").symlink_to("notes.txt")
    foreign = ["notes.txt", "0123456789abcdef.mine", "link-0123456789abcdef.mine"]
    (root / "foreign").mkdir()
    (root / "foreign" / "file").write_text("mine")
    volume = opened()
    assert not volume.load()
    assert volume.sweep() == 3
    assert trees_of(root) == {*known, *foreign}
    assert (root / "foreign" / "file").read_text() == "mine"
    assert [tree.record.version for tree in volume.old] == ["v-1"]


def test_a_left_over_temporary_link_blocks_no_later_swap(root, opened) -> None:
    """git-sync's weak point, as seen: one left-over link, and nothing is ever published again."""
    volume = opened()
    (root / ".trees" / "link-0123456789abcdef").symlink_to("nowhere")
    publish(volume, 1)
    assert live_files(root) == files_of(1)


# --- roots that cannot be used ---------------------------------------------------------------------------------------


def test_a_real_folder_in_the_place_of_current_is_not_touched_and_the_error_says_what_to_do(root) -> None:
    (root / "current").mkdir(parents=True)
    (root / "current" / "mine.py").write_text("mine")
    with pytest.raises(RootUnusable, match=r"current is a folder and no link") as refused:
        Volume(str(root))
    assert "Move it away" in refused.value.hint
    assert (root / "current" / "mine.py").read_text() == "mine"


@pytest.mark.parametrize("target", ["/opt/dags", "worktree", ".trees/../x/y", ".trees/0123456789abcdef/../../.."])
def test_somebody_elses_link_is_not_touched_where_no_sidecar_has_been(root, target) -> None:
    root.mkdir()
    (root / "current").symlink_to(target)
    for _ in range(2):
        with pytest.raises(RootUnusable, match="not a link that a sidecar made"):
            Volume(str(root))
    assert os.readlink(root / "current") == target


def test_a_folder_that_took_the_place_of_current_later_is_an_error_until_it_is_gone(root, opened) -> None:
    volume = opened()
    publish(volume, 1)
    (root / "current").unlink()
    (root / "current").mkdir()
    assert volume.root.published_version() == ""
    with pytest.raises(RootUnusable):
        volume.check()
    with pytest.raises(RootUnusable):
        publish(volume, 2)
    (root / "current").rmdir()
    publish(volume, 2)
    assert live_files(root) == files_of(2)


@pytest.mark.parametrize("gone", ["", ".trees", ".trees/lock"], ids=["the root", "the trees", "the lock"])
def test_folders_that_a_hand_removed_are_made_again_and_locked(root, opened, gone) -> None:
    volume = opened()
    for number in (1, 2):
        publish(volume, number)
    subprocess.run(["rm", "-r", root / gone], check=True)
    assert bool(volume.check()) == (gone != ".trees/lock")
    publish(volume, 3)
    assert live_files(root) == files_of(3)
    assert volume.stored()[0] == len(trees_of(root)) == (3 if gone == ".trees/lock" else 1)
    with pytest.raises(RootInUse):
        Volume(str(root))


def test_a_root_that_another_sidecar_took_meanwhile_is_not_written_to(root, opened) -> None:
    volume = opened()
    publish(volume, 1)
    shutil.rmtree(root)
    other = Volume(str(root))
    publish(other, 2)
    with pytest.raises(RootInUse):
        publish(volume, 3)
    assert live_files(root) == files_of(2)
    other.close()


@pytest.mark.parametrize("mode", [0o700, 0o2700, 0o711, 0o770])
def test_a_root_that_was_closed_to_all_others_is_opened(root, opened, mode, caplog) -> None:
    root.mkdir()
    root.chmod(mode)
    publish(opened(), 1)
    closed = not mode & 0o077
    assert stat.S_IMODE(root.stat().st_mode) == (mode | 0o055 if closed else mode)
    assert ("was closed to all other users" in caplog.text) == closed


def test_a_closed_root_of_somebody_else_is_said_to_be_closed(root, opened, monkeypatch, caplog) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    opened()
    root.chmod(0o700)
    monkeypatch.setattr(os, "chmod", refuse)
    opened()
    assert "is closed to all other users" in caplog.text


def test_a_root_that_is_a_file_is_refused_by_name(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RootUnusable, match="file"):
        Volume(str(tmp_path / "file"))


def test_a_root_has_one_owner_and_a_killed_one_is_none(root, opened) -> None:
    program = (
        "import sys, time; from dagferry_follow.volume.volume import Volume\n"
        "Volume(sys.argv[1]); print(1); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-u", "-c", program, root], stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(RootInUse):
            opened()
        other.kill()
        other.wait()
        opened()


def test_the_lock_is_a_flock_on_the_documented_file(root, opened) -> None:
    opened()
    with (root / ".trees" / "lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_a_volume_without_locks_is_not_taken_for_one_that_is_in_use(root, opened, monkeypatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(RootUnusable, match="lock cannot be locked: No locks available"):
        opened()


# --- looking ---------------------------------------------------------------------------------------------------------


def test_a_look_finds_torn_files_odd_ones_and_a_wrong_link(root, opened) -> None:
    volume = opened()
    assert not volume.check(), "nothing published, nothing damaged"
    publish(volume, 1)
    publish(volume, 2)
    assert not volume.check()
    (root / "current" / "extra.py").write_text("")
    assert volume.check().unexpected == ["extra.py"]
    (root / "current" / "extra.py").unlink()
    (root / "current").unlink()
    assert volume.check().unexpected == [str(root / "current")]
    (root / "current").symlink_to(f".trees/{volume.old[0].unique}/v-1")
    assert volume.check().unexpected == [str(root / "current")]


# --- removing --------------------------------------------------------------------------------------------------------


def test_old_trees_are_retired_by_number_and_age(root, opened) -> None:
    volume = opened()
    start = 2e9
    for number in range(1, 8):
        publish(volume, number, now=start + number * HOUR)
    now = start + 8 * HOUR
    assert volume.retire(ALL, now) == 0
    assert volume.retire(TreeRules(3, 4.5, 1 << 60), now) == 2
    assert [tree.record.sequence for tree in volume.old] == [6, 5, 4, 3]
    assert volume.retire(TreeRules(3, 4.5, 1 << 60), now + 100 * HOUR) == 1
    assert [tree.record.sequence for tree in volume.old] == [6, 5, 4]
    assert volume.retire(TreeRules(0, 0, 1), now + 100 * HOUR) == 2
    assert [tree.record.sequence for tree in volume.old] == [6], "the one before the live one always stays"
    assert len(trees_of(root)) == 2


def test_a_restart_knows_when_each_old_tree_stopped_being_live(opened) -> None:
    volume = opened()
    for number in range(1, 5):
        publish(volume, number, now=2e9 + number * HOUR)
    known = volume.old
    volume = opened()
    volume.load()
    volume.sweep()
    assert [(tree.unique, tree.record) for tree in volume.old] == [(tree.unique, tree.record) for tree in known]
    assert [tree.ended for tree in volume.old] == pytest.approx([2e9 + n * HOUR for n in (4, 3, 2)])


def test_a_clock_that_was_a_year_ahead_keeps_no_tree_for_a_year(opened) -> None:
    year = 365 * 24 * HOUR
    volume = opened()
    for number in range(1, 4):
        publish(volume, number, now=2e9 + year)
    rules = TreeRules(0, 24, 1 << 60)
    assert volume.retire(rules, 2e9) == 0
    volume = opened()
    volume.load()
    volume.sweep()
    assert volume.retire(rules, 2e9 + 25 * HOUR) == 1


def test_a_clock_that_is_set_back_keeps_no_tree_until_it_has_caught_up(opened) -> None:
    volume = opened()
    for number in range(1, 4):
        publish(volume, number, now=2e9 + 365 * 24 * HOUR)
    rules = TreeRules(0, 24, 1 << 60)
    assert volume.retire(rules, 2e9) == 0
    assert volume.retire(rules, 2e9 + 25 * HOUR) == 1


def test_a_lost_link_makes_no_old_tree_younger(root, opened) -> None:
    volume = opened()
    for number in range(1, 4):
        publish(volume, number, now=1e9 + number * HOUR)
    (root / "current").unlink()
    volume = opened()
    volume.load()
    volume.sweep()
    assert [(tree.record.version, tree.ended) for tree in volume.old] == [
        ("v-2", 1e9 + 3 * HOUR),
        ("v-1", 1e9 + 2 * HOUR),
    ]


def test_trees_count_as_what_they_take_on_disk_and_files_that_they_share_once(root, opened) -> None:
    volume = opened()
    for number in range(1, 6):
        publish(volume, number)

    def on_disk() -> int:
        found = {
            (status.st_ino, 4096 if path.is_dir() else -(-status.st_size // 4096) * 4096)
            for tree in trees_of(root)
            for path in [root / ".trees" / tree, *(root / ".trees" / tree).rglob("*")]
            if (status := path.lstat())
        }
        return sum(size for _, size in found)

    assert volume.stored() == (5, on_disk())
    volume.retire(TreeRules(2, 0, 1 << 60), 3e9)
    assert volume.stored() == (3, on_disk())


def test_a_removal_that_was_cut_short_is_finished_by_the_next_sweep(root, opened, monkeypatch) -> None:
    volume = opened()
    for number in range(1, 4):
        publish(volume, number)
    interrupted = lambda _folder: (_ for _ in ()).throw(KeyboardInterrupt)  # noqa: E731
    monkeypatch.setattr("dagferry_follow.volume.removal.remove", interrupted)
    with pytest.raises(KeyboardInterrupt):
        volume.retire(TreeRules(0, 0, 1), 3e9)
    monkeypatch.undo()
    volume = opened()
    volume.load()
    assert volume.sweep() == 1
    assert [tree.record.sequence for tree in volume.old] == [2]


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("step", ["write", "mkdir"])
def test_a_full_volume_costs_the_old_trees_but_the_one_before(root, opened, monkeypatch, reason, step) -> None:
    def full(*_args: object, **_kinds: object) -> None:
        raise OSError(reason, os.strerror(reason))

    volume = opened()
    for number in range(1, 6):
        publish(volume, number)
    monkeypatch.setattr(os, step, full)
    with pytest.raises(VolumeFailed, match=os.strerror(reason)):
        publish(volume, 6)
    monkeypatch.undo()
    assert len(trees_of(root)) == (5 if reason == errno.EIO else 2)
    assert live_files(root) == files_of(5)
    publish(volume, 6)
    assert live_files(root) == files_of(6)


def test_a_full_volume_costs_old_trees_too_where_what_is_published_cannot_be_checked(root, opened, monkeypatch) -> None:
    volume = opened()
    for number in range(1, 6):
        publish(volume, number)
    (root / "current").resolve().parent.joinpath("deploy.json").write_bytes(b"")
    volume = opened()
    volume.load()
    volume.sweep()
    assert volume.live is None
    monkeypatch.setattr(os, "mkdir", Mock(side_effect=OSError(errno.ENOSPC, "full")))
    with pytest.raises(VolumeFailed):
        publish(volume, 6)
    assert live_files(root) == files_of(5)
    assert len(trees_of(root)) == 2


def test_room_is_made_on_a_full_volume_only_and_it_is_told_whether_there_is_any(opened) -> None:
    volume = opened()
    for number in range(1, 4):
        publish(volume, number)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    failed = VolumeFailed("full")
    failed.__cause__ = full
    assert not volume.make_room(OSError(errno.EIO, os.strerror(errno.EIO)), 3e9)
    assert not volume.make_room(VolumeFailed("of no known cause"), 3e9)
    assert len(volume.old) == 2
    assert volume.make_room(failed, 3e9)
    assert len(volume.old) == 1
    assert not volume.make_room(full, 3e9), "the one before the live one always stays"
    assert len(volume.old) == 1


def test_many_trees_of_one_deploy_do_not_stay_for_hours_nor_cost_those_of_others(root, opened) -> None:
    volume = opened()
    for number in (1, 2, 2, 2, 2, 2, 2, 3):
        publish(volume, number)
    assert volume.retire(TreeRules(3, 24, 1 << 60), 2e9 + HOUR) == 3
    assert [tree.record.sequence for tree in volume.old] == [2, 2, 2, 1]


def test_what_could_not_be_removed_counts_as_a_tree_and_is_tried_again(root, opened, monkeypatch, caplog) -> None:
    volume = opened()
    for number in range(1, 4):
        publish(volume, number)
    unlink = os.unlink

    def refuse(path: str, **kinds: object) -> None:
        if path == "same.sql":
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, **kinds)

    monkeypatch.setattr(os, "unlink", refuse)
    assert volume.retire(FEWEST, 3e9) == 0
    (left,) = (path for path in (root / ".trees").iterdir() if not (path / "deploy.json").exists() and path.is_dir())
    assert [path.name for path in left.rglob("*") if path.is_file()] == ["same.sql"], "the rest is gone"
    assert volume.stored()[0] == 3
    volume.retire(FEWEST, 3e9 + 1)
    volume.retire(FEWEST, 3e9 + 2)
    assert caplog.text.count("cannot be removed: Permission denied") == 1
    again = opened()
    again.load()
    assert again.sweep() == 0
    assert again.stored()[0] == 3
    assert again.retire(FEWEST, 3e9 + 2) == 0
    monkeypatch.undo()
    again.retire(FEWEST, 3e9 + 3)
    assert again.stored()[0] == len(trees_of(root)) == 3, "not all the time: it may be a lot"
    publish(again, 4)
    again.retire(FEWEST, 3e9 + 4)
    assert again.stored()[0] == len(trees_of(root)) == 2, "but after each swap"


@pytest.mark.parametrize(
    ("later", "removed"), [(REMOVE_AGAIN_SECONDS - 1, False), (REMOVE_AGAIN_SECONDS, True), (-1, True)]
)
def test_what_could_not_be_removed_is_tried_again_after_a_while_and_when_the_clock_was_set_back(
    root, opened, monkeypatch, later, removed
) -> None:
    volume = opened()
    for number in range(1, 4):
        publish(volume, number)
    with monkeypatch.context() as patched:
        patched.setattr("dagferry_follow.volume.removal.remove", Mock(side_effect=PermissionError(errno.EACCES, "no")))
        for _ in range(2):
            volume.retire(FEWEST, 3e9)
    volume.retire(FEWEST, 3e9 + later)
    assert volume.stored()[0] == len(trees_of(root)) == (2 if removed else 3)


def test_a_tree_that_cannot_be_removed_stops_nothing(opened, monkeypatch, caplog) -> None:
    def refuse(folder: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", folder)

    volume = opened()
    for number in range(1, 4):
        publish(volume, number)
    monkeypatch.setattr("dagferry_follow.volume.removal.remove", refuse)
    assert volume.retire(TreeRules(0, 0, 1), 3e9) == 0
    assert "cannot be removed: Permission denied" in caplog.text
    publish(volume, 4)
