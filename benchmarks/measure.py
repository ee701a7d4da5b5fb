"""What all measurements share: processes, trees, times side by side, and how a figure is written."""

import http.client
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import tree

from harness import Process, Server, Sidecar

WORK = Path(tempfile.mkdtemp(prefix="dagferry-bench-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
RUNS = 9
MIB = 1 << 20
MIN_IN_SECONDS = 10
"""From how many seconds on a time is written in seconds."""

Row = tuple[str, str, str]
"""What is measured, the goal, and the figure."""
ROWS: dict[str, Callable[[], list[Row]]] = {}

Figure = TypeVar("Figure", int, float)


def row(function: Callable[[], list[Row]]) -> Callable[[], list[Row]]:
    """Register a measurement."""
    ROWS[function.__name__] = function
    return function


def row_per_tree(function: Callable[[tree.Shape], list[Row]]) -> Callable[[tree.Shape], list[Row]]:
    """Register a measurement for each tree."""
    for shape in tree.SHAPES:
        ROWS[f"{function.__name__}_{shape.name}"] = partial(function, shape)
    return function


def size_of(shape: tree.Shape) -> str:
    """A tree's name in a row."""
    return f"{shape.total_bytes // 10**6} MB"


# --- figures ---------------------------------------------------------------------------------------------------------


def ms(seconds: list[float]) -> str:
    """Median and range in milliseconds; in seconds if they are many."""
    if min(seconds) >= MIN_IN_SECONDS:
        return _figure(seconds, ".1f", "s")
    return _figure([second * 1000 for second in seconds], ".0f", "ms")


def size(found: list[int]) -> str:
    """Median and range of bytes."""
    return _figure(found, ".0f", "B") if max(found) < 10_000 else _figure([n / 1000 for n in found], ".0f", "kB")


def _figure(found: list[Figure], form: str, unit: str) -> str:
    middle, least, most = (format(value, form) for value in (statistics.median(found), min(found), max(found)))
    return f"{middle} {unit} ({least}–{most}, n = {len(found)})"


def paired(a: Callable[[], float], b: Callable[[], float], runs: int = RUNS) -> tuple[str, str, str]:
    """Run A and B in turn; return the median of the ratios and both as text."""
    a(), b()
    pairs = [(a(), b()) for _ in range(runs)]
    return f"{statistics.median(x / y for x, y in pairs):.2f} ×", ms([x for x, _ in pairs]), ms([y for _, y in pairs])


def machine() -> str:
    """One line about where and when this was measured."""
    model = next(
        (line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?"
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{datetime.now(timezone.utc):%Y-%m-%d}, {os.cpu_count()} × {model}, {memory:.0f} GiB, Linux "
        f"{platform.release()}, CPython {platform.python_version()}, working folder on tmpfs; load "
        f"{os.getloadavg()[0]:.1f} at the start"
    )


# --- processes -------------------------------------------------------------------------------------------------------


def status(pid: int, field: str) -> int:
    """A size from /proc/<pid>/status, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


class Written(NamedTuple):
    """Bytes that a process has passed to write(2) and its kin, and those of them that went to a disk."""

    passed: int
    to_disk: int

    @classmethod
    def by(cls, process: Process) -> "Written":
        """Read what a process has written."""
        fields = dict(line.split(": ") for line in Path(f"/proc/{process.process.pid}/io").read_text().splitlines())
        return cls(int(fields["wchar"]), int(fields["write_bytes"]))


def timed(command: str | list[str]) -> float:
    """Seconds a whole process takes."""
    words = ["sh", "-c", command] if isinstance(command, str) else command
    began = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def logged(process: Process, message: str, version: str) -> float:
    """The moment at which a process logged ``message`` about ``version``, in seconds since the epoch."""
    for line in process.logged():
        if line["message"] == message and line.get("version") == version:
            return datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp()
    raise LookupError(f"no {message!r} of {version} in {process.log}")


@contextmanager
def serving(name: str, *flags: str) -> Iterator[Server]:
    """A fresh server with room for large uploads; its data is removed at the end."""
    server = Server(WORK / name, *(flags or ("--tiers", "4"))).ready()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(WORK / name, ignore_errors=True)


@contextmanager
def following(server: str, root: Path, version: str, *flags: str) -> Iterator[Sidecar]:
    """A sidecar that runs ``version``; its volume is removed at the end."""
    sidecar = Sidecar(server, root, *flags)
    try:
        yield sidecar.runs(version)
    finally:
        sidecar.stop()
        shutil.rmtree(root, ignore_errors=True)


# --- trees and uploads -----------------------------------------------------------------------------------------------

Change = Callable[[Path, int, tree.Shape], object]


def packed(folder: Path) -> bytes:
    """The folder as ``tar -cz`` packs it, in the order of names."""
    names = f"--transform=s/^{folder.name}/dags/"
    command = ["tar", "--sort=name", "-cz", "-C", str(folder.parent), names, folder.name]
    return subprocess.run(command, check=True, capture_output=True).stdout


def folder_and_changes(change: Change, shape: tree.Shape) -> tuple[Path, Callable[[int], bytes]]:
    """The tree of a shape, and a function that changes one line of it and packs it."""
    folder = WORK / f"tree-{shape.name}"
    if not folder.exists():
        tree.write(folder, shape)

    def changed(number: int) -> bytes:
        change(folder, number, shape)
        return packed(folder)

    return folder, changed


def upload(server: Server, body: bytes) -> tuple[str, float, float]:
    """Deploy; return the version and the moments at which the upload began and its 200 was received."""
    began = time.perf_counter()
    version = server.deploy(body)["version"]
    return version, began, time.perf_counter()


def send_raw(port: int, path: Path, to: str = "/upload") -> int:
    """Upload a file without holding it in memory; return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300, blocksize=MIB)
    with path.open("rb") as body:
        connection.request("POST", to, body, {"Content-Length": str(path.stat().st_size)})
        code = connection.getresponse().status
    connection.close()
    return code


def wait_live(sidecars: list[Sidecar], version: str) -> None:
    """Look at the links, without a pause, until every one points at ``version``."""
    for sidecar in sidecars:
        while sidecar.live != version:
            time.sleep(0)
