"""The hook of ``--hook-command``: runs a program and passes it the live deploy in environment variables."""

import contextlib
import os
import signal
import subprocess

from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import HookFailed

MAX_HOOK_SECONDS = 300.0
STDERR = 2
INIT = 1


class HookCommand:
    """Runs ``words`` after each swap, with ``DAGFERRY_VERSION``, ``_DIGEST``, ``_SEQUENCE`` and ``_FOLDER`` set.

    No shell is involved. The command's output goes to stderr, next to the sidecar's log. A run that takes longer than
    ``max_seconds`` is killed, with every process that it started, and counts as failed.
    """

    name = "hook-command"

    def __init__(self, words: list[str], folder: str, max_seconds: float = MAX_HOOK_SECONDS) -> None:
        self._words = words
        self._folder = folder
        self._max_seconds = max_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, deploy: DeployRef) -> None:
        """Run the command to its end; ``HookFailed`` unless its exit code is 0."""
        told = {"VERSION": deploy.version, "DIGEST": deploy.digest, "SEQUENCE": str(deploy.sequence)}
        environment = {**os.environ, **{f"DAGFERRY_{name}": value for name, value in told.items()}}
        environment["DAGFERRY_FOLDER"] = self._folder
        environment.pop("DAGFERRY_TOKEN", None)  # it belongs to the sidecar, not to the command
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
            raise HookFailed(f"{self._words[0]} took longer than {self._max_seconds:g} s and was killed.") from error
        finally:
            _reap_orphans()
        if code:
            raise HookFailed(f"{self._words[0]} ended with exit code {code}.")

    def stop(self) -> None:
        """Kill the command if it is running, with every process that it started."""
        if self._process and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _reap_orphans() -> None:
    """Reap processes that commands left in the background: in a container, nothing else does."""
    if os.getpid() == INIT:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
