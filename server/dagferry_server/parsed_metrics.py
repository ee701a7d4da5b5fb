"""The metrics about what Airflow has read."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from dagferry_server.fleet.parsed import Parsed, ParsedState

REPORT_COUNTED, REPORT_LEFT, REPORT_IGNORED, REPORT_REJECTED = "counted", "left", "ignored", "rejected"
REPORT_OUTCOMES = (REPORT_COUNTED, REPORT_LEFT, REPORT_IGNORED, REPORT_REJECTED)


class ParsedMetrics:
    """Made by ``make`` of ``Metrics``: kind, name, meaning, labels. ``of`` is the label with the deployment."""

    def __init__(self, make: Callable[..., Any], of: str, buckets: tuple[float, ...]) -> None:
        self.reports: Counter = make(
            Counter,
            "reports_total",
            "Reports about what Airflow has read: counted, left (the reporter ends), ignored (another deploy log, or "
            "too many reporters), or rejected (an error).",
            of,
            "outcome",
        )
        self.seconds: Histogram = make(
            Histogram,
            "parsed_seconds",
            "Time from a deploy until Airflow has read all of its files; of deploys that were not superseded before.",
            of,
            buckets=buckets,
        )
        self.state: Gauge = make(
            Gauge,
            "parsed_state",
            "1 for whether Airflow has read the newest deploy, 0 for the others: parsed, parsing or stale. Absent "
            "while nobody reports it, as the next two are.",
            of,
            "state",
        )
        self.import_errors: Gauge = make(Gauge, "import_errors", "Files that Airflow cannot import.", of)
        self.new_import_errors: Gauge = make(
            Gauge, "new_import_errors", "How many of them it could import in an older version.", of
        )

    def start(self, deployment: str) -> None:
        """Show the counters of a deployment from the start, so that their first increase is seen."""
        for outcome in REPORT_OUTCOMES:
            self.reports.labels(deployment, outcome)

    def forget(self, deployment: str) -> None:
        """Stop showing what Airflow has read of a deployment."""
        for state in ParsedState:
            with suppress(KeyError):
                self.state.remove(deployment, state.value)
        for metric in (self.import_errors, self.new_import_errors):
            with suppress(KeyError):
                metric.remove(deployment)

    def show(self, deployment: str, parsed: Parsed | None) -> None:
        """Show what Airflow has read of a deployment; ``None``: nobody reports it."""
        if parsed is None:
            self.forget(deployment)
            return
        for state in ParsedState:
            self.state.labels(deployment, state.value).set(parsed.state is state)
        self.import_errors.labels(deployment).set(parsed.error_count)
        self.new_import_errors.labels(deployment).set(parsed.new_error_count)
