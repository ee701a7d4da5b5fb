"""The tree to publish as long as nothing is deployed: a folder such as the image's own DAGs, or an empty tree."""

import hashlib
import os
import stat
from collections.abc import Iterator

from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import DEFAULT_EXCLUDES, Excludes, check_path
from dagferry_core.bundle.manifest import EMPTY, Entry, Manifest
from dagferry_follow.errors import VolumeFailed
from dagferry_follow.volume.tree import pieces_of

SEED_VERSION = "seed"
EMPTY_VERSION = "empty"


class Seed:
    """The files of ``folder``, if given; what an upload would exclude is excluded here too.

    Links to files are followed, because images have them; links to folders are not. Raises ``VolumeFailed`` if
    something cannot be read.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self.version = SEED_VERSION if folder else EMPTY_VERSION
        try:
            self.manifest = Manifest(self._entries(folder)) if folder else EMPTY
        except (OSError, PathRefused) as error:
            raise VolumeFailed(f"The seed {folder} cannot be read: {error}.") from error

    def files(self) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """Yield the files in the order of the manifest with their contents."""
        for entry in self.manifest.files.values():
            yield entry, self._content(entry)

    def _content(self, entry: Entry) -> Iterator[bytes]:
        try:
            with open(f"{self._folder}/{entry.path}", "rb", buffering=0) as file:
                yield from pieces_of(file.fileno())
        except OSError as error:
            raise VolumeFailed(f"The seed {self._folder} cannot be read: {error}.") from error

    @staticmethod
    def _entries(top: str) -> Iterator[Entry]:
        def fail(error: OSError) -> None:
            raise error

        excludes = Excludes(DEFAULT_EXCLUDES)
        for folder, _, names in os.walk(top, onerror=fail):
            for name in names:
                path = os.path.relpath(f"{folder}/{name}", top)
                if excludes.excluded(path, folder=False):
                    continue
                with open(f"{folder}/{name}", "rb", buffering=0, opener=_nonblocking) as file:
                    status = os.fstat(file.fileno())
                    if not stat.S_ISREG(status.st_mode):
                        continue
                    content = hashlib.sha256()
                    for piece in pieces_of(file.fileno()):
                        content.update(piece)
                mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
                yield Entry(check_path(os.fsencode(path)), status.st_size, mode, content.hexdigest())


def _nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO must not block the sidecar
