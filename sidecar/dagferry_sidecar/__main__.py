"""The command ``dagferry-sidecar``."""

import gc
import os
import sys
from collections.abc import Mapping, Sequence

from dagferry_core.errors import ExtraMissing
from dagferry_runtime.exit import leave, run
from dagferry_sidecar.hints import hint

PROGRAM = "dagferry-sidecar"


def main() -> int:
    """Run the command with the process's arguments and environment, and end the process with its exit code."""
    leave(run(PROGRAM, lambda: _main(sys.argv[1:], os.environ), hint))


def _main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    try:
        # What is imported stays, so looking for garbage in it only takes time.
        gc.disable()
        _import_http_client()
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


def _import_http_client() -> None:
    """Import ``http.client`` without ssl, which is imported where a URL is https (docs/adr/0026)."""
    if "ssl" in sys.modules:
        return
    sys.modules["ssl"] = None  # type: ignore[assignment] # as if this Python had none
    try:
        import http.client  # noqa: F401, PLC0415
    finally:
        del sys.modules["ssl"]


if __name__ == "__main__":
    sys.exit(main())
