"""How a failure is logged that the server goes on after: what failed, and why, without a trace of calls."""

import logging

from dagferry_core.errors import DagferryError
from dagferry_runtime.logs import fields

log = logging.getLogger(__name__)


def log_failure(message: str, error: DagferryError, **who: object) -> None:
    """Log that something failed, with the deployment and whatever else ``who`` names."""
    log.error(message, extra=fields(**who, code=error.code, error=error.message))
