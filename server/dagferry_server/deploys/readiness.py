"""Whether requests should be sent to this server."""

import asyncio
from collections.abc import Callable

from dagferry_server.background import Background
from dagferry_server.deploys.deployments import Deployments
from dagferry_server.deploys.following import Following
from dagferry_server.errors import ShuttingDown
from dagferry_server.store.base import Store


class Readiness:
    """Judges this server.

    It is ready when its store can be written, and all deployments and the newest deploy of each are known. A damaged
    newest entry does not make it unready: the deploy that replaces it must get through.

    A server of a shared store that was ready once stays ready while the store is away: it serves what it knows, so that
    pods can start, and all servers would be unready at once. Only if another server reaches the store, as
    ``peer_reaches_store`` says, should this one get no requests. See docs/adr/0042.
    """

    def __init__(self, store: Store, deployments: Deployments, following: Following, background: Background) -> None:
        self._store = store
        self._deployments = deployments
        self._following = following
        self._background = background
        self._was_ready = False
        self.peer_reaches_store: Callable[[], bool] = lambda: False

    async def check(self) -> None:
        """Raise ``ServerError`` unless the server is ready."""
        if self._background.stopping:
            raise ShuttingDown("The server is stopping.")
        if not self._store.shared:
            self._check_known()
            await asyncio.to_thread(self._store.check_writable)
        elif not self._was_ready:
            self._check_known()
            await self._following.check_writable()
            self._was_ready = True
        elif self.peer_reaches_store():
            self._check_known()
            if self._following.away:
                raise self._following.away

    def _check_known(self) -> None:
        self._deployments.check_listed()
        for deployment in self._deployments.values():
            if deployment.away:
                deployment.check_newest()
