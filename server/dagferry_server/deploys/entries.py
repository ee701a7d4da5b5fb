"""Creates an entry of the deploy log together with the file that holds the deploy's details. Synchronous."""

import contextlib

from dagferry_core.deploylog import Deploy
from dagferry_server.errors import StoreError
from dagferry_server.store.base import Store


def create_entry(store: Store, deployment: str, deploy: Deploy, details: bytes) -> bool:
    """Create the entry and, before it, the file with its details; ``False`` if the sequence is another's."""
    created = False
    try:
        store.put_details(deployment, deploy.sequence, deploy.nonce, details)
        created = store.create_entry(deployment, deploy.sequence, deploy.encode())
    finally:
        if not created:
            with contextlib.suppress(StoreError):  # what stays is of no harm
                _drop_details(store, deployment, deploy)
    return created


def _drop_details(store: Store, deployment: str, deploy: Deploy) -> None:
    # After an error the entry may be there all the same.
    if deploy.encode() not in store.newer(deployment, deploy.sequence - 1)[:1]:
        store.delete_details(deployment, deploy.sequence, deploy.nonce)
