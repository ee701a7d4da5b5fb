"""The requests of a checker: which uploads wait for an import check, their content, and what the check found.

A candidate is an upload that is not in the deploy log: it may still be refused. See docs/reference/protocol.md.
"""

import http.client
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from dagferry_core import protocol
from dagferry_core.errors import FormatError
from dagferry_core.names import is_digest, version_sequence
from dagferry_core.typed import typed
from dagferry_follow.errors import AnswerInvalid, ServerRefused
from dagferry_follow.remote.server import Download, Server
from dagferry_follow.remote.transport import Request

_ID = re.compile(r"[0-9a-f]{32}")
MAX_TAG_CHARACTERS = 300


class Candidate(NamedTuple):
    """An upload that waits for a check; ``base`` is the version that it was compared with, ``""`` if there was none."""

    id: str
    base: str
    digest: str


class LiveDeploy(NamedTuple):
    """What is deployed."""

    version: str
    digest: str


class Candidates(NamedTuple):
    """What the server has to check, oldest first, and what is deployed; ``tag`` changes when either does."""

    tag: str
    log_id: str
    live: LiveDeploy | None
    candidates: tuple[Candidate, ...]


class CheckServer(Server):
    """One deployment of one server, as a checker sees it."""

    def candidates(self, seen: str, wait: int, about: Mapping[str, str]) -> Candidates | None:
        """Return what there is to check, or ``None`` if its tag is still ``seen`` after ``wait`` seconds.

        ``about`` are the headers that describe the checker. A request without a name of the checker does not count.
        """
        headers: dict[str, str | None] = {**about}
        if seen:
            headers["If-None-Match"] = seen
        if wait:
            headers["Prefer"] = f"wait={wait}"
        response = self._get(protocol.CANDIDATES_PATH, headers, wait + self._timeouts.answer, self._timeouts.connect)
        tag = response.headers.get("ETag", "")
        if response.status == http.client.NOT_MODIFIED:
            response.read()
            return None
        return read_candidates(self._read_answer(response), tag)

    def candidate(self, candidate: str, have: str) -> Download | None:
        """Start the download of a candidate, as ``download`` of a version; ``None`` if it is gone."""
        try:
            return self._download(protocol.CANDIDATE_PATH.replace("{id}", candidate), have)
        except ServerRefused as error:
            if error.answered in {http.client.NOT_FOUND, http.client.GONE}:
                return None
            raise

    def verdict(self, candidate: str, verdict: Mapping[str, Any]) -> bool:
        """Send what the check of a candidate found; return whether the candidate was still there."""
        body = json.dumps(verdict)  # ASCII only, as the transport needs it
        path = self._path(protocol.CANDIDATE_PATH.replace("{id}", candidate))
        headers = {**self._headers, "Content-Type": protocol.JSON_TYPE, **self._access.headers()}
        self._transport.limit(self._timeouts.connect + self._timeouts.answer)
        response = self._transport.request(
            Request("POST", path, headers, body), self._timeouts.answer, self._timeouts.connect
        )
        if response.status == http.client.OK:
            self._read_answer(response)
            return True
        try:
            self._refuse(response)
        except ServerRefused as error:
            if error.answered in {http.client.NOT_FOUND, http.client.GONE}:
                return False
            raise
        finally:
            response.close()
            self.close()

    def leave(self, about: Mapping[str, str]) -> None:
        """Say that this checker ends, so that no upload waits for it."""
        self.close()
        headers = {**about, protocol.DEREGISTER: "1"}
        self._read_answer(self._get(protocol.CANDIDATES_PATH, headers, LEAVE_SECONDS, LEAVE_SECONDS))


LEAVE_SECONDS = 2.0


def read_candidates(body: bytes, tag: str) -> Candidates:
    """Return what an answer says; ``AnswerInvalid`` if it is not one about candidates."""
    try:
        raw = json.loads(body)
        if not isinstance(raw, dict) or not isinstance(raw.get("candidates"), list):
            raise FormatError("it has no list of candidates")
        log_id = raw.get("log_id")
        if not isinstance(log_id, str) or len(tag) > MAX_TAG_CHARACTERS or not tag.isprintable():
            raise FormatError("it has no log_id, or an unusable ETag")
        live = typed(LiveDeploy, raw["live"]) if raw.get("live") is not None else None
        if live:
            version_sequence(live.version)
        found = tuple(typed(Candidate, one) for one in raw["candidates"])
        for one in found:
            if not _ID.fullmatch(one.id) or not is_digest(one.digest):
                raise FormatError("a candidate has no valid id or digest")
        if live and not is_digest(live.digest):
            raise FormatError("what is live has no valid digest")
    except (ValueError, RecursionError) as error:
        raise AnswerInvalid(f"The answer does not say what to check ({error}): {bytes(body[:80])!r}.") from error
    return Candidates(tag, log_id, live, found)


__all__ = ["Candidate", "Candidates", "CheckServer", "LiveDeploy", "read_candidates"]
