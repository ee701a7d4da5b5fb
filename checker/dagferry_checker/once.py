"""One check, and the end: of what is live, in a new image of Airflow, or of a folder on this machine."""

import hashlib
import os
import random
import time
from collections.abc import Callable

from dagferry_checker.beside import Beside
from dagferry_checker.checking import Checking
from dagferry_checker.errors import ImportCheckFailed
from dagferry_checker.fetching import fetch, is_for_now
from dagferry_checker.problems import Report
from dagferry_checker.trees import TreeStore
from dagferry_core.bundle.manifest import EMPTY, Entry, Manifest
from dagferry_core.limits import PIECE_BYTES
from dagferry_follow import pauses
from dagferry_follow.errors import ServerRefused, ServerUnreachable
from dagferry_follow.log import Log
from dagferry_follow.remote.candidates import CheckServer
from dagferry_follow.volume.tree import Tree

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 10.0

log = Log(__name__)


def fetch_version(
    server: CheckServer, store: TreeStore, version: str | None, timeout: float
) -> tuple[str, Tree] | None:
    """Return the version and the tree of what is live, or of ``version``; ``None`` if nothing is deployed.

    As in a step before a roll-out, the server may be away for a moment: it is tried for ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    failures = 0
    while True:
        try:
            return _fetch_version(server, store, version)
        except (ServerUnreachable, ServerRefused) as error:  # noqa: PERF203 - each attempt may fail
            server.close()
            failures += 1
            pause = min(pauses.backoff(failures, FIRST_PAUSE_SECONDS, random.random()), MAX_PAUSE_SECONDS)  # noqa: S311
            if not is_for_now(error) or time.monotonic() + pause > deadline:
                raise
            if failures == 1:
                log.warning("%s It is tried again for %g s (--once-timeout).", error.message, timeout)
            time.sleep(pause)


def _fetch_version(server: CheckServer, store: TreeStore, version: str | None) -> tuple[str, Tree] | None:
    digest = ""
    if version is None:
        known = server.candidates("", 0, {})
        if known is None or known.live is None:
            return None
        version, digest = known.live
    wanted = version
    tree = fetch(store, lambda _: server.download(wanted, ""), digest, "", None)
    return (version, tree) if tree else None


def tree_of_folder(folder: str) -> Tree:
    """Return a folder on this machine as a tree. Links are not followed. Raises ``ImportCheckFailed``."""
    folder = os.path.realpath(folder)
    entries: list[Entry] = []
    try:
        for parent, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            for name in names:
                file = os.path.join(parent, name)
                if os.path.isfile(file) and not os.path.islink(file):
                    path = os.path.relpath(file, folder)
                    if not _is_utf8(path):
                        raise ImportCheckFailed(f"The name of the file {path!r} is not UTF-8.", "Rename it.")
                    entries.append(Entry(path, os.path.getsize(file), 0o644, _sha256(file)))
    except OSError as error:
        raise ImportCheckFailed(f"{error.filename or folder} cannot be read: {error.strerror}.") from error
    return Tree(folder, Manifest(entries) if entries else EMPTY, {})


def _is_utf8(path: str) -> bool:
    """Return whether a path of this machine can be the path of a file in a bundle."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sha256(file: str) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while piece := content.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def check_once(checking: Checking, tree: Tree, beside: Beside, check: Callable[[], None]) -> Report:
    """Check a tree, also for DAG ids ``beside``; ``check`` is called about once a second, and may raise."""

    def heartbeat() -> bool:
        check()
        return True

    return checking.check(tree, heartbeat, beside.learn(heartbeat))


__all__ = ["check_once", "fetch_version", "tree_of_folder"]
