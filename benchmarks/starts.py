"""A sidecar that starts on an empty volume, and one that follows without any deploy."""

import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable

import tree
from measure import (
    RUNS,
    WORK,
    Row,
    folder_and_changes,
    following,
    packed,
    paired,
    row,
    row_per_tree,
    serving,
    size_of,
    status,
    timed,
    upload,
)

from harness import Server

IDLE_SECONDS = 60
SETTLE_SECONDS = 75
"""The last work after a swap is done 60 s after it."""
IDLE_RUNS = 5


def _once(server: Server) -> Callable[[], float]:
    """A function that times ``dagferry-sidecar --once`` on an empty volume."""
    command = [sys.executable, "-m", "dagferry_sidecar", "--once", "--server", server.url, "--root"]

    def run() -> float:
        root = tempfile.mkdtemp(dir=WORK)
        seconds = timed([*command, root])
        shutil.rmtree(root)
        return seconds

    return run


@row_per_tree
def cold_start(shape: tree.Shape) -> list[Row]:
    """``--once`` from an empty volume, against the shortest pipe of standard tools."""
    folder, _ = folder_and_changes(tree.change_leaf, shape)
    with serving("cold") as server:
        version, *_ = upload(server, packed(folder))
        url = f"{server.url}/default/dags/versions/{version}"

        def pipe() -> float:
            target = tempfile.mkdtemp(dir=WORK)
            seconds = timed(f"curl -sS {shlex.quote(url)} | zstd -dc | tar -x -C {shlex.quote(target)}")
            shutil.rmtree(target)
            return seconds

        ratio, ours, least = paired(_once(server), pipe)
    what = f"`--once` from an empty volume ÷ `curl … | zstd -dc | tar -x`, {size_of(shape)}"
    return [(what, "≤ 2 ×" if shape is tree.LARGE else "≤ 65 ms", f"{ratio}: {ours} ÷ {least}")]


@row
def tiny_start() -> list[Row]:
    """``--once`` with ten files, against the interpreter alone."""
    folder = WORK / "tiny"
    folder.mkdir()
    for number in range(10):
        (folder / f"dag_{number}.py").write_text(f"print({number})\n")
    with serving("tiny-data") as server:
        upload(server, packed(folder))
        ratio, ours, least = paired(_once(server), lambda: timed([sys.executable, "-c", "pass"]), 2 * RUNS)
    return [("`--once`, 10 files ÷ `python -c pass`", "≤ 8 ×", f"{ratio}: {ours} ÷ {least}")]


@row_per_tree
def idle(shape: tree.Shape) -> list[Row]:
    """A sidecar that follows without any deploy, minute after minute."""
    folder, _ = folder_and_changes(tree.change_leaf, shape)
    used = []
    with serving("idle") as server:
        version, *_ = upload(server, packed(folder))
        with following(server.url, WORK / "idle-pod", version) as sidecar:
            sidecar.probe("/metrics")
            time.sleep(SETTLE_SECONDS)
            for _ in range(IDLE_RUNS):
                before = sidecar.cpu_seconds()
                time.sleep(IDLE_SECONDS)
                used.append(sidecar.cpu_seconds() - before)
            memory, peak = (status(sidecar.process.pid, field) for field in ("VmRSS", "VmHWM"))
    cpu = f"{sorted(used)[len(used) // 2] * 1000:.0f} ms (n = {IDLE_RUNS}, clock ticks of 10 ms)"
    return [
        (f"CPU of a minute of idle following, {size_of(shape)}", "≤ 50 ms", cpu),
        (
            f"sidecar memory, idle, {size_of(shape)}",
            "≤ 26 MB",
            f"{memory / 1e6:.1f} MB (peak at its cold start {peak / 1e6:.1f} MB)",
        ),
    ]
