"""Checks trees one after another, each compared with what is live: only what changed, or depends on it, is parsed."""

import time
from collections import OrderedDict
from collections.abc import Callable

from dagferry_checker.affected import Sources, to_parse
from dagferry_checker.engine_process import Engine, Heartbeat
from dagferry_checker.judge import Elsewhere, Known, Outcomes, may_pass, problems_of
from dagferry_checker.problems import Report
from dagferry_checker.trees import TreeStore
from dagferry_core.bundle.manifest import Manifest
from dagferry_follow.volume.tree import Tree

MAX_RESULTS = 16
"""The outcomes of how many trees are kept, by their digests: one of these candidates becomes live."""


class Checking:
    """Checks trees with ``engine``, and remembers what it found. ``live`` is what is known of the live tree."""

    def __init__(self, engine: Engine, store: TreeStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._sources = Sources()
        self._results: OrderedDict[str, tuple[Outcomes, Manifest]] = OrderedDict()
        self._candidates: dict[str, str] = {}  # for which candidate a content was parsed last
        self._live_digest = ""
        self.live: Known | None = None

    def knows(self, digest: str) -> bool:
        """Return whether a tree with this content was checked."""
        return digest in self._results

    def make_live(self, digest: str) -> None:
        """Compare with this content, which was checked, from now on."""
        outcomes, _ = self._results[digest]
        if digest != self._live_digest:
            self._live_digest, self.live = digest, Known(outcomes)

    def forget_live(self) -> None:
        """Compare with nothing: nothing is deployed."""
        self._live_digest, self.live = "", None

    def check(
        self,
        tree: Tree,
        heartbeat: Heartbeat = lambda: True,
        elsewhere: Elsewhere | None = None,
        candidate: str = "",
    ) -> Report:
        """Check a tree, and return what it has that is wrong; new is what the live one does not have.

        A content that was checked before is not parsed again, but for files whose fault may have passed, if it is for
        another ``candidate`` than the last time: somebody tries again.

        ``elsewhere`` are the DAG ids of other deployments. Raises ``ImportCheckFailed`` and ``Unwanted``.
        """
        started = self._clock()
        digest = tree.manifest.digest
        parsed = 0
        if digest not in self._results:
            with self._store.showing(tree) as folder:
                outcomes, parsed = self._parse(tree, folder, heartbeat)
            self._results[digest] = outcomes, tree.manifest
            while len(self._results) > MAX_RESULTS:
                oldest = next(known for known in self._results if known != self._live_digest)
                del self._results[oldest]
                self._candidates.pop(oldest, None)
        elif candidate and candidate != self._candidates.get(digest):
            parsed = self._parse_passing(tree, heartbeat)
        if candidate:
            self._candidates[digest] = candidate
        outcomes, _ = self._results[digest]
        problems, unjudged = problems_of(outcomes, self.live, elsewhere)
        dags = sum(len(outcome.dags) for outcome in outcomes.values())
        return Report(problems, unjudged, len(outcomes), parsed, dags, self._clock() - started)

    def _parse_passing(self, tree: Tree, heartbeat: Heartbeat) -> int:
        """Parse the files again whose fault may have passed, but for what is live, which is new to nobody."""
        outcomes, manifest = self._results[tree.manifest.digest]
        live = self.live.outcomes if self.live else {}
        paths = [path for path, found in outcomes.items() if may_pass(found) and live.get(path) is not found]
        if paths:
            with self._store.showing(tree) as folder:
                parsed = self._engine.parse(folder, paths, heartbeat)
            self._results[tree.manifest.digest] = {**outcomes, **parsed}, manifest
        return len(paths)

    def _parse(self, tree: Tree, folder: str, heartbeat: Heartbeat) -> tuple[Outcomes, int]:
        files = self._engine.list_files(folder, heartbeat)
        before: Outcomes = {}
        affected = set(files)
        if self._live_digest:
            before, manifest = self._results[self._live_digest]
            affected = self._sources.affected(manifest, tree.manifest, tree.folder)
        paths = list(to_parse(files, before, affected))
        parsed = self._engine.parse(folder, paths, heartbeat)
        return {path: parsed.get(path) or before[path] for path in files}, len(paths)
