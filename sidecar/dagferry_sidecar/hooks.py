"""Runs hooks after a swap, each in a thread of its own.

Promises: a hook never delays a swap and never makes one fail. It runs for the newest live deploy only: deploys that
came and went while it was running are skipped. If it fails it is tried again with growing pauses, until it succeeds or
a newer deploy is live.
"""

import threading
from collections.abc import Callable
from typing import Protocol

from dagferry_core.errors import DagferryError
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import HookFailed
from dagferry_follow.log import Log
from dagferry_runtime.lines import fields

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 300.0
MAX_DOUBLINGS = 30

log = Log(__name__)


class Hook(Protocol):
    """Something to do after a swap. Its methods may be called from different threads."""

    name: str

    def run(self, deploy: DeployRef) -> None:
        """Run for this live deploy; raise ``HookFailed`` to be tried again."""

    def stop(self) -> None:
        """Make a ``run`` in progress end soon."""


class AfterSwap:
    """Runs one hook for the newest live deploy. ``count`` is called with ``ok`` or the code of an error."""

    def __init__(
        self, hook: Hook, count: Callable[[str], None], first_pause_seconds: float = FIRST_PAUSE_SECONDS
    ) -> None:
        self._hook = hook
        self._count = count
        self._first_pause = first_pause_seconds
        self._changed = threading.Condition()
        self._newest: DeployRef | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._follow, name=hook.name, daemon=True)
        self._thread.start()

    def swapped(self, deploy: DeployRef) -> None:
        """Run the hook for ``deploy``, which is live now; returns at once."""
        with self._changed:
            self._newest = deploy
            self._changed.notify()

    def stop(self, seconds: float) -> None:
        """End the thread, and wait for it up to ``seconds``."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._hook.stop()
        self._thread.join(seconds)

    def _follow(self) -> None:
        done: DeployRef | None = None
        while deploy := self._wait_for_another(done):
            failures = 0
            while not self._succeeds(deploy):
                pause = min(MAX_PAUSE_SECONDS, self._first_pause * 2.0**failures)
                newest = self._wait_for_another(deploy, pause)
                if newest is None:
                    return
                failures = min(failures + 1, MAX_DOUBLINGS) if newest == deploy else 0
                deploy = newest
            done = deploy

    def _wait_for_another(self, known: DeployRef | None, seconds: float | None = None) -> DeployRef | None:
        """Wait until another deploy is live, or for ``seconds``; return the newest, or ``None`` to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._newest != known, seconds)
            return None if self._stopped else self._newest

    def _succeeds(self, deploy: DeployRef) -> bool:
        try:
            self._hook.run(deploy)
        except HookFailed as error:
            log.warning(error.message, extra=fields(hook=self._hook.name, version=deploy.version, code=error.code))
            self._count(error.code)
            return False
        except Exception:
            # A bug in the hook must not end its thread.
            log.exception("The hook failed because of an internal error", extra=fields(hook=self._hook.name))
            self._count(DagferryError.code)
            return False
        log.info("Hook finished", extra=fields(hook=self._hook.name, version=deploy.version))
        self._count("ok")
        return True
