"""A Git server on loopback, and git-sync that follows it, to compare with.

git-sync is its own binary, named by ``GIT_SYNC`` (made with ``go build`` in a clone of kubernetes/git-sync, v4.7.1).
The repository is served by ``git daemon``: no TLS and no login, which a real one has.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import PATIENCE_SECONDS, eventually, free_port

BINARY = os.environ.get("GIT_SYNC", "")
BRANCH = "main"
_IDENTITY = ("-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    """Run Git in a folder; return what it printed."""
    done = subprocess.run(["git", *_IDENTITY, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit_all(folder: Path) -> str:
    """Commit everything in a checkout, which is made if there is none; return the commit."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", f"--initial-branch={BRANCH}")
        git(folder, "config", "gc.auto", "0")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "Change a line")
    return git(folder, "rev-parse", "HEAD")


@contextmanager
def git_serving(folder: Path) -> Iterator[int]:
    """Serve an empty repository ``dags.git`` below ``folder``, pushes included; give the port."""
    repository = folder / "dags.git"
    repository.mkdir(parents=True)
    git(repository, "init", "--quiet", "--bare", f"--initial-branch={BRANCH}")
    port = free_port()
    settings = ["--reuseaddr", "--export-all", "--enable=receive-pack", "--listen=127.0.0.1", f"--port={port}"]
    # Not "git daemon": that would be the parent of the process that listens, which would stay.
    program = shutil.which("git-daemon", path=git(repository, "--exec-path")) or "git-daemon"
    daemon = subprocess.Popen([program, *settings, f"--base-path={folder}", str(folder)], stderr=subprocess.DEVNULL)
    try:
        eventually("git daemon to listen", lambda: _listens(port))
        yield port
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE_SECONDS)
        shutil.rmtree(folder)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class GitSync:
    """git-sync that looks for a new commit each ``period``, into ``root``; ``live`` is the commit that is live."""

    def __init__(self, port: int, root: Path, period: str) -> None:
        self.root = root
        root.mkdir(parents=True)
        settings = [f"--repo=git://127.0.0.1:{port}/dags.git", f"--ref={BRANCH}", f"--root={root}", "--link=current"]
        with root.with_suffix(".log").open("wb") as out:
            # A repository that is still empty is one of the failures.
            self._process = subprocess.Popen(
                [BINARY, *settings, f"--period={period}", "--max-failures=-1"],
                stdout=out,
                stderr=out,
                env={**os.environ, "HOME": str(root.parent)},
                start_new_session=True,
            )

    @property
    def live(self) -> str | None:
        """The commit that the link points at."""
        try:
            return os.path.basename(os.readlink(self.root / "current"))
        except OSError:
            return None

    def stop(self) -> None:
        """End it, and remove its folder."""
        os.killpg(self._process.pid, signal.SIGKILL)  # with the Git that it may be running
        self._process.wait(PATIENCE_SECONDS)
        shutil.rmtree(self.root, ignore_errors=True)  # which may take a moment more to end


def is_there() -> bool:
    """Return whether ``GIT_SYNC`` names a program; say so if not."""
    if not shutil.which(BINARY or "-"):
        print("git-sync is not measured: GIT_SYNC does not name its binary.", file=sys.stderr)
        return False
    return True
