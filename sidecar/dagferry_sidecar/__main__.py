"""The command ``dagferry-sidecar``."""

import os
import sys

from dagferry_core.errors import ExtraMissing
from dagferry_runtime.exit import run

PROGRAM = "dagferry-sidecar"


def main() -> int:
    """Run the command with the process's arguments and environment; return its exit code."""
    return run(PROGRAM, lambda: _main(sys.argv[1:]))


def _main(arguments: list[str]) -> int:
    try:
        from dagferry_sidecar import service  # noqa: PLC0415 - what it needs may not be installed

        return service.main(arguments, os.environ)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dagferry_"):
            raise
        raise ExtraMissing(
            f"The sidecar needs {error.name}, which is not installed.",
            'Install it with: pip install "dagferry[sidecar]"',
        ) from error


if __name__ == "__main__":
    sys.exit(main())
