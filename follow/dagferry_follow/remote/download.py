"""Opens a download: the manifest of a deploy, and the content to fill a tree with."""

import contextlib
from collections.abc import Callable, Iterator

from dagferry_core.bundle.manifest import Manifest
from dagferry_core.bundle.patch import Patch
from dagferry_core.bundle.reader import read_tar
from dagferry_core.errors import FormatError, Truncated
from dagferry_follow.errors import AnswerInvalid, DigestMismatch, PatchMismatch, SyncError
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
    """Yield the manifest and the content of a bundle, or of a patch to ``old``, that is being downloaded.

    Raises ``DigestMismatch`` unless the manifest's digest is ``digest`` (``""``: any), ``PatchMismatch`` if a patch
    is not for ``old``. An error inside aborts the download. ``heartbeat`` is called now and then, in this thread.
    """
    if download.kind == PATCH:
        with _errors(AnswerInvalid):
            patch = Patch.parse(download.read_patch(heartbeat))
        if old is None:
            raise PatchMismatch("The server sent a patch, but there is no tree to apply it to.")
        _check(patch.digest, digest)
        yield _applied(patch, old), patch
        return

    with Inflated(download.read, download.abort, heartbeat) as read_inflated:
        with _errors(AnswerInvalid):
            manifest, files = read_tar(read_inflated)
        _check(manifest.digest, digest)
        with _errors(DigestMismatch):  # also those that reading the files raises
            yield manifest, files


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
