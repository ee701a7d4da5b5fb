"""Receiving, checking and storing an upload: how long it takes the server, and how much memory."""

import io
import json
import os
import shlex
import shutil
import statistics
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tree
from measure import (
    MIB,
    WORK,
    Row,
    folder_and_changes,
    following,
    packed,
    paired,
    row,
    row_per_tree,
    send_raw,
    serving,
    size_of,
    status,
    timed,
)

from harness import Server

MANY_FILES = 90_000
UPLOADS = 32
MEMORY_RUNS = 5


@row_per_tree
def upload_time(shape: tree.Shape) -> list[Row]:
    """From the first byte to the answer, against the least that anyone must do with the file."""
    folder, changed = folder_and_changes(tree.change_leaf, shape)
    file = WORK / "dags.tar.gz"
    file.write_bytes(packed(folder))
    numbers = iter(range(1000, 2000))

    def send(port: int) -> float:
        file.write_bytes(changed(next(numbers)))
        return _timed_upload(port, file)

    def fresh() -> float:
        with serving("fresh") as server:
            return send(server.port)

    def least() -> float:
        return timed(f"gzip -dc {shlex.quote(str(file))} | sha256sum")

    with serving("uploads") as server:
        again = paired(lambda: send(server.port), least)
    first = paired(fresh, least)
    packed_size = f"{file.stat().st_size / MIB:.1f} MiB"
    what = f"upload of {packed_size}, one line changed ÷ `gzip -dc F | sha256sum`, {size_of(shape)}"
    goals = ("≤ 1.25 ×", "≤ 2 ×") if shape is tree.LARGE else ("report", "report")
    return [
        (what, goals[0], f"{again[0]}: {again[1]} ÷ {again[2]}"),
        (f"the same to an empty server, {size_of(shape)}", goals[1], f"{first[0]}: {first[1]} ÷ {first[2]}"),
    ]


def _timed_upload(port: int, file: Path) -> float:
    """Seconds from the first byte of an upload to its 200."""
    began = time.perf_counter()
    code = send_raw(port, file)
    seconds = time.perf_counter() - began
    assert code == 200, code
    return seconds


def random_dags(size: int) -> bytes:
    """A tar.gz of about ``size`` bytes, mostly incompressible."""
    folder = WORK / "random"
    folder.mkdir()
    for number in range(16):
        (folder / f"part_{number}.py").write_bytes(b"# noise\n" + os.urandom(size // 16))
    body = packed(folder)
    shutil.rmtree(folder)
    return body


@row
def server_memory() -> list[Row]:
    """Peak memory of the server under many uploads at once, and under a large one."""
    paths = [WORK / f"upload-{number}.tar.gz" for number in range(UPLOADS)]
    for path in paths:
        path.write_bytes(random_dags(15 * MIB - 200_000))
    many, large = [], []
    for _ in range(MEMORY_RUNS):
        with serving("many", "--tiers", "1") as server:
            with ThreadPoolExecutor(UPLOADS) as pool:
                codes = list(pool.map(send_raw, [server.port] * UPLOADS, paths))
            assert codes == [200] * UPLOADS, codes
            many.append(status(server.process.pid, "VmHWM"))
    for path in paths:
        path.unlink()
    path = WORK / "large.tar.gz"
    path.write_bytes(random_dags(500 * MIB))
    for _ in range(MEMORY_RUNS):
        with serving("large", "--tiers", "40") as server:
            assert send_raw(server.port, path) == 200
            large.append(status(server.process.pid, "VmHWM"))
    path.unlink()
    return [
        (f"server peak memory, {UPLOADS} uploads of 15 MiB at once", "≤ 128 MiB", _mib(many)),
        ("server peak memory, one upload of 500 MiB", "≤ 128 MiB", _mib(large)),
    ]


def many_files(number: int) -> Path:
    """A tar.gz of ``MANY_FILES`` tiny Python files; another ``number`` changes each of them."""
    path = WORK / f"many-{number}.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for file in range(MANY_FILES):
            content = b"import os, sys, module_%d\nx = %d\n" % (file, file + number)
            member = tarfile.TarInfo(f"dags/team_{file % 300:03}/module_{file:05}.py")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _upload_to_both(server: Server, path: Path) -> str:
    """Upload to both deployments at once; return the version of ``a``."""
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(send_raw, [server.port] * 2, [path] * 2, ["/a/dags/upload", "/b/dags/upload"]))
    assert codes == [200] * 2, codes
    version: str = json.loads(server.get("/a/dags/current")[1])["version"]
    return version


@row
def many_files_memory() -> list[Row]:
    """Peak memory with as many tiny files as the limits let through: two deployments, each of them twice, at once."""
    paths = [many_files(0), many_files(1)]
    servers, sidecars = [], []
    for _ in range(MEMORY_RUNS):
        with serving("many-files", "--deployments", "a,b") as server:
            first = _upload_to_both(server, paths[0])
            with following(server.url, WORK / "many-pod", first, "--deployment", "a") as sidecar:
                sidecar.runs(_upload_to_both(server, paths[1]))
                sidecars.append(status(sidecar.process.pid, "VmHWM"))
            servers.append(status(server.process.pid, "VmHWM"))
    for path in paths:
        path.unlink()
    what = f"{MANY_FILES:,} tiny files, all changed, two deployments at once"
    return [
        (f"server peak memory, {what}", "≤ 256 MiB", _mib(servers)),
        ("sidecar peak memory, the same", "≤ 256 MiB", _mib(sidecars)),
    ]


def _mib(peaks: list[int]) -> str:
    middle, least, most = (value / MIB for value in (statistics.median(peaks), min(peaks), max(peaks)))
    return f"{middle:.0f} MiB ({least:.0f}–{most:.0f}, n = {len(peaks)})"
