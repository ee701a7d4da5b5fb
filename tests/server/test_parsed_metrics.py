"""What Airflow has read is a series only while somebody reports it."""

from types import SimpleNamespace

from prometheus_client import generate_latest

from dagferry_core.limits import UploadLimit
from dagferry_server.fleet.parsed import ParsedState
from dagferry_server.metrics import Metrics
from dagferry_server.parsed_metrics import REPORT_OUTCOMES


def samples(metrics: Metrics) -> dict[str, float]:
    """The values of the samples of ``prod``."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if 'deployment="prod"' in line}


def test_a_deployment_that_nobody_reports_has_counters_alone() -> None:
    metrics = Metrics(UploadLimit(0, "", ""))
    metrics.parsed.start("prod")
    metrics.parsed.show("prod", None)
    found = {name for name in samples(metrics) if "_created" not in name}
    assert found == {
        f'dagferry_server_reports_total{{deployment="prod",outcome="{outcome}"}}' for outcome in REPORT_OUTCOMES
    }


def test_the_state_and_the_errors_are_shown_and_forgotten() -> None:
    metrics = Metrics(UploadLimit(0, "", ""))
    parsed = SimpleNamespace(state=ParsedState.STALE, error_count=3, new_error_count=1)
    metrics.parsed.show("prod", parsed)
    assert samples(metrics) == {
        'dagferry_server_parsed_state{deployment="prod",state="parsed"}': 0,
        'dagferry_server_parsed_state{deployment="prod",state="parsing"}': 0,
        'dagferry_server_parsed_state{deployment="prod",state="stale"}': 1,
        'dagferry_server_import_errors{deployment="prod"}': 3,
        'dagferry_server_new_import_errors{deployment="prod"}': 1,
    }
    metrics.forget("prod")
    assert samples(metrics) == {}
