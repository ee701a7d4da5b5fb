"""Creates the versions that DAG runs are pinned to, beside the live tree of a bundle.

::

    <folder>/live/                  see ``live``
    <folder>/versions/<version>/    a version; its files are copies
    <folder>/building-<random>/     a version that is being built
    <folder>/origin.json, origins/  which log they are of: see ``origins``

A version is copied from any tree on the disk that has it, or else downloaded. With ``run_as_user`` a task may run as a
user who may not write in ``live``: its version is created all the same if a group shares the folders of the bundle.
"""

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from dagferry_airflow.arguments import DEFAULT_KEEP, Keep
from dagferry_airflow.follower import LOCK_SECONDS, SHORT_TIMEOUTS
from dagferry_airflow.live import LiveTree, build, copy, live_deploy, locked, report_of
from dagferry_airflow.origins import Origins
from dagferry_core.errors import DagferryError
from dagferry_core.names import version_sequence
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import AnswerInvalid, RootUnusable, SyncError, TreeDamaged
from dagferry_follow.remote.connection import Timeouts
from dagferry_follow.remote.server import DOWNLOAD_SECONDS, Server
from dagferry_follow.volume import removal as removing
from dagferry_follow.volume.attributes import set_mode
from dagferry_follow.volume.lookup import intact_tree, trees_of
from dagferry_follow.volume.tree import FOLDER_MODE
from dagferry_follow.volume.volume import Live
from dagferry_follow.witness import rewritten

SHARED_MODE = 0o775
"""Of the folders of a version whose bundle a group shares: else only the user who created it could remove it."""

log = logging.getLogger(__name__)


class Versions:
    """The versions in ``folder``.

    ``connect`` makes a connection with these timeouts (``None``: the usual ones); ``track`` is called before a version
    is in its place; ``origins`` knows which log they are of; ``keep`` says which old trees stay.
    """

    def __init__(
        self,
        folder: Path,
        connect: Callable[[Timeouts | None], Server],
        track: Callable[[str], None],
        origins: Origins,
        keep: Keep = DEFAULT_KEEP,
    ) -> None:
        self._folder = folder
        self._live = f"{folder}/live"
        self._connect = connect
        self._track = track
        self._origins = origins
        self._keep = keep

    def path(self, version: str) -> Path:
        """Return the path that a version has, or would have."""
        return self._folder / "versions" / version

    def make(self, version: str, *, for_task: bool) -> None:
        """Create the folder of a version if it is missing; ``for_task``: with long timeouts.

        Raises ``DagferryError`` or ``OSError`` if that is not possible.
        """
        log_id = self._origins.log_id()
        if log_id is not None and self._origins.is_usable(version, log_id):
            return
        lock_seconds = DOWNLOAD_SECONDS if for_task else LOCK_SECONDS
        try:
            version_sequence(version)  # it becomes a file name
        except ValueError as error:
            raise SyncError(f"{error}.") from error
        if log_id is not None and trees_of(self._live, version):
            with locked(self._live, lock_seconds):
                if self._origins.is_usable(version, log_id) or self._copy_tree(version, log_id):
                    return
        server = self._connect(None if for_task else SHORT_TIMEOUTS)
        try:
            # Poll before locking: otherwise tasks would wait for a silent server one after the other.
            newest = self._ask(server)
            with locked(self._live, lock_seconds):
                if not self._origins.is_usable(version, newest.log_id) and not (
                    log_id is None and self._copy_tree(version, newest.log_id)
                ):
                    self._download(version, newest, server)
        finally:
            server.close()

    def make_newest(self) -> str:
        """Create the folder of the newest version, and return that version; ``""`` if it is live, or there is none.

        For a task: with long timeouts.
        """
        server = self._connect(None)
        try:
            newest = self._ask(server)
        finally:
            server.close()
        live = live_deploy(self._live)
        if not newest.sequence or (live and (live.log_id, live.version) == (newest.log_id, newest.version)):
            return ""
        self.make(newest.version, for_task=True)
        return newest.version

    def _ask(self, server: Server) -> DeployRef:
        """Return the newest deploy; raise ``LogRewritten`` if the server's log is not the one that was followed."""
        live = live_deploy(self._live)
        newest = server.current("", 0, report_of(live))
        if live and (error := rewritten(live, server.stated)):
            raise error
        if newest is None:
            raise AnswerInvalid("The server answered 304 to a request without a condition.")
        self._origins.note(newest.log_id)
        return newest

    def _copy_tree(self, version: str, log_id: str) -> bool:
        """Copy a version from a tree that was live here, without the server; return whether an intact one is there."""
        tree = intact_tree(self._live, version, log_id)
        if not tree:
            log.warning("No tree of %s in %s is intact. It is downloaded instead.", version, self._live)
            return False
        try:
            with self._building(version, log_id) as folder:
                copy(folder, tree)
        except TreeDamaged as error:
            log.warning("%s It is downloaded instead.", error.message)
            return False
        except (DagferryError, OSError) as error:
            if is_permission_denied(error):
                raise
            with LiveTree(self._live, self._keep) as live:
                if not live.make_room(error):
                    raise
            return self._copy_tree(version, log_id)  # as long as something could be removed
        return True

    def _download(self, version: str, newest: DeployRef, server: Server) -> None:
        try:
            owned = LiveTree(self._live, self._keep)
        except RootUnusable as error:
            if not is_permission_denied(error):
                raise
            self._build(version, newest.log_id, None, server)
            return
        with owned as live:
            # Most runs are pinned to the newest version; then the live tree is what the next patch is for.
            if newest.version == version:
                # Another process may have made a newer one live meanwhile; that is not an error.
                applied = live.apply(newest, server)
                if applied.warning:
                    log.warning("%s", applied.warning)
            try:
                self._build(version, newest.log_id, live.live, server)
            except (DagferryError, OSError) as error:
                if not live.make_room(error):
                    raise
                server.close()
                self._build(version, newest.log_id, live.live, server)

    def _build(self, version: str, log_id: str, live: Live | None, server: Server) -> None:
        is_same_log = live is not None and live.record.log_id == log_id
        with self._building(version, log_id) as folder:
            build(folder, version, live if is_same_log else None, server)

    @contextlib.contextmanager
    def _building(self, version: str, log_id: str) -> Iterator[str]:
        """Yield an empty folder to build a version in; move it to its place at the end, or remove it after an error.

        A folder of this name that is of another log is moved out of the way, and removed with the next version.
        """
        for leftover in self._folder.glob("building-*"):
            with contextlib.suppress(PermissionError):  # another user's, who removes it
                removing.remove(str(leftover))
        folder = self._folder / f"building-{os.urandom(8).hex()}"
        folder.mkdir(parents=True)
        set_mode(str(folder), FOLDER_MODE)
        try:
            yield str(folder)
            versions = self.path(version).parent
            versions.mkdir(parents=True, exist_ok=True)
            if versions.stat().st_mode & stat.S_IWGRP:
                for parent, _, _ in os.walk(folder):
                    set_mode(parent, SHARED_MODE)
            self._track(version)
            if self.path(version).is_dir():
                self.path(version).rename(self._folder / f"building-{os.urandom(8).hex()}")
            self._origins.note_version(version, log_id)
            folder.rename(self.path(version))
        except BaseException:
            removing.remove(str(folder))
            raise


def is_permission_denied(error: Exception) -> bool:
    """Return whether the reason for an error is that this user may not read or write something."""
    reason = error if isinstance(error, OSError) else error.__cause__
    return isinstance(reason, OSError) and reason.errno == errno.EACCES
