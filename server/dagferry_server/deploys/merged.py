"""Contents that are merged with what is stored: only the files that changed, and only one folder of the tree.

The files that an upload does not have are read from stored bundles by range, when they are needed: a frame that holds
the same files as before is copied as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple

from dagferry_core.archive.check import ArchiveRules
from dagferry_core.archive.errors import BundleEmpty
from dagferry_core.archive.name_warnings import name_warnings
from dagferry_core.archive.paths import case_collisions, quoted
from dagferry_core.archive.secret_files import secret_warnings
from dagferry_core.bundle.frames import RangeRead
from dagferry_core.bundle.manifest import EMPTY, Entry, Manifest
from dagferry_core.bundle.merge import apply_change, replace_subtree, subtree
from dagferry_core.bundle.reader import BundleFile
from dagferry_core.deploylog import Deploy
from dagferry_core.errors import FormatError
from dagferry_core.limits import LARGE_FILES, MAX_WARNINGS
from dagferry_core.source.dag_ids import shared_dag_ids
from dagferry_runtime.logs import log_failure
from dagferry_server.deploys.bundles import ids_by_path, open_bundle, tree_of
from dagferry_server.deploys.contents import Again, BundleContent, Content, Head, part_of
from dagferry_server.deploys.request import Change
from dagferry_server.deploys.tree import Tree
from dagferry_server.errors import BaseGone, BundleGone, ChangeMismatch, StoreDamaged
from dagferry_server.store.base import Store

MAX_EXCLUDED_NAMED = 3
"""How many excluded paths the error about a change names."""


class Merging(NamedTuple):
    """How trees are merged: the ``rules`` for the whole result, and ``when_large``, which is called if it is large.

    ``under`` is the folder that the deploy is about, such as ``team-a/``; ``""``: all of the tree.
    """

    rules: ArchiveRules
    when_large: Callable[[], object]
    under: str = ""

    def check(self, manifest: Manifest) -> None:
        """Call ``when_large`` for a large result; raise ``BundleEmpty`` if it is empty and the rules forbid that."""
        if len(manifest.files) > LARGE_FILES:
            self.when_large()
        if not manifest.files and not self.rules.allow_empty:
            raise BundleEmpty("Nothing would be left: the whole bundle would have no files.")


class Base(NamedTuple):
    """Where a change takes its other files from: ``deploy``, which is ``None`` if the log has no such version."""

    store: Store
    deployment: str
    deploy: Deploy | None


class _Applied(NamedTuple):
    """What a change made of a base, named by its digest, with the warnings about the files."""

    base: str
    manifest: Manifest
    warnings: tuple[str, ...]


class ChangedContent(Content):
    """The tree of ``base`` without the paths that ``change`` removes, and with the files of ``uploaded``.

    If only one folder is merged, it is what ``base`` has below that, and all paths are relative to it. ``excluded`` are
    paths of the upload that the exclude rules matched, for the error if the digest is another one.
    """

    def __init__(
        self, uploaded: Content, base: Base, change: Change, merging: Merging, excluded: Sequence[str] = ()
    ) -> None:
        self._uploaded = uploaded
        self._base = base
        self._change = change
        self._merging = merging
        self._under = merging.under
        self._excluded = excluded
        self._applied: _Applied | None = None

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
                current = part_of(tree_of(head.bundle, "The current tree"), self._under) if head.bundle else None
                if current is None or current.manifest.digest != self._change.digest:
                    raise
                yield current  # the request is repeated
                return
            base = part_of(tree_of(bundle, "The base"), self._under)
            _, manifest, warnings = self._apply(base.manifest, uploaded.manifest)
            self.known = bundle.manifest  # when it is opened again, it need not be parsed
            if not self._under:
                self._merging.check(manifest)

            def open_content(entry: Entry) -> RangeRead:
                where = uploaded if entry.path in uploaded.manifest.files else base
                return where.open_content(entry)

            yield Tree("The changed tree", manifest, open_content, base.bundles, warnings=warnings)

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

    def _apply(self, base: Manifest, uploaded: Manifest) -> "_Applied":
        """Return what the change makes of ``base``. It is asked for early, and again under the deployment's lock."""
        if self._applied is None or self._applied.base != base.digest:
            manifest = self._changed(base, uploaded)
            warnings = _warnings([self._under + path for path in manifest.files])
            self._applied = _Applied(base.digest, manifest, warnings)
        return self._applied

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


