"""The names of those that have leases, because runs in Airflow need versions: see ``deploys.leases``."""

import re

MAX_HOLDER_CHARACTERS = 100
ID_CHARACTERS = 32
_OTHER = re.compile("[^a-z0-9-]+")


def holder_name(component: str, instance: str, reporter_id: str) -> str:
    """Return the name of a holder: 1 to ``MAX_HOLDER_CHARACTERS`` of ``a-z``, ``0-9`` and ``-``.

    The id is always whole, so that two holders are never taken for one.
    """
    name = _OTHER.sub("-", f"{component}-{instance}".lower())[: MAX_HOLDER_CHARACTERS - ID_CHARACTERS - 1]
    return f"{name}-{reporter_id}"
