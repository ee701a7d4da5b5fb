"""From a command to live, with ``dagferry deploy``, ``tar | curl`` and ``git push``: the time, and the bytes.

Each command is timed from its start, with a sidecar that waits. The project is a Git checkout, all is committed.
``dagferry deploy`` has the manifest of the previous deploy in its cache, as after any deploy, unless a row says
otherwise. Commands run in turn, A B C A B C …, on the same tree.
"""

import itertools
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import NamedTuple

import tree
from gitsync import BRANCH, GitSync, commit_all, git_serving, is_there
from link import NEAR, Link, missing
from measure import RUNS, WORK, Row, ms, row, row_per_tree, serving, size, size_of
from wire import Relay

from credentials import SCOPES, TokensFile
from harness import Server, Sidecar

REST_SECONDS = 0.3
START_SECONDS = 2
"""Until a receiver waits."""
PERIODS = {"1s": 1, "10s": 10}
"""Of git-sync, with their seconds; the second is its default."""
FIRST_RUNS = 5
SLOW_RUNS = 7
WHOLE_RUNS = 2
"""A whole upload over the slow link takes two minutes."""
SLOW_BITS = 1_000_000
SLOW_ROUND_TRIP_SECONDS = 0.1
MAX_PUSH_SECONDS = 600
DEPLOY, CURL = "by-deploy", "by-curl"
REPORT = ("report", "report")
TAR_CURL = "`tar -cz dags | curl`"
SLOW = "1 Mbit/s and 100 ms"


class Push(NamedTuple):
    """Seconds from the start of a command until its content is live and until it ended; bytes in both directions."""

    live: float
    ended: float
    wire: int


class Pushes(list[Push]):
    """What was measured of one way to deploy."""

    def rows(self, what: str, goals: tuple[str, str]) -> list[Row]:
        """Return the rows; the goals are for the time until it is live, and for the bytes."""
        return [
            (f"{what}: push → live", goals[0], ms([push.live for push in self])),
            (f"{what}: bytes on the wire, both ways, with headers", goals[1], size([push.wire for push in self])),
        ]


class Project:
    """A checkout with the tree of a shape as its ``dags``, and the commands that deploy it. Removed by ``close``."""

    def __init__(self, shape: tree.Shape) -> None:
        self.folder = WORK / "project"
        self._shape = shape
        self._cache = WORK / "cache"
        tokens = TokensFile(WORK / "tokens.toml")
        self.credentials = {"DAGFERRY_TOKEN": tokens.add("bench", SCOPES), "DAGFERRY_ALLOW_PLAIN_HTTP": "1"}
        self.server_flags = ["--tokens-file", str(tokens.path), "--deployments", f"{DEPLOY},{CURL}", "--tiers", "4"]
        self._environment = {**os.environ, **self.credentials, "XDG_CACHE_HOME": str(self._cache)}
        tree.write(self.folder / "dags", shape)
        commit_all(self.folder)

    def change(self, number: int) -> str:
        """Change and commit one line; return the commit."""
        tree.change_leaf(self.folder / "dags", number, self._shape)
        return commit_all(self.folder)

    def forget(self) -> None:
        """Remove everything that the client has cached."""
        shutil.rmtree(self._cache, ignore_errors=True)

    def deploy(self, url: str, deployment: str, *flags: str) -> list[str]:
        """Return the command line of ``dagferry deploy``."""
        where = ["--server", url, "--deployment", deployment]
        return [sys.executable, "-m", "dagferry_client", "deploy", str(self.folder / "dags"), *where, *flags]

    def curl(self, url: str, deployment: str) -> list[str]:
        """Return the command line of a whole upload, as the README has it."""
        packed = f"tar -cz -C {shlex.quote(str(self.folder))} dags"
        login = '-H "Authorization: Bearer $DAGFERRY_TOKEN"'
        sent = f"curl -sS --fail-with-body {login} -F dags.tar.gz=@- {url}/{deployment}/dags/upload"
        return ["sh", "-c", f"{packed} | {sent}"]

    def git(self, port: int) -> list[str]:
        """Return the command line of ``git push``."""
        return ["git", "-C", str(self.folder), "push", "--quiet", f"git://127.0.0.1:{port}/dags.git", BRANCH]

    def push(self, command: list[str], relay: Relay, live: Callable[[], str | None]) -> Push:
        """Run a command until it has ended and something new is live."""
        before, bytes_before = live(), relay.up + relay.down
        began = time.perf_counter()
        output = WORK / "push.log"
        with output.open("wb") as out:
            process = subprocess.Popen(command, env=self._environment, stdout=out, stderr=out)
        live_after = ended_after = None
        while live_after is None or ended_after is None:
            now = time.perf_counter() - began
            assert now < MAX_PUSH_SECONDS, output.read_text()
            if live_after is None and live() != before:
                live_after = now
            if ended_after is None and process.poll() is not None:
                assert process.returncode == 0, output.read_text()
                ended_after = now
            time.sleep(0.0005)  # without keeping one of the cores busy
        time.sleep(REST_SECONDS)
        return Push(live_after, ended_after, relay.up + relay.down - bytes_before)

    def close(self) -> None:
        """Remove the checkout and the cache."""
        shutil.rmtree(self.folder)
        self.forget()


