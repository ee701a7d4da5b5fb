"""Volumes as they are: fixed modes, no links, coarse mtimes; and what no volume may lack, refused by name at once."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import RootUnusable
from dagferry_follow.volume.attributes import FINE_NS
from dagferry_follow.volume.tree import check, touch
from dagferry_follow.volume.volume import Volume
from treemaker import manifest_of
from volumes import mounted, needs_fuse, needs_mounts, run

FILES = {"dag.py": b"1\n", "same.py": b"pass\n", "team/run.sh": b"#!/bin/sh\n"}
SECOND_NS = 10**9
NOW = 1_800_000_001.9
"""Odd, and nearly over: what keeps every other second rounds most of two away."""


def publish(volume: Volume, number: int, now: float = NOW) -> list[str]:
    files = {**FILES, "dag.py": b"%d\n" % number}
    manifest = manifest_of(files, {"team/run.sh": 0o755})
    with volume.stage(DeployRef("log", number, f"v-{number}", manifest.digest), manifest) as staging:
        for path, entry in manifest.files.items():
            if path == "dag.py" or not staging.link(entry):
                staging.write(entry, [files[path]])
        return volume.swap(staging, lambda: now)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "root")


def works(root: str) -> None:
    """Publish twice, and find nothing wrong in between, nor after a restart."""
    for number in (1, 2):
        volume = Volume(root)
        assert not volume.load()
        assert volume.sweep() == 0
        publish(volume, number)
        assert not volume.check()
        volume.close()
    volume = Volume(root)
    assert not volume.load()
    assert volume.live
    assert Path(root, "current/dag.py").read_bytes() == b"2\n"
    assert not volume.check()
    volume.close()


# --- fixed modes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shut_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("shut_umask")
@pytest.mark.parametrize("reason", [0, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_a_mode_cannot_be_set_none_is_compared(root, monkeypatch, caplog, reason) -> None:
    os.mkdir(root, 0o755)
    os.chmod(root, 0o755)

    def set_none(path: object, _mode: int, **_kinds: object) -> None:
        if reason:
            raise OSError(reason, os.strerror(reason), path)

    monkeypatch.setattr(os, "chmod", set_none)
    monkeypatch.setattr(os, "fchmod", set_none)
    works(root)
    told = [record.message for record in caplog.records if "does not keep modes" in record.message]
    assert len(told) == 1
    assert "folders show 0700, files 0600. Modes are not compared. Users other than the owner cannot read" in told[0]


def test_where_modes_are_kept_they_are_compared(root) -> None:
    volume = Volume(root)
    assert volume.root.modes
    publish(volume, 1)
    os.chmod(f"{root}/current/same.py", 0o600)
    os.chmod(f"{root}/current/team", 0o700)
    assert volume.check() == (["same.py"], ["team/"])
    volume.close()


@pytest.mark.parametrize("call", ["mkdir", "symlink"])
def test_where_a_full_volume_cannot_be_tried_modes_are_not_compared(root, monkeypatch, call) -> None:
    Volume(root).close()

    works = getattr(os, call)

    def full(path: str, *args: object, **kinds: object) -> None:
        if path.endswith(("/root", "/.trees")):
            return works(path, *args, **kinds)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        volume = Volume(root)
    assert not volume.root.modes
    publish(volume, 1)
    assert not volume.check()
    volume.close()


@needs_mounts
@needs_fuse
@pytest.mark.parametrize("options", [("--chmod-ignore", "--perms=0777"), ("--chmod-deny", "--perms=0644:+X")])
def test_a_mount_that_shows_the_same_mode_for_every_file_works(tmp_path, options) -> None:
    """As CIFS, Azure Files and gcsfuse do."""
    (tmp_path / "behind").mkdir()
    (tmp_path / "mount").mkdir()
    run("bindfs", *options, tmp_path / "behind", tmp_path / "mount")
    try:
        works(str(tmp_path / "mount/root"))
    finally:
        run("umount", "--lazy", tmp_path / "mount")  # a test that fails may have left it open


# --- mtimes ----------------------------------------------------------------------------------------------------------


def changed_and_same(root: str) -> tuple[int, int]:
    return tuple(os.stat(f"{root}/current/{path}").st_mtime_ns for path in ("dag.py", "same.py"))


def fresh_at_once_and_again(root: str) -> None:
    """Two swaps within a second, and a touch, each give the changed file a new mtime that is not before its moment."""
    volume = Volume(root)
    publish(volume, 1)
    seen = [changed_and_same(root)]
    for number, moment in ((2, NOW), (3, NOW + 0.05)):
        assert publish(volume, number, moment) == ["dag.py"]
        seen.append(changed_and_same(root))
        assert not volume.check()
    live = volume.live
    assert live
    later = seen[-1][0] / SECOND_NS + 3.5
    touch(live.tree, ["dag.py"], later)
    seen.append(changed_and_same(root))
    assert not volume.check()
    assert seen[1][0] >= int(NOW * SECOND_NS) - FINE_NS
    assert seen[2][0] >= seen[1][0] + SECOND_NS
    assert seen[3][0] >= int(later * SECOND_NS) - FINE_NS
    assert seen[3][0] < (later + 2) * SECOND_NS
    assert len({same for _, same in seen}) == 1
    volume.close()


@pytest.mark.parametrize("coarse_ns", [1, 100, SECOND_NS, 2 * SECOND_NS])
def test_a_changed_file_is_never_older_than_its_swap_however_coarse_the_volumes_mtimes(
    root, monkeypatch, coarse_ns
) -> None:
    set_time = os.utime

    def round_down(path: object, *, ns: tuple[int, int], **kinds: object) -> None:
        set_time(path, ns=tuple(time // coarse_ns * coarse_ns for time in ns), **kinds)

    monkeypatch.setattr(os, "utime", round_down)
    fresh_at_once_and_again(root)


@needs_mounts
def test_an_ext3_that_keeps_whole_seconds_works(tmp_path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    run("mkfs.ext3", "-q", "-I", "128", image)
    with mounted(tmp_path / "mount", "-o", "loop", image) as volume:
        works(str(volume / "root"))
        fresh_at_once_and_again(str(volume / "other"))


@pytest.mark.parametrize("coarse_ns", [SECOND_NS, 2 * SECOND_NS])
def test_an_mtime_of_which_the_volume_forgets_the_fraction_later_is_no_damage(root, coarse_ns) -> None:
    """As sshfs does, when its cache is over."""
    volume = Volume(root)
    publish(volume, 1)
    for path in FILES:
        found = os.stat(f"{root}/current/{path}").st_mtime_ns // coarse_ns * coarse_ns
        os.utime(f"{root}/current/{path}", ns=(found, found))
    assert not volume.check()
    publish(volume, 2)
    assert not volume.check()
    os.utime(f"{root}/current/same.py", ns=(found - 2 * SECOND_NS, found - 2 * SECOND_NS))
    assert volume.check().corrupt == ["same.py"]
    volume.close()


def test_an_mtime_that_the_volume_sets_when_a_file_is_closed_is_the_one_that_is_known(root, monkeypatch) -> None:
    close = os.close

    def close_late(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(tuple(FILES)):
            os.utime(fd, ns=(7 * SECOND_NS, 7 * SECOND_NS))
        close(fd)

    volume = Volume(root)
    with monkeypatch.context() as patched:
        patched.setattr(os, "close", close_late)
        publish(volume, 1)
    live = volume.live
    assert live
    assert set(live.tree.mtimes.values()) == {7 * SECOND_NS}
    assert not check(live.tree)
    volume.close()


# --- what a volume must have -----------------------------------------------------------------------------------------


LACKING = {
    "symlink": ("does not support symbolic links: ", "mfsymlinks"),
    "utime": ("does not support setting modification times: ", "noperm"),
    "rename": ("does not support replacing a file by rename: ", "rename replaces"),
}


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, 524])
@pytest.mark.parametrize("call", LACKING)
def test_a_volume_that_lacks_what_it_must_have_is_refused_at_once_by_name(root, monkeypatch, call, reason) -> None:
    def refuse(path: object, *_args: object, **_kinds: object) -> None:
        raise OSError(reason, os.strerror(reason), path)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        with pytest.raises(RootUnusable) as caught:
            Volume(root)
    what, hint = LACKING[call]
    assert caught.value.message == f"{root} {what}{os.strerror(reason)}."
    assert hint in caught.value.hint
    assert os.listdir(f"{root}/.trees") == ["lock"]
    works(root)  # it was given up


def test_a_volume_that_forgets_mtimes_at_once_is_refused(root, monkeypatch) -> None:
    monkeypatch.setattr(os, "utime", lambda *_args, **_kinds: None)
    with pytest.raises(RootUnusable, match="does not keep modification times"):
        Volume(root)


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524])
def test_a_volume_without_locks_is_refused_with_what_to_set(root, monkeypatch, reason) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(RootUnusable, match="cannot be locked") as caught:
        Volume(root)
    assert "local_lock=flock" in caught.value.hint


def test_a_trial_that_was_cut_short_is_swept(root) -> None:
    Volume(root).close()
    left = Path(root, ".trees/0123456789abcdef")
    left.mkdir()
    (left / "file").touch()
    (left / "link").symlink_to("nowhere")
    volume = Volume(root)
    volume.load()
    assert volume.sweep() == 1
    assert os.listdir(f"{root}/.trees") == ["lock"]
    volume.close()
