"""What the server's answer says is deployed."""

import json

import pytest

from dagferry_core.names import make_version
from dagferry_follow.deploy_ref import MAX_LOG_ID_CHARACTERS, DeployRef, read_deploy_ref
from dagferry_follow.errors import AnswerInvalid

DEPLOY = DeployRef("log", 7, make_version(0, 7), "sha256:" + "a" * 64)
NOTHING = DeployRef("log", 0, "", "")


def answer(deploy: DeployRef = DEPLOY, **changed: object) -> bytes:
    return json.dumps({**deploy._asdict(), **changed}).encode()


def test_it_is_read_and_what_a_newer_server_adds_is_ignored() -> None:
    assert read_deploy_ref(answer(parsed=True)) == DEPLOY


def test_nothing_deployed_has_neither_version_nor_digest() -> None:
    assert read_deploy_ref(answer(NOTHING)) == NOTHING
    assert read_deploy_ref(answer(NOTHING, version="seed", digest="x")) == NOTHING


@pytest.mark.parametrize(
    "changed",
    [
        {"log_id": ""},
        {"log_id": "x" * (MAX_LOG_ID_CHARACTERS + 1)},
        {"log_id": "a\nb"},
        {"sequence": 8},
        {"sequence": "7"},
        {"version": "../../etc"},
        {"digest": "sha256:short"},
    ],
    ids=str,
)
def test_what_contradicts_itself_or_is_no_name_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(AnswerInvalid, match="does not say what is deployed"):
        read_deploy_ref(answer(**changed))


def test_a_log_id_may_be_as_long_as_the_limit() -> None:
    longest = "x" * MAX_LOG_ID_CHARACTERS
    assert read_deploy_ref(answer(log_id=longest)).log_id == longest


def test_what_is_no_json_is_shown_cut() -> None:
    with pytest.raises(AnswerInvalid) as refused:
        read_deploy_ref(b"<html>" + b"x" * 1000)
    assert "<html>" in refused.value.message
    assert len(refused.value.message) < 300