def _server(stack: ExitStack, project: Project) -> Server:
    return stack.enter_context(serving("pushes", *project.server_flags))


def _sidecar(stack: ExitStack, project: Project, server: Server, deployment: str) -> Sidecar:
    """Start a sidecar, which need not have anything to run yet."""
    root = WORK / f"pod-{deployment}"
    sidecar = Sidecar(server.url, root, "--deployment", deployment, **project.credentials)
    stack.callback(shutil.rmtree, root)
    stack.callback(sidecar.stop)
    return sidecar


@row_per_tree
def push_leaf(shape: tree.Shape) -> list[Row]:
    """One changed line."""
    ours, waited, curl = Pushes(), Pushes(), Pushes()
    theirs = {period: Pushes() for period in PERIODS}
    with ExitStack() as stack:
        project = stack.enter_context(closing(Project(shape)))
        server = _server(stack, project)
        relay = stack.enter_context(closing(Relay(server.port)))
        pods = {name: _sidecar(stack, project, server, name) for name in (DEPLOY, CURL)}
        lives = {name: partial(getattr, pod, "live") for name, pod in pods.items()}
        project.push(project.deploy(relay.url, DEPLOY), relay, lives[DEPLOY])
        project.push(project.curl(relay.url, CURL), relay, lives[CURL])
        syncs: dict[str, GitSync] = {}
        if is_there():
            port = stack.enter_context(git_serving(WORK / "git"))
            git_relay = stack.enter_context(closing(Relay(port)))
            syncs = {period: _git_sync(stack, port, period) for period in PERIODS}
            project.push(project.git(git_relay.port), git_relay, lambda: syncs["10s"].live)
        numbers = itertools.count()
        for run in range(RUNS):
            project.change(next(numbers))
            ours.append(project.push(project.deploy(relay.url, DEPLOY), relay, lives[DEPLOY]))
            curl.append(project.push(project.curl(relay.url, CURL), relay, lives[CURL]))
            project.change(next(numbers))
            waited.append(project.push(project.deploy(relay.url, DEPLOY, "--wait"), relay, lives[DEPLOY]))
            if syncs:  # so that each push below is one commit
                project.push(project.git(git_relay.port), git_relay, partial(getattr, syncs["1s"], "live"))
            for period, sync in syncs.items():
                project.change(next(numbers))
                time.sleep(PERIODS[period] * run / RUNS)  # at all moments of a period
                theirs[period].append(
                    project.push(project.git(git_relay.port), git_relay, partial(getattr, sync, "live"))
                )
    what = f"one changed line, {size_of(shape)}"
    return [
        *ours.rows(f"`dagferry deploy`, {what}", ("≤ 300 ms", "≤ 30 kB")),
        (f"`dagferry deploy --wait`, {what}: the whole command", "report", ms([push.ended for push in waited])),
        *curl.rows(f"{TAR_CURL}, {what}", REPORT),
        *(row for period in syncs for row in theirs[period].rows(f"{_git_name(period)}, {what}", REPORT)),
    ]


