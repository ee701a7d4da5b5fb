"""The CPU and memory limits of the container that this process runs in, from its control groups, version 1 or 2.

``/proc/self/cgroup`` names the groups; their limits are files below ``/sys/fs/cgroup``: ``cpu.max`` and ``memory.max``
in version 2, ``cpu.cfs_quota_us``, ``cpu.cfs_period_us`` and ``memory.limit_in_bytes`` in version 1. A limit also
applies to the groups below it, so the lowest one up to the root of the mount counts. In a container that root often is
the container's own group, whatever path ``/proc`` shows. A limit that cannot be read is ignored.

Source: the Linux kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

NO_LIMIT_BYTES = 1 << 62
"""Version 1 writes "no limit" as a number just below 2 to the 63rd."""

MAX_READ_BYTES = 64 * 1024


class Resources(NamedTuple):
    """What a container may use: CPUs (1.5 is one and a half) and bytes of memory. ``None`` means unlimited."""

    cpus: float | None
    memory_bytes: int | None


def available(root: str = "/") -> Resources:
    """Return the limits of this process, read from the files below the folder ``root``. It never fails."""
    cpus: list[float] = []
    memory_bytes: list[int] = []
    for group in _groups(root):
        time = _read(group, "cpu.max") or f"{_read(group, 'cpu.cfs_quota_us')} {_read(group, 'cpu.cfs_period_us')}"
        match [int(word) for word in time.split() if word.isdigit()]:  # "max" or -1 means unlimited
            case [quota, period] if period:
                cpus.append(quota / period)
        memory = _read(group, "memory.max") or _read(group, "memory.limit_in_bytes")
        if memory.isdigit() and int(memory) < NO_LIMIT_BYTES:
            memory_bytes.append(int(memory))
    return Resources(min(cpus, default=None), min(memory_bytes, default=None))


def _groups(root: str) -> Iterator[str]:
    """Yield the folders of the groups this process is in, and of those above them."""
    for line in _read(root, "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        steps = [step for step in path.split("/") if step not in ("", "..")]
        for controller in controllers.split(","):  # one empty one in version 2
            for length in range(len(steps) + 1):
                yield os.path.join(root, "sys/fs/cgroup", controller, *steps[:length])


def _read(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name), encoding="ascii", errors="replace") as file:
            return file.read(MAX_READ_BYTES).strip()
    except OSError:
        return ""
