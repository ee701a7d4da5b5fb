"""The errors of the gate itself. For a file that does not parse there is ``Problem``."""

from dagferry_core.documentation import Audience
from dagferry_core.errors import EXIT_UNAVAILABLE, DagferryError, SetupError


class RuffMissing(SetupError):
    """The gate needs ruff, and it is not installed, too old, or does not start."""

    code = "ruff_missing"
    default_hint = "Install ruff 0.14 or later, for example with: pip install --upgrade ruff."


class CheckFailed(DagferryError):
    """The Python files could not be checked: ruff took too long, was killed, or failed."""

    code = "check_failed"
    exit_code = EXIT_UNAVAILABLE
    audience = Audience.DEPLOYERS
    default_hint = "Try again in a moment."
