"""The judge of every deploy: whether Airflow could load its DAG files, and whether too many of them would be gone.

``check_early`` runs before the commit and takes as long as ruff does: it looks at every content that was not looked at
before. The judgement itself comes under the deployment's lock, and by then has little to do: the contents are known,
and for a whole upload even the verdict.

What a level makes of a problem: nothing (off), a warning (warn), a refusal (enforce). If ruff fails, that is a refusal
too at enforce, and a warning at warn. A rollback is never refused, because undoing must work in an emergency, and does
not wait for ruff: it is warned of what is known.
"""

import logging
import time
from collections.abc import Iterable

from dagferry_core.deploylog import ROLLBACK
from dagferry_core.errors import DagferryError
from dagferry_gate.airflowignore import IGNORE_FILE
from dagferry_gate.check import Gate, Verdict
from dagferry_gate.errors import CheckFailed
from dagferry_gate.findings import Problem
from dagferry_gate.rules import Rules
from dagferry_runtime.logs import fields, log_failure
from dagferry_server.auth.access import GateLevel
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.removals import Removals, find_removals
from dagferry_server.deploys.request import Checked, DeployRequest
from dagferry_server.deploys.tree import Tree
from dagferry_server.errors import GateRefused, GateUnavailable, RemovalsRefused, StoreAway, StoreDamaged
from dagferry_server.metrics import Metrics

MAX_SHOWN_PROBLEMS = 3
MAX_SHOWN_PATHS = 5
"""How many problems, and removed files, the message of an error has. Its details have more."""
MAX_WARNED_PROBLEMS = 10
"""How many problems become a warning each."""
MAX_REMOVED_PATHS = 200
"""How many removed files an error lists."""
ALL_PERCENT = 100

_LEFT_OPEN = "Whether this deploy removes DAG files is not known: the bundle of the current deploy cannot be read."
_NONE_LEFT = "No DAG file is left: Airflow will show no DAGs."

log = logging.getLogger(__name__)


class DeployGate:
    """Judges deploys with ``gate``. Called in threads, several at a time."""

    def __init__(self, gate: Gate, metrics: Metrics) -> None:
        self._gate = gate
        self._metrics = metrics

    def looks(self, deployment: Deployment, request: DeployRequest) -> bool:
        """Return whether ``check_early`` is needed."""
        return _level(deployment, request) != "off"

    def check_early(self, deployment: Deployment, tree: Tree, request: DeployRequest) -> Checked:
        """Look at the contents of ``tree``, which is part of what will be judged. Raises what reading it raises."""
        rules = deployment.settings.gate_rules
        started = time.monotonic()
        found = self._check(tree, rules, request)
        seconds = time.monotonic() - started
        self._metrics.gate_seconds.labels(deployment.name).observe(seconds)
        if isinstance(found, CheckFailed):
            log_failure("The DAG files could not be checked", found, deployment=deployment.name)
        else:
            log.info(
                "DAG files checked",
                extra=fields(
                    deployment=deployment.name,
                    digest=tree.manifest.digest,
                    problems=found.problem_count,
                    seconds=round(seconds, 3),
                ),
            )
        return Checked(tree.manifest.digest, rules, found)

    def __call__(self, deployment: Deployment, tree: Tree, old: Tree | None, request: DeployRequest) -> list[str]:
        """Return warnings about ``tree``, which would replace ``old``.

        Raises ``GateRefused``, ``RemovalsRefused``, ``GateUnavailable``, and what reading ``tree`` raises.
        """
        warnings = self._judge_syntax(deployment, tree, request)
        return [*warnings, *self._judge_removals(deployment, tree, old, request)]

    # --- whether it parses -------------------------------------------------------------------------------------------

    def _judge_syntax(self, deployment: Deployment, tree: Tree, request: DeployRequest) -> list[str]:
        level = _level(deployment, request)
        if level == "off":
            return []
        rules = deployment.settings.gate_rules
        found = self._verdict(tree, rules, request)
        if isinstance(found, CheckFailed):
            if level == "enforce":
                self._note(deployment, request, GateUnavailable)
                raise GateUnavailable(f"{found.message} Nothing was deployed to {deployment.name}.") from found
            return [f"Whether the DAG files parse is not known. {found.message}"]
        if level == "enforce" and not found.passed:
            self._note(deployment, request, GateRefused, problems=found.problem_count, first=str(found.problems[0]))
            raise _gate_refused(deployment.name, found, rules)
        return [*_problem_warnings(found, rules), *found.warnings]

    def _verdict(self, tree: Tree, rules: Rules, request: DeployRequest) -> Verdict | CheckFailed:
        checked = request.checked
        if checked and checked.rules == rules:
            # After a failure the rest is not tried under the lock, where others would wait for it.
            is_known = isinstance(checked.found, CheckFailed) or checked.digest == tree.manifest.digest
            if is_known:
                return checked.found
        return self._check(tree, rules, request)

    def _check(self, tree: Tree, rules: Rules, request: DeployRequest) -> Verdict | CheckFailed:
        try:
            return self._gate.check(tree.manifest.files, tree.open_content, rules, only_known=request.kind == ROLLBACK)
        except CheckFailed as error:
            return error
        except OSError as error:  # a full disk, or no process can be started
            return CheckFailed(f"The Python files could not be checked: {error.strerror or error}.")

    # --- how many are gone -------------------------------------------------------------------------------------------

    def _judge_removals(
        self, deployment: Deployment, tree: Tree, old: Tree | None, request: DeployRequest
    ) -> list[str]:
        percent = deployment.settings.max_removed_percent
        if old is None and deployment.current is None:
            return []
        is_guarded = percent != ALL_PERCENT and request.kind != ROLLBACK and not request.allow_removals
        try:
            removals = (
                find_removals(self._gate, old, tree, deployment.settings.gate_rules, request.under) if old else None
            )
        except (StoreAway, StoreDamaged) as error:
            # A bundle that cannot be read must not prevent the deploy of another one.
            log_failure("The DAG files of the current deploy cannot be counted", error, deployment=deployment.name)
            removals = None
        if removals is None:
            return [_LEFT_OPEN] if is_guarded else []
        if is_guarded and removals.exceed(percent):
            self._note(deployment, request, RemovalsRefused, gone=len(removals.gone), before=removals.before)
            raise _removals_refused(deployment.name, removals, percent, request.under)
        if not removals.gone:
            return []
        return [_removals_warning(removals), *([] if removals.left else [_NONE_LEFT])]

    def _note(self, deployment: Deployment, request: DeployRequest, kind: type[DagferryError], **more: object) -> None:
        """Count and log a refusal."""
        if not request.dry_run:
            self._metrics.refusals.labels(deployment.name, kind.code).inc()
        who = {"deployment": deployment.name, "actor": request.actor, "kind": request.kind, "dry_run": request.dry_run}
        log.warning("Deploy refused", extra=fields(**who, code=kind.code, **more))


