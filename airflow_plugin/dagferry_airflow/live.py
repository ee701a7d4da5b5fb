"""The newest tree of a DAG bundle on a host: a sidecar's volume, kept by whichever process of Airflow asks.

It keeps the sidecar's rules (docs/concepts.md) with the same code: the mtimes of files that changed, or import what
changed, are the moment of the swap and are touched again; a patch is taken where that does; within one log id it
never goes back; what was published stays when the server is away.

Whoever works on it holds its lock, so of many processes on a host one is at work at a time.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator

from dagferry_follow.errors import (
    AnswerInvalid,
    AwaitingFirstDeploy,
    DigestMismatch,
    PatchMismatch,
    RootInUse,
    RootUnusable,
    SequenceRegressed,
    TreeDamaged,
)
from dagferry_follow.remote.download import opened
from dagferry_follow.remote.server import Server
from dagferry_follow.volume import tree as trees
from dagferry_follow.volume.records import DeployRef, TreeRules
from dagferry_follow.volume.root import CURRENT, LOCK_HINT
from dagferry_follow.volume.staging import StagingTree
from dagferry_follow.volume.tree import Damage
from dagferry_follow.volume.volume import Live, Volume

KEEP_TREES = 3
KEEP_HOURS = 24.0
TREE_SHARE = 0.8
"""The sidecar's defaults."""
LOCK_POLL_SECONDS = 0.05
SWAP_SECONDS = 5.0
"""More than there can be between the mtimes of a swap and the swap."""

log = logging.getLogger(__name__)


def live_target(root: str) -> str:
    """Return where ``current`` under ``root`` leads; no two trees have the same. ``""`` if it is not there."""
    try:
        return os.readlink(f"{root}/{CURRENT}")
    except OSError:
        return ""


def live_version(root: str) -> str:
    """Return the version that is live under ``root``; ``""`` if none is."""
    return os.path.basename(live_target(root))


@contextlib.contextmanager
def locked(root: str, seconds: float) -> Iterator[None]:
    """Keep other processes from working on ``root``; raise ``RootInUse`` if one does so for over ``seconds``."""
    # Not Airflow's own lock of the bundle: that one waits for ever.
    os.makedirs(os.path.dirname(root), exist_ok=True)
    deadline = time.monotonic() + seconds
    with os.fdopen(_open_lock(f"{root}.lock")) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise RootInUse(f"Another process works on {root}, for over {seconds:g} s.") from error
            except OSError as error:
                raise RootUnusable(f"{root}.lock cannot be locked: {error.strerror}. {LOCK_HINT}") from error
            time.sleep(LOCK_POLL_SECONDS)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough if a child was forked


def _open_lock(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        # With run_as_user it may be another user's; who may only read it can lock it too.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


class LiveTree:
    """The volume under ``root``, owned until ``close``; a context manager. It is loaded and checked at once."""

    def __init__(self, root: str) -> None:
        self._volume = Volume(root)
        try:
            self._damage = self._volume.load()
            self._volume.sweep()
        except BaseException:
            self._volume.close()
            raise

    def __enter__(self) -> "LiveTree":  # noqa: PYI034 - typing.Self came with Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        self._volume.close()

    @property
    def live(self) -> Live | None:
        """What is live; ``None`` if nothing is, or if files of it are not what they should be."""
        return None if self._damage.corrupt else self._volume.live

    def take(self, newest: DeployRef, server: Server) -> None:
        """Make ``newest`` live unless it is.

        Raises ``AwaitingFirstDeploy`` if there is none yet, ``SequenceRegressed`` if the log went on from another
        deploy than that, or other errors if it cannot be had.
        """
        live = self._volume.live.record.deploy if self._volume.live else None
        if newest.sequence == 0 and live:
            if not self._damage:
                return  # an empty store says nothing about what should be here
            newest = live
        if newest.sequence == 0:
            # An empty tree would tell Airflow that all DAGs of the bundle are gone.
            raise AwaitingFirstDeploy("Nothing was deployed yet.")
        going_back = live and newest != live and newest.sequence <= live.sequence != 0
        if live and going_back and live.log_id == newest.log_id:
            raise SequenceRegressed(f"The server offers {newest.version}, but {live.version} was live already.")
        if live == newest and not self._damage:
            return
        self._publish(newest, server)
        self._damage = Damage([], [])
        self._volume.retire(self._rules(), time.time())
        log.info("Version %s is live", newest.version)

    def ages(self, since: float) -> dict[str, float]:
        """Return the files that swaps after ``since``, seconds since the epoch, made fresh, and for how long."""
        live = self._volume.live
        if not live:
            return {}
        now = time.time()
        ages = {path: max(now - mtime / trees.SECOND_NS, 0.0) for path, mtime in live.tree.mtimes.items()}
        return {path: age for path, age in ages.items() if now - age >= since - SWAP_SECONDS}

    def make_room(self, error: Exception) -> bool:
        """Remove what may go if ``error`` is that the volume is full; tell whether there was anything."""
        return self._volume.make_room(error, time.time())

    def touch(self, paths: tuple[str, ...]) -> None:
        """Touch files of the live tree again."""
        if self._volume.live:
            trees.touch(self._volume.live.tree, paths, time.time())

    def _publish(self, newest: DeployRef, server: Server) -> None:
        live = self.live
        if live and live.record.digest == newest.digest:
            self._volume.publish(newest, live.tree.manifest, StagingTree.fill_same, time.time)
            return
        if live and live.record.sequence:
            try:
                self._publish_download(newest, server, live)
            except (PatchMismatch, DigestMismatch, TreeDamaged, AnswerInvalid) as error:
                server.close()
                log.warning("%s The whole bundle is fetched instead.", error.message)
            else:
                return
        self._publish_download(newest, server, None)

    def _publish_download(self, newest: DeployRef, server: Server, live: Live | None) -> None:
        download = server.download(newest.version, live.record.version if live else "")
        with opened(download, live.tree.manifest if live else None, newest.digest, server.close) as (manifest, fill):
            self._volume.publish(newest, manifest, fill, time.time)

    def _rules(self) -> TreeRules:
        volume = os.statvfs(self._volume.root)
        return TreeRules(KEEP_TREES, KEEP_HOURS, int(volume.f_blocks * volume.f_frsize * TREE_SHARE))


def copy(folder: str, tree: trees.Tree) -> None:
    """Build the same tree in ``folder``, an empty one; raise ``TreeDamaged`` if a file of it is not as published.

    No links: a task may write into its folder.
    """
    with StagingTree(folder, tree.manifest, tree, links=False) as staging:
        staging.fill_same()
        staging.stamp(time.time())


def build(folder: str, version: str, live: Live | None, server: Server) -> None:
    """Build the tree of a version in ``folder``, an empty one, with copies from the live tree of what is the same.

    Without the server if that is the live version; else it may be any that the server still has.
    """
    tree = live.tree if live else None
    if live and live.record.version == version:
        copy(folder, live.tree)
        return
    download = server.download(version, live.record.version if live and live.record.sequence else "")
    with (
        opened(download, tree.manifest if tree else None, "", server.close) as (manifest, fill),
        StagingTree(folder, manifest, tree, links=False) as staging,
    ):
        fill(staging)
        staging.stamp(time.time())
