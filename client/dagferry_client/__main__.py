"""The command ``dagferry``: imports its libraries and runs the command."""

import gc
import sys

from dagferry_core.errors import ExtraMissing
from dagferry_runtime.exit import run

PROGRAM = "dagferry"
GC_OBJECTS = 50_000
"""After how many new objects unreachable ones are looked for. Python's 700 cost 10 ms, mostly as modules load."""


def main() -> int:
    """Run the command with the process's arguments and environment; return its exit code."""
    return run(PROGRAM, lambda: _main(sys.argv[1:]))


def _main(arguments: list[str]) -> int:
    gc.set_threshold(GC_OBJECTS, *gc.get_threshold()[1:])
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
