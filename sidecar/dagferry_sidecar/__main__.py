"""The command ``dagferry-sidecar``."""

import gc
import os
import sys
from collections.abc import Mapping, Sequence

from dagferry_core.errors import ExtraMissing
from dagferry_runtime.exit import leave, run
from dagferry_sidecar.hints import hint
from dagferry_sidecar.http_client import import_http_client

PROGRAM = "dagferry-sidecar"


def main() -> int:
    """Run the command with the process's arguments and environment, and end the process with its exit code."""
    leave(run(PROGRAM, lambda: _main(sys.argv[1:], os.environ), hint))


def _main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    try:
        # What is imported stays, so looking for garbage in it only takes time.
        gc.disable()
        import_http_client()
        from dagferry_sidecar import service  # noqa: PLC0415 - what it needs may not be installed

        gc.freeze()
        gc.enable()
        return service.main(arguments, environment)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dagferry_"):
            raise
        raise ExtraMissing(
            f"The sidecar needs {error.name}, which is not installed.",
            'Install it with: pip install "dagferry[sidecar]"',
        ) from error


if __name__ == "__main__":
    sys.exit(main())
