"""A server that is killed, or whose volume refuses, at any system call: the log stays whole, and a yes stays a yes.

Each promise is tried at every call that one clean run makes in the data folder: see ``faults``.
"""

import json
import shutil
import signal
from pathlib import Path

import pytest

from faults import calls, error_points, injecting, kill_points, needs_strace, recording, struck, traced, try_each
from harness import eventually, pack
from invariants import check_log, check_server, no_server_leftovers

pytestmark = needs_strace

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "sql/load.sql": b"select 1\n"}
B = {**A, "shop.py": b"rate = 2\n", "new/dag.py": b"pass\n"}
KEEP_ONE = ("--keep-deploys", "1", "--keep-days", "0")
"""So that each deploy is followed by a deletion."""
REFUSED = {503, 507}


class Run:
    """The data folders of one test: each attempt starts from the same one."""

    def __init__(self, fork_server, folder: Path) -> None:
        self.start = lambda data, **options: fork_server(data, *KEEP_ONE, **options)
        self.folder = folder
        self.prepared = folder / "prepared"
        self.trace = folder / "trace"
        self.attempts = 0

    def fresh(self) -> Path:
        self.attempts += 1
        data = self.folder / f"data-{self.attempts}"
        if self.prepared.exists():
            shutil.copytree(self.prepared, data)
        return data

    def deployed_once(self) -> None:
        server = self.start(self.prepared).ready()
        server.deploy(A)
        server.stop()


@pytest.fixture
def run(fork_server, tmp_path) -> Run:
    return Run(fork_server, tmp_path)


def upload(server, files) -> int:
    """The status of the answer, 0 if there was none."""
    try:
        return server.request("/upload", pack(files))[0]
    except OSError:
        return 0


def record_upload(run: Run):
    data = run.fresh()
    server = run.start(data).ready()
    with recording(server.process.pid, run.trace):
        assert upload(server, B) == 200
        server.stop()
    return calls(run.trace, data)


def record_start(run: Run):
    data = run.fresh()
    server = run.start(data, stopped=True)
    with recording(server.process.pid, run.trace):
        assert starts(server)
    return calls(run.trace, data)


def starts(server) -> bool:
    """Let a stopped server go on; tell whether it got ready, and stop it then."""
    server.process.send_signal(signal.SIGCONT)
    try:
        server.ready()
    except AssertionError:
        return False
    server.stop(expected=None)
    return True


def holds(run: Run, data: Path, answered: int, sequence: int = 2) -> None:
    """After the next start all is well, nothing is left over, and the same upload leads where it should."""
    server = run.start(data).ready()
    log = check_server(server)
    assert len(log) == sequence if answered == 200 else len(log) in {sequence - 1, sequence}
    no_server_leftovers(server)
    assert server.deploy(B)["sequence"] == sequence
    assert len(check_server(server)) == sequence
    server.stop()
    check_log(server.log)


def test_an_upload_and_its_retention_may_be_killed_at_any_call(run) -> None:
    run.deployed_once()

    def attempt(call, what) -> None:
        data = run.fresh()
        server = run.start(data).ready()
        with injecting(server.process.pid, run.trace, call, what):
            answered = upload(server, B)
            server.stop(expected=None)
        assert struck(run.trace)
        assert server.process.returncode == -signal.SIGKILL
        holds(run, data, answered)

    assert try_each(kill_points(record_upload(run)), attempt) > 15


def test_an_upload_survives_an_error_at_any_call_and_the_next_try_is_deployed(run) -> None:
    run.deployed_once()

    def attempt(call, what) -> None:
        data = run.fresh()
        server = run.start(data).ready()
        with injecting(server.process.pid, run.trace, call, what):
            answered = upload(server, B)
            assert answered in {200, *REFUSED}
            # Bundles are sent from other threads, in which the fault would strike once more: ``holds`` reads them.
            log = json.loads(server.get("/default/dags/deploys")[1])["deploys"]
            assert len(log) in ({2} if answered == 200 else {1, 2})
            assert server.deploy(B)["sequence"] == 2
            server.stop()
        assert struck(run.trace)
        holds(run, data, 200)

    assert try_each(error_points(record_upload(run)), attempt) > 50


