"""The hook of ``--hook-command``: runs a program that is told by its environment what is live."""

import contextlib
import os
import signal
import subprocess

from dagferry_follow.errors import HookFailed
from dagferry_follow.volume.records import DeployRef

MAX_HOOK_SECONDS = 300.0
STDERR = 2
INIT = 1


class HookCommand:
    """Runs ``words`` after each swap, with ``DAGFERRY_VERSION``, ``_DIGEST``, ``_SEQUENCE`` and ``_FOLDER`` set.

    No shell reads them. What the command says goes to stderr, beside the sidecar's log. A run that takes longer than
    ``max_seconds`` is killed, with all that it started, and has failed.
    """

    name = "hook-command"

    def __init__(self, words: list[str], folder: str, max_seconds: float = MAX_HOOK_SECONDS) -> None:
        self._words = words
        self._folder = folder
        self._max_seconds = max_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, deploy: DeployRef) -> None:
        """Run the command to its end; ``HookFailed`` unless it ends with 0."""
        told = {"VERSION": deploy.version, "DIGEST": deploy.digest, "SEQUENCE": str(deploy.sequence)}
        environment = {**os.environ, **{f"DAGFERRY_{name}": value for name, value in told.items()}}
        environment["DAGFERRY_FOLDER"] = self._folder
        environment.pop("DAGFERRY_TOKEN", None)  # it is the sidecar's, not the command's
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the command is the operator's own
                self._words, env=environment, stdin=subprocess.DEVNULL, stdout=STDERR, start_new_session=True
            )
        except OSError as error:
            raise HookFailed(f"{self._words[0]} cannot be started: {error.strerror}.") from error
        try:
            code = self._process.wait(self._max_seconds)
        except subprocess.TimeoutExpired as error:
            self.stop()
            raise HookFailed(f"{self._words[0]} took over {self._max_seconds:g} s.") from error
        finally:
            _bury_orphans()
        if code:
            raise HookFailed(f"{self._words[0]} ended with {code}.")

    def stop(self) -> None:
        """Kill the command if it runs, with all that it started."""
        if self._process and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _bury_orphans() -> None:
    """Take note of the ends of what commands left in the background: in a container, nobody else does."""
    if os.getpid() == INIT:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
