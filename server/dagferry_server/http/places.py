"""How many requests of one kind may be under way, so that nobody takes what others need: not a caller, not a team."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from dagferry_server.auth.access import ANYBODY, Caller
from dagferry_server.errors import ServerError, TooManyDownloads, TooManyUploads

MAX_UPLOADS = 250
"""To one deployment at the same time, slow ones included; each takes up to 1 MiB of memory, and its size on disk."""
MAX_UPLOADS_OF_CALLER = 50
"""So that one holder of a token cannot keep a deployment closed."""
MAX_BUNDLES = 250
"""Bundles and large patches of one deployment that are being sent; sidecars that find no place come again. Each takes
10 kB of memory and two open files; over TLS 0.5 MiB, if the client takes nothing."""
MAX_DOWNLOADS_IN_ALL, MAX_DOWNLOADS, MAX_DOWNLOADS_OF_CALLER = 12, 4, 2
"""Bundles that are being packed for people: by the server, of one deployment, for one caller. Each takes 3 MiB of
memory and more."""
UNLIMITED = 1_000_000


class Places:
    """Places for one kind of request: ``in_all`` at a time, of which a deployment and a caller may take fewer.

    Whoever gets none gets ``error``. On a server without credentials all callers are one, and only the deployment
    counts. ``what`` names the requests in the error, such as ``"downloads"``.
    """

    def __init__(
        self, error: type[ServerError], what: str, *, in_all: int, for_deployment: int, for_caller: int
    ) -> None:
        self._error = error
        self._what = what
        self._in_all = in_all
        self._for_deployment = for_deployment
        self._for_caller = for_caller
        self._taken: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return self._taken["", ""]

    @contextmanager
    def taken(self, deployment: str, caller: Caller) -> Iterator[None]:
        """Take a place for the time of the block."""
        limits = {("", ""): (self._in_all, "this server"), (deployment, ""): (self._for_deployment, deployment)}
        if caller is not ANYBODY:
            limits[deployment, caller.actor] = (self._for_caller, f"{deployment} by {caller.actor}")
        for key, (most, whose) in limits.items():
            if self._taken[key] >= most:
                raise self._error(f"{self._taken[key]} {self._what} of {whose} are under way.")
        self._taken.update(limits.keys())
        try:
            yield
        finally:
            self._taken.subtract(limits.keys())
            for key in limits:
                if not self._taken[key]:
                    del self._taken[key]


def uploads() -> Places:
    """Return the places for uploads."""
    return Places(
        TooManyUploads, "uploads", in_all=UNLIMITED, for_deployment=MAX_UPLOADS, for_caller=MAX_UPLOADS_OF_CALLER
    )


def bundles() -> Places:
    """Return the places for bundles and patches on their way to sidecars."""
    return Places(TooManyDownloads, "downloads", in_all=UNLIMITED, for_deployment=MAX_BUNDLES, for_caller=MAX_BUNDLES)


def downloads() -> Places:
    """Return the places for bundles that are packed for people."""
    return Places(
        TooManyDownloads,
        "downloads",
        in_all=MAX_DOWNLOADS_IN_ALL,
        for_deployment=MAX_DOWNLOADS,
        for_caller=MAX_DOWNLOADS_OF_CALLER,
    )
