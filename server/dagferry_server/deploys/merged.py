"""Contents that are merged with what is stored: so far, an upload that has only the files that changed.

The files that an upload does not have are read from stored bundles by range, when they are needed: a frame that holds
the same files as before is copied as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from dagferry_core.archive.check import ArchiveRules
from dagferry_core.archive.errors import BundleEmpty
from dagferry_core.archive.name_warnings import name_warnings
from dagferry_core.archive.paths import case_collisions, quoted
from dagferry_core.archive.secret_files import secret_warnings
from dagferry_core.bundle.frames import RangeRead
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.merge import apply_change
from dagferry_core.bundle.reader import BundleFile
from dagferry_core.deploylog import Deploy
from dagferry_core.errors import FormatError
from dagferry_core.limits import LARGE_FILES
from dagferry_runtime.logs import log_failure
from dagferry_server.deploys.bundles import open_bundle, tree_of
from dagferry_server.deploys.contents import Content, Head
from dagferry_server.deploys.request import Change
from dagferry_server.deploys.tree import Tree
from dagferry_server.errors import BaseGone, BundleGone, ChangeMismatch, StoreDamaged
from dagferry_server.store.base import Store

MAX_EXCLUDED_NAMED = 3
"""How many excluded paths the error about a change names."""


class Merging(NamedTuple):
    """How trees are merged: the ``rules`` that hold for the whole of it, and what is called before a large one is."""

    rules: ArchiveRules
    when_large: Callable[[], object]

    def check(self, manifest: Manifest) -> None:
        """Take the turn for a large result; raise ``BundleEmpty`` if nothing may be all of it, and is."""
        if len(manifest.files) > LARGE_FILES:
            self.when_large()
        if not manifest.files and not self.rules.allow_empty:
            raise BundleEmpty("Nothing would be left: the whole bundle would have no files.")


class Base(NamedTuple):
    """Where a change takes its other files from: ``deploy``, which is ``None`` if the log has no such version."""

    store: Store
    deployment: str
    deploy: Deploy | None


class ChangedContent(Content):
    """The tree of ``base`` without the paths that ``change`` removes, and with the files of ``uploaded``.

    ``excluded`` are paths of the upload that the exclude rules matched, for the error if the digest is another one.
    """

    def __init__(
        self, uploaded: Content, base: Base, change: Change, merging: Merging, excluded: Sequence[str] = ()
    ) -> None:
        self._uploaded = uploaded
        self._base = base
        self._change = change
        self._merging = merging
        self._excluded = excluded

    def digest(self) -> str:
        """Return the digest that must come out."""
        return self._change.digest

    @contextmanager
    def tree(self, head: Head) -> Iterator[Tree]:
        """Return the changed tree.

        Raises ``BaseGone``, ``ChangeMismatch``, ``StoreAway``, and what ``apply_change`` raises for its limits.
        """
        with ExitStack() as stack:
            uploaded = stack.enter_context(self._uploaded.tree(head))
            try:
                bundle = self._open_base(stack, head)
            except BaseGone:
                if not head.bundle or head.bundle.manifest.digest != self._change.digest:
                    raise
                yield tree_of(head.bundle, "The bundle of the current deploy")  # a request that is repeated
                return
            manifest = self._changed(bundle.manifest, uploaded.manifest)
            self._merging.check(manifest)

            def open_content(entry: Entry) -> RangeRead:
                where = uploaded if entry.path in uploaded.manifest.files else bundle
                return where.open_content(entry)

            yield Tree("The changed tree", manifest, open_content, (bundle,), warnings=_warnings(manifest))

    def _open_base(self, stack: ExitStack, head: Head) -> BundleFile:
        store, name, deploy = self._base
        version = self._change.base
        if deploy is None:
            raise _base_gone(head, f"{name} has no version {version}.")
        if head.bundle and head.bundle.manifest.digest == deploy.digest:
            return head.bundle
        known = head.bundle.manifest if head.bundle else None
        try:
            return stack.enter_context(open_bundle(store, name, deploy.digest, known, self._merging.when_large))
        except BundleGone as error:
            raise _base_gone(head, f"The bundle of version {version} of {name} was removed by retention.") from error
        except StoreDamaged as error:
            log_failure("The bundle that a change is based on cannot be read", error, deployment=name)
            raise _base_gone(head, f"The bundle of version {version} of {name} cannot be read.") from error

    def _changed(self, base: Manifest, uploaded: Manifest) -> Manifest:
        rules, change = self._merging.rules, self._change
        try:
            manifest = apply_change(
                base,
                uploaded,
                change.removed,
                max_files=rules.max_files,
                max_expanded_bytes=rules.max_expanded_bytes,
            )
        except FormatError as error:
            raise ChangeMismatch(f"The change of version {change.base} cannot be applied: {error}.") from error
        if manifest.digest != change.digest:
            shown = ", ".join(map(quoted, self._excluded[:MAX_EXCLUDED_NAMED]))
            excluded = f" The server's exclude rules matched files of the upload: {shown}." if shown else ""
            raise ChangeMismatch(
                f"The change of version {change.base} leads to {manifest.digest}, and not to {change.digest}.{excluded}"
            )
        return manifest


def _base_gone(head: Head, reason: str) -> BaseGone:
    version = head.current.version if head.current else ""
    current = f"The current version is {version}." if version else "Nothing is deployed."
    return BaseGone(f"{reason} {current}", details={"version": version})


def _warnings(manifest: Manifest) -> tuple[str, ...]:
    """Return the warnings that a complete upload of these files would get."""
    files = manifest.files
    return (*name_warnings(files), *case_collisions(files), *secret_warnings(files))
