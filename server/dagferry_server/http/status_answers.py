"""The JSON responses about the status of fleets: serialized once for all who ask for it or wait for another one."""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.deployments_file import DeploymentSettings
from dagferry_server.deploys.freeze import Freeze
from dagferry_server.deploys.held import Held
from dagferry_server.fleet.status import Status
from dagferry_server.http.models import fleet_status_answer

TAG_CHARACTERS = 32
_GROWS: dict[str, Any] = {
    "sidecars": {"__all__": {"seen", "lag_seconds"}},
    "parsed": {"parse_seconds": True, "reporters": {"__all__": {"seen"}}},
    "import_check": {"checkers": {"__all__": {"seen"}}},
}
"""What changes with every second, or with every report, and is not part of the tag."""


class WrittenStatus(NamedTuple):
    """A status as JSON, and the ETag of what it says."""

    status: Status
    settings: DeploymentSettings
    freeze: Freeze | None
    leases: Held
    checking: object
    body: bytes
    tag: str


class StatusAnswers:
    """The newest response of each deployment."""

    def __init__(self) -> None:
        self._written: WeakKeyDictionary[Deployment, WrittenStatus] = WeakKeyDictionary()

    def of(self, deployment: Deployment, clock: Callable[[], float]) -> WrittenStatus:
        """Return the JSON about the fleet of ``deployment``; ``clock`` gives seconds since the epoch."""
        written = self._written.get(deployment)
        now = clock()
        made_of = (
            deployment.fleet.status(),
            deployment.settings,
            deployment.freeze_at(now),
            deployment.leases,
            deployment.checking.revision,
        )
        if written is None or any(old is not new for old, new in zip(written, made_of, strict=False)):
            answer = fleet_status_answer(deployment, made_of[0], now)
            news = answer.model_dump_json(exclude=_GROWS).encode()
            tag = hashlib.sha256(news).hexdigest()[:TAG_CHARACTERS]
            body = answer.model_dump_json().encode()
            written = self._written[deployment] = WrittenStatus(*made_of, body, tag)
        return written
