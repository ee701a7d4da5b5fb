"""What a download brings: the manifest of a deploy, and how to fill a draft with it."""

import contextlib
from collections.abc import Callable, Iterator

from dagferry_core.bundle.manifest import Manifest
from dagferry_core.bundle.patch import Patch
from dagferry_core.bundle.reader import read_tar
from dagferry_core.errors import DigestMismatch, PatchMismatch
from dagferry_follow.remote.inflate import Inflated
from dagferry_follow.remote.server import PATCH, Download
from dagferry_follow.volume.staging import StagingTree

Fill = Callable[[StagingTree], None]


@contextlib.contextmanager
def opened(
    download: Download,
    old: Manifest | None,
    digest: str,
    cut: Callable[[], None],
    alive: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Manifest, Fill]]:
    """Open a bundle, or a patch to ``old``, that is coming in.

    Raises ``DigestMismatch`` unless the manifest's digest is ``digest`` (``""``: any), ``PatchMismatch`` if a patch
    is not for ``old``. ``cut`` breaks the download off; ``alive`` is called now and then, in this thread.
    """
    if download.kind == PATCH:
        patch = Patch.parse(download.read_patch(alive))
        if old is None:
            raise PatchMismatch("The server sent a patch where there is nothing to apply it to.")
        _check(patch.digest, digest)
        yield patch.apply_to(old), lambda staging: staging.fill_from_patch(patch)
        return

    with Inflated(download.read, cut, alive) as read_inflated:
        manifest, files = read_tar(read_inflated)
        _check(manifest.digest, digest)
        yield manifest, lambda staging: staging.fill_from_bundle(files)


def _check(found: str, expected: str) -> None:
    if expected and found != expected:
        raise DigestMismatch(f"The download is {found}, not {expected}.")
