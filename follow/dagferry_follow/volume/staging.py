"""A staging tree: it is built beside the live one, from a whole bundle, a patch, or the live tree alone.

Promises: every file that is written is checked against its sha256. An unchanged file is a hard link, or a copy with the
same mtime if linking is refused for any reason. A fresh file (changed, or importing or reading what changed) is a new
inode, never a link, because setting its mtime must not affect the tree that is still live. Every folder is 0755 and
every file 0644 or 0755 whatever the umask, if the volume keeps modes. Nothing is synced to disk: the server has the
data, and ``tree.check`` finds what a power loss corrupted.
"""

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from types import TracebackType

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.patch import Patch
from dagferry_core.errors import DagferryError
from dagferry_follow.errors import AnswerInvalid, DigestMismatch, PatchMismatch, TreeDamaged, VolumeFailed
from dagferry_follow.small_files import OPEN_FILE
from dagferry_follow.volume.attributes import set_mode, set_mtime, set_mtime_not_before
from dagferry_follow.volume.known_reads import to_touch
from dagferry_follow.volume.tree import (
    AHEAD_NS,
    CORRUPT_ERRORS,
    FULL_ERRORS,
    SECOND_NS,
    Folders,
    Tree,
    as_published,
    check,
    on_disk,
    pieces_of,
)

