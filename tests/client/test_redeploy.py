"""What rollback and promote share: the changes are shown, a person is asked, and exactly that is deployed."""

import json
import socket
from typing import Any

import pytest

from dagferry_client import redeploy
from recorded_answers import DEPLOYED, STATUS, VERSION, import_failure, logged, parsed

TARGET = logged(40)["version"]
CURRENT = logged(41)["version"]
DRY = "POST /prod/dags/rollback?dry_run=1"
REAL = "POST /prod/dags/rollback"
SHOWN = {**DEPLOYED, "version": CURRENT, "sequence": 41, "dry_run": True, "warnings": ["Two files differ in case."]}


@pytest.fixture
def person(monkeypatch):
    """A person at the terminal, who answers this."""

    def answers(yes: bool) -> list[str]:
        asked: list[str] = []

        def confirm(_output: object, question: str) -> None:
            asked.append(question)
            if not yes:
                raise redeploy.click.Abort

        monkeypatch.setattr(redeploy, "can_ask", lambda _output: True)
        monkeypatch.setattr(redeploy, "confirm", confirm)
        return asked

    return answers


def bodies(server) -> list[Any]:
    return [json.loads(one.body) for one in server.requests if one.method == "POST"]


def if_match(server) -> list[str | None]:
    return [one.headers.get("If-Match") for one in server.requests if one.method == "POST"]


def test_what_changes_is_talk_and_the_new_version_is_data(at, server) -> None:
    server.answer(DRY, SHOWN)
    server.answer(REAL, {**DEPLOYED, "warnings": ["Two files differ in case.", "It was repeated."]})
    done = at("rollback", TARGET, "-m", "It broke")
    assert (done.code, done.out) == (0, f"{VERSION}\n")
    assert done.err.splitlines() == [
        f"Rollback of prod to {TARGET}:",
        "A  new.py",
        "M  etl.py",
        "D  old.py",
        "1 file added, 1 changed, 1 removed.",
        "Warning: Two files differ in case.",
        "Warning: It was repeated.",
    ]
    assert bodies(server) == [{"version": TARGET, "description": "It broke"}] * 2
    assert all(one.headers["Content-Type"] == "application/json" for one in server.requests)


def test_a_dry_run_changes_nothing_and_its_paths_are_data(at, server) -> None:
    server.answer(DRY, {**SHOWN, "cut": True})
    done = at("rollback", TARGET, "--dry-run")
    assert done.code == 0
    assert done.out.splitlines() == ["A  new.py", "M  etl.py", "D  old.py", "and more: the list is cut."]
    assert done.err.endswith("Nothing was changed: this was a dry run.\n")
    server.answer(DRY, SHOWN)
    done = at("rollback", TARGET, "--dry-run", "--json")
    assert done.json == {"deployment": "prod", "deployed": SHOWN, "live": None, "parsed": None}


def test_a_person_is_asked_and_what_they_saw_is_what_happens(at, server, person) -> None:
    asked = person(yes=True)
    server.answer(DRY, SHOWN)
    server.answer(REAL, DEPLOYED)
    assert at("rollback", TARGET).code == 0
    assert asked == ["Deploy this to prod?"]
    assert if_match(server) == [None, f'"{CURRENT}"']


def test_for_the_first_deploy_nothing_must_be_there_yet(at, server, person) -> None:
    person(yes=True)
    server.answer("POST /prod/dags/promote?dry_run=1", {**SHOWN, "version": "", "sequence": 0})
    server.answer("POST /prod/dags/promote", DEPLOYED)
    assert at("promote", "staging", "prod", "--version", TARGET).code == 0
    assert if_match(server) == [None, '"none"']


def test_without_a_yes_nothing_happens(at, server, person) -> None:
    person(yes=False)
    server.answer(DRY, SHOWN)
    done = at("rollback", TARGET)
    assert (done.code, done.out) == (130, "")


def test_yes_asks_nobody_and_expects_no_version(at, server, person) -> None:
    asked = person(yes=True)
    server.answer(DRY, SHOWN)
    server.answer(REAL, DEPLOYED)
    assert at("rollback", TARGET, "--yes").code == 0
    assert (asked, if_match(server)) == ([], [None, None])


