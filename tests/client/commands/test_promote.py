"""``dagferry promote`` deploys what one deployment has to another one."""

import json

import pytest

from recorded_answers import DEPLOYED, logged

VERSION = logged(7)["version"]


def test_the_current_version_is_promoted_by_name(at, server) -> None:
    server.answer("GET /staging/dags/deploys?limit=1", {"deploys": [logged(7)], "next": None})
    server.answer("POST /prod/dags/promote?dry_run=1", {**DEPLOYED, "dry_run": True})
    server.answer("POST /prod/dags/promote", DEPLOYED)
    done = at("promote", "staging", "prod", "-m", "Release", DAGFERRY_DEPLOYMENT="other")
    assert (done.code, done.out) == (0, f"{DEPLOYED['version']}\n")
    assert f"Promote {VERSION} of staging to prod:" in done.err
    # By name: what was shown is deployed, even if FROM has a newer version by then.
    sent = {"from": "staging", "version": VERSION, "description": "Release"}
    assert [json.loads(one.body) for one in server.requests[1:]] == [sent, sent]


def test_a_version_may_be_chosen_by_its_number_in_from(at, server) -> None:
    server.answer("GET /staging/dags/deploys?limit=1&before=8", {"deploys": [logged(7)], "next": None})
    server.answer("POST /prod/dags/promote?dry_run=1", {**DEPLOYED, "dry_run": True})
    assert at("promote", "staging", "prod", "--version", "7", "--dry-run").code == 0
    assert json.loads(server.requests[-1].body)["version"] == VERSION


def test_from_without_a_deploy_is_an_error(at, server) -> None:
    server.answer("GET /staging/dags/deploys?limit=1", {"deploys": [], "next": None})
    done = at("promote", "staging", "prod")
    assert done.code == 4
    assert "Nothing is deployed to staging yet." in done.err


@pytest.mark.parametrize("names", [("prod", "prod"), ("staging",), ("Staging", "prod"), ("staging", "../x"), ()])
def test_two_different_names_are_needed(at, server, names) -> None:
    assert at("promote", *names).code == 2
    assert server.requests == []
