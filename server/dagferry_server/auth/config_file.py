"""The TOML files that control access: how they are parsed, and what their entries have in common."""

import sys
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dagferry_core.errors import SetupError
from dagferry_server.auth.access import Grant, Scope

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEPLOYMENT_PATTERN = r"^[a-z0-9*]([a-z0-9*-]{0,61}[a-z0-9*])?$"
DeploymentPattern = Annotated[str, StringConstraints(pattern=DEPLOYMENT_PATTERN)]

ModelType = TypeVar("ModelType", bound=BaseModel)


class Entry(BaseModel):
    """What all tables of these files share: unknown keys are errors, and errors never show values."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class GrantEntry(Entry):
    """An entry that grants scopes on deployments."""

    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    deployments: Annotated[tuple[DeploymentPattern, ...], Field(min_length=1)]

    @property
    def grant(self) -> Grant:
        """What the entry grants."""
        return Grant(self.scopes, self.deployments)


def parse_toml(data: bytes, what: str) -> dict[str, Any]:
    """Return the tables of ``what`` (the name of the file in errors); raise ``SetupError`` if it is not valid TOML."""
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # includes invalid UTF-8
        raise SetupError(f"{what} is not valid TOML: {error}.") from None


def checked(model: type[ModelType], tables: dict[str, Any], what: str) -> ModelType:
    """Return ``tables`` as a ``model``; raise ``SetupError`` with one line that names the wrong keys and why."""
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        errors_found = "; ".join(
            ".".join(str(step) for step in found["loc"]) + ": " + found["msg"].removeprefix("Value error, ")
            for found in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise SetupError(f"{what} cannot be used: {errors_found}.") from None
