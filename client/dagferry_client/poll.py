"""Asks for a deployment's status again and again, each time until there is news; a lost answer ends nothing."""

from dagferry_client.api import Api, Status
from dagferry_client.errors import ClientError, ConnectionLost
from dagferry_core.errors import DagferryError
from dagferry_core.protocol import MAX_WAIT_SECONDS

PAUSE_SECONDS = 1.0
"""The pause after a server did not answer, or said at once that there is no news: something on the way keeps it from
waiting."""


class Poll:
    """What is known of a deployment.

    ``status`` is the newest one, ``None`` before the first. ``error`` is why the last request had no answer; ``news``
    is whether it said something new.
    """

    def __init__(self, api: Api, deployment: str) -> None:
        self._api = api
        self._deployment = deployment
        self._tag = ""
        self.status: Status | None = None
        self.error: DagferryError | None = None
        self.news = False

    def ask(self, left: float) -> Status | None:
        """Ask once, for at most ``left`` seconds; return the newest status, ``None`` without an answer.

        Raises the error of an answer that would be the same if it were asked for again.
        """
        wait = max(0, min(MAX_WAIT_SECONDS, int(left))) if self._tag else 0
        self.news = False
        try:
            found, self._tag = self._api.status(self._deployment, tag=self._tag, wait=wait)
        except (ClientError, ConnectionLost) as error:
            if isinstance(error, ClientError) and error.retry_after is None:
                raise
            self.error = error
            return None
        self.error = None
        self.news = found is not None
        self.status = found or self.status
        return self.status

    def pause(self, took: float, left: float) -> float:
        """Return how many seconds to pause after a request that ``took`` seconds, with ``left`` seconds to go."""
        if self.error or left < 1 or (not self.news and took < PAUSE_SECONDS):
            return min(PAUSE_SECONDS, left)
        return 0.0
