"""``dagferry status``: whether every pod has the newest deploy, and which one has not, and why."""

import functools
import sys
import time
from typing import NamedTuple

import click

from dagferry_client.airflow_view import airflow_lines, in_short
from dagferry_client.api import Sidecar, Status
from dagferry_client.output import Cell, Output, View, ago, utc
from dagferry_client.run import Run, sub_command
from dagferry_client.states import notes, styled
from dagferry_core.errors import SetupError
from dagferry_core.protocol import MAX_WAIT_SECONDS

WATCH_REPEAT_SECONDS = 300.0
"""How long ``--watch`` goes on asking a server that does not answer."""


class Statuses(NamedTuple):
    """What ``--all`` prints."""

    deployments: list[Status]


@sub_command(
    click.option("-w", "--watch", is_flag=True, help="Show each change as it happens, until Ctrl-C."),
    click.option("-a", "--all", "all_deployments", is_flag=True, help="One line for each deployment of the server."),
    examples=("dagferry status -d prod", "dagferry status --watch", "dagferry status --all --json"),
    prints=(Status, Statuses),
)
def command(run: Run, *, watch: bool, all_deployments: bool) -> None:
    """Show whether every pod has the newest deploy.

    Where Airflow reports it, also what it has parsed, which versions are kept for runs, and what was checked before.

    The exit code is 0 whatever the state is. With --watch and --json, each change is one line of JSON.
    """
    if all_deployments:
        if watch:
            raise SetupError(
                "--watch and --all were both given.", "Watch one deployment: dagferry status --watch -d NAME."
            )
        _show_all(run)
    elif watch:
        _watch(run)
    else:
        status, _ = run.api.status(run.deployment)
        assert status is not None  # noqa: S101 - without a tag there is no 304
        if run.output.json_wanted:
            run.output.json(status)
        else:
            run.output.view(view_of(status, time.time()))


def _watch(run: Run) -> None:
    """Show the status and each change of it: redrawn on a terminal, elsewhere a line for each."""
    deployment, output, tag, wait = run.deployment, run.output, "", 0
    with output.redrawn() as redraw:
        while True:
            status, tag = run.api.status(deployment, tag=tag, wait=wait, repeat_seconds=WATCH_REPEAT_SECONDS)
            wait = MAX_WAIT_SECONDS
            if status is None:
                continue
            if output.json_wanted:
                output.json_line(status)
            elif redraw:
                redraw(functools.partial(_watched, status, time.time()))
            else:
                _show_line(output, status)


def _show_line(output: Output, status: Status) -> None:
    more = " ".join((status.reason, *in_short(status), *notes(status.disabled, status.frozen)))
    output.line(f"{status.deployment}: {status.state} {_pods(status)} pods live. {more} ({utc(time.time())})")
    sys.stdout.flush()


def _pods(status: Status) -> str:
    return f"{status.counts.live} of {status.counts.known}"


def _watched(status: Status, received: float) -> View:
    """Return what is shown of a status that was ``received`` then: first the pods that are not live, for there may not
    be room for all of them.
    """
    sidecars = sorted(status.sidecars, key=lambda sidecar: sidecar.state == "live")
    view = view_of(status._replace(sidecars=sidecars), received)
    last = (f"{_pods(status)} pods live; unchanged since {utc(received)}. Ctrl-C ends this.",)
    return view._replace(lines=[*view.lines, last])


def view_of(status: Status, now: float) -> View:
    """Return what is shown of a status; ``now`` is when it was received (seconds since the epoch)."""
    lines: list[tuple[Cell, ...]] = [(f"{status.deployment}: ", styled(status.state), f" {status.reason}")]
    if status.version and status.deployed_at is not None:
        lines.append((f"{status.version}, deployed {ago(status.deployed_at)} ({utc(status.deployed_at)})",))
    lines += [(note,) for note in notes(status.disabled, status.frozen)]
    if status.servers.answered < status.servers.asked:
        lines.append((f"Only {status.servers.answered} of {status.servers.asked} servers answered.",))
    if status.expected:
        wanted = ", ".join(f"{number} {component}" for component, number in status.expected.items())
        lines.append((f"Expected: {wanted}",))
    lines += airflow_lines(status, now)
    if not status.sidecars:
        return View(lines)
    head = ["POD", "COMPONENT", "STATE", "LIVE", "SEEN", "LAG", "ERROR"]
    rows = [_row(sidecar, now) for sidecar in status.sidecars]
    if any(sidecar.in_use for sidecar in status.sidecars):
        head.insert(-1, "TREES IN USE")
        for row, sidecar in zip(rows, status.sidecars, strict=True):
            row.insert(-1, str(sidecar.in_use))
    return View(lines, head, rows)


def _row(sidecar: Sidecar, now: float) -> list[Cell]:
    return [
        sidecar.instance,
        sidecar.component or "-",
        styled(sidecar.state),
        sidecar.live or "-",
        ago(sidecar.seen, now),
        f"{sidecar.lag_seconds:.0f} s" if sidecar.lag_seconds else "-",
        sidecar.error or "",
    ]


def _show_all(run: Run) -> None:
    found = [run.api.status(one.name)[0] for one in run.api.deployments()]
    statuses = [status for status in found if status is not None]
    if run.output.json_wanted:
        run.output.json(Statuses(statuses))
        return
    run.output.table(
        ("DEPLOYMENT", "STATE", "PODS LIVE", "VERSION", "DEPLOYED", "REASON"),
        [
            (
                status.deployment,
                styled(status.state),
                _pods(status),
                status.version or "-",
                ago(status.deployed_at) if status.version and status.deployed_at is not None else "-",
                " ".join([status.reason, *in_short(status), *notes(status.disabled, status.frozen)]),
            )
            for status in statuses
        ],
    )
