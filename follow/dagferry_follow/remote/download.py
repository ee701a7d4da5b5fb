"""What a download brings: the manifest of a deploy, and how to fill a draft with it."""

import contextlib
from collections.abc import Callable, Iterator

from dagferry_core.bundle.manifest import Manifest
from dagferry_core.bundle.patch import Patch
from dagferry_core.bundle.reader import read_tar
from dagferry_core.errors import FormatError, Truncated
from dagferry_follow.errors import AnswerInvalid, DigestMismatch, PatchMismatch, SyncError
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
        with _errors(AnswerInvalid):
            patch = Patch.parse(download.read_patch(alive))
        if old is None:
            raise PatchMismatch("The server sent a patch where there is nothing to apply it to.")
        _check(patch.digest, digest)
        yield _applied(patch, old), lambda staging: staging.fill_from_patch(patch)
        return

    with Inflated(download.read, cut, alive) as read_inflated:
        with _errors(AnswerInvalid):
            manifest, files = read_tar(read_inflated)
        _check(manifest.digest, digest)

        def fill(staging: StagingTree) -> None:
            with _errors(DigestMismatch):
                staging.fill_from_bundle(files)

        yield manifest, fill


def _applied(patch: Patch, old: Manifest) -> Manifest:
    try:
        return patch.apply_to(old)
    except FormatError as error:
        raise AnswerInvalid(f"The download cannot be used: {error}.") from error
    except ValueError as error:
        raise PatchMismatch(f"The patch cannot be applied: {error}.") from error


@contextlib.contextmanager
def _errors(malformed: type[SyncError]) -> Iterator[None]:
    """Turn a ``FormatError`` of the block into ``malformed``, or into ``DigestMismatch`` if the download ends early."""
    try:
        yield
    except FormatError as error:
        kind = DigestMismatch if isinstance(error, Truncated) else malformed
        raise kind(f"The download cannot be used: {error}.") from error


def _check(found: str, expected: str) -> None:
    if expected and found != expected:
        raise DigestMismatch(f"The download is {found}, not {expected}.")
