"""The command ``dagferry``: imports its libraries and runs the command."""

import sys

from dagferry_core.errors import ExtraMissing
from dagferry_runtime.exit import run

PROGRAM = "dagferry"


def main() -> int:
    """Run the command with the process's arguments and environment; return its exit code."""
    return run(PROGRAM, lambda: _main(sys.argv[1:]))


def _main(arguments: list[str]) -> int:
    try:
        from dagferry_client import app  # noqa: PLC0415 - what it needs may not be installed

        return app.main(arguments)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dagferry_"):
            raise
        raise ExtraMissing(
            f"The command needs {error.name}, which is not installed.",
            'Install it with: pip install "dagferry[client]"',
        ) from error


if __name__ == "__main__":
    sys.exit(main())
