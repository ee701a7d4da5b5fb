"""What the store has of a deployment beside its entries and bundles: the log's id, the lifecycle and the freeze.

Other servers may change them. ``Store.state_tag`` says when they have to be read again.
"""

from contextlib import suppress
from typing import NamedTuple

from dagferry_runtime.logs import log_failure
from dagferry_server.deploys.freeze import Freeze, read_freeze
from dagferry_server.deploys.lifecycle import Lifecycle, read_lifecycle
from dagferry_server.errors import StoreDamaged
from dagferry_server.store.base import Store


class Records(NamedTuple):
    """The records, which are at least as new as ``tag``: that was read before them.

    A lifecycle that is damaged is ``None`` too; it is logged where all of them are listed.
    """

    tag: str
    log_id: str
    lifecycle: Lifecycle | None
    freeze: Freeze | None


def changed_records(
    store: Store, deployment: str, known_tag: str | None, log_id: str = "", highest: int = 0
) -> Records | None:
    """Return the records; ``None`` if nothing has changed since ``known_tag``. Blocks.

    ``log_id`` is that of the log as far as it is known, with entries up to ``highest``. If the store has lost it, for
    example by a lifecycle rule of the bucket, and still has this entry, it is stored again.

    Raises ``StoreDamaged`` if the log id or the freeze does not decode, and ``StoreAway``.
    """
    tag = store.state_tag()
    if tag == known_tag:
        return None
    try:
        log_id = store.log_id(deployment)
    except StoreDamaged as error:
        if not (log_id and highest and store.newer(deployment, highest - 1)):
            raise
        log_failure("The log id cannot be read, and is stored again", error, deployment=deployment)
        store.write_log_id(deployment, log_id)
    lifecycle = None
    with suppress(StoreDamaged):
        lifecycle = read_lifecycle(store, deployment)
    return Records(tag, log_id, lifecycle, read_freeze(store, deployment))
