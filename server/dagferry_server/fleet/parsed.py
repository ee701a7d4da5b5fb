"""Whether Airflow has read the newest deploy, judged from what all reporters said. Pure.

That a version is live and that Airflow has read it are two facts: this one changes the state of no fleet.

- ``PARSED``: every reporter that counts has recorded all files of the newest version.
- ``STALE``: one still has another version, for longer than ``LATE_SECONDS`` more than pods have to take it.
- ``PARSING``: anything else; also while there may be a reporter of which this server does not know.

A reporter that does not say what Airflow has read is shown, and counts for nothing.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from dagferry_core.protocol import MAX_REPORTED_HINDRANCES
from dagferry_server.fleet.report_body import KEPT_ERRORS, ImportErrorBody, ParsedBody, ParseSecondsBody
from dagferry_server.fleet.reporters import SILENT_SECONDS, Reported

LATE_SECONDS = 60.0
"""How much longer than a pod a dag processor may take to have a version: it reports when its parse has ended."""
KEPT_DIGITS = 1
"""How exact the time from a deploy until it is parsed is: reports take some time to arrive."""


class ParsedState(str, Enum):
    """Whether Airflow has read the newest deploy."""

    PARSED = "parsed"
    PARSING = "parsing"
    STALE = "stale"


class ReporterState(str, Enum):
    """What one reporter says."""

    PARSED = "parsed"
    PARSING = "parsing"
    STALE = "stale"
    UNKNOWN = "unknown"
    """It does not say what Airflow has read."""


class Newest(NamedTuple):
    """The newest deploy of a log; an empty version and 0 if there is none, or it is not known.

    ``deployed_at`` is in seconds since the epoch. ``became`` is that of ``Facts``, on the monotonic clock.
    """

    version: str
    sequence: int
    digest: str
    deployed_at: int
    became: Sequence[tuple[int, float]]
    converge_seconds: int


class Reader(NamedTuple):
    """One reporter as it is shown; ``silent`` is how many seconds ago it was heard."""

    instance: str
    component: str
    version: str
    state: ReporterState
    silent: float


class Times(NamedTuple):
    """When a version was parsed: in seconds since the epoch, and how many seconds after its commit."""

    parsed_at: int
    seconds: float


class Parsed(NamedTuple):
    """What Airflow has read, by all reporters together.

    Of several at one version, the numbers are those of the one that has recorded the fewest files.
    """

    version: str
    sequence: int
    state: ParsedState
    files: int
    recorded: int
    mixed: int
    dags: int
    error_count: int
    new_error_count: int
    errors: tuple[ImportErrorBody, ...]
    times: Times | None
    parse_seconds: ParseSecondsBody | None
    hindrances: tuple[str, ...]
    airflow: str
    python: str
    providers: Mapping[str, str]
    reporters: tuple[Reader, ...]


def judge_parsed(
    newest: Newest,
    counting: Sequence[Reported],
    now: float,
    *,
    unsure_until: float = 0.0,
    known: Times | None = None,
) -> tuple[Parsed | None, float]:
    """Return what Airflow has read at ``now``, and when time alone may change that.

    ``counting`` are the reporters that count; the answer is ``None`` if none of them says what Airflow has read.
    Until ``unsure_until`` there may be others. ``known`` is when the newest version was parsed, if it was before: a
    reporter that comes later changes nothing about that.
    """
    moments = [unsure_until, *(said.heard_at + SILENT_SECONDS for said in counting)]
    readers, saying = [], []
    for said in counting:
        state, late_at = _state_of(said, newest, now)
        moments.append(late_at)
        component, instance, _ = said.key
        version = said.parsed.version if said.parsed else ""
        readers.append(Reader(instance, component, version, state, now - said.heard_at))
        if said.parsed:
            saying.append((said, said.parsed, state))
    valid_until = min((moment for moment in moments if moment > now), default=math.inf)
    if not saying:
        return None, valid_until
    states = {state for _, _, state in saying}
    overall = ParsedState.PARSING
    if ReporterState.STALE in states:
        overall = ParsedState.STALE
    elif states == {ReporterState.PARSED} and now >= unsure_until:
        overall = ParsedState.PARSED
    times = known or _times(newest, [said for said, _, _ in saying]) if overall is ParsedState.PARSED else None
    return _summary(newest, [(said, parsed) for said, parsed, _ in saying], overall, times, readers), valid_until


def _is_newest(parsed: ParsedBody, newest: Newest) -> bool:
    """Return whether a report is about the newest deploy. Two logs may have versions of one name."""
    return bool(newest.version) and (parsed.version, parsed.digest) == (newest.version, newest.digest)


def _state_of(said: Reported, newest: Newest, now: float) -> tuple[ReporterState, float]:
    """Return the state of a reporter, and when it becomes stale unless it says something else."""
    if said.parsed is None:
        return ReporterState.UNKNOWN, math.inf
    if _is_newest(said.parsed, newest):
        return (ReporterState.PARSED if said.complete_since is not None else ReporterState.PARSING), math.inf
    if not newest.version:
        return ReporterState.PARSING, math.inf
    # Since the oldest deploy that it lacks became current. One with an unknown version lacks the newest.
    place = bisect_right(newest.became, (min(said.parsed.sequence, newest.sequence - 1), math.inf))
    lacks_since = newest.became[place][1] if place < len(newest.became) else said.came_at
    late_at = max(lacks_since, said.came_at) + newest.converge_seconds + LATE_SECONDS
    return (ReporterState.STALE if late_at <= now else ReporterState.PARSING), late_at


def _times(newest: Newest, saying: Iterable[Reported]) -> Times | None:
    """Return when the last reporter was complete, and how long after the commit.

    A deploy that this server saw become current is measured on the monotonic clock, any other by the time in the log.
    """
    last = max(saying, key=lambda said: said.complete_since or 0.0)
    if last.complete_since is None or last.complete_at is None:
        return None
    witnessed = dict(newest.became[1:]).get(newest.sequence)
    after = last.complete_at - newest.deployed_at if witnessed is None else last.complete_since - witnessed
    return Times(max(int(last.complete_at), newest.deployed_at), round(max(after, 0.0), KEPT_DIGITS))


def _summary(
    newest: Newest,
    saying: Sequence[tuple[Reported, ParsedBody]],
    state: ParsedState,
    times: Times | None,
    readers: Sequence[Reader],
) -> Parsed:
    shown = [(said, parsed) for said, parsed in saying if _is_newest(parsed, newest)]
    if not shown:
        highest = max(parsed.sequence for _, parsed in saying)
        shown = [(said, parsed) for said, parsed in saying if parsed.sequence == highest]
    _, worst = min(shown, key=lambda one: (one[0].complete_since is not None, one[1].recorded - one[1].files))
    bodies = [parsed for _, parsed in shown]
    return Parsed(
        worst.version,
        worst.sequence,
        state,
        worst.files,
        worst.recorded,
        worst.mixed,
        worst.dags,
        max(parsed.error_count for parsed in bodies),
        max(parsed.new_error_count for parsed in bodies),
        _errors(bodies),
        times,
        worst.parse_seconds,
        tuple(dict.fromkeys(text for parsed in bodies for text in parsed.hindrances))[:MAX_REPORTED_HINDRANCES],
        worst.airflow,
        worst.python,
        worst.providers,
        tuple(readers),
    )


def _errors(bodies: Sequence[ParsedBody]) -> tuple[ImportErrorBody, ...]:
    """Return the import errors that any reporter has, one for each file, the new ones first, then by path."""
    by_path: dict[str, ImportErrorBody] = {}
    for error in (error for parsed in bodies for error in parsed.errors):
        known = by_path.get(error.path)
        if known is None or error.new > known.new:
            by_path[error.path] = error
    return tuple(sorted(by_path.values(), key=lambda error: (not error.new, error.path))[:KEPT_ERRORS])
