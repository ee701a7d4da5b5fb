"""What the entries of the tokens file and the issuers file have in common: they grant scopes on deployments."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from dagferry_core.tokens import DEPLOYMENT_PATTERN, Scope, check_limits, parse_prefix
from dagferry_server.auth.access import GateLevel, Grant
from dagferry_server.config.toml_file import Entry

DeploymentPattern = Annotated[str, StringConstraints(pattern=DEPLOYMENT_PATTERN)]

MAX_PREFIXES = 100
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
        check_limits(self.scopes, prefixes=bool(self.prefixes), gate=bool(self.gate))
        return self

    @property
    def grant(self) -> Grant:
        """What the entry grants."""
        return Grant(self.scopes, self.deployments, self.prefixes or (), self.gate)
