"""What a status says about Airflow itself: what it parsed, which versions are kept for runs, what was checked before.

Each part is null where nothing reports it, and missing in the answers of older servers. What a later server leaves out
of a part has its default.
"""

from collections.abc import Mapping
from typing import NamedTuple

from dagferry_core.names import version_sequence

PARSED, STALE = "parsed", "stale"
"""States of ``Parsed``: all DAG files of the newest deploy are parsed and recorded; a reporter stays behind."""
UNKNOWN = "unknown"
"""The state of a reporter that does not say what it parsed."""


class ImportFailure(NamedTuple):
    """A DAG file that Airflow cannot import. ``message`` is the last line of ``trace``; ``new``: since this version."""

    path: str
    message: str
    trace: str = ""
    new: bool = True


class SlowFile(NamedTuple):
    """A DAG file that takes long to parse."""

    path: str
    seconds: int | float


class ParseSeconds(NamedTuple):
    """How many seconds the last parses of all DAG files took together, and the longest of them."""

    total: int | float
    longest: int | float
    slowest: list[SlowFile] = []  # noqa: RUF012 - it is never changed


class Reporter(NamedTuple):
    """A process of Airflow that reports; ``seen`` is when it did last (seconds since the epoch). Its ``state`` is
    ``unknown`` if it does not say what it parsed: then it counts for nothing.
    """

    instance: str
    component: str
    version: str
    state: str
    seen: int | float


class Parsed(NamedTuple):
    """What Airflow has parsed of ``version``.

    Of its DAG ``files``, ``recorded`` were parsed and are in Airflow's tables; the last parse of ``mixed`` ones saw two
    versions. ``seconds`` is from the deploy until all were recorded at ``parsed_at`` (seconds since the epoch); both
    are null before. ``errors`` are some of the ``error_count`` import errors. ``hindrances`` are settings of Airflow
    that delay it.
    """

    version: str
    sequence: int
    state: str
    files: int
    recorded: int
    mixed: int
    dags: int
    error_count: int
    new_error_count: int
    errors: list[ImportFailure] = []  # noqa: RUF012 - it is never changed
    parsed_at: int | float | None = None
    seconds: int | float | None = None
    parse_seconds: ParseSeconds | None = None
    hindrances: list[str] = []  # noqa: RUF012
    airflow: str = ""
    python: str = ""
    providers: Mapping[str, str] = {}
    reporters: list[Reporter] = []  # noqa: RUF012


class Leases(NamedTuple):
    """Which versions Airflow's runs use, and by whose report: they are kept. ``holders`` counts who reports."""

    versions: Mapping[str, list[str]]
    holders: int


class Checker(NamedTuple):
    """A checker of the last hour; ``seen`` is when it asked last (seconds since the epoch).

    ``variables`` is how it reads Variables and Connections, ``stub`` or ``env``. While it is ``warming`` it checks what
    is live, and no deploy waits for it; nor if it is not ``connected``.
    """

    instance: str
    airflow: str
    python: str
    seen: int | float
    variables: str = "stub"
    warming: bool = False
    connected: bool = True


class Checking(NamedTuple):
    """A candidate that is being checked; ``created`` is when it was uploaded (seconds since the epoch)."""

    id: str
    base: str
    digest: str
    actor: str
    created: int | float


class Problem(NamedTuple):
    """Why a candidate was refused; ``line`` is 0 if it is not known."""

    path: str
    message: str
    line: int = 0
    kind: str = ""


class RefusedCandidate(NamedTuple):
    """A candidate that was refused, and some of its problems."""

    actor: str
    created: int | float
    problems: list[Problem]


class ImportCheck(NamedTuple):
    """The check of uploads in Airflow's image, by the ``policy`` ``off``, ``warn`` or ``block``.

    ``away`` is what happens under ``block`` while no checker is connected: ``open``, or ``closed``. ``mismatch`` says
    how a checker differs from Airflow, if one does.
    """

    policy: str
    away: str = "open"
    checkers: list[Checker] = []  # noqa: RUF012
    checking: list[Checking] = []  # noqa: RUF012
    refused: list[RefusedCandidate] = []  # noqa: RUF012
    mismatch: str = ""


def behind(parsed: Parsed, sequence: int) -> list[Reporter]:
    """Return the reporters that count, and are not known to be at the deploy ``sequence`` or a later one."""
    return [one for one in parsed.reporters if one.state != UNKNOWN and _sequence(one.version) < sequence]


def _sequence(version: str) -> int:
    try:
        return version_sequence(version)
    except ValueError:
        return 0  # it has none yet
