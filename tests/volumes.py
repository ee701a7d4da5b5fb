"""Volumes of their own for tests: a small one, and one whose power can be cut. Both need root, and may mount."""

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

IMAGE_BYTES = 8 << 20
FILLER = "filler"


def run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"


@functools.cache
def _reason_to_skip() -> str:
    if os.geteuid() != 0:
        return "only root may mount"
    if os.environ.get("CI"):
        return ""  # there it has to work
    if not shutil.which("mkfs.ext4"):
        return "mkfs.ext4 (e2fsprogs) is not installed"
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(["mount", "-t", "tmpfs", "dagferry-test", folder], capture_output=True, check=False)
        if tried.returncode == 0:
            subprocess.run(["umount", folder], check=True)
    return "" if tried.returncode == 0 else "this container may not mount"


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
needs_mounts = pytest.mark.skipif(bool(_reason_to_skip()), reason=_reason_to_skip())


def _reason_to_skip_fuse() -> str:
    if os.environ.get("CI"):
        return ""
    return (
        "" if shutil.which("bindfs") and os.path.exists("/dev/fuse") else "bindfs is not installed, or there is no FUSE"
    )


needs_fuse = pytest.mark.skipif(bool(_reason_to_skip_fuse()), reason=_reason_to_skip_fuse())


@contextmanager
def mounted(folder: Path, *options: object) -> Iterator[Path]:
    """Mount something at ``folder``, and unmount it whatever happens; fail if somebody still uses it."""
    folder.mkdir(exist_ok=True)
    run("mount", *options, folder)
    try:
        yield folder
    finally:
        if subprocess.run(["umount", folder], capture_output=True, check=False).returncode:
            run("umount", "--lazy", folder)
            pytest.fail(f"{folder} was still in use when the test ended")


@contextmanager
def small_volume(folder: Path, size_bytes: int, max_files: int = 0) -> Iterator[Path]:
    """Mount a tmpfs of ``size_bytes`` at ``folder``, for ``max_files`` files and folders; 0: for any number."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={size_bytes},nr_inodes={max_files}", "dagferry-test"):
        yield folder


def fill(volume: Path, leave_bytes: int = 0) -> None:
    """Fill a volume up, but for ``leave_bytes``."""
    free = os.statvfs(volume)
    with (volume / FILLER).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leave_bytes)


def free_again(volume: Path) -> None:
    (volume / FILLER).unlink()


class Disk:
    """An ext4 with a journal, in a file. It writes nothing by itself for minutes: what was not synced is not there."""

    def __init__(self, image: Path) -> None:
        self.image = image

    @classmethod
    def make(cls, image: Path) -> "Disk":
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-b", "1024", "-J", "size=1", image)
        return cls(image)

    def mounted(self, folder: Path) -> "contextmanager[Path]":
        return mounted(folder, "-o", "loop,noauto_da_alloc,commit=300", self.image)

    def after_power_cut(self, image: Path) -> "Disk":
        """What would be on this disk, which is mounted, if the power failed now."""
        run("cp", "--sparse=always", self.image, image)
        return Disk(image)
