"""Writes that stop at any byte, and no more open files: the process goes on, and heals when it may again.

The system is asked for it: a limit on the size of files makes a write short at exactly that byte, and the next one
fail; a limit on open files makes every call fail that opens one.
"""

import concurrent.futures
import itertools
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from forked_commands import POLL_SECONDS
from harness import PATIENCE_SECONDS, eventually, pack
from invariants import check_log, check_no_root_leftovers, check_root, check_server

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "sql/load.sql": b"select 1\n"}
B = {**A, "shop.py": b"rate = 2\n" * 100, "new/dag.py": b"pass\n" * 300}
SETTLED_SECONDS = 1.0
NOTHING = Path(os.devnull)  # the log is a file too, and must not be cut


def limit_file_size(process, size_bytes: int) -> None:
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


def limit_open_files(process, count: int) -> int:
    """Set the limit, and return what it was."""
    before, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (count, hard))
    return before


def room_for(process, more: int) -> int:
    """The limit that lets a process open so many more files."""
    taken: set[int] = set()
    since = time.monotonic()
    # Retention and connections of before may be about to end, and would leave room.
    while time.monotonic() - since < SETTLED_SECONDS:
        found = set(map(int, os.listdir(f"/proc/{process.pid}/fd")))
        if found != taken:
            taken, since = found, time.monotonic()
        time.sleep(POLL_SECONDS)
    return next(itertools.islice((number for number in itertools.count() if number not in taken), more, None))


def sizes():
    """Every byte where small things end, then fewer."""
    yield from itertools.chain(range(0, 60, 3), range(60, 600, 20), range(600, 4000, 200))


@pytest.mark.parametrize("start", ["nothing", "old tree"])
def test_a_sync_whose_writes_stop_at_any_byte_fails_whole_until_they_do_not(
    fork_server, fork_sidecar, tmp_path, start
) -> None:
    server = fork_server(tmp_path / "data").ready()
    root = tmp_path / "root"
    once = ("--once", "--once-timeout", "0")
    published = {server.deploy(A)["version"]: A}
    if start == "old tree":
        assert fork_sidecar(server.url, root, *once).process.wait(PATIENCE_SECONDS) == 0
    published[server.deploy(B)["version"]] = B
    before = check_root(root, published)
    failed = 0
    for size_bytes in sizes():
        sidecar = fork_sidecar(server.url, root, *once, log=NOTHING, stopped=True)
        limit_file_size(sidecar.process, size_bytes)
        sidecar.process.send_signal(signal.SIGCONT)
        code = sidecar.process.wait(PATIENCE_SECONDS)
        if code == 0:
            break
        failed += 1
        assert code == 6
        assert check_root(root, published) == before
        assert before == "" or not check_no_root_leftovers(root, 0)
    assert check_root(root, published) == list(published)[-1]
    assert failed > 30


def test_an_upload_whose_writes_stop_at_any_byte_fails_whole_until_they_do_not(fork_server, tmp_path) -> None:
    server = fork_server(tmp_path / "data", log=NOTHING).ready()
    server.deploy(A)
    failed = 0
    for size_bytes in sizes():
        limit_file_size(server.process, size_bytes)
        status, body = server.request("/upload", pack(B))
        limit_file_size(server.process, resource.RLIM_INFINITY)
        assert status in {200, 503}, body
        assert len(check_server(server)) == (2 if status == 200 else 1)
        if status == 200:
            break
        failed += 1
    assert failed > 20
    server.stop()
    assert len(check_server(fork_server(tmp_path / "data").ready())) == 2


def test_a_sidecar_without_open_files_keeps_its_tree_and_goes_on_when_it_has_some(
    fork_server, fork_sidecar, tmp_path
) -> None:
    server = fork_server(tmp_path / "data").ready()
    published = {server.deploy(A)["version"]: A}
    pod = fork_sidecar(server.url, tmp_path / "root")
    pod.runs(next(iter(published)))
    waiting = b'dagferry_server_waiting_sidecars{deployment="default"} 1.0'
    eventually("the sidecar to wait for the next", lambda: waiting in server.get("/metrics")[1])
    before = limit_open_files(pod.process, room_for(pod.process, 0))
    published[server.deploy(B)["version"]] = B
    eventually("the sidecar to say so", lambda: "Too many open files" in pod.log.read_text())
    assert check_root(pod.root, published) == next(iter(published))
    limit_open_files(pod.process, before)
    pod.runs(list(published)[-1])
    assert check_root(pod.root, published) == list(published)[-1]
    eventually("the sidecar to be ready", lambda: pod.probe("/readyz")[0] == 200)
    check_log(pod.log)


def test_a_server_without_open_files_loses_nothing_and_answers_when_it_has_some(fork_server, tmp_path) -> None:
    server = fork_server(tmp_path / "data").ready()
    server.deploy(A)
    # One more, so that it can take the connection but not the upload, then none.
    for more in (1, 0):
        before = limit_open_files(server.process, room_for(server.process, more))
        with concurrent.futures.ThreadPoolExecutor() as pool:
            answer = pool.submit(server.request, "/upload", pack({**A, "shop.py": b"rate = %d\n" % more}))
            if more:
                assert answer.result(30)[0] == 503
            else:
                eventually("the server to say so", lambda: "out of system resource" in server.log.read_text())
            limit_open_files(server.process, before)
            assert more or answer.result(30)[0] == 200
        check_server(server)
    assert len(check_server(server)) == 2
