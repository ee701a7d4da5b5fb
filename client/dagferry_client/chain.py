"""Checks a deploy log that was read over HTTP: each entry has the hash of the previous one, as it was stored.

An entry that was changed, removed or put in afterwards does not fit the next one. Nobody names the newest entry, so its
own fields are all that can be checked of it; ``anchor`` is what a person can write down to notice later. If such an
entry is known, or one that an error of a sidecar names, it is compared: that finds a chain that was made again, or cut.
"""

from collections.abc import Iterable
from typing import NamedTuple

from dagferry_client.deploy_log import LoggedDeploy
from dagferry_core.deploylog import FORMAT, Known, decode, entry_sha256
from dagferry_core.errors import FormatError
from dagferry_core.names import make_version

MAX_PROBLEMS = 1000
"""How many problems of a log are kept."""


class Chain(NamedTuple):
    """What was found: how many entries there are, and how many of them name the previous one; ``problems``, first one
    first; the hash of the newest entry, empty if there is none. ``unknown``: entries that only a newer command can
    check.
    """

    entries: int
    chained: int
    problems: list[str]
    anchor: str
    unknown: int


def check_chain(newest_first: Iterable[LoggedDeploy], known: Known | None = None) -> Chain:
    """Check the entries of a log, which come in descending order down to the first one.

    ``known`` is an entry that the log had, if one is known.
    """
    newest, of_known = 0, ""
    entries = chained = unknown = 0
    problems: list[str] = []
    anchor = ""
    later: LoggedDeploy | None = None
    for deploy in newest_first:
        entries += 1
        chained += bool(deploy.previous)
        data = deploy.entry().encode()
        sha256 = entry_sha256(data)
        anchor = anchor or sha256
        newest = newest or deploy.sequence
        if known and deploy.sequence == known.sequence:
            of_known = sha256
        if later:
            problems += _order(deploy, later)
        is_known = deploy.format <= FORMAT
        unknown += not is_known
        if is_known:
            problems += _fields(deploy, data)
            if later and later.sequence == deploy.sequence + 1 and later.previous not in {"", sha256}:
                problems.append(f"entry {deploy.sequence} is not what it was when entry {later.sequence} was made")
        later = deploy
        del problems[:-MAX_PROBLEMS]
    if later and later.sequence > 1:
        problems.append(_missing(1, later.sequence - 1))
    elif later and later.previous:
        problems.append("entry 1 names an entry before it")
    text = known.problem(newest, of_known) if known else ""
    return Chain(entries, chained, [*problems[::-1], *([text] if text else [])], anchor, unknown)


def _order(deploy: LoggedDeploy, later: LoggedDeploy) -> list[str]:
    found = []
    if later.sequence > deploy.sequence + 1:
        found.append(_missing(deploy.sequence + 1, later.sequence - 1))
    if later.time < deploy.time:
        found.append(f"entry {later.sequence} is older than entry {deploy.sequence}")
    if later.format > 1 and not later.previous:
        found.append(f"entry {later.sequence} does not name the entry before it")
    return found


def _fields(deploy: LoggedDeploy, data: bytes) -> list[str]:
    try:
        decode(data, deploy.sequence)
    except FormatError as error:
        return [f"entry {deploy.sequence} is damaged: {error}"]
    try:
        expected = make_version(deploy.time, deploy.sequence)
    except (OverflowError, OSError, ValueError):
        expected = ""
    if deploy.version != expected:
        return [f"entry {deploy.sequence} has the version {deploy.version}, which does not fit its time"]
    return []


def _missing(first: int, last: int) -> str:
    return f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"
