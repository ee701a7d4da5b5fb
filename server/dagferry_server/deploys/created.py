"""Which deployments were created or deleted by requests, as the store has it: how many there may be, and who did it."""

from dagferry_runtime.logs import log_failure
from dagferry_server.deploys.freeze import write_freeze
from dagferry_server.deploys.lifecycle import (
    CONFIGURED,
    CREATED,
    DELETED,
    Lifecycle,
    read_lifecycle,
    write_lifecycle,
)
from dagferry_server.errors import StoreDamaged, TooManyDeployments
from dagferry_server.store.base import Store

MAX_CREATED_DEPLOYMENTS = 500
"""How many deployments that were created by requests exist at the same time."""
MAX_DELETED_DEPLOYMENTS = 10_000
"""How many names of deleted ones are remembered, with their logs."""


class CreatedDeployments:
    """``living`` and ``deleted`` have the last change by name. ``to_empty`` are the deleted ones that may have bundles.

    Memory is used on the event loop only. What reads or writes the store blocks, and changes nothing in memory.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.living: dict[str, Lifecycle] = {}
        self.deleted: dict[str, Lifecycle] = {}
        self.to_empty: set[str] = set()

    def check_room(self, name: str) -> None:
        """Raise ``TooManyDeployments`` if ``name`` cannot be created because there are too many."""
        if len(self.living) >= MAX_CREATED_DEPLOYMENTS:
            raise TooManyDeployments(f"{len(self.living)} deployments were created by requests: no more are allowed.")
        if name not in self.deleted and len(self.living) + len(self.deleted) >= MAX_DELETED_DEPLOYMENTS:
            raise TooManyDeployments(
                f"{len(self.deleted)} deployments were deleted, and their logs are kept; no more names are allowed.",
                "Use the name of a deleted deployment again.",
            )

    def note(self, name: str, lifecycle: Lifecycle) -> None:
        """Remember a change that is in the store."""
        self.living.pop(name, None)
        self.deleted.pop(name, None)
        self.to_empty.discard(name)
        if lifecycle.change == CREATED:
            self.living[name] = lifecycle
        elif lifecycle.change == DELETED:
            self.deleted[name] = lifecycle
            self.to_empty.add(name)

    # --- in a thread -------------------------------------------------------------------------------------------------

    def stored(self) -> dict[str, Lifecycle]:
        """Return the last change of every deployment that has one. One that is damaged is logged and skipped."""
        found = {}
        for name in self._store.deployments():
            try:
                lifecycle = read_lifecycle(self._store, name)
            except StoreDamaged as error:
                # Neither served nor emptied: nobody knows whether it was deleted. To create it makes it known again.
                log_failure("The lifecycle of a deployment cannot be read", error, deployment=name)
                continue
            if lifecycle:
                found[name] = lifecycle
        return found

    def create(self, name: str, actor: str, now: float) -> Lifecycle:
        """Write that a deployment, which was prepared, exists; if it was deleted, nothing in its log is current."""
        return self._write_existing(name, CREATED, actor, now)

    def delete(self, name: str, actor: str, now: float) -> Lifecycle:
        """Write that a deployment does not exist any more."""
        deleted = Lifecycle(DELETED, actor, int(now))
        write_lifecycle(self._store, name, deleted)
        return deleted

    def restore_configured(self, name: str) -> None:
        """Write that a deployment, which was prepared, exists because the configuration names it, if it was deleted."""
        try:
            before = read_lifecycle(self._store, name)
        except StoreDamaged:  # logged where the log is read
            return
        if before and before.change == DELETED:
            self._write_existing(name, CONFIGURED, before.actor, before.time)

    def _write_existing(self, name: str, change: str, actor: str, now: float) -> Lifecycle:
        try:
            before = read_lifecycle(self._store, name)
        except StoreDamaged:
            before = Lifecycle(DELETED, "", 0)
        floor = before.floor if before else 0
        if before and before.change == DELETED:
            floor = max(self._store.sequences(name), default=0)
            write_freeze(self._store, name, None)
        existing = Lifecycle(change, actor, int(now), floor)
        write_lifecycle(self._store, name, existing)
        return existing
