"""The contents that a commit can make current: an upload, or a stored bundle of this or of another deployment.

What a content comes to may depend on the deploy that it follows. So a commit asks for its tree again whenever another
deploy came in between.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import BinaryIO, NamedTuple, TypeAlias

from dagferry_core.archive.check import ArchiveRules, CheckedArchive
from dagferry_core.archive.errors import BundleEmpty
from dagferry_core.bundle.frames import RangeRead
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.merge import check_limits, subtree
from dagferry_core.bundle.reader import BundleFile
from dagferry_core.deploylog import Deploy
from dagferry_server.deploys.bundles import open_bundle, tree_of
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.tree import Tree
from dagferry_server.errors import BundleGone, StoreAway, StoreDamaged
from dagferry_server.store.base import Store, storage_errors


class Head(NamedTuple):
    """The state that a commit starts from: the deployment, and its newest deploy that can be read.

    ``is_newest`` says whether ``current`` is the newest of all; if not, the newest entry is damaged. ``highest`` is the
    newest entry's sequence, and ``sha256`` the hash of its bytes. ``last`` is the newest deploy of the folder that the
    commit is about, or of one that overlaps it; ``versions`` is it and all later ones. ``own`` is the newest deploy of
    it by the actor of the commit. ``bundle`` is that of ``current``; ``None`` if there is no deploy, or if its bundle
    cannot be read.
    """

    deployment: str
    current: Deploy | None
    is_newest: bool
    highest: int
    sha256: str
    last: Deploy | None = None
    versions: frozenset[str] = frozenset()
    own: Deploy | None = None
    bundle: BundleFile | None = None


Again: TypeAlias = Callable[[Callable[[], object]], "Content"]
"""Returns a content that was stored as a bundle; takes ``when_large`` of ``BundleFile``."""

_NO_HEAD = Head("", None, is_newest=True, highest=0, sha256="")


class Content(ABC):
    """What is to be deployed. Its methods are called in threads."""

    known: Manifest | None = None
    """A manifest that is in memory: that of the current bundle shares its memory."""

    @abstractmethod
    def digest(self) -> str:
        """Return its digest."""

    def is_current(self, head: Head) -> bool:
        """Return whether the deploy ``head.current`` has this content already."""
        return head.current is not None and head.current.digest == self.digest()

    @abstractmethod
    def tree(self, head: Head) -> AbstractContextManager[Tree]:
        """Return the tree that follows ``head``, which can be read until the block ends.

        Raises a ``DagferryError`` if there is no such tree.
        """

    def again(self, store: Store, deployment: str, digest: str, warnings: tuple[str, ...]) -> Again:
        """Return what makes this content from the bundle ``digest`` of ``deployment``, which its tree came to.

        ``warnings`` are those of that tree. What this content reads from is not needed any more.
        """
        return lambda when_large: BundleContent(store, deployment, digest, when_large, warnings=warnings)

    def early(self) -> AbstractContextManager[Tree]:
        """Return the files whose contents are new in the tree, to look at them before the commit; raises as ``tree``.

        Only if the tree depends on nothing else are these all of its files.
        """
        return self.tree(_NO_HEAD)


class UploadedContent(Content):
    """A checked upload, whose files lie in ``spool``."""

    def __init__(self, checked: CheckedArchive, spool: BinaryIO) -> None:
        self.known = checked.manifest
        self._checked = checked
        self._spool = spool

    def digest(self) -> str:
        """Return the digest of the uploaded files."""
        return self._checked.manifest.digest

    @contextmanager
    def tree(self, head: Head) -> Iterator[Tree]:  # noqa: ARG002 - it is the same whatever it follows
        """Return the uploaded files."""
        self._spool.flush()
        fd, offsets = self._spool.fileno(), self._checked.offsets

        def open_content(entry: Entry) -> RangeRead:
            start = offsets[entry.path]

            def read(offset: int, size: int) -> bytes:
                # The next file's content follows in the spool.
                with storage_errors("Reading the unpacked upload"):
                    return os.pread(fd, max(0, min(size, entry.size - offset)), start + offset)

            return read

        yield Tree("The unpacked upload", self._checked.manifest, open_content)


class BundleContent(Content):
    """The bundle ``digest`` of ``deployment``, which no deploy names yet, or what it has below the folder ``under``."""

    def __init__(
        self,
        store: Store,
        deployment: str,
        digest: str,
        when_large: Callable[[], object],
        *,
        warnings: tuple[str, ...] = (),
        under: str = "",
    ) -> None:
        self._store = store
        self._deployment = deployment
        self._bundle = digest
        self._when_large = when_large
        self._warnings = warnings
        self._under = under
        self._digest = "" if under else digest

    def digest(self) -> str:
        """Return the digest of the bundle, or of its files below the folder."""
        if not self._digest:
            with self.tree(_NO_HEAD):
                pass
        return self._digest

    @contextmanager
    def tree(self, head: Head) -> Iterator[Tree]:
        """Return the files; ``StoreAway`` if the bundle is gone: the same deploy again brings it back."""
        known = head.bundle.manifest if head.bundle else None
        with ExitStack() as stack:
            try:
                bundle = stack.enter_context(
                    open_bundle(self._store, self._deployment, self._bundle, known, self._when_large)
                )
            except BundleGone as error:
                raise StoreAway(
                    f"What was checked for {self._deployment} is not stored any more.", "Deploy it again."
                ) from error
            tree = tree_of(bundle, f"The candidate {self._bundle} of {self._deployment}")
            tree = part_of(tree._replace(stored_in=self._deployment), self._under)
            self._digest = tree.manifest.digest
            yield tree._replace(warnings=self._warnings)


class StoredContent(Content):
    """The bundle of ``deploy``, a deploy of ``deployment``. ``when_large`` is that of ``BundleFile``.

    ``rules`` are those for uploads to the deployment that it goes to; ``None`` if it was deployed there before.
    """

    def __init__(
        self,
        store: Store,
        deployment: Deployment,
        deploy: Deploy,
        when_large: Callable[[], object],
        rules: ArchiveRules | None = None,
    ) -> None:
        self._store = store
        self._deployment = deployment
        self._deploy = deploy
        self._when_large = when_large
        self._rules = rules

    def digest(self) -> str:
        """Return the digest of the bundle."""
        return self._deploy.digest

    @contextmanager
    def early(self) -> Iterator[Tree]:
        """Return the files of the bundle, without reading all of it."""
        name = self._deployment.name
        with open_bundle(self._store, name, self._deploy.digest, when_large=self._when_large) as bundle:
            self._check(bundle.manifest)
            yield tree_of(bundle, f"The bundle of version {self._deploy.version} of {name}")

    @contextmanager
    def tree(self, head: Head) -> Iterator[Tree]:
        """Return the files of the bundle, once it was read to its end: damaged, it could be live nowhere.

        Raises ``BundleGone``, ``StoreDamaged``, ``StoreAway``, ``BundleEmpty``, and what ``check_limits`` raises.
        """
        with ExitStack() as stack:
            with self._errors():
                bundle = stack.enter_context(self._open(head.bundle.manifest if head.bundle else None))
                self._check(bundle.manifest)
                bundle.verify()
            yield tree_of(bundle, self._name)._replace(stored_in=self._deployment.name)

    def _check(self, manifest: Manifest) -> None:
        rules = self._rules
        if rules is None:
            return
        if not manifest.files and not rules.allow_empty:
            raise BundleEmpty(f"{self._name} has no files.")
        check_limits(manifest, max_files=rules.max_files, max_expanded_bytes=rules.max_expanded_bytes)

    @property
    def _name(self) -> str:
        return f"The bundle of version {self._deploy.version} of {self._deployment.name}"

    def _open(self, known: Manifest | None = None) -> AbstractContextManager[BundleFile]:
        return open_bundle(self._store, self._deployment.name, self._deploy.digest, known, self._when_large)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say in errors of the block which version cannot be deployed again."""
        try:
            yield
        except BundleGone as error:
            raise self._deployment.gone(self._deploy) from error
        except StoreDamaged as error:
            raise StoreDamaged(
                f"Version {self._deploy.version} of {self._deployment.name} cannot be deployed again. {error.message}",
                "Nothing was deployed. Choose another version, or upload this content again, which replaces the "
                "damaged bundle.",
            ) from error


