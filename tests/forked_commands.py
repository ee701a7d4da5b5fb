"""Dagferry's commands, started by fork from a process that has imported them: in 20 ms instead of 500.

Such a command runs its real ``main``, with two differences. What the server does in other threads runs at once in the
event loop's thread, so the Nth system call is the same in every run, and a tracer that counts calls by thread finds it
again. And it can be started as another user, who could not start this Python.

Run as a program, this module is the process that forks: it reads a JSON request from each line of stdin and prints a
JSON response.
"""

import ctypes
import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagferry_core.archive.ahead import expand_ahead

PATIENCE_SECONDS = 30
POLL_SECONDS = 0.001
PACKAGES = ("dagferry_core", "dagferry_follow", "dagferry_runtime", "dagferry_server", "dagferry_sidecar")
LATE_IMPORTS = ("encodings.idna", "http.server", "dagferry_sidecar.metrics")
"""Modules that are imported on first use: another user could not import them, and that would add system calls."""


_c = ctypes.CDLL(None, use_errno=True)
"""To signal a process's main thread. The kernel may choose another one, whose first write then tells the event loop;
a fault that is to strike the first write of each thread would make the signal unheard."""


class Inline(ThreadPoolExecutor):
    """A pool without threads."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)
        return future


@contextmanager
def expand_inline(source: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """``expand_ahead`` without a thread."""
    yield itertools.chain(source, itertools.repeat(b""))


class Forked:
    """A started command; has what the tests use of ``subprocess.Popen``."""

    def __init__(self, forker: "Forker", pid: int) -> None:
        self._forker = forker
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._wait(0)

    def wait(self, seconds: float) -> int:
        code = self._wait(seconds)
        assert code is not None, f"process {self.pid} still runs after {seconds} s"
        return code

    def _wait(self, seconds: float) -> int | None:
        if self.returncode is None:
            self.returncode = self._forker.ask(wait=self.pid, seconds=seconds)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None and _c.tgkill(self.pid, self.pid, number):
            raise OSError(ctypes.get_errno(), "tgkill")

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self.wait(PATIENCE_SECONDS)


class Forker:
    """The process that forks, seen from a test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # The order of a set must not change the order of calls, nor a compiled module their number.
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def ask(self, **request: object) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, program: str, *arguments: str, log: Path, uid: int = 0, stopped: bool = False) -> Forked:
        """Start ``program``; ``stopped``: before it does anything, until it gets SIGCONT."""
        pid = self.ask(program=program, arguments=arguments, log=str(log), uid=uid, stopped=stopped)
        if stopped:
            while b") T " not in Path(f"/proc/{pid}/stat").read_bytes():
                time.sleep(POLL_SECONDS)
        return Forked(self, pid)

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


# --- the process that forks ------------------------------------------------------------------------------------------


def _serve() -> None:
    import importlib
    import pkgutil

    for package in map(importlib.import_module, PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for name in LATE_IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    children: set[int] = set()
    try:
        while line := sys.stdin.readline():
            request = json.loads(line)
            answer = _wait(children, request) if "wait" in request else _fork(children, request)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)


def _wait(children: set[int], request: dict[str, Any]) -> int | None:
    deadline = time.monotonic() + request["seconds"]
    while True:
        pid, status = os.waitpid(request["wait"], os.WNOHANG)
        if pid:
            children.discard(pid)
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(POLL_SECONDS)


def _fork(children: set[int], request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        children.add(pid)
        return pid
    code = 70
    try:
        code = _run(**request)
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:  # noqa: BLE001 - it must not come to the loop of the parent
        sys.excepthook(*sys.exc_info())
    os._exit(code)


def _run(program: str, arguments: list[str], log: str, uid: int, *, stopped: bool) -> int:
    import importlib

    from dagferry_core.archive import check
    from dagferry_server import serve_command

    nothing = os.open(os.devnull, os.O_RDWR)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, target in enumerate((nothing, out, out)):
        os.dup2(target, number)
    os.close(nothing)
    os.close(out)
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    assert serve_command.ThreadPoolExecutor is ThreadPoolExecutor
    assert check.expand_ahead is expand_ahead
    serve_command.ThreadPoolExecutor = Inline  # type: ignore[misc]
    check.expand_ahead = expand_inline
    sys.argv = [program, *arguments]
    main = importlib.import_module(f"{program}.__main__").main
    if stopped:
        os.kill(os.getpid(), signal.SIGSTOP)
    code: int = main()
    return code


if __name__ == "__main__":
    _serve()
