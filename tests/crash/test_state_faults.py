"""What is created, frozen and deleted at run time, when the server is killed or its volume refuses at any call."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from faults import SystemCall, calls, error_points, injecting, kill_points, needs_strace, recording, struck, try_each
from harness import pack
from invariants import check_log

pytestmark = needs_strace

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n"}
REFUSED = {503, 507}
FREEZE = ("POST", "/preview/dags/freeze", b'{"reason": "release"}')
UNFREEZE = ("DELETE", "/preview/dags/freeze", None)
CREATE = ("POST", "/-/deployments/preview", None)
DELETE = ("DELETE", "/-/deployments/preview", None)
REQUESTS = {"create": CREATE, "create again": CREATE, "freeze": FREEZE, "unfreeze": UNFREEZE, "delete": DELETE}
BEFORE = {
    "create": (),
    "create again": (CREATE, DELETE),
    "freeze": (CREATE,),
    "unfreeze": (CREATE, FREEZE),
    "delete": (CREATE, FREEZE),
}
"""What was done before each request."""


def ask(server, request) -> int:
    """The status of the answer, 0 if there was none."""
    method, path, body = request
    try:
        return server.request(path, body, method=method, Content_Type="application/json")[0]
    except OSError:
        return 0


def state(server) -> tuple[bool, bool]:
    """Whether the deployment exists, and whether it is frozen."""
    rows = json.loads(server.get("/-/deployments")[1])["deployments"]
    found = [row for row in rows if row["name"] == "preview"]
    return bool(found), bool(found and found[0]["frozen"])


class Run:
    """A data folder for each attempt, which begin alike."""

    def __init__(self, fork_server, folder: Path, what: str) -> None:
        self.start = fork_server
        self.folder = folder
        self.trace = folder / "trace"
        self.request = REQUESTS[what]
        self.attempts = 0
        self.before, self.after = self._states(what)

    def _states(self, what: str) -> list[tuple[bool, bool]]:
        server = self.start(self.folder / "plan").ready()
        states = []
        for request in (*BEFORE[what], self.request):
            states.append(state(server))
            assert ask(server, request) == 200
        states.append(state(server))
        server.stop()
        return states[-2:]

    def prepared(self, what: str):
        self.attempts += 1
        server = self.start(self.folder / f"data-{self.attempts}").ready()
        for request in BEFORE[what]:
            assert ask(server, request) == 200
        return server

    def recorded(self, what: str):
        server = self.prepared(what)
        with recording(server.process.pid, self.trace):
            assert ask(server, self.request) == 200
            server.stop()
        return calls(self.trace, server.data)

    def holds(self, server, answered: int) -> None:
        """After the next start the state is the old one or the new one, or the new one if that was answered."""
        again = self.start(server.data).ready()
        assert state(again) in ({self.after} if answered == 200 else {self.before, self.after})
        assert ask(again, self.request) == 200
        assert state(again) == self.after
        if not self.after[0]:
            assert ask(again, CREATE) == 200
        ask(again, UNFREEZE)
        assert again.request("/preview/dags/upload", pack(A))[0] == 200
        left = {path.name for path in (again.data / "preview").rglob("*") if path.is_file()}
        assert not [name for name in left if name.startswith(".new")]
        again.stop()
        check_log(again.log)


def missed_at_most(tried: int, what: str) -> float:
    """Return how many faults may not come to be: after a deletion, retention makes its calls in another order."""
    return tried / 4 if DELETE in (*BEFORE[what], REQUESTS[what]) else 0


def strikes(run: Run, attempt: Callable[[], None], attempts: int) -> bool:
    """Make an attempt, and more of them if the fault does not come to be; return whether it did."""
    for _ in range(attempts):
        attempt()
        if struck(run.trace):
            return True
    return False


@pytest.mark.parametrize("what", REQUESTS)
def test_a_change_may_be_killed_at_any_call(fork_server, tmp_path, what) -> None:
    run = Run(fork_server, tmp_path, what)
    missed: list[SystemCall] = []

    def once(call, fault) -> None:
        server = run.prepared(what)
        with injecting(server.process.pid, run.trace, call, fault):
            answered = ask(server, run.request)
            server.stop(expected=None)
        run.holds(server, answered)

    def attempt(call, fault) -> None:
        if not strikes(run, partial(once, call, fault), 2 if missed_at_most(1, what) else 1):
            missed.append(call)

    tried = try_each(kill_points(run.recorded(what)), attempt)
    assert tried > 1
    assert len(missed) <= missed_at_most(tried, what)


@pytest.mark.parametrize("what", ["create again", "freeze", "delete"])
def test_a_change_survives_an_error_at_any_call(fork_server, tmp_path, what) -> None:
    run = Run(fork_server, tmp_path, what)
    missed: list[SystemCall] = []

    def once(call, fault) -> None:
        server = run.prepared(what)
        with injecting(server.process.pid, run.trace, call, fault):
            answered = ask(server, run.request)
            assert answered in {200, *REFUSED}
            server.stop()
        check_log(server.log)
        run.holds(server, answered)

    def attempt(call, fault) -> None:
        if not strikes(run, partial(once, call, fault), 2 if missed_at_most(1, what) else 1):
            missed.append(call)

    tried = try_each(error_points(run.recorded(what)), attempt)
    assert tried > 5
    assert len(missed) <= missed_at_most(tried, what)
