"""The JSON responses about current deploys: serialized once for all waiting clients."""

from typing import NamedTuple
from weakref import WeakKeyDictionary

from dagferry_core.deploylog import Deploy
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.http.models import current_answer


class _Written(NamedTuple):
    log_id: str
    deploy: Deploy | None
    body: bytes


class CurrentAnswers:
    """The newest response of each deployment."""

    def __init__(self) -> None:
        self._written: WeakKeyDictionary[Deployment, _Written] = WeakKeyDictionary()

    def of(self, deployment: Deployment) -> bytes:
        """Return the JSON about the current deploy of ``deployment``."""
        written = self._written.get(deployment)
        log_id, current = deployment.log_id, deployment.current
        if written is None or written.log_id != log_id or written.deploy is not current:
            sha256 = deployment.sha256_of(current) if current else ""
            body = current_answer(log_id, current, sha256).model_dump_json().encode()
            written = self._written[deployment] = _Written(log_id, current, body)
        return written.body
