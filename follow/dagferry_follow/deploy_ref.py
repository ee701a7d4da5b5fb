"""What identifies a deploy for a follower: in the server's answer, in the records of a tree, in every decision."""

from typing import NamedTuple

from dagferry_core.names import is_digest, version_sequence
from dagferry_core.typed import typed_json
from dagferry_follow.errors import AnswerInvalid

MAX_LOG_ID_CHARACTERS = 200


class DeployRef(NamedTuple):
    """Identifies a deploy. Sequence 0: nothing is deployed; the version of its tree is ``seed`` or ``empty``.

    ``entry_sha256`` is the hash, in hex, of its entry in the deploy log, which has the hash of the entry before it, and
    so on down to the first one. It is empty if it is not known: older servers do not tell it.
    """

    log_id: str
    sequence: int
    version: str
    digest: str
    entry_sha256: str = ""

    def known_as(self, live: "DeployRef | None") -> "DeployRef":
        """Return ``live`` if this is the same deploy, and not both know the hash of its entry; else this."""
        same = live is not None and self[:4] == live[:4] and not (self.entry_sha256 and live.entry_sha256)
        return live if live is not None and same else self


def read_deploy_ref(body: bytes) -> DeployRef:
    """Return the deploy that the answer about the current deploy names; ``AnswerInvalid`` if it names no deploy."""
    try:
        deploy = typed_json(DeployRef, body)
        if not 0 < len(deploy.log_id) <= MAX_LOG_ID_CHARACTERS or not deploy.log_id.isprintable():
            raise ValueError("its log_id is too short, too long, or has control characters")
        if deploy.sequence == 0:
            return deploy._replace(version="", digest="", entry_sha256="")
        if version_sequence(deploy.version) != deploy.sequence or not is_digest(deploy.digest):
            raise ValueError("its version, sequence and digest do not match")
        if deploy.entry_sha256 and not is_digest(f"sha256:{deploy.entry_sha256}"):
            raise ValueError("its entry_sha256 is not a sha256")
    except ValueError as error:
        text = bytes(body[:80])
        raise AnswerInvalid(f"The answer does not say what is deployed ({error}): {text!r}.") from error
    return deploy
