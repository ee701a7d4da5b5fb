"""The deployments beside the one that is checked: the same Airflow shows their DAGs, as its other DAG bundles.

Airflow has one DAG for each id. If two bundles define it, it belongs to the one that was parsed last. So what is live
in these deployments is parsed, too, but only for its DAG ids. One that cannot be read makes no check fail: the log says
so.
"""

import http.client
from collections.abc import Mapping, Sequence

from dagferry_checker.checking import Checking
from dagferry_checker.engine_process import Engine, Heartbeat
from dagferry_checker.errors import ImportCheckFailed
from dagferry_checker.hints import hint
from dagferry_checker.judge import Elsewhere
from dagferry_checker.live import Live
from dagferry_checker.trees import TreeStore
from dagferry_follow.errors import ServerRefused, SyncError
from dagferry_follow.log import Log
from dagferry_follow.remote.candidates import CheckServer, LiveDeploy
from dagferry_follow.volume.tree import Tree
from dagferry_runtime.lines import fields

log = Log(__name__)


class Beside:
    """The deployments beside, each with the server that answers for it, by name."""

    def __init__(self, servers: Mapping[str, CheckServer], engine: Engine, store: TreeStore) -> None:
        self._neighbours = [_Neighbour(name, server, engine, store) for name, server in servers.items()]

    def learn(self, heartbeat: Heartbeat) -> Elsewhere:
        """Return where each DAG id of these deployments is; what changed since the last time is parsed.

        Each costs a request if nothing changed. Raises what ``heartbeat`` does.
        """
        found: dict[str, str] = {}
        for neighbour in self._neighbours:
            neighbour.learn(heartbeat)
            for dag_id, where in neighbour.dags.items():
                found.setdefault(dag_id, where)
        return found

    @property
    def trees(self) -> Sequence[Tree]:
        """The trees that the next patches start from."""
        return [neighbour.live.tree for neighbour in self._neighbours if neighbour.live.tree]


class _Neighbour:
    """One deployment beside. ``dags`` says by DAG id where it is: ``orders.py of the deployment lab``."""

    def __init__(self, name: str, server: CheckServer, engine: Engine, store: TreeStore) -> None:
        self._name = name
        self._server = server
        self._checking = Checking(engine, store)
        self.live = Live(server, self._checking, store)
        self.dags: Elsewhere = {}
        self._tag = ""
        self._failing = ""

    def learn(self, heartbeat: Heartbeat) -> None:
        """Learn the DAG ids again if something else is live. If that fails, those known before stay."""
        try:
            known = self._server.candidates(self._tag, 0, {})
            if known is None:
                return
            self._tag = known.tag
            if known.live != self.live.deploy:
                self._parse(known.live, heartbeat)
            self._failing = ""
        except ImportCheckFailed as error:
            self._fail(error)  # not tried again until something changes there: each attempt may take minutes
        except SyncError as error:
            self._fail(error)
            self._tag = ""
            if isinstance(error, ServerRefused) and error.answered == http.client.NOT_FOUND:
                self._forget()

    def _parse(self, deploy: LiveDeploy | None, heartbeat: Heartbeat) -> None:
        if deploy is None:
            self._forget()
            return
        report = self.live.become(deploy, heartbeat, {})
        outcomes = self._checking.live.outcomes if self._checking.live else {}
        self.dags = {
            dag_id: f"{path} of the deployment {self._name}"
            for path in sorted(outcomes)
            for dag_id in outcomes[path].dags
        }
        if report:
            log.info(
                "The DAG ids of a deployment beside are known",
                extra=fields(
                    deployment=self._name,
                    what=deploy.version,
                    files=report.files,
                    parsed=report.parsed,
                    dags=report.dags,
                    problems=len(report.problems),
                    seconds=round(report.seconds, 2),
                ),
            )

    def _forget(self) -> None:
        self.live.forget()
        self.dags = {}

    def _fail(self, error: SyncError) -> None:
        """Say once what is wrong."""
        self._server.close()
        if error.message != self._failing:
            log.warning(
                "The DAG ids of the deployment %s cannot be read, so duplicates in it may be missed: %s",
                self._name,
                error.message,
                extra=fields(deployment=self._name, code=error.code, hint=hint(error)),
            )
        self._failing = error.message
