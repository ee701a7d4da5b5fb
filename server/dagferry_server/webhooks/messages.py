"""What webhooks say: the events, as JSON for programs or as one text for Slack. Pure.

A message has an id. A receiver may get it more than once, always with the same id and the same content.
"""

import json
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

from dagferry_core.deploylog import Deploy
from dagferry_core.errors import DagferryError
from dagferry_server.webhooks.settings import Event, Format

ID_BYTES = 16
MAX_TEXT_CHARACTERS = 2000
"""How much of an error or a reason is sent."""
MAX_SLACK_CHARACTERS = 1000
"""The maximum length of the text for Slack, before it is escaped."""

REFUSED_STATUSES = frozenset({409, 413, 422, 423})
"""The statuses of errors that are about a deploy and not about its caller, its request or the server."""
CLIENTS_HANDLE = frozenset({"base_gone", "change_mismatch"})
"""Codes of errors with these statuses after which clients upload everything, without a person."""
_INTERNAL = {"format", "nonce", "previous", "details", "time"}
"""Fields of a deploy that say nothing to a receiver, or are in the message already."""


class Message(NamedTuple):
    """One message about a deployment. ``time`` is in seconds since the epoch; ``text`` is one line for people."""

    id: str
    event: Event
    time: int
    deployment: str
    facts: Mapping[str, Any]
    text: str

    def body(self, form: Format) -> bytes:
        """Return the body of the request, which is the same for each attempt."""
        if form == "slack":
            return json.dumps({"text": _escaped(f"{self.deployment}: {self.text}"[:MAX_SLACK_CHARACTERS])}).encode()
        known = {"id": self.id, "event": self.event, "time": self.time, "deployment": self.deployment}
        return json.dumps({**self.facts, **known}).encode()


def deployed(deployment: str, deploy: Deploy) -> Message:
    """Return the message that there is a new deploy."""
    facts = {name: value for name, value in deploy._asdict().items() if name not in _INTERNAL}
    counts = f"{deploy.added} files added, {deploy.changed} changed, {deploy.removed} removed"
    about = f": {deploy.description}" if deploy.description else ""
    text = f"{deploy.actor} deployed {deploy.version} ({deploy.kind}; {counts}){about}"
    return _message("deployed", deployment, deploy.time, facts, text)


def is_refusal(error: DagferryError) -> bool:
    """Return whether an error of a request to deploy is a refusal of what was to be deployed."""
    return error.status in REFUSED_STATUSES and error.code not in CLIENTS_HANDLE


def refused(deployment: str, actor: str, error: DagferryError, now: float) -> Message:
    """Return the message that a deploy was refused. ``now`` is in seconds since the epoch, as below."""
    why = error.message[:MAX_TEXT_CHARACTERS]
    facts = {"actor": actor, "code": error.code, "message": why}
    return _message("refused", deployment, now, facts, f"a deploy by {actor} was refused: {why} ({error.code})")


def degraded(deployment: str, version: str, reason: str, now: float) -> Message:
    """Return the message that not all pods have what they should."""
    why = reason[:MAX_TEXT_CHARACTERS]
    return _message("degraded", deployment, now, {"version": version, "reason": why}, f"DEGRADED: {why}")


def recovered(deployment: str, version: str, reason: str, now: float) -> Message:
    """Return the message that all pods have the newest deploy again."""
    why = reason[:MAX_TEXT_CHARACTERS]
    text = f"recovered: every pod has {version}"
    return _message("recovered", deployment, now, {"version": version, "reason": why}, text)


def _message(event: Event, deployment: str, now: float, facts: Mapping[str, Any], text: str) -> Message:
    return Message(f"msg_{secrets.token_hex(ID_BYTES)}", event, int(now), deployment, facts, " ".join(text.split()))


def _escaped(text: str) -> str:
    """Return a text in which Slack finds no links and no mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
