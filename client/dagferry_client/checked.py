"""The type of options whose text a function reads and checks."""

from collections.abc import Callable
from typing import Any

import click


class Checked(click.ParamType):  # type: ignore[type-arg]  # generic only in newer clicks
    """A text that a function reads, which raises ``ValueError`` if it is invalid."""

    name = "text"

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what the function makes of ``value``."""
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