@pytest.fixture
def littered(run) -> Run:
    """A folder with everything that a killed server may have left."""
    run.deployed_once()
    data = run.prepared
    for folder in (".", "default", "default/deploys", "default/bundles", "default/incoming"):
        (data / folder / ".new-0123456789abcdef").write_bytes(b"half")
    for name in ("1" * 64 + ".index", "2" * 64 + ".index", "2" * 64 + ".tar.zst"):
        (data / "default/bundles" / name).write_bytes(b"of no entry")
    return run


def test_a_start_that_sweeps_may_be_killed_at_any_call(littered) -> None:
    def attempt(call, what) -> None:
        data = littered.fresh()
        server = littered.start(data, stopped=True)
        with injecting(server.process.pid, littered.trace, call, what):
            starts(server)
        assert struck(littered.trace)
        holds(littered, data, 0)

    assert try_each(kill_points(record_start(littered)), attempt) > 10


def test_a_start_that_meets_an_error_at_any_call_serves_or_says_why_and_the_next_one_serves(littered) -> None:
    before = log_id(littered.prepared)

    def attempt(call, what) -> None:
        data = littered.fresh()
        server = littered.start(data, stopped=True)
        with injecting(server.process.pid, littered.trace, call, what):
            if not starts(server):
                assert server.process.returncode == 5, server.log.read_text()
                assert "dagferry-server: " in server.log.read_text().splitlines()[-1]
        assert struck(littered.trace)
        check_log(server.log)
        assert log_id(data) == before
        holds(littered, data, 0)

    assert try_each(error_points(record_start(littered)), attempt) > 50


def test_a_start_while_the_log_cannot_be_read_forgets_nothing_and_becomes_ready_by_itself(run) -> None:
    run.deployed_once()
    deploys = run.prepared / "default/deploys"
    for unreadable in (deploys, deploys / "000000000001.json"):
        server = run.start(run.prepared, stopped=True)
        with traced(server.process.pid, run.trace, "-P", str(unreadable), "-e", "inject=openat:error=EIO"):
            server.process.send_signal(signal.SIGCONT)
            server.ready()
            for path in ("/readyz", "/default/dags/current"):
                assert server.get(path)[0] == 503
            assert upload(server, B) == 503
        assert struck(run.trace)
        eventually("the server to be ready", lambda server=server: server.get("/readyz")[0] == 200)
        assert server.current()["sequence"] == 1
        server.stop()
        check_log(server.log)


def test_the_first_start_of_all_may_be_killed_at_any_call(run) -> None:
    def attempt(call, what) -> None:
        data = run.fresh()
        server = run.start(data, stopped=True)
        with injecting(server.process.pid, run.trace, call, what):
            starts(server)
        assert struck(run.trace)
        holds(run, data, 0, sequence=1)

    assert try_each(kill_points(record_start(run)), attempt) > 10


def test_new_log_id_may_be_killed_at_any_call_and_run_again(run, forker) -> None:
    run.deployed_once()
    before = log_id(run.prepared)

    def start(data):
        log = run.folder / "new-log-id.log"
        return forker.start("dagferry_server", "new-log-id", "--data-dir", str(data), log=log, stopped=True)

    data = run.fresh()
    command = start(data)
    with recording(command.pid, run.trace):
        assert goes_on(command) == 0
    assert log_id(data) != before
    recorded = calls(run.trace, data)

    def attempt(call, what) -> None:
        data = run.fresh()
        command = start(data)
        with injecting(command.pid, run.trace, call, what):
            assert goes_on(command) == -signal.SIGKILL
        killed = log_id(data)
        assert goes_on(start(data)) == 0
        assert log_id(data) not in {before, killed}
        holds(run, data, 0)

    assert try_each(kill_points(recorded), attempt) > 3


def goes_on(command) -> int:
    command.send_signal(signal.SIGCONT)
    return command.wait(30)


def log_id(data: Path) -> str:
    return json.loads((data / "default/log.json").read_text())["log_id"]
