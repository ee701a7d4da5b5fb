"""The command ``dagferry-checker``."""

import os
import sys
from collections.abc import Mapping, Sequence

from dagferry_checker.hints import hint
from dagferry_core.errors import ExtraMissing
from dagferry_runtime.exit import leave, run

PROGRAM = "dagferry-checker"


def main() -> int:
    """Run the command with the process's arguments and environment, and end the process with its exit code."""
    leave(run(PROGRAM, lambda: _main(sys.argv[1:], os.environ), hint))


def _main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    try:
        from dagferry_checker import service  # noqa: PLC0415 - what it needs may not be installed
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dagferry_"):
            raise
        raise ExtraMissing(
            f"The checker needs {error.name}, which is not installed.",
            'Install it into Airflow\'s environment with: pip install "dagferry[checker]"',
        ) from error
    return service.main(arguments, environment)


if __name__ == "__main__":
    sys.exit(main())