class StoredPart(StoredContent):
    """What that bundle has below the folder ``under``, by paths relative to it."""

    def __init__(
        self,
        store: Store,
        deployment: Deployment,
        deploy: Deploy,
        when_large: Callable[[], object],
        under: str,
    ) -> None:
        super().__init__(store, deployment, deploy, when_large)
        self._under = under
        self._digest = ""

    def digest(self) -> str:
        """Return the digest of the files below the folder; the bundle is opened for it unless that was done before."""
        if not self._digest:
            with self._errors(), self._open() as bundle:
                self._digest = subtree(bundle.manifest, self._under).digest
        return self._digest

    @contextmanager
    def tree(self, head: Head) -> Iterator[Tree]:
        """Return the files below the folder. They are not read: what is merged is proven when it is written.

        Raises what that of ``StoredContent`` raises.
        """
        with ExitStack() as stack:
            with self._errors():
                bundle = stack.enter_context(self._open(head.bundle.manifest if head.bundle else None))
            part = part_of(tree_of(bundle, self._name), self._under)
            self._digest = part.manifest.digest
            yield part

    @contextmanager
    def early(self) -> Iterator[Tree]:
        """Return the files below the folder."""
        with super().early() as tree:
            part = part_of(tree, self._under)
            self._digest = part.manifest.digest
            yield part


def part_of(tree: Tree, under: str) -> Tree:
    """Return what a tree has below the folder ``under``, by paths relative to it; ``""``: the tree."""
    if not under:
        return tree
    return tree._replace(
        manifest=subtree(tree.manifest, under),
        open_content=lambda entry: tree.open_content(entry._replace(path=under + entry.path)),
        stored_in="",
    )
