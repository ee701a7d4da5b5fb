"""``--wait``: waits until a deploy is live in every pod, and says what keeps it from being so.

Only the state ``HEALTHY`` with exactly this version ends the wait with success; that a server knows no pod is never a
success. A server that does not answer in between is asked again until the time is over.
"""

import re
import time
from collections.abc import Callable
from typing import Any

import click

from dagferry_client.api import Api, Status
from dagferry_client.deploy_log import Deployed
from dagferry_client.errors import NotConverged
from dagferry_client.output import MAX_LISTED
from dagferry_client.poll import Poll
from dagferry_client.run import OptionalValue

DEFAULT_WAIT_SECONDS = 60
DEFAULT_WAIT = f"{DEFAULT_WAIT_SECONDS}s"
MAX_WAIT_LIMIT_SECONDS = 3600
WARM_UP_SECONDS = 80
"""How much longer the wait is while the state is unknown although pods are known: the server has just started, and must
have heard from all of them after 75 s; or one of several servers does not answer, which may be starting."""
HEALTHY, UNKNOWN = "HEALTHY", "UNKNOWN"
LIVE = "live"
_UNITS = {"": 1, "s": 1, "m": 60}
_DURATION = re.compile(r"([0-9]{1,6})([sm]?)")


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic only in newer clicks
    """A time such as ``60``, ``60s`` or ``5m``, as whole seconds."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds that ``value`` is."""
        match = _DURATION.fullmatch(str(value))
        seconds = int(match[1]) * _UNITS[match[2]] if match else 0
        if not 1 <= seconds <= MAX_WAIT_LIMIT_SECONDS:
            self.fail(f"{value!r} is not a time from 1s to {MAX_WAIT_LIMIT_SECONDS // 60}m, such as 60s.", param, ctx)
        return seconds


wait_option = click.option(
    "--wait",
    cls=OptionalValue,
    bare=DEFAULT_WAIT,
    type=Seconds(),
    metavar="[=TIME]",
    help=f"Wait until it is live in every pod, for at most this time ({DEFAULT_WAIT}, or such as --wait=5m).",
)
"""The option of all commands that can wait; its value is in whole seconds, ``None`` without it."""


def wait_until_live(
    api: Api, deployment: str, deployed: Deployed, seconds: float, say: Callable[[str], None]
) -> Status:
    """Wait until what was deployed is live in every pod; return the status that shows it.

    ``say`` gets a sentence whenever something changes. Raises ``NotConverged`` after ``seconds``, or
    ``WARM_UP_SECONDS`` later if the server has just started, and as soon as there is a newer deploy; the error of the
    request if the server does not answer at the end, or refuses to.
    """
    poll, said = Poll(api, deployment), ""
    until = time.monotonic() + seconds
    is_longer = False
    while True:
        asked = time.monotonic()
        status = poll.ask(until - asked)
        if status and status.sequence > deployed.sequence:
            raise _superseded(deployment, deployed.version, status)
        if status and status.state == HEALTHY and status.version == deployed.version and status.counts.live:
            return status
        if status and (now_said := progress(status, deployed.version)) != said:
            say(now_said)
            said = now_said
        now = time.monotonic()
        if not is_longer and until <= now and _is_warming_up(poll.status):
            is_longer, until, seconds = True, until + WARM_UP_SECONDS, seconds + WARM_UP_SECONDS
            say(f"Not all pods are known yet: waiting for up to {WARM_UP_SECONDS} s more.")
        left = until - now
        if left <= 0:
            raise poll.error or _not_live(deployment, deployed.version, poll.status, seconds)
        if pause := poll.pause(now - asked, left):
            time.sleep(pause)


def _is_warming_up(status: Status | None) -> bool:
    """Return whether the server knows some pods, but not yet whether these are all."""
    return status is not None and status.state == UNKNOWN and status.counts.known > 0


def progress(status: Status, version: str) -> str:
    """Return one sentence about how far the fleet is."""
    if status.version != version:
        return f"The server does not show {version} yet."
    asked, answered = status.servers
    servers = f" Only {answered} of {asked} servers answered." if answered < asked else ""
    if not status.counts.known:
        return f"No pod is known yet.{servers}"
    kinds = {"behind": status.counts.behind, "failing": status.counts.failing, "lost": status.counts.lost}
    more = "".join(f", {number} {name}" for name, number in kinds.items() if number)
    return f"{status.state}: {status.counts.live} of {status.counts.known} pods live{more}.{servers}"


def live_sentence(status: Status) -> str:
    """Return what to say when a deploy is live."""
    pods = f"all {status.counts.live} pods" if status.counts.live != 1 else "the only pod"
    return (
        f"{status.version} is live in {pods}. Airflow shows changed DAGs when its DAG processor has parsed the files."
    )


def _superseded(deployment: str, version: str, status: Status) -> NotConverged:
    return NotConverged(
        f"{version} was deployed to {deployment}, but {status.version} was deployed after it.",
        "See by whom: dagferry history",
    )


def _not_live(deployment: str, version: str, status: Status | None, seconds: float) -> NotConverged:
    said = f"{version} was deployed to {deployment}, but is not live in every pod after {seconds:.0f} s"
    if status is None or (not status.counts.known and status.servers.answered == status.servers.asked):
        return NotConverged(
            f"{said}: no pod is known.",
            "Does a sidecar or a DAG bundle follow this deployment of this server? See: dagferry status",
            is_known=False,
        )
    late = [sidecar for sidecar in status.sidecars if sidecar.state != LIVE or sidecar.live != version]
    named = [f"{one.instance} ({one.state}{': ' + one.error if one.error else ''})" for one in late[:MAX_LISTED]]
    more = f" and {len(late) - MAX_LISTED} more" if len(late) > MAX_LISTED else ""
    pods = f" {', '.join(named)}{more}." if named else ""
    return NotConverged(f"{said}: {status.reason}{pods}", is_known=status.state != UNKNOWN)
