"""``dagferry deploy`` never ends with 0 unless the server has this content; and says what it did and did not do."""

import io
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dagferry_client import poll, upload
from dagferry_client.errors import NotConverged, NotParsed
from dagferry_client.local.manifest_cache import ManifestCache
from dagferry_core.deploylog import MAX_DESCRIPTION_CHARACTERS
from localtrees import read, write
from recorded_answers import DEPLOYED, LISTED, STATUS, deployed, import_failure, logged, parsed
from scripted_deploys import HEAD, UPLOAD, accept, empty, newest, refuse, uploads

GOOD = b"from airflow import DAG\n"
BAD = GOOD + b"def (\n"
OLD = logged()["version"]
NEW = deployed("")["version"]


@pytest.fixture
def dags(project: Path) -> Path:
    return write(project / "dags", {"a.py": GOOD, "sql/b.sql": b"select 1"})


@pytest.fixture
def digest(dags: Path) -> str:
    return read(dags).manifest.digest


def test_the_version_is_on_stdout_and_what_changed_on_stderr(at, server, digest) -> None:
    empty(server)
    accept(server, digest, warnings=["a.py has no tags."])
    done = at("deploy")
    assert (done.code, done.out) == (0, f"{NEW}\n")
    assert done.err.splitlines() == [
        "Warning: a.py has no tags.",
        "Deployed to prod: 1 file added, 1 changed, 1 removed.",
        "A  new.py",
        "M  etl.py",
        "D  old.py",
    ]


def test_of_many_files_some_are_named(at, server, digest) -> None:
    empty(server)
    accept(server, digest, added=500, added_paths=[f"{n}.py" for n in range(200)], cut=True)
    lines = at("deploy").err.splitlines()
    assert len(lines) == 22
    assert lines[-1] == "and 482 more"


def test_unchanged_is_a_success_that_says_so(at, server, digest) -> None:
    empty(server)
    accept(server, digest, unchanged=True, version=OLD)
    done = at("deploy")
    assert (done.code, done.out) == (0, f"{OLD}\n")
    assert "Nothing was deployed: prod has exactly this content already." in done.err


def test_json_has_everything_and_nothing_else_is_on_stdout(at, server, digest) -> None:
    empty(server)
    answer = accept(server, digest)
    done = at("deploy", "--json", "-q")
    assert done.err == ""
    assert done.json.pop("sent_bytes") > 100
    assert done.json == {
        "deployment": "prod",
        "deployed": answer,
        "sent_bytes": done.json["sent_bytes"],
        "live": None,
        "parsed": None,
        "undone_by": None,
        "warnings": [],
    }


def test_json_has_the_warnings_of_this_machine_and_of_the_server(at, server, dags) -> None:
    write(dags, {"helper.py": b"def (\n"})
    empty(server)
    accept(server, read(dags).manifest.digest, warnings=["a.py has no tags."])
    done = at("deploy", "--json")
    assert len(done.json["warnings"]) == 2
    assert done.err.count("Warning: ") == 2
    assert all(f"Warning: {warning}\n" in done.err for warning in done.json["warnings"])


def test_a_message_of_any_length_is_sent_as_long_as_it_is_kept(at, server, digest) -> None:
    empty(server)
    accept(server, digest)
    assert at("deploy", "-m", "€" * 30_000).code == 0
    [one] = uploads(server)
    assert one.fields["description"] == "€" * (MAX_DESCRIPTION_CHARACTERS + 1)


def test_a_dry_run_has_what_would_change_as_its_data(at, server, digest) -> None:
    for arguments in ((), ("--json",)):
        empty(server)
        accept(server, digest, "?dry_run=1", dry_run=True, version="", sequence=0)
        done = at("deploy", "--dry-run", *arguments)
        assert done.code == 0
        assert "This would change prod: 1 file added, 1 changed, 1 removed. Nothing was deployed." in done.err
        assert done.json["deployed"]["dry_run"] if arguments else done.out == "A  new.py\nM  etl.py\nD  old.py\n"