def _warnings(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the warnings that a complete upload of these files would get."""
    return (*name_warnings(paths), *case_collisions(paths), *secret_warnings(paths))


class MergedContent(Content):
    """The current tree, with ``part`` in place of all that it has below the folder that is merged.

    It depends on the deploy that it follows, and is current as soon as the folder is.
    """

    def __init__(self, part: Content, merging: Merging) -> None:
        self._part = part
        self._under = merging.under
        self._merging = merging
        self._part_warnings: tuple[str, ...] = ()

    def again(self, store: Store, deployment: str, digest: str, warnings: tuple[str, ...]) -> Again:  # noqa: ARG002
        """Return what merges the same part anew: the warnings about the merged tree are found again."""
        merging, own = self._merging, self._part_warnings

        def make(when_large: Callable[[], object]) -> Content:
            part = BundleContent(store, deployment, digest, when_large, warnings=own, under=merging.under)
            return MergedContent(part, merging._replace(when_large=when_large))

        return make

    def digest(self) -> str:
        """Return the digest of the part, by paths relative to the folder."""
        return self._part.digest()

    def early(self) -> AbstractContextManager[Tree]:
        """Return the part: all else is current already."""
        return self._part.early()

    def is_current(self, head: Head) -> bool:
        """Return whether the current tree has the part in its folder."""
        return head.bundle is not None and subtree(head.bundle.manifest, self._under).digest == self.digest()

    @contextmanager
    def tree(self, head: Head) -> Iterator[Tree]:
        """Return the merged tree.

        Raises what the part raises, ``StoreDamaged`` if the current tree cannot be read, ``BundleEmpty``, and what
        ``replace_subtree`` raises.
        """
        current = _current_manifest(head)
        with self._part.tree(head) as part:
            self._part_warnings = part.warnings
            manifest = replace_subtree(
                current,
                self._under,
                part.manifest,
                max_files=self._merging.rules.max_files,
                max_expanded_bytes=self._merging.rules.max_expanded_bytes,
            )
            self._merging.check(manifest)

            def open_content(entry: Entry) -> RangeRead:
                if entry.path.startswith(self._under):
                    return part.open_content(entry._replace(path=entry.path[len(self._under) :]))
                return head.bundle.open_content(entry)  # type: ignore[union-attr] # all other files are from it

            tree = Tree("The merged tree", manifest, open_content, part.bundles)
            yield tree._replace(warnings=(*part.warnings, *_dag_warnings(tree, head, self._under)))


def _current_manifest(head: Head) -> Manifest:
    if head.current is None and head.is_newest:
        return EMPTY
    if head.bundle is None or not head.is_newest:
        version = head.current.version if head.current else ""
        what = f"the bundle of version {version}" if head.is_newest else f"entry {head.highest} of the deploy log"
        raise StoreDamaged(
            f"The current tree of {head.deployment} cannot be read ({what}), so no folder of it can be replaced.",
            "Nothing was deployed. Try again in a moment. If the error persists, deploy or roll back all of the tree.",
        )
    return head.bundle.manifest


def _dag_warnings(tree: Tree, head: Head, under: str) -> list[str]:
    """Return a warning for each DAG id, 20 at most, that a file in the folder and one outside of it have."""
    bundles = [bundle for bundle in (head.bundle, *tree.bundles) if bundle]
    shared = shared_dag_ids(ids_by_path(tree, bundles), under)
    return [
        f"The DAG id {each.dag_id!r} is both in {quoted(each.path)} and in {quoted(each.other)}; Airflow shows only "
        "one of these DAGs. Rename one."
        for each in shared[:MAX_WARNINGS]
    ]
