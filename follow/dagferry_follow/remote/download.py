"""Opens a download: the manifest of a deploy, and the content to fill a tree with."""

import contextlib
from collections.abc import Callable, Iterator

from dagferry_core.bundle.manifest import Manifest
from dagferry_core.bundle.patch import Patch
from dagferry_core.bundle.reader import read_tar
from dagferry_core.errors import DigestMismatch, PatchMismatch
from dagferry_follow.remote.inflate import Inflated
from dagferry_follow.remote.server import PATCH, Download
from dagferry_follow.volume.staging import Content


@contextlib.contextmanager
def open_download(
    download: Download,
    old: Manifest | None,
    digest: str,
    heartbeat: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Manifest, Content]]:
    """Yield the manifest and the content of a bundle, or of a patch to ``old``, that is coming in.

    Raises ``DigestMismatch`` unless the manifest's digest is ``digest`` (``""``: any), ``PatchMismatch`` if a patch
    is not for ``old``. An error inside aborts the download. ``heartbeat`` is called now and then, in this thread.
    """
    if download.kind == PATCH:
        patch = Patch.parse(download.read_patch(heartbeat))
        if old is None:
            raise PatchMismatch("The server sent a patch, but there is no tree to apply it to.")
        _check(patch.digest, digest)
        yield patch.apply_to(old), patch
        return

    with Inflated(download.read, download.abort, heartbeat) as read_inflated:
        manifest, files = read_tar(read_inflated)
        _check(manifest.digest, digest)
        yield manifest, files


def _check(found: str, expected: str) -> None:
    if expected and found != expected:
        raise DigestMismatch(f"The download is {found}, not {expected}.")
