"""What decides whether a tree may become current, beside the rules of archives."""

from typing import Protocol

from dagferry_server.deploys.candidates import Candidate
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.request import DeployRequest
from dagferry_server.deploys.tree import Tree


class Judge(Protocol):
    """Called by every commit that would make a new entry, a dry run too, in a thread and under the deployment's lock.

    ``old`` is the tree of the current deploy; ``None`` if there is none, or if its bundle cannot be read.
    """

    def __call__(self, deployment: Deployment, tree: Tree, old: Tree | None, request: DeployRequest) -> list[str]:
        """Return warnings; raise a ``DagferryError`` to refuse the deploy."""


class ImportJudge(Protocol):
    """Asked after the judge, in the same way: whether the DAG files were imported before, and what was found."""

    def judge(self, deployment: Deployment, digest: str, request: DeployRequest) -> list[str] | None:
        """Return warnings, or ``None`` if the content has to be checked first; raise to refuse the deploy."""

    def add(self, deployment: Deployment, digest: str, request: DeployRequest) -> Candidate:
        """Return the candidate of a content whose bundle is stored."""
