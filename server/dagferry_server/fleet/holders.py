"""Who needs which versions, because runs in Airflow do: what is reported is renewed as leases in the store."""

import re
from collections.abc import Sequence
from typing import Protocol

MAX_HOLDER_CHARACTERS = 100
ID_CHARACTERS = 32
_OTHER = re.compile("[^a-z0-9-]+")


class Leases(Protocol):
    """The leases of all deployments."""

    async def renew(self, deployment: str, holder: str, versions: Sequence[str]) -> None:
        """Keep these versions for ``holder``, and no others; raises ``StoreError`` if that cannot be stored."""


class NoLeases:
    """Keeps nothing."""

    async def renew(self, deployment: str, holder: str, versions: Sequence[str]) -> None:
        """Do nothing."""


def holder_name(component: str, instance: str, reporter_id: str) -> str:
    """Return the name of a holder: 1 to ``MAX_HOLDER_CHARACTERS`` of ``a-z``, ``0-9`` and ``-``.

    The id is always whole, so that two holders are never taken for one.
    """
    name = _OTHER.sub("-", f"{component}-{instance}".lower())[: MAX_HOLDER_CHARACTERS - ID_CHARACTERS - 1]
    return f"{name}-{reporter_id}"
