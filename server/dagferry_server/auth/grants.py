"""What the entries of the tokens file and the issuers file have in common: they grant scopes on deployments."""

from typing import Annotated

from pydantic import Field, StringConstraints

from dagferry_server.auth.access import Grant, Scope
from dagferry_server.config.toml_file import Entry

DEPLOYMENT_PATTERN = r"^[a-z0-9*]([a-z0-9*-]{0,61}[a-z0-9*])?$"
DeploymentPattern = Annotated[str, StringConstraints(pattern=DEPLOYMENT_PATTERN)]


class GrantEntry(Entry):
    """An entry that grants scopes on deployments."""

    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    deployments: Annotated[tuple[DeploymentPattern, ...], Field(min_length=1)]

    @property
    def grant(self) -> Grant:
        """What the entry grants."""
        return Grant(self.scopes, self.deployments)