Files = Iterable[tuple[Entry, Iterable[bytes | memoryview]]]
"""Every file of a manifest in its order, with its content in pieces."""
Content = Files | Patch | Tree
"""The source of a tree: all of its files, a patch to the old tree, or the old tree itself."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class StagingTree:
    """A tree of ``manifest`` that is being built in ``folder``, an empty one, to replace ``old``.

    ``populate`` it, then ``finalize`` it. A context manager that closes its descriptors; the folder is the caller's to
    remove. Raises ``VolumeFailed`` with the path where the volume refuses. Without ``links`` nothing is shared with
    ``old``: files are copied. ``modes`` is whether the volume keeps modes.
    """

    __slots__ = (
        *("_fresh", "_links", "_modes", "_mtimes", "_new", "_old_folders", "_retained_folders"),
        *("folder", "manifest", "new_bytes", "old", "reads_in", "retained"),
    )

    def __init__(
        self, folder: str, manifest: Manifest, old: Tree | None, *, links: bool = True, modes: bool = True
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.old = old
        self.new_bytes = 0
        """What the files that are not links take on disk, in bytes."""
        self._links = links
        self._modes = modes
        self._fresh: list[str] = []
        self._mtimes: dict[str, int] = {}
        self._new = Folders(folder, make=True)
        self._old_folders: Folders | None = None
        self.retained: Tree | None = None
        """Another tree of ``manifest``, for contents that a patch names without having them."""
        self.reads_in = ""
        """The folder that has what Airflow was seen to read (``known_reads``); ``""`` if there is none."""
        self._retained_folders: Folders | None = None

    def __enter__(self) -> "StagingTree":  # noqa: PYI034 - Self is not in the typing of Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._new.close()
        for folders in (self._old_folders, self._retained_folders):
            if folders:
                folders.close()

    # --- one file ----------------------------------------------------------------------------------------------------

    def link(self, entry: Entry) -> bool:
        """Link an unchanged file of the old tree; return ``False`` if it was not as published there."""
        if not self.old:
            return False
        folder, name = self._enter(entry)
        mtime = self.old.mtimes[entry.path]
        if not self._links:
            return self._copy_with_mtime(entry, mtime)
        try:
            source, _ = self._enter_old(entry.path)
            os.link(name, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno in FULL_ERRORS:
                raise self._failed(entry.path, error) from error
            # fs.protected_hardlinks refuses links to files of another user; some volumes do not support links at all,
            # and report that with any error. Copying shows whether there is another reason.
            return self._copy_with_mtime(entry, mtime)
        # Checked only now: the old name may refer to another file at any time, the new one may not.
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not as_published(status, entry, mtime, modes=self.old.modes):
            os.unlink(name, dir_fd=folder)
            return False
        self._mtimes[entry.path] = mtime
        return True

    def _copy_with_mtime(self, entry: Entry, mtime: int) -> bool:
        try:
            self._create(entry, self._old_content(entry.path, entry, mtime))
        except (TreeDamaged, DigestMismatch):
            return False
        self._mtimes[entry.path] = set_mtime(*self._enter(entry), mtime)
        return True

    def copy(self, entry: Entry, source: str) -> None:
        """Make ``entry`` a fresh copy of ``source`` in the old tree; raise ``TreeDamaged`` if that is corrupt."""
        try:
            self.write(entry, self._old_content(source))
        except DigestMismatch as error:
            raise _corrupt(source) from error

    def copy_retained(self, entry: Entry) -> None:
        """Make ``entry`` a fresh copy of the file in the retained tree; raise ``TreeDamaged`` if that is corrupt."""
        if not self.retained:
            raise PatchMismatch(f"The patch copies a content for {entry.path} that no published tree has.")
        try:
            if not self._retained_folders:
                self._retained_folders = Folders(self.retained.folder)
            folder, name = self._retained_folders.enter(entry.path)
            fd = os.open(name, OPEN_FILE, dir_fd=folder)
        except OSError as error:
            raise self._unread(entry.path, error) from error
        try:
            self.write(entry, pieces_of(fd))
        except DigestMismatch as error:
            raise _corrupt(entry.path) from error
        except OSError as error:
            raise self._unread(entry.path, error) from error
        finally:
            os.close(fd)

    def write(self, entry: Entry, content: Iterable[bytes | memoryview]) -> None:
        """Make ``entry`` a fresh file; raise ``DigestMismatch`` unless ``content`` matches the manifest."""
        self._mtimes[entry.path] = self._create(entry, content)
        if self.old:
            self._fresh.append(entry.path)

    def _create(self, entry: Entry, content: Iterable[bytes | memoryview]) -> int:
        folder, name = self._enter(entry)
        digest = hashlib.sha256()
        try:
            fd = os.open(name, _NEW_FILE, entry.mode, dir_fd=folder)
        except OSError as error:
            raise self._failed(entry.path, error) from error
        try:
            for piece in content:
                digest.update(piece)
                self._write(fd, piece, entry)
            set_mode(fd, entry.mode)  # open applies the umask
            if digest.hexdigest() != entry.sha256:
                raise DigestMismatch(f"The content of {entry.path} does not match the manifest.")
        except DagferryError:
            os.unlink(name, dir_fd=folder)
            raise
        finally:
            os.close(fd)
        self.new_bytes += on_disk(entry.size)
        # Only now: some volumes set the mtime when the file is closed.
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns

    def _write(self, fd: int, piece: bytes | memoryview, entry: Entry) -> None:
        try:
            written = os.write(fd, piece)
            while written < len(piece):
                piece = memoryview(piece)[written:]
                written = os.write(fd, piece)
        except OSError as error:
            raise self._failed(entry.path, error) from error

    def _enter(self, entry: Entry) -> tuple[int, str]:
        try:
            return self._new.enter(entry.path)
        except OSError as error:
            raise self._failed(entry.path, error) from error

    def _enter_old(self, path: str) -> tuple[int, str]:
        if not self.old:
            raise _corrupt(path)
        if not self._old_folders:
            self._old_folders = Folders(self.old.folder)
        return self._old_folders.enter(path)

    def _old_content(self, path: str, entry: Entry | None = None, mtime: int | None = None) -> Iterator[bytes]:
        try:
            folder, name = self._enter_old(path)
            fd = os.open(name, OPEN_FILE, dir_fd=folder)
        except OSError as error:
            raise self._unread(path, error) from error
        try:
            if entry and self.old and not as_published(os.fstat(fd), entry, mtime, modes=self.old.modes):
                raise _corrupt(path)
            yield from pieces_of(fd)
        except OSError as error:
            raise self._unread(path, error) from error
        finally:
            os.close(fd)

    def _unread(self, path: str, error: OSError) -> TreeDamaged | VolumeFailed:
        if error.errno in CORRUPT_ERRORS:
            return _corrupt(path)
        return VolumeFailed(f"{path} in the published tree cannot be read: {error.strerror}.")

    def _failed(self, path: str, error: OSError) -> VolumeFailed:
        where = f"{self.folder}/{path}"
        if error.errno in {errno.EEXIST, errno.ENOTDIR}:  # the folder was empty, so the bundle must be the cause
            return VolumeFailed(f"{where} cannot be created: two paths of the bundle collide on this volume.")
        return VolumeFailed(f"{where} cannot be written: {error.strerror}.")

    # --- all files ---------------------------------------------------------------------------------------------------

    def populate(self, content: Content) -> None:
        """Create all files of the manifest.

        Raises ``DigestMismatch`` if a content does not match the manifest; ``PatchMismatch`` or ``TreeDamaged`` if
        the old tree is not the base of the patch, or not as published: then the whole bundle helps.
        """
        if isinstance(content, Tree):
            self._link_all()
        elif isinstance(content, Patch):
            self._apply(content)
        else:
            self._write_all(content)

    def _link_all(self) -> None:
        for entry in self.manifest.files.values():
            if not self.link(entry):
                raise _corrupt(entry.path)

    def _apply(self, patch: Patch) -> None:
        """Link what did not change and build the rest from the patch."""
        old = self.old.manifest if self.old else Manifest(())
        by_content = {entry.sha256: path for path, entry in old.files.items()} if patch.copied else {}
        written = {entry.path for entry in patch.written}
        copied = {entry.path for entry in patch.copied}
        touched = self._to_touch(patch.touch)
        contents = patch.contents(old, lambda path: b"".join(self._old_content(path)))
        for entry in self.manifest.files.values():
            if entry.path in written:
                self._write_next(entry, contents)
            elif entry.path in copied:
                if entry.sha256 in by_content:
                    self.copy(entry, by_content[entry.sha256])
                else:
                    self.copy_retained(entry)
            elif entry.path in touched:
                self.copy(entry, entry.path)
            elif not self.link(entry):
                raise _corrupt(entry.path)

    def _write_next(self, entry: Entry, contents: Iterator[tuple[Entry, bytes]]) -> None:
        try:
            described, content = next(contents, (None, b""))
        except ValueError as error:
            raise PatchMismatch(f"The patch cannot be applied: {error}.") from error
        if described != entry:
            raise AnswerInvalid(f"The patch lacks {entry.path}, or has it out of order.")
        self.write(entry, (content,))

    def _write_all(self, files: Files) -> None:
        """Write the files, but link those that the old tree has.

        A whole bundle does not say which file imports or reads which. So if any file changed, all Python files become
        fresh of which it is not known otherwise: Airflow reads some again unnecessarily, but never misses one.
        """
        unchanged = self._unchanged()
        for entry, content in files:
            if entry.path in unchanged and self.link(entry):
                for _ in content:
                    pass
            else:
                self.write(entry, content)

    def _unchanged(self) -> set[str]:
        if not self.old:
            return set()
        before, after, corrupt = self.old.manifest.files, self.manifest.files, set(check(self.old).corrupt)
        unchanged = {path for path, entry in after.items() if before.get(path) == entry and path not in corrupt}
        if len(unchanged) < len(before.keys() | after.keys()):
            sources = {path for path in unchanged if path.endswith(".py")}
            # What Airflow read of a corrupt tree says nothing.
            return unchanged - (sources if corrupt else self._to_touch(sources))
        return unchanged

    def _to_touch(self, guess: Iterable[str]) -> set[str]:
        """Return the unchanged files that are to be fresh, by the ``guess`` of them and by what Airflow was seen to do.

        Raises ``TreeDamaged`` if a source that is looked into is not as published.
        """
        old = self.old
        if not (old and self.reads_in):
            return set(guess)

        def source_of(path: str) -> bytes:
            return b"".join(self._old_content(path, old.manifest.files[path], old.mtimes[path]))

        return to_touch(self.reads_in, old, self.manifest, guess, source_of)

    def finalize(self, now: float) -> tuple[Tree, list[str]]:
        """Set the mtimes of the fresh files to ``now``, seconds since the epoch; return the tree and their paths.

        Files that only depend on changed ones get ``AHEAD_NS`` less, since Airflow reads the newest files first. Call
        it right before the swap: the mtimes represent that moment. A file that replaces another is at least one second
        newer: a .pyc kept elsewhere is valid for a path, a size and an mtime in seconds. Without an old tree no file is
        fresh: nothing can have read one, so the mtime of writing will do.
        """
        before = self.old.mtimes if self.old else {}
        old = self.old.manifest.files if self.old else {}
        folders = Folders(self.folder)
        fresh = set(self._fresh)
        try:
            for path, mtime in self._mtimes.items():  # some may have been touched meanwhile
                if path not in fresh and mtime != before.get(path, mtime):
                    self._mtimes[path] = set_mtime(*folders.enter(path), before[path])
            for path in self._fresh:
                earliest = before[path] + SECOND_NS if path in before else 0
                behind = AHEAD_NS if old.get(path) == self.manifest.files[path] else 0
                mtime = max(int(now * SECOND_NS) - behind, earliest)
                self._mtimes[path] = set_mtime_not_before(*folders.enter(path), mtime)
        finally:
            folders.close()
        if self._mtimes.keys() != self.manifest.files.keys():
            raise AnswerInvalid("The download lacks files of its manifest.")
        return Tree(self.folder, self.manifest, self._mtimes, self._modes), self._fresh


def _corrupt(path: str) -> TreeDamaged:
    return TreeDamaged(f"{path} in the published tree is not as published.")
