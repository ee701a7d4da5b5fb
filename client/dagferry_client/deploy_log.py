"""What the server says about deploys and their files, as the endpoints that read have it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.deploylog import Deploy
from dagferry_core.errors import FormatError


class LoggedDeploy(NamedTuple):
    """One entry of the deploy log; see ``dagferry_core.deploylog.Deploy``. What older servers lack has its default."""

    sequence: int
    version: str
    digest: str
    kind: str
    description: str
    actor: str
    time: int
    added: int
    changed: int
    removed: int
    format: int = 1
    nonce: str = ""
    previous: str = ""
    details_sha256: str = ""
    git: Mapping[str, str] | None = None
    under: str = ""
    flags: list[str] = []  # noqa: RUF012 - it is never changed
    source: str = ""

    def entry(self) -> Deploy:
        """Return the entry as the server stored it, so that its bytes can be compared."""
        named: dict[str, Any] = {**self._asdict(), "details": self.details_sha256, "flags": self.flags or None}
        return Deploy(**{name: named[name] for name in Deploy._fields})


class LogPage(NamedTuple):
    """A page of the deploy log, newest first; ``next`` is the sequence below which the next page begins."""

    deploys: list[LoggedDeploy]
    next: int | None


class Details(NamedTuple):
    """What the log entry of a deploy has no room for; ``cut`` if the lists were truncated."""

    warnings: list[str]
    excluded_paths: list[str]
    added_paths: list[str]
    changed_paths: list[str]
    removed_paths: list[str]
    cut: bool


class WithDetails(NamedTuple):
    """The details of one deploy, if there are any."""

    details: Details | None


class ListedFile(NamedTuple):
    """One file of a version."""

    path: str
    size: int
    mode: int
    sha256: str


class Files(NamedTuple):
    """All files of a version."""

    version: str
    digest: str
    files: list[ListedFile]

    def manifest(self) -> Manifest:
        """Return the list as a manifest; raise ``FormatError`` if it is not that of ``digest``."""
        made = Manifest(Entry(*file) for file in self.files)
        if made.digest != self.digest or len(made.files) != len(self.files):
            raise FormatError(f"the list of files has the digest {made.digest}, not {self.digest}")
        return made


class OnlyThere(NamedTuple):
    """A file that one of two versions has."""

    path: str
    size: int
    mode: int
    sha256: str


class ChangedFile(NamedTuple):
    """A file that differs between two versions."""

    path: str
    old_size: int
    size: int
    old_mode: int
    mode: int
    old_sha256: str
    sha256: str


class Diff(NamedTuple):
    """Which files differ between two versions; ``cut`` if the lists were truncated."""

    added: list[OnlyThere]
    changed: list[ChangedFile]
    removed: list[OnlyThere]
    cut: bool


class Deployed(NamedTuple):
    """The answer to a request to deploy; after a dry run, what would change.

    ``version`` is the one that is current now, empty if there is none. If ``unchanged``, nothing was to be done. The
    lists of paths are truncated if ``cut``; ``excluded`` counts the files that the server excluded. What older servers
    lack has its default.
    """

    version: str
    digest: str
    sequence: int
    unchanged: bool
    added: int
    changed: int
    removed: int
    warnings: list[str]
    excluded: int
    excluded_paths: list[str]
    kind: str = "upload"
    under: str = ""
    dry_run: bool = False
    added_paths: list[str] = []  # noqa: RUF012 - it is never changed
    changed_paths: list[str] = []  # noqa: RUF012
    removed_paths: list[str] = []  # noqa: RUF012
    cut: bool = False
