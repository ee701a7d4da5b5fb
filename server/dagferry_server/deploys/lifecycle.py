"""How a deployment came to be at run time, or was deleted. It is a record in the store.

A deleted deployment keeps its log, so that it never goes back in sequence if it is created again. What was deployed
before that does not count then, because its bundles are gone: it is at or below the ``floor``.
"""

import json
from typing import NamedTuple

from dagferry_core.errors import FormatError
from dagferry_core.typed import typed_json
from dagferry_server.store.base import Store, decoding

LIFECYCLE_KEY = "lifecycle"
"""The name of the record in the store."""
CREATED, DELETED, CONFIGURED = "created", "deleted", "configured"


class Lifecycle(NamedTuple):
    """The last change, who made it, and when (seconds since the epoch).

    ``CREATED``: it exists, without being in the configuration. ``DELETED``: it does not exist unless it is in the
    configuration. ``CONFIGURED``: it was deleted, and came back because the configuration names it. Deploys up to the
    sequence ``floor`` are history: none of them is the current deploy.
    """

    change: str
    actor: str
    time: int
    floor: int = 0


def read_lifecycle(store: Store, deployment: str) -> Lifecycle | None:
    """Return the record in the store; ``None`` if the deployment was never created or deleted at run time.

    Blocks; ``StoreDamaged`` if it does not decode.
    """
    data = store.read_state(deployment, LIFECYCLE_KEY)
    if data is None:
        return None
    with decoding(f"The lifecycle of {deployment}"):
        lifecycle = typed_json(Lifecycle, data)
        if lifecycle.change not in {CREATED, DELETED, CONFIGURED}:
            raise FormatError(f"{lifecycle.change[:40]!r} is not a change")
        return lifecycle


def write_lifecycle(store: Store, deployment: str, lifecycle: Lifecycle) -> None:
    """Replace the record in the store. Blocks."""
    store.write_state(deployment, LIFECYCLE_KEY, json.dumps(lifecycle._asdict()).encode() + b"\n")
