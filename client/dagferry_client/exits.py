"""The exit codes of ``dagferry``; docs/reference/cli.md and errors.md have this table."""

from dagferry_core.errors import (
    EXIT_IMPORT_ERRORS,
    EXIT_LOCAL,
    EXIT_NOT_ALLOWED,
    EXIT_NOT_CONVERGED,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
)

EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141

EXIT_CODES = {
    0: "It worked.",
    1: "A bug in Dagferry.",
    EXIT_USAGE: "The command was started with wrong settings.",
    EXIT_REFUSED: "The content or the request is rejected.",
    EXIT_NOT_ALLOWED: "It does not exist, or you are not allowed to do or see it.",
    EXIT_UNAVAILABLE: "The server cannot be reached or cannot do it now.",
    EXIT_LOCAL: "A problem of a local file or volume.",
    EXIT_NOT_CONVERGED: "It is deployed, but not live in every pod; or with --wait-parsed, not parsed by Airflow, or "
    "not all of its import errors are known.",
    EXIT_IMPORT_ERRORS: "With --wait-parsed: it is deployed and live, and Airflow reports new import errors.",
    EXIT_INTERRUPTED: "Interrupted with Ctrl-C.",
    EXIT_PIPE_CLOSED: "Nobody reads the output any more, as with `head`.",
}
"""What each one means, for every command; what else it may mean for one is in its ``exits``."""
