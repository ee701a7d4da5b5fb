"""A freeze: why nothing may be deployed to a deployment, and until when. It is a record in the store.

A record that has ended stays where it is and no longer counts. One that is damaged counts as long as it is there: what
it said is not known, so nothing is deployed until it is replaced or removed.
"""

import json
from typing import NamedTuple

from dagferry_core.typed import typed_json
from dagferry_server.store.base import Store, decoding

FREEZE_KEY = "freeze"
"""The name of the record in the store."""
MAX_REASON_CHARACTERS = 300
MAX_FREEZE_SECONDS = 366 * 86400
"""How far in the future a freeze may end; one without an end lasts until it is lifted."""


class Freeze(NamedTuple):
    """Who froze a deployment, when and until when (seconds since the epoch; ``None``: until it is lifted), and why."""

    reason: str
    until: int | None
    actor: str
    time: int

    def holds_at(self, now: float) -> bool:
        """Return whether it has not ended at ``now``, in seconds since the epoch."""
        return self.until is None or now < self.until


def read_freeze(store: Store, deployment: str) -> Freeze | None:
    """Return the freeze in the store, which may have ended; ``StoreDamaged`` if it does not decode. Blocks."""
    data = store.read_state(deployment, FREEZE_KEY)
    if data is None:
        return None
    with decoding(f"The freeze of {deployment}"):
        return typed_json(Freeze, data)


def write_freeze(store: Store, deployment: str, freeze: Freeze | None) -> None:
    """Replace the freeze in the store; ``None`` removes it. Blocks."""
    if freeze is None:
        store.delete_state(deployment, FREEZE_KEY)
    else:
        store.write_state(deployment, FREEZE_KEY, json.dumps(freeze._asdict()).encode() + b"\n")
