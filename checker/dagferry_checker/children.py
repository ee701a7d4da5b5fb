"""Runs work in forked children, one for each file: bounded in time, memory and output, and killed with all they start.

The parent never runs what it is to check. What a child says is read as hostile: it is bounded, and its form is checked
by the caller.
"""

import contextlib
import faulthandler
import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dagferry_checker.leftovers import remove_tree
from dagferry_checker.limits import Limits, confine, kill_strays

MAX_RESULT_BYTES = 1024 * 1024
MAX_FAULT_BYTES = 8192
GRACE_SECONDS = 1.0
"""How much later than its time a child is killed: until then, it writes where it is."""
TICK_SECONDS = 0.2
_RESULT_FD, _FAULT_FD, _FIRST_FREE_FD, _LAST_FD = 3, 4, 5, 65_536

Work = Callable[[str], dict[str, Any]]
"""Runs in a child: what the parent gets for one name, as JSON."""


class Ended(NamedTuple):
    """How a child ended: its result, if it had one; else the signal or the exit code, and where it was.

    ``timed_out``: it was killed for its time. ``peak`` is the most memory it had, in bytes.
    """

    name: str
    result: dict[str, Any] | None
    signal: int
    code: int
    timed_out: bool
    fault: str
    peak: int
    seconds: float


class _Pipes(NamedTuple):
    """The descriptors that a child writes to, and its home."""

    result: int
    fault: int
    home: str


class _Child:
    def __init__(self, name: str, pid: int, pipes: _Pipes, seconds: float) -> None:
        self.name = name
        self.pid = pid
        self.result, self.fault, self.home = pipes
        self.started = time.monotonic()
        self.deadline = self.started + seconds + GRACE_SECONDS
        self.data = bytearray()
        self.open = True
        self.timed_out = False

    def read(self) -> None:
        """Take what has arrived; what is too much is dropped, and then the result counts as missing."""
        with contextlib.suppress(BlockingIOError):
            piece = os.read(self.result, 1 << 16)
            if not piece:
                self.open = False
            if len(self.data) <= MAX_RESULT_BYTES:
                self.data += piece

    def kill(self) -> None:
        for kill in (os.killpg, os.kill):  # it may not have its own group yet
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)


def run(
    names: Sequence[str],
    work: Work,
    *,
    limits: Limits,
    jobs: int,
    scratch: str,
    ended: Callable[[Ended], None],
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Run ``work`` for each name in a child, ``jobs`` at a time, and call ``ended`` for each.

    Each has an empty folder in ``scratch`` as its home and current folder. When ``stopped`` returns true, the rest is
    not run, and what runs is killed.
    """
    waiting = list(reversed(names))
    running: dict[int, _Child] = {}
    try:
        while (waiting or running) and not stopped():
            while waiting and len(running) < jobs:
                child = _start(waiting.pop(), work, limits, scratch)
                running[child.pid] = child
            _wait(running)
            for child in list(running.values()):
                if (status := _status(child)) is not None:
                    del running[child.pid]
                    ended(_finish(child, *status, keep=running))
    finally:
        for child in running.values():
            child.kill()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, 0)
            _close(child)
        kill_strays(())


def _start(name: str, work: Work, limits: Limits, scratch: str) -> _Child:
    home = tempfile.mkdtemp(prefix="home-", dir=scratch)
    result, write = os.pipe()
    fault = os.memfd_create("faults")
    pid = os.fork()
    if pid == 0:
        _run_child(name, work, limits, _Pipes(write, fault, home))
    os.close(write)
    os.set_blocking(result, False)
    return _Child(name, pid, _Pipes(result, fault, home), limits.seconds)


def _run_child(name: str, work: Work, limits: Limits, pipes: _Pipes) -> None:
    """Do the work and end the process: nothing of the parent runs in it."""
    code = 1
    try:
        # Airflow handled SIGSEGV in the parent when that warmed up; a handler in Python would be called without end.
        faulthandler.disable()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGSEGV):
            signal.signal(number, signal.SIG_DFL)
        _take_descriptors(pipes.result, pipes.fault)
        confine(limits)
        os.chdir(pipes.home)
        os.environ.update(HOME=pipes.home, TMPDIR=pipes.home)
        tempfile.tempdir = None
        faulthandler.enable(file=_FAULT_FD)
        faulthandler.dump_traceback_later(limits.seconds, file=_FAULT_FD)
        try:
            said = json.dumps(work(name)).encode()
        except MemoryError:
            said = b'{"memory": true}'
        view = memoryview(said)
        while view:
            view = view[os.write(_RESULT_FD, view) :]
        code = 0
    finally:
        os._exit(code)


def _take_descriptors(write: int, fault: int) -> None:
    """Keep the two descriptors, nothing on standard input and output, and none of the parent's."""
    high = [os.dup(fd) for fd in (write, fault)]  # neither may be overwritten by the other
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    high = [_above(fd) for fd in high]
    for fd, place in zip(high, (_RESULT_FD, _FAULT_FD), strict=True):
        os.dup2(fd, place, inheritable=False)
    os.closerange(_FIRST_FREE_FD, _LAST_FD)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode, closefd=False) for fd, mode in enumerate("rww"))


def _above(fd: int) -> int:
    while fd <= _FAULT_FD:
        fd = os.dup(fd)
    return fd


def _wait(running: dict[int, _Child]) -> None:
    readable = {child.result: child for child in running.values() if child.open}
    now = time.monotonic()
    patience = min([TICK_SECONDS, *(max(child.deadline - now, 0.0) for child in running.values())])
    if readable:
        ready, _, _ = select.select(list(readable), [], [], patience)
        for fd in ready:
            readable[fd].read()
    else:
        time.sleep(min(patience, 0.02))


def _status(child: _Child) -> tuple[int, int] | None:
    """Return the wait status of a child that ended and its peak of memory in bytes; kill one whose time is over."""
    pid, status, usage = os.wait4(child.pid, os.WNOHANG)
    if not pid and time.monotonic() >= child.deadline:
        child.timed_out = True
        child.kill()
        _, status, usage = os.wait4(child.pid, 0)
        pid = child.pid
    return (status, usage.ru_maxrss * 1024) if pid else None


def _finish(child: _Child, status: int, peak: int, *, keep: dict[int, _Child]) -> Ended:
    before = -1
    while child.open and before != len(child.data):  # what it started may keep the pipe open
        before = len(child.data)
        child.read()
    seconds = time.monotonic() - child.started
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    kill_strays(keep)
    fault = os.pread(child.fault, MAX_FAULT_BYTES, 0).decode(errors="replace")
    _close(child)
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
    timed_out = child.timed_out or killed == signal.SIGXCPU
    return Ended(child.name, _result(child), killed, code, timed_out, fault, peak, seconds)


def _result(child: _Child) -> dict[str, Any] | None:
    if not child.data or len(child.data) > MAX_RESULT_BYTES or child.timed_out:
        return None
    try:
        result = json.loads(bytes(child.data))
    except (ValueError, RecursionError):
        return None
    return result if isinstance(result, dict) else None


def _close(child: _Child) -> None:
    os.close(child.result)
    os.close(child.fault)
    remove_tree(child.home)
