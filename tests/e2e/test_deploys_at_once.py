"""Fifty clients deploy at once, in all ways: each is told its own deploy, and a kill of the server loses none."""

import json
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any, NamedTuple

from harness import PATIENCE_SECONDS, Server, pack
from invariants import check_log, check_server
from treemaker import manifest_of

CLIENTS = 50
WAYS = ("whole", "folder", "change", "rollback")
FIRST = {"shared.py": b"x = 1\n", **{f"team-{number:02}/old.py": b"" for number in range(CLIENTS)}}
SEEDS = [{**FIRST, "seed.py": b"seed = %d\n" % number} for number in range(CLIENTS)]
"""Trees that are deployed before, so that each rollback leads to one of its own."""

Files = dict[str, str]
"""Digests by path."""


class Told(NamedTuple):
    """What a client was told; ``answer`` is ``None`` if it was told nothing."""

    client: int
    answer: dict[str, Any] | None

    @property
    def way(self) -> str:
        return WAYS[self.client % len(WAYS)]


class Clients:
    """Clients of one server. ``seeds`` has what was deployed before, by the client that rolls back to it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.base = server.deploy(FIRST)
        numbers = [number for number in range(CLIENTS) if WAYS[number % len(WAYS)] == "rollback"]
        self.seeds = {number: server.deploy(SEEDS[number]) for number in numbers}
        server.deploy(FIRST)
        self.before = len(numbers) + 2

    def send(self, client: int) -> tuple[int, bytes]:
        """Deploy as this client does; the description says whose deploy it is."""
        path, about = "/default/dags/upload", f"description=client+{client}"
        match WAYS[client % len(WAYS)]:
            case "whole":
                return self.server.request(f"{path}?{about}", pack({**FIRST, "whole.py": b"n = %d\n" % client}))
            case "folder":
                return self.server.request(f"{path}?{about}&under=team-{client:02}/", pack(self.folder(client)))
            case "change":
                changed = {"changed.py": b"n = %d\n" % client}
                digest = manifest_of({**FIRST, **changed}).digest
                query = f"{about}&base={self.base['version']}&digest={digest}"
                return self.server.request(f"{path}?{query}", pack(changed, prefix=""))
            case _:
                body = {"version": self.seeds[client]["version"], "description": f"client {client}"}
                sent = json.dumps(body).encode()
                return self.server.request("/default/dags/rollback", sent, Content_Type="application/json")

    def folder(self, client: int) -> dict[str, bytes]:
        return {"new.py": b"n = %d\n" % client, "same.py": b""}

    def all_at_once(
        self, clients: Iterable[int], answered: Callable[[], object] = lambda: None, *, may_fail: bool = False
    ) -> list[Told]:
        """Have these clients deploy, all of them at once; ``answered`` is called after each answer."""
        numbers = list(clients)
        barrier = threading.Barrier(len(numbers), timeout=PATIENCE_SECONDS)

        def deploy(client: int) -> Told:
            barrier.wait()
            try:
                status, body = self.send(client)
            except (OSError, HTTPException):
                assert may_fail
                return Told(client, None)
            assert status == 200, body
            answered()
            return Told(client, json.loads(body))

        with ThreadPoolExecutor(len(numbers)) as pool:
            return list(pool.map(deploy, numbers))

    def files(self, version: str) -> Files:
        status, body = self.server.get(f"/default/dags/versions/{version}/files")
        assert status == 200, body
        return {file["path"]: file["sha256"] for file in json.loads(body)["files"]}

    def check(self, told: list[Told], log: list[dict[str, Any]]) -> None:
        """Check that what each was told is in the log, newest first, and that no folder undid anything else."""
        by_version = {deploy["version"]: deploy for deploy in log}
        by_sequence = {deploy["sequence"]: deploy for deploy in log}
        for client, answer in told:
            if answer is None:
                continue
            deploy = by_version[answer["version"]]
            way = WAYS[client % len(WAYS)]
            assert not answer["unchanged"]
            assert deploy["description"] == f"client {client}"
            assert (deploy["digest"], deploy["sequence"]) == (answer["digest"], answer["sequence"])
            assert deploy["kind"] == ("rollback" if way == "rollback" else "upload")
            if way == "rollback":
                assert deploy["source"] == self.seeds[client]["version"]
                assert deploy["digest"] == self.seeds[client]["digest"]
            elif way == "folder":
                under = f"team-{client:02}/"
                now = self.files(deploy["version"])
                before = self.files(by_sequence[deploy["sequence"] - 1]["version"])
                assert {path for path in now if path.startswith(under)} == {
                    under + name for name in self.folder(client)
                }
                assert outside(now, under) == outside(before, under)


def outside(files: Files, under: str) -> Files:
    return {path: sha256 for path, sha256 in files.items() if not path.startswith(under)}


def test_all_kinds_of_deploys_at_once_leave_a_log_without_gaps_and_each_is_told_its_own(serve) -> None:
    server = serve()
    clients = Clients(server)
    told = clients.all_at_once(range(CLIENTS))
    sequences = sorted(answer["sequence"] for _, answer in told if answer)
    assert sequences == list(range(clients.before + 1, clients.before + CLIENTS + 1))
    log = check_server(server)
    assert len(log) == clients.before + CLIENTS
    clients.check(told, log)
    check_log(server.log)


def test_a_server_that_is_killed_in_the_middle_has_all_that_it_answered_and_goes_on(serve) -> None:
    server = serve()
    clients = Clients(server)
    enough = threading.Semaphore(0)

    def kill() -> None:
        for _ in range(CLIENTS // 4):
            enough.acquire(timeout=PATIENCE_SECONDS)
        server.process.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    told = clients.all_at_once(range(CLIENTS), enough.release, may_fail=True)
    killer.join()
    assert server.process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    answered = [one for one in told if one.answer]
    assert CLIENTS // 4 <= len(answered) < CLIENTS, "it was killed too late for a test"

    server = clients.server = serve()
    log = check_server(server)
    clients.check(told, log)
    made = [deploy["description"] for deploy in log[: len(log) - clients.before]]
    assert len(made) == len(set(made)) >= len(answered), "a deploy was made twice"
    # Whoever got no answer asks again: it is told of a deploy, of before or of now, that has its content.
    again = clients.all_at_once([client for client, answer in told if answer is None])
    log = check_server(server)
    clients.check(answered, log)
    clients.check([one for one in again if one.answer and not one.answer["unchanged"]], log)
    current = {deploy["version"] for deploy in log}
    assert {one.answer["version"] for one in again if one.answer} <= current
    check_log(server.log)
