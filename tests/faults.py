"""Faults at chosen system calls of a running process, by strace: a kill right before the call, or an error from it.

A clean run is recorded once. A fault is then placed by the name of a call and its number among the calls of that name,
which is how strace counts. Only calls that concern a given folder are taken; what a process does elsewhere is its own
business.
"""

import math
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from forked_commands import POLL_SECONDS
from harness import PATIENCE_SECONDS, eventually

EVERY_POINT = os.environ.get("DAGFERRY_FAULTS") == "all"
"""By default a fault strikes at the first and the last call of each kind; with this at every call."""

MAX_SHOWN_CHARACTERS = 2000
CHANGING = {
    *("chmod", "fchmod", "fchmodat", "fsync", "ftruncate", "link", "linkat", "mkdir", "mkdirat", "openat", "rename"),
    *("renameat", "renameat2", "rmdir", "symlink", "symlinkat", "unlink", "unlinkat", "utimensat", "write"),
}
"""The calls after which a volume is not what it was. A kill between two of them leaves what a kill at the second
leaves, so these are all the points there are for a kill. (``openat`` counts if it makes a file.)"""
READING = {"flock", "fstat", "getdents64", "newfstatat", "pread64", "read", "readlink", "readlinkat", "statfs"}

ERRORS = {
    "openat": "EMFILE EACCES EROFS ENOSPC EIO",
    "write": "ENOSPC EIO",
    "mkdir": "ENOSPC EACCES EROFS EIO",
    "symlink": "ENOSPC EACCES EROFS",
    "link": "ENOSPC EACCES EROFS EIO",
    "linkat": "ENOSPC EACCES EROFS EIO EPERM EMLINK",
    "rename": "ENOSPC EACCES EROFS EIO",
    "unlink": "EACCES EROFS EIO",
    "rmdir": "EACCES EROFS EIO",
    "fsync": "EIO ENOSPC",
    "chmod": "EROFS EPERM EIO",
    "fchmod": "EROFS EPERM EIO",
    "utimensat": "EROFS EPERM EIO",
    "ftruncate": "EIO",
    "read": "EIO",
    "pread64": "EIO",
    "getdents64": "EIO",
    "readlink": "EACCES EIO",
    "newfstatat": "EACCES EIO",
    "fstat": "EIO",
    "statfs": "EIO",
    "flock": "EINTR ENOLCK",
}
"""What each call may come back with on a volume that is full, broken, read-only or not ours, or in a process that has
too many open files."""

_LINE = re.compile(r"(\d+) +(\w+)\((.*)")
_KINDS = (
    (re.compile(r"[0-9a-f]{64}"), "DIGEST"),
    (re.compile(r"[0-9a-f]{16}"), "UNIQUE"),
    (re.compile(r"\d{8}T\d{6}Z-\d{6}"), "VERSION"),
    (re.compile(r"\d{12}"), "SEQUENCE"),
    (re.compile(r"#\d+"), "NAMELESS"),
    (re.compile(r"(?<=\.new-)[0-9a-z_]{8}\b"), "UNIQUE"),
    (re.compile(r"\d+(?=<)"), "N"),
    (re.compile(r"[\w.]+\.(py|sql)\b"), "FILE"),
    (re.compile(r"(?<=VERSION)(/\w+)+"), "/FOLDER"),
)


def _reason_to_skip() -> str:
    if os.environ.get("CI"):
        return ""  # there it has to work
    if not shutil.which("strace"):
        return "strace is not installed"
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    return "this container may not trace" if tried.returncode else ""


needs_strace = pytest.mark.skipif(bool(_reason_to_skip()), reason=_reason_to_skip())


class SystemCall(NamedTuple):
    """A system call of the clean run: its name, its number among those of that name, and what it was about."""

    name: str
    number: int
    kind: str

    def __str__(self) -> str:
        return f"{self.name} {self.number} ({self.kind})"