def test_somebody_else_s_deploy_meanwhile_is_said(at, server, person) -> None:
    person(yes=True)
    server.answer(DRY, SHOWN)
    server.answer(REAL, {"code": "version_mismatch", "message": "prod has version 43 by now.", "hint": "Look."}, 412)
    done = at("rollback", TARGET)
    assert (done.code, done.out) == (3, "")
    assert "prod has version 43 by now." in done.err


def test_content_that_is_live_already_makes_no_deploy_and_no_question(at, server, person) -> None:
    asked = person(yes=True)
    unchanged = {**SHOWN, "unchanged": True, "added_paths": [], "changed_paths": [], "removed_paths": []}
    server.answer(DRY, unchanged)
    done = at("rollback", TARGET)
    assert (done.code, done.out, asked) == (0, f"{CURRENT}\n", [])
    assert "prod already has this content." in done.err
    assert "dry run" not in done.err
    server.answer(DRY, unchanged)
    assert at("rollback", TARGET, "--json").json["deployed"] == {**unchanged, "dry_run": False}


def test_a_lost_answer_is_asked_for_again(at, server, pauses) -> None:
    server.answer(DRY, SHOWN)
    server.act(REAL, lambda handler: handler.connection.shutdown(socket.SHUT_RDWR))
    server.answer(REAL, {**DEPLOYED, "unchanged": True})
    done = at("rollback", TARGET)
    assert (done.code, done.out) == (0, f"{VERSION}\n")
    assert len(pauses) == 1


@pytest.mark.parametrize("arguments", [("--wait",), ("--wait=30s",)])
def test_wait_ends_when_it_is_live(at, server, arguments) -> None:
    server.answer(DRY, SHOWN)
    server.answer(REAL, DEPLOYED)
    server.answer("GET /prod/dags/status", STATUS, ETag='"1"')
    done = at("rollback", *arguments, TARGET)
    assert (done.code, done.out) == (0, f"{VERSION}\n")
    assert f"{VERSION} is live in all 2 pods." in done.err


def test_what_is_not_live_ends_with_7_and_says_that_it_was_deployed(at, server) -> None:
    newer = {**STATUS, "version": logged(43)["version"], "sequence": 43}
    for arguments in ((), ("--json",)):
        server.answer(DRY, SHOWN)
        server.answer(REAL, DEPLOYED)
        server.answer("GET /prod/dags/status", newer, ETag='"1"')
        done = at("rollback", TARGET, "--wait", *arguments)
        assert done.code == 7
        if arguments:
            assert (done.json["live"], done.json["deployed"]["version"]) == (False, VERSION)
            assert json.loads(done.err.splitlines()[-1])["code"] == "not_converged"
        else:
            assert done.out == f"{VERSION}\n"
            assert f"{VERSION} was deployed to prod, but" in done.err


def test_a_status_that_cannot_be_had_says_that_it_was_deployed(at, server) -> None:
    server.answer(DRY, SHOWN)
    server.answer(REAL, DEPLOYED)
    server.answer("GET /prod/dags/status", {"code": "forbidden", "message": "No.", "hint": "Ask."}, 403)
    done = at("rollback", TARGET, "--wait")
    assert (done.code, done.out) == (7, f"{VERSION}\n")
    assert f"{VERSION} was deployed, but whether it is live is not known. No." in done.err


@pytest.mark.parametrize(("errors", "code"), [([], 0), ([import_failure()], 8)])
def test_wait_parsed_ends_when_airflow_has_parsed_it(at, server, errors, code) -> None:
    status = {**STATUS, "parsed": parsed(error_count=len(errors), new_error_count=len(errors), errors=errors)}
    server.answer(DRY, SHOWN)
    server.answer(REAL, DEPLOYED)
    server.answer("GET /prod/dags/status", STATUS, ETag='"1"')
    server.answer("GET /prod/dags/status", status, ETag='"2"')
    done = at("rollback", "--wait-parsed=3m", TARGET, "--json")
    assert (done.code, done.json["live"], done.json["parsed"]) == (code, True, status["parsed"])


def test_what_is_passed_over_is_a_parameter(at, server) -> None:
    query = "skip_gate=1&allow_removals=1&override_freeze=1&skip_import_check=1"
    server.answer(f"POST /prod/dags/promote?dry_run=1&{query}", SHOWN)
    server.answer(f"POST /prod/dags/promote?{query}", DEPLOYED)
    options = ["--skip-gate", "--allow-removals", "--override-freeze", "--skip-import-check"]
    assert at("promote", "staging", "prod", "--version", TARGET, *options).code == 0
