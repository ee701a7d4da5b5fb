"""Creates an entry of the deploy log together with the file that holds the deploy's details, and reads many entries.

Runs in threads.
"""

import contextlib
from collections.abc import Iterator, Sequence

from dagferry_core.deploylog import Deploy
from dagferry_server.errors import StoreError
from dagferry_server.store.base import Store

BATCH_ENTRIES = 500
"""How many entries are read at a time: in a bucket, several at once, and not all in memory."""


class Attempt:
    """An attempt to add an entry. ``began``: the store was asked to create it, so after an error it may exist."""

    began = False


def create_entry(store: Store, deployment: str, deploy: Deploy, details: bytes, attempt: Attempt) -> bool:
    """Create the entry's details, then the entry; return ``False`` if another deploy has the sequence."""
    try:
        store.put_details(deployment, deploy.sequence, deploy.nonce, details)
        attempt.began = True
        created = store.create_entry(deployment, deploy.sequence, deploy.encode())
    except BaseException:
        if not (store.shared and attempt.began):  # there, a request that failed may still arrive, late
            _delete_details(store, deployment, deploy)
        raise
    if not created:
        _delete_details(store, deployment, deploy)
    return created


def _delete_details(store: Store, deployment: str, deploy: Deploy) -> None:
    with contextlib.suppress(StoreError):  # details without their entry do no harm
        # The entry may exist even after an error.
        if deploy.encode() not in store.newer(deployment, deploy.sequence - 1)[:1]:
            store.delete_details(deployment, deploy.sequence, deploy.nonce)


def stored_entries(store: Store, deployment: str, sequences: Sequence[int]) -> Iterator[tuple[int, bytes | StoreError]]:
    """Yield each sequence with its entry as it was stored, or with the error that reading it raises."""
    for start in range(0, len(sequences), BATCH_ENTRIES):
        batch = sequences[start : start + BATCH_ENTRIES]
        yield from zip(batch, store.read_entries(deployment, batch), strict=True)
