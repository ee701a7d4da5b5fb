"""What identifies a deploy for a follower: in the server's answer, in the records of a tree, in every decision."""

from typing import NamedTuple

from dagferry_core.names import is_digest, version_sequence
from dagferry_core.typed import typed_json
from dagferry_follow.errors import AnswerInvalid

MAX_LOG_ID_CHARACTERS = 200


class DeployRef(NamedTuple):
    """Identifies a deploy. Sequence 0: nothing is deployed; the version of its tree is ``seed`` or ``empty``."""

    log_id: str
    sequence: int
    version: str
    digest: str


def read_deploy_ref(body: bytes) -> DeployRef:
    """Return the deploy that the answer about the current deploy names; ``AnswerInvalid`` if it names no deploy."""
    try:
        deploy = typed_json(DeployRef, body)
        if not 0 < len(deploy.log_id) <= MAX_LOG_ID_CHARACTERS or not deploy.log_id.isprintable():
            raise ValueError("its log_id is too short, too long, or has control characters")
        if deploy.sequence == 0:
            return deploy._replace(version="", digest="")
        if version_sequence(deploy.version) != deploy.sequence or not is_digest(deploy.digest):
            raise ValueError("its version, sequence and digest do not match")
    except ValueError as error:
        text = bytes(body[:80])
        raise AnswerInvalid(f"The answer does not say what is deployed ({error}): {text!r}.") from error
    return deploy
