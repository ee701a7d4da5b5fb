"""``dagferry doctor``: what is wrong between this machine and a deployment, and how to mend it."""

from typing import NamedTuple

from dagferry_client.doctor import NAMES, Check, Examination
from dagferry_client.output import Styled
from dagferry_client.run import Run, sub_command

_STYLES = {"ok": "green", "warning": "bold yellow", "failed": "bold red", "skipped": "dim"}
_WIDTHS = max(map(len, _STYLES)), max(map(len, NAMES))


class Report(NamedTuple):
    """What was examined; ``ok`` is false if a check failed. Warnings are not failures."""

    ok: bool
    server: str
    deployment: str
    checks: list[Check]


@sub_command(
    examples=("dagferry doctor", "dagferry doctor --server https://dags.example.com -d prod", "dagferry doctor --json"),
    prints=(Report,),
    exits={0: "No check failed; there may be warnings."},
)
def command(run: Run) -> int:
    """Find out what is wrong with the connection or the token.

    Checks settings, DNS, proxy, connection, TLS, server, clock, token, scopes and limits, in this order. The first one
    that fails says what to do, and decides the exit code.
    """
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


def _show(run: Run, check: Check) -> None:
    state = Styled(check.state, _STYLES[check.state])
    run.output.row((state, check.name, f"{check.message} {check.hint}".rstrip()), _WIDTHS)
