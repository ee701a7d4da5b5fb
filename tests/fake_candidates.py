"""A server of candidates in memory, as the checker's client sees it: versions, candidates, and the verdicts it got."""

import io
from typing import Any

from dagferry_core import protocol
from dagferry_follow.errors import ServerRefused, ServerUnreachable
from dagferry_follow.remote.candidates import Candidate, Candidates, LiveDeploy
from treemaker import Stored


class FakeDownload:
    """A bundle or a patch that is all there."""

    def __init__(self, body: bytes, kind: str) -> None:
        self._body = io.BytesIO(body)
        self.kind = kind
        self.received = 0

    def read(self, size: int = -1) -> bytes:
        return self._body.read(size)

    def read_patch(self, _heartbeat: Any = None) -> bytes:
        return self._body.read()

    def abort(self) -> None:
        pass


class FakeServer:
    """``deploy`` makes a version live, ``upload`` a candidate; ``asked`` are the headers of the requests.

    ``busy`` are errors, by the candidate, that asking for its content has before it is sent.
    """

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}
        self.versions: dict[str, Stored] = {}
        self.live: LiveDeploy | None = None
        self.waiting: list[Candidate] = []
        self.verdicts: list[tuple[str, dict[str, Any]]] = []
        self.asked: list[tuple[int, dict[str, str]]] = []
        self.sent: list[tuple[str, str]] = []
        self.away = 0
        self.fails: Exception | None = None
        self.left = False
        self.busy: dict[str, list[Exception]] = {}
        self._changes = 0

    def deploy(self, files: dict[str, bytes]) -> str:
        sequence = len(self.versions) + 1
        version = f"20261120T064501Z-{sequence:06d}"
        stored = Stored(files)
        self.versions[version] = stored
        self.live = LiveDeploy(version, stored.manifest.digest)
        self._changes += 1
        return version

    def upload(self, files: dict[str, bytes]) -> Candidate:
        stored = Stored(files)
        base = self.live.version if self.live else ""
        candidate = Candidate(f"{len(self.stored) + 1:032x}", base, stored.manifest.digest)
        self.stored[candidate.id] = stored
        self.waiting.append(candidate)
        self._changes += 1
        return candidate

    def withdraw(self, candidate: str) -> None:
        self.waiting = [one for one in self.waiting if one.id != candidate]
        self._changes += 1

    # --- as CheckServer ----------------------------------------------------------------------------------------------

    def _reach(self) -> None:
        if self.away:
            self.away -= 1
            raise ServerUnreachable("The server does not answer.")
        if self.fails:
            raise self.fails

    def candidates(self, seen: str, wait: int, about: dict[str, str]) -> Candidates | None:
        self._reach()
        self.asked.append((wait, dict(about)))
        tag = f'"{self._changes}"'
        return None if tag == seen else Candidates(tag, "log", self.live, tuple(self.waiting))

    def download(self, version: str, have: str) -> FakeDownload:
        self._reach()
        if version not in self.versions:
            error = ServerRefused("The server answered 404.")
            error.answered = 404
            raise error
        return self._send(self.versions[version], have)

    def candidate(self, candidate: str, have: str) -> FakeDownload | None:
        self._reach()
        if not any(one.id == candidate for one in self.waiting):
            return None
        if errors := self.busy.get(candidate):
            raise errors.pop(0)
        return self._send(self.stored[candidate], have)

    def _send(self, stored: Stored, have: str) -> FakeDownload:
        patch = stored.patch_from(self.versions[have]) if have else None
        self.sent.append((stored.manifest.digest, "patch" if patch else "whole"))
        return FakeDownload(patch or stored.body, "patch" if patch else "whole")

    def verdict(self, candidate: str, verdict: dict[str, Any]) -> bool:
        self._reach()
        self.verdicts.append((candidate, verdict))
        self.withdraw(candidate)
        return True

    def leave(self, about: dict[str, str]) -> None:
        self.left = protocol.AIRFLOW in about

    def close(self) -> None:
        pass