@contextmanager
def traced(pid: int, output: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Trace a process; wait until that has begun, and let go of it at the end."""
    command = ["strace", "-f", "-y", "-s", "0", "-qq", "-o", str(output), *options, "-p", str(pid)]
    strace = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
            assert strace.poll() is None, f"strace ended: {command}"
            assert time.monotonic() < deadline, f"strace does not begin: {command}"
            time.sleep(POLL_SECONDS)
        yield strace
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait(PATIENCE_SECONDS)


def recording(pid: int, output: Path) -> "contextmanager[subprocess.Popen[bytes]]":
    """Trace a clean run."""
    # Not every machine has all of them: hence the question marks.
    return traced(pid, output, "-e", "trace=" + ",".join(f"?{name}" for name in sorted(CHANGING | READING)))


def injecting(pid: int, output: Path, call: SystemCall, what: str) -> "contextmanager[subprocess.Popen[bytes]]":
    """Let ``what`` (``signal=KILL``, ``error=ENOSPC``) happen at one call."""
    options = ("-e", f"trace={call.name}", "-e", f"inject={call.name}:{what}:when={call.number}")
    return traced(pid, output, *options)


def calls(output: Path, folder: Path) -> list[SystemCall]:
    """Read a recording: the calls that concern ``folder``, of the one thread that may change it.

    Others may look into it: a server looks for candidates and leases while it starts.
    """
    found: dict[str, list[SystemCall]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    inside = re.escape(str(folder)) + r'[/">]'
    for line in output.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if not match:
            continue
        thread, name, rest = match.groups()
        counts[thread, name] += 1
        if re.search(inside, rest):
            found.setdefault(thread, []).append(SystemCall(name, counts[thread, name], _kind(rest, folder)))
    worker = max(found, key=lambda thread: len(found[thread]))
    for thread in found.keys() - {worker}:
        assert not changing(found[thread]), f"several threads change {folder}: {changing(found[thread])}"
    return found[worker]


def _kind(text: str, folder: Path) -> str:
    text = text.replace(str(folder), "").partition(" = ")[0].partition("{")[0]
    for pattern, name in _KINDS:
        text = pattern.sub(name, text)
    return text.strip().removesuffix(")")


def changing(recorded: Iterable[SystemCall]) -> list[SystemCall]:
    """Those among the calls after which the folder is not what it was."""
    makes = ("O_CREAT", "O_TMPFILE")
    return [
        call
        for call in recorded
        if call.name in CHANGING and (call.name != "openat" or any(flag in call.kind for flag in makes))
    ]


def chosen(recorded: list[SystemCall]) -> list[SystemCall]:
    """The calls at which faults strike: the first and the last of each kind, or all of them."""
    if EVERY_POINT:
        return recorded
    first: dict[tuple[str, str], SystemCall] = {}
    last: dict[tuple[str, str], SystemCall] = {}
    for call in recorded:
        first.setdefault((call.name, call.kind), call)
        last[call.name, call.kind] = call
    ends = {*first.values(), *last.values()}
    return [call for call in recorded if call in ends]


def struck(output: Path) -> bool:
    """Return whether the fault came to be."""
    text = output.read_text(errors="replace")
    return "(INJECTED)" in text or "killed by SIGKILL" in text


def try_each(points: Iterable[tuple[SystemCall, str]], attempt: Callable[[SystemCall, str], None]) -> int:
    """Make an attempt at each point, and fail with the list of those that failed; return how many there were."""
    failed: list[str] = []
    count = 0
    for call, what in points:
        count += 1
        try:
            attempt(call, what)
        except Exception as error:  # noqa: BLE001 - it is told of below, with the others
            failed.append(f"{what} at {call}: {type(error).__name__}: {str(error)[:MAX_SHOWN_CHARACTERS]}")
    assert not failed, f"{len(failed)} of {count} failed:\n" + "\n".join(failed)
    assert count, "no call was recorded"
    return count


def error_points(recorded: list[SystemCall]) -> list[tuple[SystemCall, str]]:
    """Every error that the chosen calls may come back with."""
    points = []
    for call in chosen(recorded):
        errors = ERRORS.get(call.name) or ERRORS.get(re.sub("at2?$", "", call.name), "")
        points += [(call, f"error={error}") for error in errors.split()]
    return points


def kill_points(recorded: list[SystemCall]) -> list[tuple[SystemCall, str]]:
    """A kill before each chosen call that changes something."""
    return [(call, "signal=KILL") for call in chosen(changing(recorded))]


def most_attempts(count: Callable[[], float], *, at_least: int, first_pause: float) -> None:
    """Wait for so many failed attempts, and fail if there are more than pauses that double would allow."""
    started = time.monotonic()
    eventually(f"{at_least} failed attempts", lambda: count() >= at_least)
    attempts, seconds = int(count()), time.monotonic() - started
    # Half of a pause is chance. The first attempt may have been a little before the start.
    allowed = 1 + math.log2(1 + (seconds + first_pause) / (first_pause / 2))
    assert attempts <= allowed, f"{attempts} attempts in {seconds:.2f} s"
