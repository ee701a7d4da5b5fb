"""Which deploy is taken, and how. As pure as ``decide``."""

from dagferry_core.errors import DagferryError
from dagferry_follow.errors import AwaitingFirstDeploy, SequenceRegressed
from dagferry_follow.remote.server import PATCH, WHOLE
from dagferry_follow.volume.records import DeployRef
from dagferry_sidecar.state import SAME, SEED, TORN, WAIT, Apply, State


def refusal(state: State, deploy: DeployRef) -> tuple[DagferryError | None, str]:
    """Return the error or the warning that keeps a deploy from being taken."""
    live = state.live
    waits = state.rules.when_empty == WAIT
    if deploy.sequence == 0 and state.damage and (live is None or (waits and live.sequence == 0)):
        return None, "Nothing is deployed, and what is published cannot be checked or built again. It is left alone."
    if live is None:
        waits_for_first = waits and deploy.sequence == 0
        return AwaitingFirstDeploy("Nothing is deployed yet, so nothing is published.") if waits_for_first else None, ""
    if live.sequence and live.log_id != deploy.log_id and deploy.sequence == 0:
        return None, f"The server has another log id, {deploy.log_id}, and no deploys. The tree is left alone."
    if live.sequence == 0 or live.log_id != deploy.log_id:
        return None, ""
    text = ""
    if deploy.sequence < live.sequence:
        text = f"The server offers deploy {deploy.sequence} after {live.sequence} was taken."
    elif deploy.sequence == live.sequence and deploy != live:
        text = f"The server offers another deploy {deploy.sequence} than the one that was taken."
    return (SequenceRegressed(text) if text else None), ""


def wanted(state: State, deploy: DeployRef) -> bool:
    """Return whether a deploy that is not refused is to be taken."""
    if state.live is None or state.damage == TORN:
        return True
    if deploy.sequence == 0:
        return False  # the seed is published already
    return deploy != state.live


def is_live(state: State, deploy: DeployRef) -> bool:
    """Tell by log id and sequence; the version of a seed is known only when it is published."""
    return state.live is not None and state.live[:2] == deploy[:2]


def take_of(state: State, deploy: DeployRef) -> Apply:
    """Return how a deploy is taken."""
    live = state.live
    if deploy.sequence == 0:
        return Apply(deploy, SEED)
    if live is None or state.damage == TORN or state.pending_whole:
        return Apply(deploy, WHOLE)
    if live.digest == deploy.digest:
        return Apply(deploy, SAME)
    return Apply(deploy, PATCH if live.sequence else WHOLE)
