"""Fixtures for tests that break what is under the processes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forked_commands import Forked, Forker
from harness import Server, Sidecar


class _Forking:
    """Starts a process of the harness by fork; ``log`` is where it logs to, if not beside its folder."""

    def __init__(
        self,
        forker: Forker,
        *arguments: Any,
        log: Path | None = None,
        uid: int = 0,
        stopped: bool = False,
        **options: Any,
    ) -> None:
        self._forker = forker
        self._log = log
        self._how = {"uid": uid, "stopped": stopped}
        super().__init__(*arguments, **options)

    def _launch(self, command: tuple[str, ...], *_: object) -> Forked:
        self.log = self._log or self.log
        return self._forker.start(*command, log=self.log, **self._how)


class ForkedServer(_Forking, Server):
    """``dagferry-server``, started by fork."""


class ForkedSidecar(_Forking, Sidecar):
    """``dagferry-sidecar``, started by fork, and quick to try again."""

    def __init__(self, forker: Forker, server: str, root: Path, *flags: str, **options: Any) -> None:
        super().__init__(forker, server, root, "--poll-interval", "0.05", *flags, **options)


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    forker = Forker()
    yield forker
    forker.close()


@pytest.fixture
def fork_server(forker: Forker) -> Iterator[Callable[..., ForkedServer]]:
    """Start servers that do not outlive the test.

    The calls of ruff, which is a process of its own, would be counted and struck in place of the server's.
    """
    started: list[ForkedServer] = []

    def start(data: Path, *flags: str, **options: Any) -> ForkedServer:
        started.append(ForkedServer(forker, data, "--gate", "off", *flags, **options))
        return started[-1]

    yield start
    for server in started:
        server.process.kill()


@pytest.fixture
def fork_sidecar(forker: Forker) -> Iterator[Callable[..., ForkedSidecar]]:
    """Start sidecars that do not outlive the test."""
    started: list[ForkedSidecar] = []

    def start(server: str, root: Path, *flags: str, **options: Any) -> ForkedSidecar:
        started.append(ForkedSidecar(forker, server, root, *flags, **options))
        return started[-1]

    yield start
    for sidecar in started:
        sidecar.process.kill()
