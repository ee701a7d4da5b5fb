"""Merges manifests: replaces the subtree of one team, and applies a change of single files.

Pure: contents are not touched, so the caller has to know where the content of each entry is. A folder is named by the
prefix of the paths below it, such as ``team-a/`` (see ``check_prefix``); ``""`` is the top folder.

A result is a bundle that could have been uploaded as a whole: no path is both a file and a folder, and paths and
amounts are within the limits of an archive that has all of it below ``dags/``.
"""

from collections.abc import Collection, Iterable

from dagferry_core.archive.errors import ExpandedTooLarge, PathConflict, PathsTooLarge, TooManyFiles
from dagferry_core.archive.paths import ROOT, check_length, quoted
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.errors import FormatError
from dagferry_core.limits import MAX_EXPANDED_BYTES, MAX_FILES, MAX_PATHS_BYTES


def overlap(one: str, other: str) -> bool:
    """Return whether one of two folders is the other, or contains it."""
    return one.startswith(other) or other.startswith(one)


def subtree(manifest: Manifest, under: str) -> Manifest:
    """Return the files below ``under``, by their paths relative to it."""
    if not under:
        return manifest
    return Manifest(
        entry._replace(path=path[len(under) :]) for path, entry in manifest.files.items() if path.startswith(under)
    )


def replace_subtree(
    current: Manifest,
    under: str,
    tree: Manifest,
    *,
    max_files: int = MAX_FILES,
    max_expanded_bytes: int = MAX_EXPANDED_BYTES,
) -> Manifest:
    """Return ``current`` without what it has below ``under``, and with ``tree`` there.

    Raises ``PathConflict``, ``PathRefused`` (a path is too long there), ``TooManyFiles``, ``ExpandedTooLarge`` and
    ``PathsTooLarge``.
    """
    if not under:
        return tree
    for path in tree.files:
        check_length(under + path)
    return _merged(
        (entry for path, entry in current.files.items() if not path.startswith(under)),
        (entry._replace(path=under + path) for path, entry in tree.files.items()),
        max_files=max_files,
        max_expanded_bytes=max_expanded_bytes,
    )


def apply_change(
    base: Manifest,
    changed: Manifest,
    removed: Collection[str],
    *,
    max_files: int = MAX_FILES,
    max_expanded_bytes: int = MAX_EXPANDED_BYTES,
) -> Manifest:
    """Return ``base`` without the paths ``removed``, and with the files of ``changed``, which are new or replace some.

    Raises ``FormatError`` if a path is to be removed that ``base`` does not have, or that ``changed`` has; and what
    ``replace_subtree`` raises.
    """
    for path in removed:
        if path not in base.files:
            raise FormatError(f"it removes {quoted(path)}, which is not there")
        if path in changed.files:
            raise FormatError(f"it removes {quoted(path)} and contains it too")
    gone = {*removed, *changed.files}
    return _merged(
        (entry for path, entry in base.files.items() if path not in gone),
        changed.files.values(),
        max_files=max_files,
        max_expanded_bytes=max_expanded_bytes,
    )


def _merged(kept: Iterable[Entry], added: Iterable[Entry], *, max_files: int, max_expanded_bytes: int) -> Manifest:
    manifest = Manifest((*kept, *added))
    check_limits(manifest, max_files=max_files, max_expanded_bytes=max_expanded_bytes)
    return manifest


def check_limits(manifest: Manifest, *, max_files: int, max_expanded_bytes: int) -> None:
    """Check that an archive of all of it could be deployed.

    Raises ``PathConflict``, ``TooManyFiles``, ``ExpandedTooLarge`` and ``PathsTooLarge``.
    """
    folders = {""}  # in an archive of it, this is the folder dags/, which counts too
    path_bytes = len(ROOT)
    for path in manifest.files:
        path_bytes += _archived_bytes(path)
        above = path.rpartition("/")[0]
        while above not in folders:
            if above in manifest.files:
                raise PathConflict(f"{quoted(above)} would be a file, and a folder that contains {quoted(path)}.")
            folders.add(above)
            path_bytes += _archived_bytes(above)
            above = above.rpartition("/")[0]
    count = len(manifest.files) + len(folders)
    if count > max_files:
        raise TooManyFiles(
            f"The whole bundle would have {count:,} files and folders; the limit is {max_files:,} (--max-files)."
        )
    if manifest.size > max_expanded_bytes:
        raise ExpandedTooLarge(
            f"The whole bundle would have {manifest.size:,} bytes; the limit is {max_expanded_bytes:,} bytes "
            "(--max-expanded-bytes)."
        )
    if path_bytes > MAX_PATHS_BYTES:
        raise PathsTooLarge(
            f"The paths in the whole bundle would be {path_bytes:,} bytes long in total; the limit is "
            f"{MAX_PATHS_BYTES:,} bytes."
        )


def _archived_bytes(path: str) -> int:
    return len(ROOT) + 1 + len(path.encode())
