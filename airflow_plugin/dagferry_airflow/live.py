"""The newest tree of a DAG bundle on a host: a volume like a sidecar's, kept by the processes of Airflow in turns.

The rules are the sidecar's (docs/reference/dags-folder.md), by the same code: ``dagferry_follow.choose`` decides which
deploy is applied and how; the mtimes of files that changed, or import what changed, are the moment of the swap, and
these files are touched again; what is published stays when the server is away.

A process holds the volume's lock while it works on it, so one process of a host works on it at a time.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from dagferry_airflow.arguments import DEFAULT_KEEP, Keep
from dagferry_core.bundle.manifest import Manifest
from dagferry_core.errors import DagferryError
from dagferry_follow.choose import Apply, Condition, How, Nothing, Refuse, choose, condition_of, whole_may_help
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import RootInUse, RootUnusable, TreeDamaged
from dagferry_follow.remote.download import open_download
from dagferry_follow.remote.server import Report, Server
from dagferry_follow.volume import tree as trees
from dagferry_follow.volume.records import read_record
from dagferry_follow.volume.root import CURRENT, LOCK_HINT
from dagferry_follow.volume.staging import Content, StagingTree
from dagferry_follow.volume.volume import Live, Volume

LOCK_POLL_SECONDS = 0.05
SWAP_SECONDS = 5.0
"""The most time there can be between the mtimes of a swap and the swap."""

log = logging.getLogger(__name__)


def live_target(root: str) -> str:
    """Return the target of ``current`` under ``root``, which is different for each tree; ``""`` if it is missing."""
    try:
        return os.readlink(f"{root}/{CURRENT}")
    except OSError:
        return ""


def live_version(root: str) -> str:
    """Return the version that is live under ``root``; ``""`` if none is."""
    return os.path.basename(live_target(root))


def live_deploy(root: str) -> DeployRef | None:
    """Return the deploy that is live under ``root``, by its record; ``None`` if none is, or it cannot be read."""
    try:
        return read_record(os.path.dirname(f"{root}/{os.readlink(f'{root}/{CURRENT}')}")).deploy
    except (OSError, ValueError):
        return None


def report_of(live: DeployRef | None) -> Report | None:
    """Return what to tell the server, so that its answer has the entry of the ``live`` deploy."""
    return Report(live.version, None, live.log_id) if live and live.sequence else None


@contextlib.contextmanager
def locked(root: str, seconds: float) -> Iterator[None]:
    """Keep other processes from working on ``root``; raise ``RootInUse`` if one does so for over ``seconds``."""
    # Not Airflow's own lock of the bundle: that one waits without a limit.
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
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


class Applied(NamedTuple):
    """What ``LiveTree.apply`` did."""

    live: DeployRef | None
    """What is live now."""
    published: bool
    """Whether it was published just now."""
    warning: str
    """A warning about the deploy; ``""`` if there is none."""
    error: DagferryError | None
    """Why the newest deploy is not live, or the live tree is still damaged."""
    behind: bool = False
    """Whether this is only because the server lacks the live deploy, and may know it in a moment."""


class LiveTree:
    """The volume under ``root``, owned until ``close``; a context manager. It is loaded and checked at once.

    ``keep`` says which old trees stay.
    """

    def __init__(self, root: str, keep: Keep = DEFAULT_KEEP) -> None:
        self._root = root
        self._keep = keep
        self._volume = Volume(root)
        try:
            self._condition = condition_of(self._volume.load())
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
        """The live deploy; ``None`` if nothing is live, or if the tree is damaged."""
        return None if self._condition is Condition.CORRUPT else self._volume.live

    def apply(self, newest: DeployRef, server: Server, *, paused: DeployRef | None = None) -> Applied:
        """Make ``newest`` live unless it is or must not be, and repair a damaged tree; but do not publish ``paused``.

        ``newest`` is what ``server`` has just answered, with what it stated about the live deploy.
        Raises ``DagferryError`` if that fails; then what was live is live.
        """
        live = self._volume.live.record.deploy if self._volume.live else None
        newest = newest.known_as(live)
        choice = choose(live, self._condition, newest, stated=server.stated)
        warning = "" if isinstance(choice, Nothing) else choice.warning
        error = choice.error if isinstance(choice, Refuse) else None
        deploy, how = None, How.SAME
        if isinstance(choice, Apply):
            deploy, how = newest, choice.how
        elif self._condition is Condition.UNEXPECTED:
            deploy = live  # links repair that, whatever the server offers
        publishes = deploy is not None and deploy != paused
        if deploy and publishes:
            self._publish(deploy, how, server)
            live = deploy
        elif deploy or self._condition is Condition.CORRUPT:
            error = error or TreeDamaged(f"{self._root}/{CURRENT} is not what was published. It is not repaired now.")
        self._volume.retire(self._keep.rules(self._root), time.time())
        return Applied(live, publishes, warning, error, isinstance(choice, Refuse) and choice.behind)

    def ages(self, since: float) -> dict[str, float]:
        """Return the files that swaps after ``since``, seconds since the epoch, made fresh, and for how long."""
        live = self._volume.live
        if not live:
            return {}
        now = time.time()
        ages = {path: max(now - mtime / trees.SECOND_NS, 0.0) for path, mtime in live.tree.mtimes.items()}
        return {path: age for path, age in ages.items() if now - age >= since - SWAP_SECONDS}

    def make_room(self, error: Exception) -> bool:
        """If ``error`` says that the volume is full, remove all trees that may go; return whether there were any."""
        return self._volume.make_room(error, time.time())

    def touch(self, paths: tuple[str, ...]) -> None:
        """Touch files of the live tree again."""
        if self._volume.live:
            trees.touch(self._volume.live.tree, paths, time.time())

    def _publish(self, deploy: DeployRef, how: How, server: Server) -> None:
        try:
            self._publish_as(how, deploy, server)
        except DagferryError as error:
            if not whole_may_help(how, error):
                raise
            server.close()
            log.warning("%s The whole bundle is downloaded instead.", error.message)
            self._publish_as(How.WHOLE, deploy, server)
        self._condition = Condition.INTACT
        log.info("Version %s is live", deploy.version)

    def _publish_as(self, how: How, deploy: DeployRef, server: Server) -> None:
        live = self._volume.live
        if how is How.SAME and live:
            self._stage_and_swap(deploy, live.tree.manifest, live.tree)
            return
        base = live if how is How.PATCH else None
        retained = self._volume.retained(deploy.digest) if base else None
        have, also = base.record.version if base else "", deploy.digest if retained else ""
        download = server.download(deploy.version, have, retained=also)
        old = base.tree.manifest if base else None
        with open_download(download, old, deploy.digest) as (manifest, content):
            self._stage_and_swap(deploy, manifest, content, retained)

    def _stage_and_swap(
        self, deploy: DeployRef, manifest: Manifest, content: Content, retained: trees.Tree | None = None
    ) -> None:
        with self._volume.stage(deploy, manifest, retained) as staging:
            staging.populate(content)
            self._volume.swap(staging, time.time)


def copy(folder: str, tree: trees.Tree) -> None:
    """Build the same tree in ``folder``, an empty one; raise ``TreeDamaged`` if a file of it is not as published.

    No links: a task may write into its folder.
    """
    with StagingTree(folder, tree.manifest, tree, links=False) as staging:
        staging.populate(tree)
        staging.finalize(time.time())


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
        open_download(download, tree.manifest if tree else None, "") as (manifest, content),
        StagingTree(folder, manifest, tree, links=False) as staging,
    ):
        staging.populate(content)
        staging.finalize(time.time())