def _level(deployment: Deployment, request: DeployRequest) -> GateLevel:
    level = request.gate or deployment.settings.gate_level
    if level == "enforce" and (request.skip_gate or request.kind == ROLLBACK):
        return "warn"
    return level


def _problem_warnings(found: Verdict, rules: Rules) -> list[str]:
    warnings = [_sentence(problem, rules) for problem in found.problems[:MAX_WARNED_PROBLEMS]]
    more = found.problem_count - len(warnings)
    return [*warnings, *([f"{more:,} more problems in DAG files."] if more > 0 else [])]


def _sentence(problem: Problem, rules: Rules) -> str:
    is_ignore_file = problem.path.rpartition("/")[2] == IGNORE_FILE
    return f"{problem}." if is_ignore_file else f"{problem}. Python {rules.python} cannot load this DAG file."


def _listed(shown: Iterable[str], count: int, between: str) -> str:
    """Return the first of ``count`` things in words."""
    texts = list(shown)
    more = count - len(texts)
    return between.join([*texts, *([f"and {more:,} more"] if more > 0 else [])])


def _gate_refused(deployment: str, found: Verdict, rules: Rules) -> GateRefused:
    count = found.problem_count
    shown = _listed(map(str, found.problems[:MAX_SHOWN_PROBLEMS]), count, "; ")
    return GateRefused(
        f"Airflow could not load what this would deploy to {deployment}, with Python {rules.python}: {shown}.",
        details={"problems": [problem._asdict() for problem in found.problems], "problem_count": count},
    )


def _removals_warning(removals: Removals) -> str:
    gone, count = removals.gone, len(removals.gone)
    shown = _listed(gone[:MAX_SHOWN_PATHS], count, ", ")
    return (
        f"This deploy removes {count:,} DAG {'file' if count == 1 else 'files'}: {shown}. Runs of "
        f"{'its' if count == 1 else 'their'} DAGs that have begun stop after the tasks that are running, and stay "
        "“running”, until the files are deployed again."
    )


def _removals_refused(deployment: str, removals: Removals, percent: int, under: str) -> RemovalsRefused:
    gone, count = removals.gone, len(removals.gone)
    where = f"{deployment} below {under}" if under else deployment
    return RemovalsRefused(
        f"This deploy would remove or hide {count:,} of the {removals.before:,} DAG files of {where}: "
        f"{_listed(gone[:MAX_SHOWN_PATHS], count, ', ')}. At most {percent} % may go at once (--max-removed-percent).",
        details={"removed_paths": gone[:MAX_REMOVED_PATHS], "removed_count": count},
    )
