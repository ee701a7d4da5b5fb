"""Whether a server's deploy log is the one that was followed so far. Pure: no I/O.

Each entry has the hash of the entry before it. So a follower that keeps the hash of one entry is a witness for all that
came before: nobody can change, remove or put in an entry without changing this hash. Each answer about
the current deploy states the hash of the server's entry for the deploy that the follower reports as live. See
docs/adr/0040.
"""

import re
from typing import NamedTuple

from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import AnswerInvalid, LogRewritten

MAX_BEHIND_SECONDS = 60.0
"""How long a server may lack the live deploy, if it shares its store with others, before that is an error.

It looks for their deploys every second, or every few seconds where peers notify it."""

_STATED = re.compile(r"([0-9]{1,12})(?: ([0-9a-f]{64}))?((?: [a-z]{1,20})*)")
_SHARED = "shared"


class Stated(NamedTuple):
    """What a server says of its log: the hash of an entry, in hex; empty if it has none.

    It is the entry of the deploy that the follower reported. If the server's log ends before that, it is its newest
    entry (sequence 0: there is none); ``shared``: other servers use the same store and may have newer ones.
    """

    sequence: int
    sha256: str = ""
    shared: bool = False


def read_stated(text: str | None) -> Stated | None:
    """Return what a header says; ``None`` if there is none, as from older servers. Raises ``AnswerInvalid``."""
    if text is None:
        return None
    found = _STATED.fullmatch(text)
    if not found:
        raise AnswerInvalid(f"The answer says of its deploy log: {text[:80]!r}.")
    return Stated(int(found[1]), found[2] or "", _SHARED in found[3].split())


def rewritten(live: DeployRef, stated: Stated | None) -> LogRewritten | None:
    """Return the error if the server's entry of the ``live`` deploy is not the one that was followed."""
    if (
        stated
        and stated.sequence == live.sequence
        and live.entry_sha256
        and stated.sha256 not in {"", live.entry_sha256}
    ):
        return is_another(live, stated.sha256)
    return None


def is_another(live: DeployRef, sha256: str) -> LogRewritten:
    """Return the error for an entry of the ``live`` deploy that has this hash now."""
    return LogRewritten(
        f"Entry {live.sequence} of the deploy log was rewritten, or one before it: its sha256 was {live.entry_sha256} "
        f"and now is {sha256}."
    )


def may_be_behind(live: DeployRef, stated: Stated | None) -> bool:
    """Return whether the server may only lack the ``live`` deploy because another server made it just now."""
    return stated is not None and stated.shared and stated.sequence < live.sequence
