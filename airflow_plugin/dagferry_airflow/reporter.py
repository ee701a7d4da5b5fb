"""When a report is sent: at once if something changed, otherwise as often as the server wants to hear it.

It is called from a loop that must not be blocked, so a failed attempt is followed by a pause, as in ``follower``.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

from dagferry_airflow.follower import MAX_DOUBLINGS, MAX_SECONDS, PAUSE_FACTOR
from dagferry_airflow.reports import substance
from dagferry_core.errors import DagferryError
from dagferry_follow.small_files import read_text
from dagferry_follow.volume.root import LOCK, TREES

REPORT_SECONDS = 30.0
MIN_REPORT_SECONDS, MAX_REPORT_SECONDS = 1.0, 300.0
FIRST_PAUSE_SECONDS = 5.0
NOT_NOW_SECONDS = 1.0
"""The pause after a report that was of another tree than the live one."""
MAX_SLOTS = 100
MAX_SAID_CHARACTERS = 500

log = logging.getLogger(__name__)

Post = Callable[[dict[str, Any]], bytes]
"""Sends a report and returns the answer; raises ``DagferryError`` or ``NotNow``."""


class NotNow(Exception):
    """What a report says is no longer so; there will be another one in a moment."""


class Reporter:
    """Sends reports with ``post``. The clock is in seconds and never goes backwards."""

    def __init__(self, post: Post, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._post = post
        self._clock = clock
        self._sent = ""
        self._again_at = 0.0
        self._not_before = 0.0
        self._failures = 0
        self._said: set[str] = set()

    def report(self, data: dict[str, Any]) -> None:
        """Send a report if it is due. Failures are logged, each kind once until a report succeeds."""
        now = self._clock()
        said = substance(data)
        if now < self._not_before or (said == self._sent and now < self._again_at):
            return
        try:
            answer = self._post(data)
        except NotNow:
            self._not_before = self._clock() + NOT_NOW_SECONDS
            return
        except DagferryError as error:
            self._failures += 1
            ended = self._clock()
            pause = max(FIRST_PAUSE_SECONDS, PAUSE_FACTOR * (ended - now))
            self._not_before = ended + min(MAX_SECONDS, pause * 2.0 ** min(self._failures - 1, MAX_DOUBLINGS))
            self._say(error.code, f"What Airflow has parsed cannot be reported: {error.message} {error.hint}".rstrip())
            return
        self._failures, self._not_before = 0, 0.0
        self._sent, self._again_at = said, now + _report_seconds(answer)
        ignored = _text(answer, "ignored")
        if ignored:
            self._say(ignored, f"The server ignores what Airflow has parsed: {ignored}")
        else:
            self._said.clear()

    def leave(self, data: dict[str, Any]) -> None:
        """Send a last report."""
        with contextlib.suppress(DagferryError, NotNow):
            self._post(data)

    def _say(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            log.warning("%s", text)


def _report_seconds(answer: bytes) -> float:
    try:
        seconds = float(json.loads(answer)["report_seconds"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return REPORT_SECONDS
    return min(max(seconds, MIN_REPORT_SECONDS), MAX_REPORT_SECONDS) if math.isfinite(seconds) else REPORT_SECONDS


def _text(answer: bytes, name: str) -> str:
    try:
        value = json.loads(answer).get(name)
    except (ValueError, AttributeError, RecursionError):
        return ""
    return value[:MAX_SAID_CHARACTERS] if isinstance(value, str) else ""


class Identity:
    """A reporter's id: the same after a restart, another one for each of several that run at once on one volume.

    ``id`` has 32 hexadecimal digits. The id is held until the process ends.
    """

    def __init__(self, root: str, instance: str) -> None:
        self._lock = -1
        volume = _volume_id(root)
        folder = f"{tempfile.gettempdir()}/dagferry-{os.getuid()}"
        for slot in range(MAX_SLOTS):
            self.id = hashlib.sha256(f"{volume} {instance} {slot}".encode()).hexdigest()[:32]
            try:
                os.makedirs(folder, 0o700, exist_ok=True)
                lock = os.open(f"{folder}/{self.id}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError:
                return  # without a folder of its own, one per volume and instance is all that is known
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                continue
            self._lock = lock
            return


def _volume_id(root: str) -> str:
    """Return the random id of a volume, which its owner keeps in the lock's file; else where it is."""
    return read_text(f"{root}/{TREES}/{LOCK}", 64) or os.path.realpath(root)
