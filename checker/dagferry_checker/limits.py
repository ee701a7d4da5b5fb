"""What a child that runs a DAG file may use, and how it is kept apart. Linux only.

Memory is limited by ``RLIMIT_DATA``: what the process allocates itself. ``RLIMIT_AS`` would count what Airflow and its
libraries map, which is gigabytes.
"""

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Collection
from typing import NamedTuple

MAX_FILE_BYTES = 64 * 1024 * 1024
"""The largest file that a DAG file may write."""
MAX_DESCRIPTORS = 256
MAX_SWEEPS = 50
"""How often strays are looked for: each that is killed may leave some of its own."""

_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_SUBREAPER, _NO_NEW_PRIVILEGES = 1, 4, 36, 38


class Limits(NamedTuple):
    """Seconds that a file may take, and bytes of memory beyond what the engine has."""

    seconds: float
    memory: int


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends."""
    _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


_adopts = [False]


def adopt_orphans() -> None:
    """Become the parent of what descendants leave behind, so that ``kill_strays`` finds it.

    Only for a process whose children are all of the checker's making.
    """
    _prctl(_SET_SUBREAPER, 1)
    _adopts[0] = True


def hide_memory() -> None:
    """Keep other processes of this user from the memory, the environment and the descriptors of this one."""
    _prctl(_SET_DUMPABLE, 0)


def confine(limits: Limits) -> None:
    """Limit this process, a child that was just forked, and give it a session of its own."""
    os.setsid()
    die_with_parent()
    _prctl(_SET_DUMPABLE, 1)  # the engine's is 0, and a child inherits it: it could not read its own environment
    _prctl(_SET_SUBREAPER, 1)  # what it leaves in the background comes to the engine when it ends, not before
    _prctl(_NO_NEW_PRIVILEGES, 1)
    cpu = int(limits.seconds) + 2
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_CPU, cpu)
    _lower(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
    _lower(resource.RLIMIT_NOFILE, MAX_DESCRIPTORS)
    _lower(resource.RLIMIT_DATA, data_bytes() + limits.memory)


def _lower(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(what, (value, value))


def data_bytes() -> int:
    """Return what ``RLIMIT_DATA`` counts of this process."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0


def resident_bytes() -> int:
    """Return how much memory this process has."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as numbers:
        return int(numbers.read().split()[1]) * resource.getpagesize()
    return 0


def kill_strays(keep: Collection[int]) -> None:
    """Kill all children of this process but those to ``keep``: what a DAG file started and left behind.

    Nothing unless this process adopts orphans: then the children may be of others' making.
    """
    if not _adopts[0]:
        return
    for _ in range(MAX_SWEEPS):
        strays = [pid for pid in _children() if pid not in keep]
        if not strays:
            return
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in strays:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as children:
                found += map(int, children.read().split())
    return found
