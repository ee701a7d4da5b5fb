"""Rejected reads in the log: one line a minute for each caller and error, and how many more there were.

A rejected sidecar keeps trying, and anybody can send requests. What they can make the server log and remember is
bounded.
"""

import logging

from dagferry_runtime.logs import fields
from dagferry_server.log_limit import Key, LogLimit

MAX_INSTANCES = 1000
"""Names of sidecars remembered until the minute is over."""
MAX_SHOWN_INSTANCES = 20

log = logging.getLogger(__name__)


class RejectedReads:
    """The rejected reads of a server. Callers are identified by their name, or by their address if they have none."""

    def __init__(self) -> None:
        self._limit = LogLimit(1, self._summarize)
        self._instances: dict[Key, dict[str, None]] = {}
        self._known = 0  # in total

    def log(self, caller: str, outcome: str, instance: str, **more: object) -> None:
        """Record that a request of ``caller`` was rejected with ``outcome``, the code of an error.

        ``instance`` is the sidecar that the request names, if any; ``more`` are further fields of the line.
        """
        key = (caller, outcome)
        if self._limit.allows(key):
            log.warning("Request refused", extra=fields(outcome=outcome, instance=instance, **more))
        known = self._instances.setdefault(key, {}) if instance and self._known < MAX_INSTANCES else None
        if known is not None and instance not in known:
            known[instance] = None
            self._known += 1

    def flush(self) -> None:
        """Log the summary of what was suppressed so far."""
        self._limit.flush()

    def _summarize(self, left: dict[Key, int]) -> None:
        for key, count in left.items():
            caller, outcome = key
            instances = list(self._instances.get(key, ()))
            log.warning(
                "Requests refused",
                extra=fields(
                    caller=caller,
                    outcome=outcome,
                    suppressed=count,
                    instances=len(instances),
                    first_instances=", ".join(instances[:MAX_SHOWN_INSTANCES]),
                ),
            )
        self._instances.clear()
        self._known = 0
