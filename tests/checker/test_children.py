"""Children: bounded in time, memory and output, killed with all they start, and apart from the parent."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from dagferry_checker.children import MAX_RESULT_BYTES, Ended, run
from dagferry_checker.limits import Limits
from harness import eventually

LIMITS = Limits(10.0, 256 << 20)


def open_files() -> list[str]:
    """Where each open descriptor of this process leads, without the one that is used to look."""
    links = [f"/proc/self/fd/{fd}" for fd in range(256)]
    return [os.readlink(link) for link in links if os.path.lexists(link)]


def run_all(scratch: Path, work, *names: str, limits: Limits = LIMITS, jobs: int = 2, **more) -> dict[str, Ended]:
    found: list[Ended] = []
    run(names, work, limits=limits, jobs=jobs, scratch=str(scratch), ended=found.append, **more)
    return {ended.name: ended for ended in found}


def one(scratch: Path, work, **more) -> Ended:
    return run_all(scratch, work, "x", **more)["x"]


def test_each_name_has_its_result(tmp_path) -> None:
    found = run_all(tmp_path, lambda name: {"name": name, "pid": os.getpid()}, *"abcde")
    assert {name: ended.result["name"] for name, ended in found.items()} == {name: name for name in "abcde"}
    assert len({ended.result["pid"] for ended in found.values()} - {os.getpid()}) == 5
    assert list(tmp_path.iterdir()) == [], "the homes are removed"


def test_a_child_that_exits_has_a_code_and_no_result(tmp_path) -> None:
    ended = one(tmp_path, lambda _: os._exit(3))
    assert (ended.result, ended.code, ended.signal, ended.timed_out) == (None, 3, 0, False)
    assert one(tmp_path, lambda _: os._exit(0)).result is None


def test_a_crash_says_where(tmp_path) -> None:
    ended = one(tmp_path, lambda _: ctypes.string_at(0))
    assert (ended.result, ended.signal) == (None, signal.SIGSEGV)
    assert __file__ in ended.fault


def test_an_endless_loop_ends_and_says_where(tmp_path) -> None:
    def loop(_: str) -> None:
        while True:
            pass

    ended = one(tmp_path, loop, limits=Limits(0.3, 256 << 20))
    assert ended.timed_out
    assert "in loop" in ended.fault


def test_a_child_that_ignores_signals_and_catches_everything_ends_too(tmp_path) -> None:
    def stubborn(_: str) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGXCPU):
            signal.signal(number, signal.SIG_IGN)
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(60)

    assert one(tmp_path, stubborn, limits=Limits(0.3, 256 << 20)).timed_out


def test_memory_is_limited(tmp_path) -> None:
    def hungry(_: str) -> dict:
        return {"bytes": len(b"x" * (512 << 20))}

    assert one(tmp_path, hungry, limits=Limits(10.0, 128 << 20)).result == {"memory": True}
    assert one(tmp_path, lambda _: {"bytes": len(b"x" * (16 << 20))}).result == {"bytes": 16 << 20}


def test_too_much_output_counts_as_none(tmp_path) -> None:
    assert one(tmp_path, lambda _: {"text": "x" * (2 * MAX_RESULT_BYTES)}).result is None


def test_what_a_child_prints_is_dropped(tmp_path, capfd) -> None:
    def noisy(_: str) -> dict:
        sys.stdout.write("x" * 100_000)
        sys.stderr.write("y")
        os.write(1, b"z")
        return {}

    assert one(tmp_path, noisy).result == {}
    assert capfd.readouterr() == ("", "")


def test_what_a_child_starts_ends_with_it(tmp_path) -> None:
    """Also what has left its session, as a daemon does."""
    note = tmp_path / "pids"

    def parent(name: str) -> dict:
        if name == "next":
            return {"alive": [pid for pid in note.read_text().split() if Path("/proc", pid).exists()]}
        for leaves in (False, True):
            if os.fork() == 0:
                if leaves:
                    os.setsid()
                    if os.fork():
                        os._exit(0)
                with note.open("a") as pids:
                    pids.write(f"{os.getpid()}\n")
                time.sleep(600)
        eventually("both to run", lambda: note.exists() and len(note.read_text().split()) == 2)
        return {"started": 2}

    (tmp_path / "homes").mkdir()
    pid = os.fork()
    if pid == 0:  # pytest must not become the parent of orphans
        from dagferry_checker.limits import adopt_orphans

        adopt_orphans()
        found = run_all(tmp_path / "homes", parent, "first", "next", jobs=1)
        results = [ended.result for ended in found.values()]
        os._exit(0 if results == [{"started": 2}, {"alive": []}] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for started in note.read_text().split():
        eventually("it to be gone", lambda started=started: not Path("/proc", started).exists())


def test_a_child_has_no_descriptor_of_the_parent(tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with secret.open() as held:
        os.set_inheritable(held.fileno(), True)
        (tmp_path / "homes").mkdir()
        ended = one(tmp_path / "homes", lambda _: {"open": open_files()})
    assert ended.result
    assert ended.result["open"][:3] == ["/dev/null"] * 3
    assert len(ended.result["open"]) == 5


def test_a_child_is_at_home_in_an_empty_folder(tmp_path) -> None:
    def look(_: str) -> dict:
        return {"cwd": os.getcwd(), "home": os.environ["HOME"], "files": os.listdir("."), "session": os.getsid(0)}

    ended = one(tmp_path, look)
    assert ended.result
    assert ended.result["cwd"] == ended.result["home"] != os.getcwd()
    assert ended.result["files"] == []
    assert ended.result["session"] != os.getsid(0)


def test_a_large_file_cannot_be_written(tmp_path) -> None:
    def write(_: str) -> dict:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with open("big", "wb") as file:
            file.truncate(1 << 30)
        return {}

    assert one(tmp_path, write).result is None


def test_stopping_kills_what_runs_and_starts_no_more(tmp_path) -> None:
    started = tmp_path / "started"
    (tmp_path / "homes").mkdir()

    def slow(name: str) -> None:
        with started.open("a") as names:
            names.write(f"{name} {os.getpid()}\n")
        time.sleep(600)

    found = run_all(tmp_path / "homes", slow, *"abc", jobs=1, stopped=started.exists)
    assert found == {}
    [line] = started.read_text().splitlines()
    assert not Path("/proc", line.split()[1]).exists()


def test_an_error_of_the_work_itself_is_no_result(tmp_path) -> None:
    def fails(_: str) -> None:
        raise RuntimeError("a bug")

    assert one(tmp_path, fails).code == 1


@pytest.mark.parametrize("said", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_what_a_child_says_is_read_as_hostile(tmp_path, said) -> None:
    def forge(_: str) -> None:
        os.write(3, said)
        os._exit(0)

    assert one(tmp_path, forge).result is None
