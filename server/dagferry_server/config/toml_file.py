"""TOML files: how they are parsed, and what their entries have in common."""

import sys
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from dagferry_core.errors import SetupError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ModelType = TypeVar("ModelType", bound=BaseModel)


class Entry(BaseModel):
    """What all tables of these files share: unknown keys are errors, and errors never show values."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


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
