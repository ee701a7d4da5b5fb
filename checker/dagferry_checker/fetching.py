"""Gets the content of a version or a candidate from the server, and builds its tree from what is there already."""

import http.client
from collections.abc import Callable

from dagferry_checker.trees import TreeStore
from dagferry_follow.errors import (
    AnswerInvalid,
    DigestMismatch,
    PatchMismatch,
    ProxyFailed,
    ServerRefused,
    ServerUnreachable,
    SyncError,
    TokenUnreadable,
    TreeDamaged,
)
from dagferry_follow.log import Log
from dagferry_follow.remote.download import open_download
from dagferry_follow.remote.server import Download
from dagferry_follow.volume.tree import Tree

log = Log(__name__)

Open = Callable[[str], Download | None]
"""Starts a download; its argument is the version that is there, for a patch, or ``""``. ``None``: it is gone."""

SERVER_ERRORS = 500
"""From here on, the status of an answer says that the server, or a proxy before it, cannot do it now."""
_WHOLE_HELPS = (PatchMismatch, DigestMismatch, TreeDamaged, AnswerInvalid)
_UNASKED = (ServerUnreachable, ProxyFailed, TokenUnreadable)


def is_for_now(error: SyncError) -> bool:
    """Return whether the same request may succeed later: it was not answered, or the server cannot do it now."""
    if isinstance(error, ServerRefused):
        return error.answered >= SERVER_ERRORS or error.answered == http.client.TOO_MANY_REQUESTS
    return isinstance(error, _UNASKED)


def fetch(store: TreeStore, start: Open, digest: str, have: str, old: Tree | None) -> Tree | None:
    """Return the tree of ``digest``, from the kept ones or downloaded; ``None`` if it is gone.

    ``old`` is the tree of the version ``have``: a patch to it is taken, and if that does not fit, everything.
    ``digest`` may be empty: whatever the server has. Raises ``SyncError``.
    """
    if digest and (kept := store.find(digest)):
        return kept
    for base in dict.fromkeys((have if old else "", "")):
        try:
            return _build(store, start, digest, base, old)
        except _WHOLE_HELPS as error:  # noqa: PERF203 - each attempt may fail
            if not base:
                raise
            log.info("%s The whole bundle is downloaded instead.", error.message)
    return None


def _build(store: TreeStore, start: Open, digest: str, base: str, old: Tree | None) -> Tree | None:
    download = start(base)
    if download is None:
        return None
    try:
        with open_download(download, old.manifest if old else None, digest) as (manifest, content):
            return store.make(manifest, content, old)
    except BaseException:
        download.abort()
        raise
