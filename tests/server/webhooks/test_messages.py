"""What webhooks say about each event."""

import json

import pytest

from dagferry_core.archive.errors import PathRefused
from dagferry_core.deploylog import Deploy
from dagferry_server.errors import (
    DeploymentDisabled,
    DeploymentFrozen,
    Forbidden,
    StoreFull,
    Unauthenticated,
    UploadIncomplete,
    UploadTooLarge,
)
from dagferry_server.webhooks.messages import (
    MAX_SLACK_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    degraded,
    deployed,
    is_refusal,
    recovered,
    refused,
)

DEPLOY = Deploy(
    sequence=42,
    version="20261120T064501Z-000042",
    digest="sha256:" + "a" * 64,
    kind="upload",
    description="fix the sales load",
    actor="token:ci",
    time=1_795_157_101,
    added=1,
    changed=2,
    removed=3,
    nonce="0123456789abcdef",
    previous="b" * 64,
    details="c" * 64,
)


def slack(message) -> str:
    body = json.loads(message.body("slack"))
    assert list(body) == ["text"]
    return body["text"]


def test_a_deploy_says_what_it_is_and_who_made_it() -> None:
    message = deployed("prod", DEPLOY)
    body = json.loads(message.body("json"))
    assert body.pop("id") == message.id
    expected = {
        "event": "deployed",
        "time": 1_795_157_101,
        "deployment": "prod",
        "sequence": 42,
        "version": "20261120T064501Z-000042",
        "digest": "sha256:" + "a" * 64,
        "kind": "upload",
        "description": "fix the sales load",
        "actor": "token:ci",
        "added": 1,
        "changed": 2,
        "removed": 3,
    }
    assert {name: body.get(name) for name in expected} == expected
    assert not body.keys() & {"nonce", "previous", "details", "format"}
    assert slack(message) == (
        "prod: token:ci deployed 20261120T064501Z-000042 (upload; 1 files added, 2 changed, 3 removed): "
        "fix the sales load"
    )


def test_a_refusal_says_why_and_whose_deploy_it_was() -> None:
    message = refused("prod", "token:ci", DeploymentFrozen("prod is frozen: release"), 100.9)
    assert json.loads(message.body("json")) == {
        "id": message.id,
        "event": "refused",
        "time": 100,
        "deployment": "prod",
        "actor": "token:ci",
        "code": "deployment_frozen",
        "message": "prod is frozen: release",
    }
    assert slack(message) == "prod: a deploy by token:ci was refused: prod is frozen: release (deployment_frozen)"


def test_changes_of_the_fleet_say_the_version_and_the_reason() -> None:
    for make, event in ((degraded, "degraded"), (recovered, "recovered")):
        message = make("prod", "v1", "worker-3 is behind", 100)
        assert json.loads(message.body("json")) == {
            "id": message.id,
            "event": event,
            "time": 100,
            "deployment": "prod",
            "version": "v1",
            "reason": "worker-3 is behind",
        }
    assert slack(degraded("prod", "v1", "worker-3 is behind", 100)) == "prod: DEGRADED: worker-3 is behind"
    assert slack(recovered("prod", "v1", "", 100)) == "prod: recovered: every pod has v1"


def test_each_message_has_an_id_of_its_own_and_the_same_body_each_time() -> None:
    messages = [deployed("prod", DEPLOY) for _ in range(100)]
    assert len({message.id for message in messages}) == 100
    assert all("." not in message.id for message in messages), "it is a part of what is signed"
    assert messages[0].body("json") == messages[0].body("json")


def test_nobody_can_mention_or_link_anything_in_slack() -> None:
    deploy = DEPLOY._replace(description="<!channel> & <https://evil.example|click>\n*now*")
    text = slack(deployed("prod", deploy))
    assert "&lt;!channel&gt; &amp; &lt;https://evil.example|click&gt; *now*" in text
    assert not set("<>\n") & set(text)


def test_long_texts_are_cut() -> None:
    long = "x" * 100_000
    error = PathRefused(long)
    assert len(json.loads(refused("prod", "ci", error, 1).body("json"))["message"]) == MAX_TEXT_CHARACTERS
    assert len(json.loads(degraded("prod", "v", long, 1).body("json"))["reason"]) == MAX_TEXT_CHARACTERS
    assert len(slack(deployed("prod", DEPLOY._replace(description=long)))) == MAX_SLACK_CHARACTERS


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PathRefused, True),
        (UploadTooLarge, True),
        (DeploymentDisabled, True),
        (DeploymentFrozen, True),
        (Forbidden, False),
        (Unauthenticated, False),
        (UploadIncomplete, False),
        (StoreFull, False),
    ],
)
def test_a_refusal_is_about_the_deploy_and_not_about_the_caller_or_the_server(error, expected) -> None:
    assert is_refusal(error("why")) is expected


def test_what_clients_handle_by_themselves_is_no_refusal() -> None:
    for code in ("base_gone", "change_mismatch"):
        assert not is_refusal(type("Handled", (DeploymentFrozen,), {"code": code})("why"))
