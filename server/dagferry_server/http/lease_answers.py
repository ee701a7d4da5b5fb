"""The part of a status about the versions that are kept for DAG runs."""

from itertools import islice

from pydantic import Field

from dagferry_server.deploys.held import Held
from dagferry_server.http.answer import Answer

MAX_ANSWERED_LEASES = 200
MAX_ANSWERED_HOLDERS = 20
"""How many versions that are kept for DAG runs a status lists, and of each how many holders."""


class LeasesAnswer(Answer):
    """Which versions are kept because DAG runs need them, or runs that are created now will."""

    versions: dict[str, list[str]] = Field(
        description="The versions, newest first, each with the dag processors that said so; "
        f"{MAX_ANSWERED_LEASES} and {MAX_ANSWERED_HOLDERS} at most."
    )
    holders: int = Field(description="How many dag processors said which versions they need, within a day.")


def leases_answer(held: Held) -> LeasesAnswer:
    """Return the versions that are kept for DAG runs as they are sent."""
    shown = islice(held.versions.items(), MAX_ANSWERED_LEASES)
    return LeasesAnswer(
        versions={version: list(holders[:MAX_ANSWERED_HOLDERS]) for version, holders in shown}, holders=held.holders
    )
