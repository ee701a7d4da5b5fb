"""What leases keep, as a deployment shows it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple


class Held(NamedTuple):
    """The versions that are kept for DAG runs, newest first, each with the holders of its leases; how many holders."""

    versions: Mapping[str, Sequence[str]] = MappingProxyType({})
    holders: int = 0
