"""What the entries of the tokens file and the issuers file have in common: they grant scopes on deployments."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import check_prefix
from dagferry_server.auth.access import GateLevel, Grant, Scope
from dagferry_server.config.toml_file import Entry

DEPLOYMENT_PATTERN = r"^[a-z0-9*]([a-z0-9*-]{0,61}[a-z0-9*])?$"
DeploymentPattern = Annotated[str, StringConstraints(pattern=DEPLOYMENT_PATTERN)]

MAX_PREFIXES = 100


def parse_prefix(text: str) -> str:
    """Return a folder as the prefix of the paths in it, such as ``team-a/``; ``ValueError`` if it cannot be one."""
    try:
        return check_prefix(text)
    except PathRefused as error:
        raise ValueError(f"a folder such as team-a/ is expected: {error.message}") from error


Prefix = Annotated[str, AfterValidator(parse_prefix)]


class GrantEntry(Entry):
    """An entry that grants scopes on deployments.

    ``prefixes`` and ``gate`` are about deploys, so an entry that allows none must not have them. ``admin`` is about all
    of a deployment, so it must not be limited to folders.
    """

    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    deployments: Annotated[tuple[DeploymentPattern, ...], Field(min_length=1)]
    prefixes: Annotated[tuple[Prefix, ...], Field(min_length=1, max_length=MAX_PREFIXES)] | None = None
    gate: GateLevel | None = None

    @model_validator(mode="after")
    def _check_limits(self) -> "GrantEntry":
        for name in ("prefixes", "gate"):
            if getattr(self, name) and "deploy" not in self.scopes:
                raise ValueError(f"{name} is for deploys, which need the scope 'deploy'")
        if self.prefixes and "admin" in self.scopes:
            raise ValueError("the scope 'admin' cannot be limited to prefixes")
        return self

    @property
    def grant(self) -> Grant:
        """What the entry grants."""
        return Grant(self.scopes, self.deployments, self.prefixes or (), self.gate)