@row_per_tree
def push_first(shape: tree.Shape) -> list[Row]:
    """Everything, to a server that has nothing, from a machine that has nothing cached."""
    ours, curl, theirs = Pushes(), Pushes(), Pushes()
    for _ in range(FIRST_RUNS):
        with ExitStack() as stack:
            project = stack.enter_context(closing(Project(shape)))
            server = _server(stack, project)
            relay = stack.enter_context(closing(Relay(server.port)))
            for name, pushes, command in (
                (DEPLOY, ours, project.deploy(relay.url, DEPLOY)),
                (CURL, curl, project.curl(relay.url, CURL)),
            ):
                pod = _sidecar(stack, project, server, name)
                time.sleep(START_SECONDS)
                pushes.append(project.push(command, relay, partial(getattr, pod, "live")))
            if is_there():
                port = stack.enter_context(git_serving(WORK / "git"))
                git_relay = stack.enter_context(closing(Relay(port)))
                sync = _git_sync(stack, port, "1s")
                time.sleep(START_SECONDS)
                theirs.append(project.push(project.git(git_relay.port), git_relay, partial(getattr, sync, "live")))
    what = f"first deploy, {size_of(shape)}"
    return [
        *ours.rows(f"`dagferry deploy`, {what}", REPORT),
        *curl.rows(f"{TAR_CURL}, {what}", REPORT),
        *(theirs.rows(f"{_git_name('1s')}, {what}", REPORT) if theirs else []),
    ]


@row
def push_slow_link() -> list[Row]:
    """One changed line over a slow link; the sidecar is on the server's side of it."""
    if lacks := missing():
        print(f"The slow link is not measured: it needs {lacks}.", file=sys.stderr)
        return []
    cached, fresh, curl = Pushes(), Pushes(), Pushes()
    with ExitStack() as stack:
        project = stack.enter_context(closing(Project(tree.LARGE)))
        server = _server(stack, project)
        link = stack.enter_context(closing(Link(SLOW_BITS, SLOW_ROUND_TRIP_SECONDS)))
        relay = stack.enter_context(closing(Relay(server.port, NEAR)))
        here = stack.enter_context(closing(Relay(server.port)))
        pods = {name: _sidecar(stack, project, server, name) for name in (DEPLOY, CURL)}
        lives = {name: partial(getattr, pod, "live") for name, pod in pods.items()}
        project.push(project.deploy(here.url, DEPLOY), here, lives[DEPLOY])
        project.push(project.curl(here.url, CURL), here, lives[CURL])
        for number in range(SLOW_RUNS):
            project.change(2 * number)
            deploy = [*link.command, *project.deploy(relay.url, DEPLOY)]
            cached.append(project.push(deploy, relay, lives[DEPLOY]))
            project.change(2 * number + 1)
            project.forget()
            fresh.append(project.push(deploy, relay, lives[DEPLOY]))
            if number < WHOLE_RUNS:
                curl.append(project.push([*link.command, *project.curl(relay.url, CURL)], relay, lives[CURL]))
    what = f"one changed line over {SLOW}, {size_of(tree.LARGE)}"
    return [
        *cached.rows(f"`dagferry deploy`, {what}", ("≤ 1 s", "≤ 30 kB")),
        *fresh.rows(f"the same, nothing cached, {what}", ("≤ 2.5 s", "report")),
        *curl.rows(f"{TAR_CURL}, {what}", REPORT),
    ]


def _server(stack: ExitStack, project: Project) -> Server:
    return stack.enter_context(serving("pushes", *project.server_flags))


def _sidecar(stack: ExitStack, project: Project, server: Server, deployment: str) -> Sidecar:
    """Start a sidecar, which need not have anything to run yet."""
    root = WORK / f"pod-{deployment}"
    sidecar = Sidecar(server.url, root, "--deployment", deployment, **project.credentials)
    stack.callback(shutil.rmtree, root)
    stack.callback(sidecar.stop)
    return sidecar


def _git_sync(stack: ExitStack, port: int, period: str) -> GitSync:
    sync = GitSync(port, WORK / f"git-sync-{period}", period)
    stack.callback(sync.stop)
    return sync


def _git_name(period: str) -> str:
    return f"`git push` and git-sync each {period}"
