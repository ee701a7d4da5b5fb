"""Which deployments were created or deleted by requests, as the store has it: how many there may be, and who did it."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

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
READERS = 16
"""How many lifecycles of a shared store are read at the same time."""


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

    def knows(self, name: str, lifecycle: Lifecycle) -> bool:
        """Return whether this change is known, or need not be: the configuration alone decides."""
        known = self.living.get(name) or self.deleted.get(name)
        return lifecycle == known or (known is None and lifecycle.change == CONFIGURED)

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

    def stored(self, names: Iterable[str] | None = None) -> dict[str, Lifecycle]:
        """Return the last change of each deployment, or of some, that has one. A damaged one is logged and skipped."""
        names = self._store.deployments() if names is None else list(names)
        if not self._store.shared:
            return self._of(names, map(self.stored_of, names))
        with ThreadPoolExecutor(READERS, "lifecycle") as readers:
            return self._of(names, readers.map(self.stored_of, names))

    @staticmethod
    def _of(names: Iterable[str], found: Iterable[Lifecycle | None]) -> dict[str, Lifecycle]:
        return {name: lifecycle for name, lifecycle in zip(names, found, strict=True) if lifecycle}

    def stored_of(self, name: str) -> Lifecycle | None:
        """Return the last change of a deployment; ``None`` if it has none, or if that is damaged, which is logged."""
        try:
            return read_lifecycle(self._store, name)
        except StoreDamaged as error:
            # Neither served nor emptied: nobody knows whether it was deleted. To create it makes it known again.
            log_failure("The lifecycle of a deployment cannot be read", error, deployment=name)
            return None

    def create(self, name: str, actor: str, now: float) -> tuple[Lifecycle, bool]:
        """Write that a deployment, which was prepared, exists; if it was deleted, nothing in its log is current.

        Return the lifecycle, and whether this wrote it: another server may create the deployment at the same time.
        """
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

    def _write_existing(self, name: str, change: str, actor: str, now: float) -> tuple[Lifecycle, bool]:
        before = self._before(name)
        floor = before.floor if before else 0
        if before and before.change == DELETED:
            floor = max(self._store.sequences(name), default=0)
            # What another server has created since has deploys that must not become history.
            again = self._before(name)
            if again and again.change != DELETED:
                return again, False
            write_freeze(self._store, name, None)
        elif before and before.change == change:
            return before, False
        existing = Lifecycle(change, actor, int(now), floor)
        write_lifecycle(self._store, name, existing)
        return existing, True

    def _before(self, name: str) -> Lifecycle | None:
        try:
            return read_lifecycle(self._store, name)
        except StoreDamaged:
            return Lifecycle(DELETED, "", 0)
