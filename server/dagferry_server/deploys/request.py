"""What somebody asks for with a deploy, whatever its kind and content."""

from collections.abc import Mapping
from typing import NamedTuple

from dagferry_core.deploylog import UPLOAD
from dagferry_core.errors import DagferryError
from dagferry_core.protocol import ALLOW_REMOVALS, OVERRIDE_FREEZE, SKIP_GATE, SKIP_IMPORT_CHECK
from dagferry_gate.check import Verdict
from dagferry_gate.errors import CheckFailed
from dagferry_gate.rules import Rules
from dagferry_server.auth.access import GateLevel
from dagferry_server.deploys.checking import Policy

ANY_VERSION = "any version"
"""In ``DeployRequest.if_match``: any deploy may be the current one, but there has to be one."""


class Checked(NamedTuple):
    """What the gate found before the commit, by ``rules``, in the content that has ``digest``; or how it failed."""

    digest: str
    rules: Rules
    found: Verdict | CheckFailed


class ImportCheck(NamedTuple):
    """How a deploy is checked by importing its DAG files: ``policy`` says what becomes of problems.

    If there will be no new verdict, ``outcome`` is its word in the metrics, and ``why`` the reason. Then a deploy on
    which there is none from before goes live with the warning ``note``, or is rejected with ``error``.
    """

    policy: Policy
    outcome: str = ""
    why: str = ""
    note: str = ""
    error: DagferryError | None = None


class Change(NamedTuple):
    """What the files of an upload are a change of: the version ``base``, without the paths ``removed``.

    ``digest`` is that of the tree that must come out.
    """

    base: str
    digest: str
    removed: tuple[str, ...] = ()


class DeployRequest(NamedTuple):
    """A request for a deploy.

    ``if_match``: one of these versions must be the current one; ``None``: any or none may be. ``dry_run``: nothing is
    stored. ``skip_gate``, ``allow_removals``, ``override_freeze`` and ``skip_import_check`` bypass what blocks a
    deploy: the caller may do that. ``kind``, ``source``, ``under`` and ``git`` are those of the entry that is made.
    ``gate`` is the caller's own level, in place of the deployment's. ``checked`` is added when the content is known;
    ``None``: it was not checked. ``import_check`` is added by the deployment's policy; ``None``: its DAG files are not
    imported first.
    """

    actor: str
    description: str = ""
    if_match: frozenset[str] | None = None
    dry_run: bool = False
    skip_gate: bool = False
    allow_removals: bool = False
    override_freeze: bool = False
    skip_import_check: bool = False
    kind: str = UPLOAD
    source: str = ""
    under: str = ""
    git: Mapping[str, str] | None = None
    gate: GateLevel | None = None
    checked: Checked | None = None
    import_check: ImportCheck | None = None

    @property
    def flags(self) -> list[str]:
        """What the caller wants to bypass, in the words of the deploy log."""
        wanted = {
            SKIP_GATE: self.skip_gate,
            ALLOW_REMOVALS: self.allow_removals,
            OVERRIDE_FREEZE: self.override_freeze,
            SKIP_IMPORT_CHECK: self.skip_import_check,
        }
        return [name for name, is_set in wanted.items() if is_set]
