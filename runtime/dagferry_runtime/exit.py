"""How a command ends: an error becomes one line on stderr and an exit code."""

import sys
from collections.abc import Callable

from dagferry_core.errors import DagferryError


def run(program: str, main: Callable[[], int]) -> int:
    """Run ``main`` and turn an error into one line on stderr and its exit code."""
    try:
        return main()
    except DagferryError as error:
        sys.stderr.write(f"{program}: {error.message} {error.hint}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
