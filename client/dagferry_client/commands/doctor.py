"""``dagferry doctor``: what is wrong between this machine and a deployment, and how to mend it."""

from typing import NamedTuple

import click

from dagferry_client.doctor import NAMES, Check, Examination
from dagferry_client.output import Styled
from dagferry_client.run import Run, sub_command
from dagferry_core.errors import EXIT_REFUSED, SetupError

_STYLES = {"ok": "green", "warning": "bold yellow", "failed": "bold red", "skipped": "dim"}
_WIDTHS = max(map(len, _STYLES)), max(len("dag-processor"), *map(len, NAMES))


class Report(NamedTuple):
    """What was examined; ``ok`` is false if a check failed. Warnings are not failures."""

    ok: bool
    server: str
    deployment: str
    checks: list[Check]


@sub_command(
    click.option(
        "--values",
        "values_files",
        metavar="FILE",
        multiple=True,
        help="Check values for Airflow's official chart instead, as given to helm -f, in that order; - is stdin.",
    ),
    click.option("--chart-version", metavar="VERSION", help="The version of that chart, such as 1.22.0."),
    examples=(
        "dagferry doctor",
        "dagferry doctor --server https://dags.example.com -d prod",
        "dagferry doctor --json",
        "dagferry doctor --values sidecar.yaml --values mine.yaml --chart-version 1.22.0",
    ),
    prints=(Report,),
    exits={0: "No check failed; there may be warnings.", EXIT_REFUSED: "A check of --values failed."},
)
def command(run: Run, values_files: tuple[str, ...], chart_version: str | None) -> int:
    """Find out what is wrong with the connection or the token.

    Checks settings, DNS, proxy, connection, TLS, server, clock, token, scopes and limits, in this order. The first one
    that fails says what to do, and decides the exit code.

    With --values no server is asked. It checks what Helm installs without a word: which chart and Airflow this is for,
    the folder that Airflow reads, and whether dag-processor, scheduler, triggerer, workers and task-pods get the DAGs.
    """
    if values_files:
        return _values(run, values_files, chart_version)
    if chart_version:
        raise SetupError("--chart-version is for --values.", "Give --values FILE too.")
    examination = Examination(lambda: run.target, run.output.say)
    checks = []
    for check in examination.checks():
        checks.append(check)
        if not run.output.json_wanted:
            _show(run, check)
    if run.output.json_wanted:
        target = examination.target
        found = (target.server, target.deployment) if target else ("", "")
        run.output.json(Report(examination.error is None, *found, checks))
    return examination.error.exit_code if examination.error else 0


def _values(run: Run, files: tuple[str, ...], chart_version: str | None) -> int:
    from dagferry_client.airflow_chart import Setup, parse_version, read_values  # noqa: PLC0415 - hardly any run needs it
    from dagferry_client.airflow_doctor import examine  # noqa: PLC0415

    version = parse_version(chart_version) if chart_version else None
    checks = list(examine(Setup(read_values(files), version)))
    ok = all(check.state != "failed" for check in checks)
    if run.output.json_wanted:
        run.output.json(Report(ok, "", "", checks))
    else:
        for check in checks:
            _show(run, check)
    return 0 if ok else EXIT_REFUSED


def _show(run: Run, check: Check) -> None:
    state = Styled(check.state, _STYLES[check.state])
    run.output.row((state, check.name, f"{check.message} {check.hint}".rstrip()), _WIDTHS)
