"""The server's endpoints as functions: what they return is checked, and errors say what an answer lacks."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

from dagferry_client.decode import decode
from dagferry_core import protocol
from dagferry_core.errors import FormatError
from dagferry_follow.errors import AnswerInvalid

if TYPE_CHECKING:
    # The sub-commands import this module for its types, and completion imports all sub-commands: without requests.
    from dagferry_client.http import Answer, Http

WAIT_SLACK_SECONDS = 20.0
"""How much longer than it was asked to wait the server may be silent."""
_NOT_MODIFIED = 304

_Tuple = TypeVar("_Tuple", bound=tuple[Any, ...])


class Access(NamedTuple):
    """What the caller may do in a deployment; ``prefixes`` limit uploads to these folders, if there are any."""

    name: str
    scopes: list[str]
    prefixes: list[str]


class Identity(NamedTuple):
    """Who the caller is for the server; ``expires`` is when the credentials expire (seconds since the epoch)."""

    actor: str
    expires: int | float | None
    deployments: list[Access]


class Frozen(NamedTuple):
    """Why a deployment refuses changes, and until when (seconds since the epoch; ``None``: until it is ended)."""

    reason: str
    until: int | float | None
    actor: str


class Listed(NamedTuple):
    """One deployment of the server, as the list has it. ``disabled`` is the reason, ``None`` if it is not."""

    name: str
    state: str
    version: str
    deployed_at: int | float | None
    disabled: str | None
    frozen: Frozen | None
    created_by: str | None
    scopes: list[str]
    upload_limit_bytes: int


class Counts(NamedTuple):
    """How many sidecars there are, by state."""

    known: int
    live: int
    behind: int
    lost: int
    failing: int


class Sidecar(NamedTuple):
    """One sidecar; ``seen`` is when it asked last (seconds since the epoch), ``lag_seconds`` how long it is behind."""

    instance: str
    id: str
    component: str
    live: str
    seen: int | float
    lag_seconds: int | float | None
    error: str | None
    state: str


class Servers(NamedTuple):
    """How many servers were asked for their sidecars, and how many answered."""

    asked: int
    answered: int


class Status(NamedTuple):
    """Whether the fleet of a deployment has its newest deploy."""

    deployment: str
    log_id: str
    state: str
    reason: str
    version: str
    sequence: int
    deployed_at: int | float | None
    converge_seconds: int | float
    disabled: str | None
    frozen: Frozen | None
    expected: Mapping[str, int]
    counts: Counts
    sidecars: list[Sidecar]
    servers: Servers


class _Deployments(NamedTuple):
    deployments: list[Listed]


class Api:
    """The endpoints of one server."""

    def __init__(self, http: "Http") -> None:
        self.http = http

    def whoami(self) -> Identity:
        """Return who the caller is for the server."""
        return decoded(Identity, self.http.request("GET", protocol.WHOAMI_PATH))

    def deployments(self) -> list[Listed]:
        """Return the deployments that the caller may see."""
        return decoded(_Deployments, self.http.request("GET", protocol.DEPLOYMENTS_PATH)).deployments

    def status(self, deployment: str, *, tag: str = "", wait: int = 0) -> tuple[Status | None, str]:
        """Return the status and its ETag; ``None`` if ``tag`` is still the newest after ``wait`` seconds."""
        headers = {"If-None-Match": tag} if tag else {}
        if wait:
            headers["Prefer"] = f"wait={wait}"
        answer = self.http.request(
            "GET",
            path_of(protocol.STATUS_PATH, deployment=deployment),
            headers=headers,
            silence_seconds=wait + WAIT_SLACK_SECONDS,
        )
        found = None if answer.status == _NOT_MODIFIED else decoded(Status, answer)
        return found, answer.headers.get("ETag", tag)


def path_of(template: str, **names: str) -> str:
    """Return a path of ``protocol`` with its names filled in and percent-encoded: ``path_of(P, deployment="prod")``."""
    for name, value in names.items():
        template = template.replace(f"{{{name}}}", quote(value, safe="/" if name == "path" else ""))
    return template


def decoded(cls: type[_Tuple], answer: "Answer") -> _Tuple:
    """Return the JSON of an answer as the NamedTuple ``cls``; raise ``AnswerInvalid``, which names the wrong field."""
    try:
        return decode(cls, json.loads(answer.body))
    except (FormatError, RecursionError, ValueError) as error:
        raise AnswerInvalid(
            f"The server's answer cannot be understood: {error}.",
            "Check that the URL is that of a Dagferry server, and that no proxy changes its answers.",
        ) from error
