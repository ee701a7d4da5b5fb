"""What is live in a deployment: its tree, and what Airflow makes of it."""

from dagferry_checker.checking import Checking
from dagferry_checker.engine_process import Heartbeat
from dagferry_checker.fetching import fetch
from dagferry_checker.judge import Elsewhere
from dagferry_checker.problems import Report
from dagferry_checker.trees import TreeStore
from dagferry_follow.remote.candidates import CheckServer, LiveDeploy
from dagferry_follow.volume.tree import Tree


class Live:
    """What is live in the deployment of ``server``, as far as it was checked; ``None`` if nothing is deployed."""

    def __init__(self, server: CheckServer, checking: Checking, store: TreeStore) -> None:
        self._server = server
        self._checking = checking
        self._store = store
        self.deploy: LiveDeploy | None = None
        self.tree: Tree | None = None

    def become(self, deploy: LiveDeploy, heartbeat: Heartbeat, elsewhere: Elsewhere) -> Report | None:
        """Check what is live now, and compare with it from now on; ``None`` if it is gone.

        ``elsewhere`` are the DAG ids of other deployments. Raises ``SyncError`` and ``Unwanted``.
        """
        have = self.deploy.version if self.deploy else ""
        tree = fetch(
            self._store,
            lambda base: self._server.download(deploy.version, base),
            deploy.digest,
            have,
            self.tree,
        )
        if tree is None:
            return None
        report = self._checking.check(tree, heartbeat, elsewhere)
        self._checking.make_live(deploy.digest)
        self.deploy, self.tree = deploy, tree
        return report

    def forget(self) -> None:
        """Nothing is deployed."""
        self._checking.forget_live()
        self.deploy, self.tree = None, None
