"""How a deploy went after the server's answer: whether it is live, and whether Airflow has parsed it, if waited for."""

from typing import NamedTuple

from dagferry_client.airflow_state import Parsed
from dagferry_client.api import Api
from dagferry_client.converge import DEFAULT_WAIT_SECONDS, live_sentence, wait_until_live
from dagferry_client.deploy_log import Deployed
from dagferry_client.errors import ImportErrorsFound, NotConverged
from dagferry_client.output import Output
from dagferry_client.progress import told
from dagferry_client.wait_parsed import ParseWait, older_errors, parsed_sentence
from dagferry_core.errors import DagferryError


class Waits(NamedTuple):
    """How many seconds to wait for what; ``None``: not at all. To wait until it is parsed is to wait until it is live,
    before.
    """

    live: int | None
    parsed: int | None

    @property
    def any(self) -> bool:
        """Whether anything is waited for."""
        return self.live is not None or self.parsed is not None


class Outcome(NamedTuple):
    """``live``: whether it is live in every pod; ``None`` if that was not waited for. ``parsed`` is what Airflow
    reported last. ``error`` is why the wait failed.
    """

    live: bool | None
    parsed: Parsed | None = None
    error: DagferryError | None = None


def wait_for(api: Api, output: Output, deployment: str, deployed: Deployed, waits: Waits) -> Outcome:
    """Wait as ``waits`` says, and print how it goes; the error is returned, not raised."""
    if not waits.any:
        return Outcome(None)
    try:
        with told(output) as say:
            seconds = DEFAULT_WAIT_SECONDS if waits.live is None else waits.live
            status = wait_until_live(api, deployment, deployed, seconds, say)
    except DagferryError as error:
        return Outcome(live=False, error=_named(error, deployed, "whether it is live"))
    if waits.parsed is None:
        output.say(live_sentence(status))
        return Outcome(live=True)
    output.say(live_sentence(status).partition(". ")[0] + ".")
    wait = ParseWait(api, deployment, deployed)
    try:
        with told(output) as say:
            parsed = wait.wait(waits.parsed, say)
    except DagferryError as error:
        _say_older(output, wait.parsed, deployed)
        return Outcome(live=True, parsed=wait.parsed, error=_named(error, deployed, "whether Airflow has parsed it"))
    output.say(parsed_sentence(parsed))
    _say_older(output, parsed, deployed)
    return Outcome(live=True, parsed=parsed)


def _say_older(output: Output, parsed: Parsed | None, deployed: Deployed) -> None:
    for line in older_errors(parsed, deployed) if parsed else []:
        output.say(line)


def _named(error: DagferryError, done: Deployed, what: str) -> DagferryError:
    """Return an error that says that the deploy was made, if it does not say so itself."""
    if isinstance(error, NotConverged | ImportErrorsFound):
        return error
    named = NotConverged(
        f"{done.version} was deployed, but {what} is not known. {error.message}", error.hint, is_known=False
    )
    named.__cause__ = error
    return named
