"""``dagferry rollback`` deploys an older version again: a given one, or the one before the last deploy."""

import json

import pytest

from dagferry_client.commands import rollback
from recorded_answers import DEPLOYED, logged

DRY = "POST /prod/dags/rollback?dry_run=1"
REAL = "POST /prod/dags/rollback"
V = {sequence: logged(sequence)["version"] for sequence in range(30, 50)}


def page(*deploys: dict) -> dict:
    return {"deploys": list(deploys), "next": deploys[-1]["sequence"] if deploys else None}


def targets(server) -> list[str]:
    return [json.loads(one.body)["version"] for one in server.requests if one.method == "POST"]


def test_a_version_may_be_a_number(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=1&before=41", page(logged(40)))
    server.answer(DRY, {**DEPLOYED, "dry_run": True})
    server.answer(REAL, DEPLOYED)
    assert at("rollback", "40").code == 0
    assert targets(server) == [V[40]] * 2


def test_previous_is_the_version_before_the_last_deploy_and_of_no_other(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=2", page(logged(42), logged(40)))
    server.answer(DRY, {**DEPLOYED, "dry_run": True})
    server.answer(REAL, DEPLOYED)
    assert at("rollback", "--previous", "--yes").code == 0
    assert targets(server) == [V[40]] * 2
    assert [one.headers.get("If-Match") for one in server.requests[1:]] == [f'"{V[42]}"'] * 2


def test_previous_of_a_folder_is_before_the_last_deploy_that_changed_it(at, server) -> None:
    log = [
        logged(46, under="team-b/"),
        logged(45, under="team-a/"),  # changed nothing there, says the dry run
        logged(44, under="team-ab/"),
        logged(43, under="team-a/sub/"),
        logged(42),
    ]
    server.answer("GET /prod/dags/deploys?limit=200", page(*log))
    server.answer(DRY, {**DEPLOYED, "dry_run": True, "unchanged": True})
    server.answer(DRY, {**DEPLOYED, "dry_run": True})
    server.answer(DRY, {**DEPLOYED, "dry_run": True})
    server.answer(REAL, DEPLOYED)
    done = at("rollback", "--previous", "--under", "team-a")
    assert done.code == 0
    assert targets(server) == [V[44], V[42], V[42], V[42]]
    assert {json.loads(one.body)["under"] for one in server.requests[1:]} == {"team-a/"}
    assert f"Rollback of team-a/ of prod to {V[42]}:" in done.err


@pytest.mark.parametrize("deploys", [[], [logged(42)]])
def test_without_two_deploys_there_is_no_previous_one(at, server, deploys) -> None:
    server.answer("GET /prod/dags/deploys?limit=2", {"deploys": deploys, "next": None})
    done = at("rollback", "--previous")
    assert (done.code, done.out) == (4, "")
    assert "nothing to go back to" in done.err


def test_the_search_for_a_change_of_a_folder_has_an_end(at, server, monkeypatch) -> None:
    monkeypatch.setattr(rollback, "MAX_TRIED", 2)
    server.answer("GET /prod/dags/deploys?limit=200", page(*(logged(sequence) for sequence in range(49, 40, -1))))
    server.answer(DRY, {**DEPLOYED, "dry_run": True, "unchanged": True})
    server.answer(DRY, {**DEPLOYED, "dry_run": True, "unchanged": True})
    done = at("rollback", "--previous", "--under", "team-a/")
    assert done.code == 4
    assert "has no deploy that changed team-a/" in done.err


@pytest.mark.parametrize(
    "arguments",
    [(), ("42", "--previous"), ("--previous", "--under", "../x"), ("42", "--under", "."), ("42", "--wait=x")],
)
def test_what_makes_no_sense_is_a_mistake_and_asks_nobody(at, server, arguments) -> None:
    assert at("rollback", *arguments).code == 2
    assert server.requests == []
