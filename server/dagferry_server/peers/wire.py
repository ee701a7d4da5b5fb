"""What servers send each other, as JSON.

What a later release adds is ignored, and what an earlier one lacks has its default.

Times are ages on the sender's monotonic clock, in seconds before ``News.sent``; so no clock has to be set for them.
"""

from typing import Annotated, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dagferry_core.errors import FormatError
from dagferry_server.fleet.report_body import ParsedBody
from dagferry_server.fleet.reporters import MAX_REPORTERS

PEERS_FLEET_PATH = "/-/peers/fleet"
PEERS_POKE_PATH = "/-/peers/poke"
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""The size of an answer; ``MAX_ROWS`` pods with the longest names take 3 MB."""
MAX_ROWS = 2000
"""How many pods one answer has at most; the others are in the next one. Each takes microseconds of both servers."""
ROW_BYTES = 1500
"""A report counts as so many rows as it is long: as a pod with the longest names."""
MAX_HEARS = 1000

_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_Name = Annotated[str, Field(max_length=63)]
_Age = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(allow_inf_nan=False)]
_Number = Annotated[int, Field(ge=0, lt=2**63)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class PodRow(NamedTuple):
    """One pod. ``offered`` and ``confirmed`` are places in ``DeploymentNews.offers``, -1 for none."""

    instance: str
    volume: str
    component: str
    live: str
    log_id: str
    error: str
    offered: int
    confirmed: int
    reported: _Age
    seen: _Age
    first_seen: _Age
    is_open: bool


class EndedRow(NamedTuple):
    """One pod that deregistered; ``came`` is ``None`` if the sender did not know it."""

    id: str
    instance: str
    volume: str
    component: str
    at: _Age
    came: _Age | None


class ReportRow(_Message):
    """What one reporter said last of what Airflow has read.

    ``heard`` and ``came`` are when it said so, and when it first did. ``complete`` is since when all files have been
    recorded, and ``complete_at`` the same in seconds since the epoch; ``None``: not all are. ``left``: it has ended.
    """

    component: str
    instance: str
    id: str
    log_id: str
    heard: _Age
    came: _Age
    complete: _Age | None = None
    complete_at: _Seconds | None = None
    left: bool = False
    parsed: ParsedBody | None = None


class DeploymentNews(_Message):
    """What is new about one deployment. After another ``generation``, nothing that was sent before is true any more.

    ``heard_in`` is after how many seconds the sender has heard every pod there is, and ``crowded_for`` how many seconds
    pods may be missing that it had no room for. Both are usually negative. ``in_use`` has places in ``pods``, each with
    how many old trees tasks use there: earlier releases read no longer rows.
    """

    log_id: str
    head: _Number
    generation: _Number
    heard_in: _Seconds
    crowded_for: _Seconds
    offers: list[tuple[str, str]] = []
    pods: list[PodRow] = []
    in_use: list[tuple[_Number, _Number]] = []
    ended: list[EndedRow] = []
    reports: Annotated[list[ReportRow], Field(max_length=MAX_REPORTERS)] = []


class News(_Message):
    """What a server knows that the receiver does not know yet. ``revision`` and ``change`` go into the next request.

    ``sent`` is when, on the sender's monotonic clock. With ``full``, it is everything, and with ``more``, the rest
    comes with the next answer. ``hears`` are the ids of the servers that the sender hears, and it is ``whole`` if it
    misses none. ``gone`` are the deployments that are not there any more.
    """

    server: _Id
    sent: _Seconds
    revision: _Number
    change: _Number
    full: bool = False
    more: bool = False
    stopping: bool = False
    whole: bool = False
    reaches_store: bool = False
    hears: Annotated[list[_Id], Field(max_length=MAX_HEARS)] = []
    deployments: dict[_Name, DeploymentNews] = {}
    gone: list[_Name] = []


class Since(_Message):
    """What the sender of a request knows already: of which server, up to where."""

    server: _Id
    revision: _Number
    change: _Number


class FleetRequest(_Message):
    """A request for news: who asks, what it knows already, and how many seconds it waits."""

    server: _Id
    since: Since | None = None
    wait: _Age = 0.0


class Poke(_Message):
    """Something has changed in the store: a deploy with this ``sequence``, or, without one, a record of state."""

    server: _Id
    deployment: _Name
    sequence: _Number | None = None


class PokeAnswer(_Message):
    """The answer to a poke."""

    status: str = "ok"


_Model = TypeVar("_Model", bound=_Message)


def decode(model: type[_Model], data: bytes) -> _Model:
    """Return a message; raise ``FormatError`` if ``data`` is anything else."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise FormatError(f"it is not {model.__name__}: {error.errors()[0]['msg']}") from None
