"""Waits until every pod has a deploy live, and says what it waits for.

Success needs the server's word that all known pods have exactly this version. Everything else fails: a fleet that needs
longer, a later deploy, no pod at all, a server that no longer answers. Whether Airflow has parsed the files is another
question, and is said to be one.
"""

import math
import re
import time
from collections.abc import Callable
from typing import NamedTuple

import click

from dagferry_client.api import Api, Status
from dagferry_client.errors import ClientError, NotConverged
from dagferry_client.output import Output
from dagferry_client.progress import progress
from dagferry_client.run import OptionalValue
from dagferry_core.protocol import MAX_WAIT_SECONDS
from dagferry_follow.errors import AnswerInvalid, ProxyFailed, ServerUnreachable

DEFAULT_WAIT = "60s"
MAX_CONVERGE_SECONDS = 3600
SAY_SECONDS = 2.0
"""How often a change of the numbers alone is said, where there is no terminal: a fleet may have 1,000 pods."""
PAUSE_SECONDS = 1.0
"""The pause after an answer without news that came at once: something on the way does not let the server wait."""
NAMED_PODS = 5
"""How many pods that lack the deploy are named."""
NOT_PARSED = (
    "Live means that the files are there. Airflow parses them within seconds after that, or reports import errors."
)
_HEALTHY = "HEALTHY"
_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


class Awaited(NamedTuple):
    """The deploy that is waited for."""

    deployment: str
    version: str
    sequence: int


class _Duration(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4 alone
    """A time such as ``90``, ``60s`` or ``5m``, in seconds."""

    name = "duration"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"([0-9]{1,6})(s|m|min|h|)", str(value))
        seconds = int(match[1]) * _UNITS[match[2]] if match else 0
        if not 0 < seconds <= MAX_CONVERGE_SECONDS:
            self.fail(f"{value!r} is not a time such as 60s or 5m, of at most 1h.", param, ctx)
        return seconds


WAIT_OPTION = click.option(
    "--wait",
    "wait_seconds",
    type=_Duration(),
    cls=OptionalValue,
    bare=DEFAULT_WAIT,
    metavar="[=TIME]",
    help=f"Wait until every pod has it live, up to TIME (default {DEFAULT_WAIT}); fail if that does not happen.",
)
"""``--wait`` and ``--wait=5m``: ``wait_seconds`` is an ``int``, or ``None``."""


def wait_until_live(api: Api, deploy: Awaited, seconds: int, output: Output) -> Status:
    """Return the status with which every pod has ``deploy``; raise ``NotConverged`` if that is not within ``seconds``.

    Says what changes on stderr: on a terminal in one line.
    """
    began = time.monotonic()
    with progress(output, 1) as advance:
        if advance:
            show: Callable[[Status], None] = lambda status: advance(_share(status), _sentence(status))  # noqa: E731
        else:
            show = _Sayer(output).show
        status = _wait(api, deploy, began + seconds, seconds, show)
    pods = status.counts.live
    output.say(f"Live in {_all(pods)}, after {time.monotonic() - began:.1f} s. {NOT_PARSED}")
    return status


def _wait(api: Api, deploy: Awaited, until: float, seconds: int, show: Callable[[Status], None]) -> Status:
    tag, last = "", None
    while True:
        left = until - time.monotonic()
        wait = min(MAX_WAIT_SECONDS, math.ceil(left)) if tag and left > 0 else 0
        asked = time.monotonic()
        try:
            status, tag = api.status(deploy.deployment, tag=tag, wait=wait)
        except (ClientError, ServerUnreachable, ProxyFailed, AnswerInvalid) as error:
            raise NotConverged(
                f"{deploy.version} was deployed, but whether it is live is not known: {error.message}", error.hint
            ) from error
        if status:
            last = status
            if status.sequence > deploy.sequence:
                raise NotConverged(
                    f"{deploy.version} was superseded by {status.version} before every pod had it.",
                    "Somebody else deployed. See what: dagferry history",
                )
            if status.version == deploy.version and status.state == _HEALTHY and status.counts.live:
                return status
            show(status)
        now = time.monotonic()
        if now >= until:
            raise NotConverged(_failure(deploy, last, seconds))
        if status is None and now - asked < PAUSE_SECONDS:
            time.sleep(PAUSE_SECONDS)


class _Sayer:
    """Says what changes, as sentences."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said = ("", "")
        self._at = -math.inf

    def show(self, status: Status) -> None:
        now, said = time.monotonic(), (status.state, _sentence(status))
        if said == self._said or (said[0] == self._said[0] and now < self._at + SAY_SECONDS):
            return
        self._output.say(said[1])
        self._said, self._at = said, now


def _share(status: Status) -> float:
    return status.counts.live / max(status.counts.known, 1)


def _sentence(status: Status) -> str:
    if not status.counts.known:
        return f"Waiting for a pod to appear: {status.reason}"
    return f"Live in {status.counts.live} of {status.counts.known} pods. {status.reason}"


def _failure(deploy: Awaited, status: Status | None, seconds: int) -> str:
    """Return why waiting ended; ``status`` is the last one that is known."""
    was = f"{deploy.version} was deployed, but"
    if status is None or status.version != deploy.version:
        return f"{was} after {seconds} s the server's status does not show it."
    if not status.counts.known:
        return f"{was} no pod of {deploy.deployment} is known, so nothing is known to be live."
    lacking = [f"{pod.instance} ({pod.error or pod.state})" for pod in status.sidecars if pod.state != "live"]
    named = ", ".join(lacking[:NAMED_PODS]) + (f" and {len(lacking) - NAMED_PODS} more" * (len(lacking) > NAMED_PODS))
    return (
        f"{was} after {seconds} s {deploy.deployment} is {status.state}, with {status.counts.live} of "
        f"{status.counts.known} pods live. {status.reason}" + (f" Not live: {named}." if named else "")
    )


def _all(pods: int) -> str:
    return "the only pod" if pods == 1 else f"all {pods} pods"
