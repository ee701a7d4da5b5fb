"""Limits on concurrent requests of one kind, so that no caller and no deployment takes what the others need."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from dagferry_server.auth.access import ANYBODY, Caller
from dagferry_server.errors import ServerError, TooManyDownloads, TooManyReports, TooManyUploads

MAX_UPLOADS = 250
"""Concurrent uploads to one deployment, slow ones included; each uses up to 1 MiB of memory, and its size on disk."""
MAX_UPLOADS_OF_CALLER = 50
"""So that one caller cannot block a deployment."""
MAX_COPIES, MAX_COPIES_OF_CALLER = 50, 10
"""Concurrent rollbacks and promotes: of one deployment, and by one caller. They do not count as uploads: undoing works
at any load, whatever another caller does."""
MAX_BUNDLES = 250
"""Bundles and large patches of one deployment being sent; sidecars over the limit try again. Each uses 10 kB of memory
and two open files; over TLS 0.5 MiB if the client does not read."""
MAX_DOWNLOADS_IN_ALL, MAX_DOWNLOADS, MAX_DOWNLOADS_OF_CALLER = 12, 4, 2
"""Downloads being packed: by the whole server, of one deployment, for one caller. Each uses 3 MiB of memory or more."""
MAX_READS_IN_ALL, MAX_READS, MAX_READS_OF_CALLER = 24, 12, 8
"""Lists of files, single files and diffs being read, likewise; each uses up to 3 MiB of memory."""
MAX_REPORTS_IN_ALL, MAX_REPORTS = 100, 50
"""Reports of what Airflow has read being received, likewise; each uses up to 1 MiB of memory. Pods share a token."""
UNLIMITED = 1_000_000


class ConcurrencyLimit:
    """Limits on one kind of request: at most ``in_all`` at a time, and lower limits for a deployment and a caller.

    A request over a limit gets ``error``. On a server without credentials all callers are one, so only the limits of
    the server and the deployment apply. ``what`` names the requests in the error, such as ``"downloads"``.
    """

    def __init__(
        self, error: type[ServerError], what: str, *, in_all: int, for_deployment: int, for_caller: int
    ) -> None:
        self._error = error
        self._what = what
        self._in_all = in_all
        self._for_deployment = for_deployment
        self._for_caller = for_caller
        self._held: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return self._held["", ""]

    @contextmanager
    def hold(self, deployment: str, caller: Caller) -> Iterator[None]:
        """Count a request during the block; raise the error if it is over a limit."""
        limits = {
            ("", ""): (self._in_all, "this server"),
            (deployment, ""): (self._for_deployment, f"deployment {deployment!r}"),
        }
        if caller is not ANYBODY:
            limits[deployment, caller.actor] = (self._for_caller, f"{caller.actor!r} on deployment {deployment!r}")
        for key, (most, whose) in limits.items():
            if self._held[key] >= most:
                raise self._error(f"The limit of {most} concurrent {self._what} for {whose} is reached.")
        self._held.update(limits.keys())
        try:
            yield
        finally:
            self._held.subtract(limits.keys())
            for key in limits:
                if not self._held[key]:
                    del self._held[key]


def uploads() -> ConcurrencyLimit:
    """Return the limits on uploads."""
    return ConcurrencyLimit(
        TooManyUploads, "uploads", in_all=UNLIMITED, for_deployment=MAX_UPLOADS, for_caller=MAX_UPLOADS_OF_CALLER
    )


def copies() -> ConcurrencyLimit:
    """Return the limits on rollbacks and promotes."""
    return ConcurrencyLimit(
        TooManyUploads,
        "rollbacks and promotes",
        in_all=UNLIMITED,
        for_deployment=MAX_COPIES,
        for_caller=MAX_COPIES_OF_CALLER,
    )


def bundles() -> ConcurrencyLimit:
    """Return the limits on bundles and patches being sent to sidecars."""
    return ConcurrencyLimit(
        TooManyDownloads, "downloads", in_all=UNLIMITED, for_deployment=MAX_BUNDLES, for_caller=MAX_BUNDLES
    )


def downloads() -> ConcurrencyLimit:
    """Return the limits on downloads, which are packed for people."""
    return ConcurrencyLimit(
        TooManyDownloads,
        "downloads",
        in_all=MAX_DOWNLOADS_IN_ALL,
        for_deployment=MAX_DOWNLOADS,
        for_caller=MAX_DOWNLOADS_OF_CALLER,
    )


def reads() -> ConcurrencyLimit:
    """Return the limits on reading what is in a bundle: its list of files, one of them, a diff."""
    return ConcurrencyLimit(
        TooManyDownloads,
        "reads of bundles",
        in_all=MAX_READS_IN_ALL,
        for_deployment=MAX_READS,
        for_caller=MAX_READS_OF_CALLER,
    )


def reports() -> ConcurrencyLimit:
    """Return the limits on reports of what Airflow has read."""
    return ConcurrencyLimit(
        TooManyReports,
        "reports",
        in_all=MAX_REPORTS_IN_ALL,
        for_deployment=MAX_REPORTS,
        for_caller=MAX_REPORTS,
    )