def test_an_answer_to_something_else_is_no_success(at, server, digest) -> None:
    """Nothing is deployed if the server only says what it would do, and the other way round."""
    empty(server)
    accept(server, digest, dry_run=True, version="", sequence=0)
    done = at("deploy")
    assert (done.code != 0, done.out) == (True, "")
    assert "The server answered with a dry run, and a deploy was asked for." in done.err
    empty(server)
    accept(server, digest, "?dry_run=1")
    done = at("deploy", "--dry-run")
    assert done.code != 0
    assert "The server answered with a deploy, and a dry run was asked for." in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--dry-run", "--wait"),
        ("--dry-run", "--wait-parsed"),
        ("--undo-on-failure",),
        ("--under", ""),
        ("--under", "../x"),
        ("--include", "x"),
    ],
)
def test_options_that_make_no_sense_are_mistakes_and_nothing_is_sent(at, dags, arguments) -> None:
    assert at("deploy", *arguments).code == 2


# --- what goes with it ------------------------------------------------------------------------------------------------


def commit(project: Path) -> str:
    (project / ".git").rmdir()
    git = ["git", "-C", str(project), "-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
    for arguments in (["init", "-qb", "main"], ["add", "-A"], ["commit", "-qm", "Load sales"]):
        subprocess.run([*git, *arguments], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_commit_branch_and_author_go_along(at, server, project, digest) -> None:
    sha = commit(project)
    empty(server)
    accept(server, digest)
    assert at("deploy").code == 0
    [one] = uploads(server)
    assert one.fields["description"] == f"{sha[:7]} Load sales"
    assert json.loads(one.fields["git"]) == {"commit": sha, "branch": "main", "author": "Ann <ann@example.com>"}


def test_a_message_replaces_the_commits_and_the_expected_version_is_sent(at, server, project, digest) -> None:
    commit(project)
    empty(server)
    accept(server, digest)
    assert at("deploy", "-m", "Why", "--if-current", OLD).code == 0
    [one] = uploads(server)
    assert one.fields["description"] == "Why"
    assert one.headers["If-Match"] == f'"{OLD}"'


def test_files_of_the_image_that_changed_are_named(at, server, project, dags, digest) -> None:
    write(project, {"Dockerfile": b"FROM a", "plugins/p.py": b"", "requirements.txt": b"x"})
    empty(server)
    accept(server, digest)
    assert "image" not in at("deploy").err
    recorded = json.loads(uploads(server)[0].fields["git"])
    write(project, {"Dockerfile": b"FROM b", "plugins/q.py": b""})
    newest(server, git=recorded)
    accept(server, digest)
    err = at("deploy").err
    assert "These need an image deploy; DAGs alone were sent: Dockerfile, plugins changed since the last deploy." in err


def test_a_part_has_its_folder(at, server, digest) -> None:
    server.answer("GET /prod/dags/deploys?limit=20", {"deploys": [], "next": None})
    accept(server, "sha256:" + "0" * 64, "?under=team-a%2F", under="team-a/")
    done = at("deploy", "--under", "team-a")
    assert done.code == 0
    assert "Deployed to prod, team-a/: " in done.err


def test_a_second_deploy_sends_what_changed(at, server, dags, digest) -> None:
    empty(server)
    accept(server, digest)
    at("deploy")
    write(dags, {"a.py": GOOD + b"a = 1\n"})
    after = read(dags).manifest.digest
    newest(server, digest=digest)
    accept(server, after, f"?base={OLD}&digest={after.replace(':', '%3A')}")
    assert at("deploy").code == 0
    assert uploads(server)[1].files == {"a.py": GOOD + b"a = 1\n"}


def test_what_another_machine_has_is_the_same_content(at, server, dags, digest) -> None:
    """The cache is filled by what was really stored, not by what was sent."""
    empty(server)
    accept(server, "sha256:" + "1" * 64, excluded=1, excluded_paths=["sql/b.sql"])
    done = at("deploy")
    assert done.code == 0
    assert "The server excluded 1 file by its patterns: sql/b.sql" in done.err
    assert ManifestCache(str(dags.parents[1] / "cache" / "dagferry" / "manifests")).load(digest) is None


# --- the checks before ------------------------------------------------------------------------------------------------


def test_a_dag_file_that_does_not_parse_is_not_sent(at, server, dags) -> None:
    write(dags, {"bad.py": BAD})
    empty(server)
    done = at("deploy")
    assert done.code == 3
    assert "bad.py:2:5: Expected an identifier" in done.err
    assert "--skip-gate" in done.err
    assert uploads(server) == []


@pytest.mark.parametrize("scopes", [["deploy", "override"], ["deploy"]])
def test_skip_gate_sends_it_and_asks_the_server_to_skip_its_own_if_that_is_allowed(at, server, dags, scopes) -> None:
    write(dags, {"bad.py": BAD})
    digest = read(dags).manifest.digest
    empty(server)
    server.answer("GET /-/deployments", {"deployments": [{**LISTED, "scopes": scopes}]})
    accept(server, digest, "?skip_gate=1" if "override" in scopes else "")
    done = at("deploy", "--skip-gate")
    assert done.code == 0
    assert ("so the server's own gate decides" in done.err) == ("override" not in scopes)


def test_rules_come_from_the_target(at, server, project, dags) -> None:
    write(dags, {"a.py": GOOD + b"type X = int\n"})
    (project / "dagferry.toml").write_text(f'server = "{server.url}"\n[targets.p]\nairflow-python = "3.11"\n')
    empty(server)
    done = at("deploy", "--target", "p")
    assert done.code == 3
    assert "a.py:2:1" in done.err


def test_what_the_servers_gate_refuses_is_listed(at, server, digest) -> None:
    empty(server)
    problems = [{"path": "a.py", "line": 3, "column": 1, "message": "no"}]
    refuse(server, "gate_refused", 422, problems=problems, problem_count=1)
    done = at("deploy")
    assert done.code == 3
    assert "a.py:3:1: no" in done.err


@pytest.mark.parametrize("passes", [True, False])
def test_tests_run_first(at, server, dags, monkeypatch, passes) -> None:
    project, digest = dags.parent, read(dags).manifest.digest
    program = write(project.parent / "bin", {"pytest": f"#!/bin/sh\nexit {int(not passes)}\n".encode()}) / "pytest"
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    if passes:
        empty(server)
        accept(server, digest)
    done = at("deploy", "--pytest", "dags")
    assert done.code == (0 if passes else 3)
    assert len(uploads(server)) == passes


# --- what else may come back ------------------------------------------------------------------------------------------


def test_an_answer_about_other_content_is_a_failure(at, server, digest) -> None:
    empty(server)
    accept(server, "sha256:" + "1" * 64)
    done = at("deploy")
    assert (done.code, done.out) == (5, "")
    assert digest in done.err


def test_an_answer_without_a_version_is_a_failure(at, server, digest) -> None:
    empty(server)
    accept(server, digest, version="")
    assert at("deploy").code == 5


def test_an_older_server_takes_everything(at, server, dags, digest) -> None:
    old = {name: deployed(digest)[name] for name in ("version", "digest", "sequence", "unchanged")}
    old |= {"added": 1, "changed": 0, "removed": 0, "warnings": [], "excluded": 0, "excluded_paths": []}
    ManifestCache(str(dags.parents[1] / "cache" / "dagferry" / "manifests")).save(read(dags).manifest)
    kept = ("sequence", "version", "digest", "kind", "description", "actor", "time", "added", "changed", "removed")
    entry = logged(digest=digest)
    server.answer(HEAD, {"deploys": [{name: entry[name] for name in kept}], "next": None})
    query = f"?base={OLD}&digest={digest.replace(':', '%3A')}"
    refuse(server, "request_invalid", 400, query)
    server.answer(UPLOAD, old)
    done = at("deploy")
    assert (done.code, done.out) == (0, f"{NEW}\n")
    assert "the server is too old. Sending everything." in done.err


PAGE = b"<html><body>Log in<script>alert(1)</script></body></html>"


@pytest.mark.parametrize(
    "case",
    [
        ((200, {"Content_Type": "text/html"}), 5, "It may be a login page."),
        ((302, {"Location": "https://login.example.com/"}), 5, "redirects to https://login.example.com/"),
        ((301, {"Location": "https://dags.example.com/"}), 5, "Redirects are not followed."),
        ((413, {"Content_Type": "text/html", "Server": "nginx"}), 3, "client_max_body_size"),
        ((401, {"Content_Type": "text/html"}), 4, "asks for a login"),
        ((403, {"Content_Type": "text/html"}), 4, "forbids the request"),
    ],
)
def test_what_is_in_front_of_the_server_is_never_a_success(at, server, digest, case) -> None:
    (status, headers), code, says = case
    empty(server)
    server.answer(UPLOAD, PAGE, status, **headers)
    done = at("deploy")
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert "script" not in done.err


def test_what_passes_is_tried_again_with_a_reason(at, server, digest, pauses) -> None:
    empty(server)
    server.answer(UPLOAD, PAGE, 504, Content_Type="text/html")
    refuse(server, "store_full", 507)
    server.act(UPLOAD, lambda handler: handler.connection.shutdown(socket.SHUT_RDWR))
    accept(server, digest)
    done = at("deploy")
    assert done.code == 0
    assert len(pauses) == 3
    assert "waited too long for the server" in done.err
    assert "It is store_full. Trying again in 2 s." in done.err
    assert len({tuple(one.files.items()) for one in uploads(server)}) == 1


def test_what_does_not_pass_is_a_failure(at, server, digest, pauses) -> None:
    empty(server)
    for _ in range(10):
        server.answer(UPLOAD, PAGE, 504, Content_Type="text/html")
    done = at("deploy")
    assert (done.code, done.out) == (5, "")
    assert sum(pauses) <= 75
    server.answers[UPLOAD].clear()


# --- mass removals ----------------------------------------------------------------------------------------------------


def test_without_a_terminal_a_mass_removal_is_refused_with_what_would_go(at, server, digest) -> None:
    empty(server)
    refuse(server, "removals_refused", 422, removed_paths=["x.py", "y.py"])
    done = at("deploy")
    assert done.code == 3
    assert "- x.py\n  - y.py\n" in done.err


def test_no_at_the_question_deploys_nothing(at, server, digest, monkeypatch) -> None:
    monkeypatch.setattr(upload, "can_ask", lambda _: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    empty(server)
    refuse(server, "removals_refused", 422, removed_paths=["x.py"])
    done = at("deploy")
    assert (done.code, done.out) == (130, "")
    assert "scope override" in done.err


def test_yes_deploys_it(at, server, digest) -> None:
    empty(server)
    refuse(server, "removals_refused", 422, removed_paths=["x.py"])
    accept(server, digest, "?allow_removals=1")
    assert at("deploy", "--yes").code == 0


# --- waiting ----------------------------------------------------------------------------------------------------------

LIVE = {**STATUS, "version": NEW, "sequence": 43}
BEFORE = f"GET /prod/dags/deploys?limit=1&before={43}"


@pytest.fixture
def waiting(server, digest, monkeypatch) -> Any:
    """The deploy is accepted, and then the status is this."""
    monkeypatch.setattr(poll, "PAUSE_SECONDS", 0.01)

    def prepare(status: dict[str, Any], **changed: Any) -> None:
        empty(server)
        accept(server, digest, **changed)
        server.answer("GET /prod/dags/status", status, ETag='"1"')

    return prepare


def test_wait_ends_well_when_every_pod_has_it(at, waiting) -> None:
    waiting(LIVE)
    done = at("deploy", "--wait", "dags")
    assert (done.code, done.out) == (0, f"{NEW}\n")
    assert done.err.splitlines()[-1].startswith(f"{NEW} is live in all 2 pods. Airflow shows changed DAGs when ")


def test_json_says_whether_it_is_live(at, waiting) -> None:
    waiting(LIVE)
    assert at("deploy", "--wait", "--json").json["live"] is True
    waiting({**LIVE, "version": OLD, "sequence": 44})
    done = at("deploy", "--wait", "--json")
    assert done.code == 7
    assert done.json["live"] is False
    assert json.loads(done.err.splitlines()[-1])["code"] == "not_converged"


def test_a_server_that_cannot_say_it_is_a_failure_and_the_deploy_is_named(at, waiting, server) -> None:
    waiting({})
    done = at("deploy", "--wait")
    assert (done.code, done.out) == (7, f"{NEW}\n")
    assert f"{NEW} was deployed, but whether it is live is not known." in done.err


def superseded(status: dict[str, Any]) -> dict[str, Any]:
    return {**status, "sequence": 44, "version": "20261120T064503Z-000044"}


def test_undo_on_failure_rolls_back_to_the_deploy_before_if_it_is_still_the_newest(at, server, waiting) -> None:
    waiting(superseded(LIVE))
    server.answer(BEFORE, {"deploys": [logged()], "next": None})
    server.answer("POST /prod/dags/rollback", {**DEPLOYED, "version": "20261120T064505Z-000045", "sequence": 45})
    done = at("deploy", "--wait", "--undo-on-failure", "--json")
    assert done.code == 7
    assert done.json["undone_by"] == "20261120T064505Z-000045"
    assert f"Undone: {OLD} is deployed again, as 20261120T064505Z-000045." in done.err
    rollback = server.requests[-1]
    assert json.loads(rollback.body)["version"] == OLD
    assert rollback.headers["If-Match"] == f'"{NEW}"'


def test_a_part_is_undone_alone(at, server, dags) -> None:
    server.answer("GET /prod/dags/deploys?limit=20", {"deploys": [], "next": None})
    accept(server, "sha256:" + "0" * 64, "?under=team-a%2F", under="team-a/")
    server.answer("GET /prod/dags/status", superseded(LIVE), ETag='"1"')
    server.answer(BEFORE, {"deploys": [logged()], "next": None})
    server.answer("POST /prod/dags/rollback", DEPLOYED)
    assert at("deploy", "--under", "team-a", "--wait", "--undo-on-failure").code == 7
    assert json.loads(server.requests[-1].body)["under"] == "team-a/"


@pytest.mark.parametrize(
    ("code", "says"),
    [("version_mismatch", "Somebody deployed since, so nothing is undone."), ("bundle_gone", "bundle")],
)
def test_an_undo_that_fails_is_said_and_is_no_success(at, server, waiting, code, says) -> None:
    waiting(superseded(LIVE))
    server.answer(BEFORE, {"deploys": [logged()], "next": None})
    error = {"code": code, "message": f"It is {code}.", "hint": ""}
    server.answer("POST /prod/dags/rollback", error, 412 if code == "version_mismatch" else 410)
    done = at("deploy", "--wait", "--undo-on-failure")
    assert done.code == 7
    assert says in done.err


def test_nothing_is_undone_unless_a_pod_is_known_to_lack_it(at, waiting, server) -> None:
    waiting({})
    done = at("deploy", "--wait", "--undo-on-failure", "--json")
    assert (done.code, done.json["undone_by"]) == (7, None)
    assert "Whether a pod lacks the deploy is not known, so nothing is undone." in done.err
    assert all(request.path != "/prod/dags/rollback" for request in server.requests)


def test_nothing_is_undone_while_the_server_does_not_know_its_pods(at, server, digest, monkeypatch) -> None:
    def unknown(*_: object) -> None:
        raise NotConverged("No pod is known.", is_known=False)

    monkeypatch.setattr("dagferry_client.outcome.wait_until_live", unknown)
    empty(server)
    accept(server, digest)
    done = at("deploy", "--wait", "--undo-on-failure", "--json")
    assert (done.code, done.json["undone_by"]) == (7, None)
    assert "Whether a pod lacks the deploy is not known, so nothing is undone." in done.err


def test_the_first_deploy_cannot_be_undone(at, server, waiting) -> None:
    waiting(superseded(LIVE))
    server.answer(BEFORE, {"deploys": [], "next": None})
    done = at("deploy", "--wait", "--undo-on-failure")
    assert done.code == 7
    assert "It was the first deploy" in done.err


def test_what_others_deployed_is_not_undone(at, server, waiting) -> None:
    waiting(superseded(LIVE), unchanged=True)
    done = at("deploy", "--wait", "--undo-on-failure")
    assert done.code == 7
    assert "This command deployed nothing" in done.err


# --- waiting until it is parsed ---------------------------------------------------------------------------------------

READ = parsed(version=NEW, sequence=43)
BROKEN = {
    **READ,
    "error_count": 2,
    "new_error_count": 1,
    "errors": [import_failure(), import_failure("b.py", new=False)],
}


def test_wait_parsed_waits_until_it_is_live_and_then_parsed(at, waiting, server) -> None:
    waiting(LIVE)
    server.answer("GET /prod/dags/status", {**LIVE, "parsed": READ}, ETag='"2"')
    done = at("deploy", "--wait-parsed", "dags")
    assert (done.code, done.out) == (0, f"{NEW}\n")
    assert done.err.splitlines()[-2:] == [
        f"{NEW} is live in all 2 pods.",
        "Parsed: 120 files, 200 DAGs, 0 new import errors, 4.1 s after the deploy.",
    ]


def test_new_import_errors_end_with_8_and_name_file_and_message(at, waiting, server) -> None:
    waiting(LIVE)
    server.answer("GET /prod/dags/status", {**LIVE, "parsed": BROKEN}, ETag='"2"')
    done = at("deploy", "--wait-parsed=5m")
    assert (done.code, done.out) == (8, f"{NEW}\n")
    assert done.err.splitlines()[-4:] == [
        "Older import error: b.py: NameError: rate",
        f"Error: Airflow has parsed {NEW} of prod, with 1 new import error. 1 older import error beside them.",
        "  etl.py:3: NameError: rate",
        "Correct the files and deploy again, or undo it. Run: dagferry rollback --previous.",
    ]


def test_json_has_what_airflow_reported(at, waiting, server) -> None:
    waiting(LIVE)
    server.answer("GET /prod/dags/status", {**LIVE, "parsed": BROKEN}, ETag='"2"')
    done = at("deploy", "--wait-parsed", "--json")
    assert (done.code, done.json["live"], done.json["parsed"]) == (8, True, BROKEN)
    said = json.loads(done.err.splitlines()[-1])
    assert (said["code"], said["error_count"], said["new_error_count"]) == ("import_errors", 2, 1)
    [problem] = said["problems"]
    assert problem == {key: value for key, value in {**import_failure(), "line": 3}.items() if key != "new"}


def test_what_is_not_live_is_not_waited_for_until_it_is_parsed(at, waiting) -> None:
    waiting(superseded(LIVE))
    done = at("deploy", "--wait-parsed", "--json")
    assert (done.code, done.json["live"], done.json["parsed"]) == (7, False, None)


def test_a_deploy_with_new_import_errors_is_undone_if_wanted(at, server, waiting) -> None:
    waiting(LIVE)
    server.answer("GET /prod/dags/status", {**LIVE, "parsed": BROKEN}, ETag='"2"')
    server.answer(BEFORE, {"deploys": [logged()], "next": None})
    server.answer("POST /prod/dags/rollback", {**DEPLOYED, "version": "20261120T064505Z-000045"})
    done = at("deploy", "--wait-parsed", "--undo-on-failure", "--json")
    assert (done.code, done.json["undone_by"]) == (8, "20261120T064505Z-000045")
    sent = json.loads(server.requests[-1].body)
    assert sent["description"] == f"Undo of {NEW}, which has new import errors"


def test_a_deploy_whose_import_errors_are_not_all_known_is_no_success_and_not_undone(at, waiting, server) -> None:
    waiting(LIVE)
    many = {**READ, "error_count": 21, "errors": [import_failure(f"old_{n}.py", new=False) for n in range(20)]}
    server.answer("GET /prod/dags/status", {**LIVE, "parsed": many}, ETag='"2"')
    done = at("deploy", "--wait-parsed", "--undo-on-failure", "--json")
    assert (done.code, done.json["undone_by"], done.json["live"]) == (7, None, True)
    assert "Whether files of the deploy have import errors is not known, so nothing is undone." in done.err
    said = json.loads(done.err.splitlines()[-1])
    assert (said["code"], "20 of 21 import errors" in said["message"]) == ("import_errors_unknown", True)


def test_a_deploy_that_is_not_parsed_in_time_is_not_undone(at, waiting, monkeypatch) -> None:
    def late(*_: object) -> None:
        raise NotParsed("It is not parsed.")

    monkeypatch.setattr("dagferry_client.outcome.ParseWait.wait", late)
    waiting(LIVE)
    done = at("deploy", "--wait-parsed", "--undo-on-failure", "--json")
    assert (done.code, done.json["undone_by"], done.json["live"]) == (7, None, True)
    assert "does not say that it cannot, so nothing is undone." in done.err


# --- the import check -------------------------------------------------------------------------------------------------


def test_what_the_import_check_refuses_is_named_by_file_and_line(at, server, digest) -> None:
    empty(server)
    problems = [
        {"path": "etl.py", "line": 3, "message": "No module named 'x'", "kind": "import", "trace": "", "new": True},
        {"path": "b.py", "line": 0, "message": "It was killed.", "kind": "memory", "trace": "", "new": False},
    ]
    refuse(server, "import_check_refused", 422, problems=problems, problem_count=2)
    done = at("deploy")
    assert done.code == 3
    assert done.err.splitlines()[-3:-1] == [
        "  etl.py:3: No module named 'x'",
        "  b.py: It was killed. (it is live already)",
    ]


def test_a_deploy_that_is_being_checked_is_sent_again_until_there_is_an_answer(at, server, digest, pauses) -> None:
    empty(server)
    pending = {"code": "import_check_pending", "message": "It is being checked.", "hint": "Send it again."}
    for _ in range(8):
        server.answer(UPLOAD, pending, 503, Retry_After="10")
    accept(server, digest)
    done = at("deploy")
    assert (done.code, done.out) == (0, f"{NEW}\n")
    assert done.err.count("It is being checked. Asking again in 10 s.") == 8
    assert all(10 <= pause <= 12.5 for pause in pauses)
    sent = uploads(server)
    assert all(one.files == sent[0].files for one in sent), "the same content joins the check"


def test_the_import_check_can_be_skipped(at, server, digest) -> None:
    empty(server)
    accept(server, digest, "?skip_import_check=1", warnings=["It was not checked: skip_import_check."])
    done = at("deploy", "--skip-import-check")
    assert done.code == 0
    assert "Warning: It was not checked: skip_import_check." in done.err


def test_what_a_deploy_removes_is_a_warning(at, server, digest) -> None:
    empty(server)
    accept(
        server,
        digest,
        warnings=["It removes 2 DAG files: a.py, b.py. Runs of them that have not ended stay as they are."],
    )
    assert "Warning: It removes 2 DAG files: a.py, b.py." in at("deploy").err
