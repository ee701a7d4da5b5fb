"""Refused reads in the log: one line for each caller and error in a minute, and how many more there were.

A sidecar that is refused asks again and again, and a stranger may ask as often as they like. What they can make the
server log and remember is bounded.
"""

import logging

from dagferry_runtime.logs import fields
from dagferry_server.log_limit import Key, LogLimit

MAX_INSTANCES = 1000
"""Names of sidecars that are remembered until the minute is over."""
MAX_SHOWN_INSTANCES = 20

log = logging.getLogger(__name__)


class Refusals:
    """The refusals of a server. Callers are told apart by their name, or by their address if they have none."""

    def __init__(self) -> None:
        self._limit = LogLimit(1, self._summarize)
        self._instances: dict[Key, dict[str, None]] = {}
        self._known = 0  # of them all

    def log(self, caller: str, outcome: str, instance: str, **more: object) -> None:
        """Note that a request of ``caller`` was refused with ``outcome``, the code of an error.

        ``instance`` is the sidecar that the request says it is from, if any; ``more`` is for the line.
        """
        key = (caller, outcome)
        if self._limit.says(key):
            log.warning("Request refused", extra=fields(outcome=outcome, instance=instance, **more))
        known = self._instances.setdefault(key, {}) if instance and self._known < MAX_INSTANCES else None
        if known is not None and instance not in known:
            known[instance] = None
            self._known += 1

    def flush(self) -> None:
        """Log what was left unsaid so far."""
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
                    left_unsaid=count,
                    instances=len(instances),
                    first_instances=", ".join(instances[:MAX_SHOWN_INSTANCES]),
                ),
            )
        self._instances.clear()
        self._known = 0
