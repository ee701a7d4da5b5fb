"""``dagferry show`` says everything about one deploy."""

import pytest

from recorded_answers import DETAILS, STATUS, import_failure, logged, parsed

VERSION = logged()["version"]
PATH = f"GET /prod/dags/deploys/{VERSION}"
NOW = "GET /prod/dags/status"
LATER = {**STATUS, "version": logged(43)["version"], "sequence": 43}
BUILT = "Airflow 3.3.2, Python 3.11.7"
HOLDER = "bundle-dag-processor-0-1"


def test_it_has_who_when_why_where_from_and_each_path(at, server) -> None:
    git = {"commit": "4f2a91c07b1d5e6f", "branch": "main", "author": "Ann", "url": "https://git.example.com/1"}
    details = {
        **DETAILS,
        "added_paths": ["new.py"],
        "changed_paths": ["etl.py"],
        "removed_paths": ["old.py"],
        "warnings": ["Two files differ only in case."],
        "excluded_paths": ["a/__pycache__"],
    }
    deploy = logged(description="Fix the rate", git=git, added=1, removed=1, details=details, flags=["repeated"])
    server.answer(PATH, deploy)
    server.answer(NOW, LATER)
    done = at("show", VERSION)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == f"{VERSION} of prod, deploy 42"
    assert (
        dict(line.split(maxsplit=1) for line in lines[1:12]).items()
        >= {
            "who": "token:ci",
            "why": "Fix the rate",
            "kind": "upload",
            "flags": "repeated",
            "commit": "4f2a91c07b1d5e6f",
            "branch": "main",
            "author": "Ann",
            "url": "https://git.example.com/1",
            "files": "1 file added, 1 changed, 1 removed",
        }.items()
    )
    assert lines[12:] == [
        "A  new.py",
        "M  etl.py",
        "D  old.py",
        "Warnings:",
        "  Two files differ only in case.",
        "Not deployed, because of --exclude:",
        "  a/__pycache__",
    ]


def test_a_list_that_is_cut_says_so(at, server) -> None:
    server.answer(PATH, {**logged(), "details": {**DETAILS, "changed_paths": ["a.py"], "cut": True}})
    server.answer(NOW, LATER)
    assert at("show", VERSION).out.splitlines()[-2:] == ["M  a.py", "and more: the list is cut."]


def test_a_deploy_without_details_says_where_to_look(at, server) -> None:
    server.answer(PATH, {**logged(), "details": None})
    server.answer(NOW, LATER)
    assert at("show", VERSION).out.splitlines()[-1] == "Which files it changed was not recorded. See: dagferry diff"


def test_json_has_what_the_server_says(at, server) -> None:
    deploy, details = logged(source="x@y", kind="promote"), {**DETAILS, "warnings": ["w"]}
    server.answer(PATH, {**deploy, "details": details})
    server.answer(NOW, LATER)
    shown = {"deployment": "prod", "deploy": deploy, "details": details, "now": None}
    assert at("show", VERSION, "--json").json == shown


def test_of_the_newest_deploy_it_says_where_it_is_live_and_what_airflow_parsed(at, server) -> None:
    server.answer(PATH, {**logged(), "details": None})
    read = parsed(state="parsing", recorded=118, mixed=1, error_count=1, new_error_count=1, errors=[import_failure()])
    leases = {"versions": {VERSION: [HOLDER], "x": ["other"]}, "holders": 2}
    server.answer(NOW, {**STATUS, "parsed": read, "leases": leases})
    lines = at("show", VERSION).out.splitlines()
    assert lines[-5:-1] == [
        "Fleet: HEALTHY All 2 pods have the newest deploy.",
        f"Airflow: parsing, 118 of 120 DAG files, 1 mixed, 1 import error (1 new) ({VERSION}; {BUILT})",
        "  etl.py: NameError: rate (new)",
        f"Kept for DAG runs, as reported by {HOLDER}",
    ]


@pytest.mark.parametrize(
    ("status", "now"),
    [
        ({"parsed": parsed()}, {"state": "", "reason": "", "parsed": parsed(), "used_by": []}),
        ({"leases": {"versions": {VERSION: [HOLDER]}, "holders": 1}}, {"state": "", "used_by": [HOLDER]}),
        ({"parsed": parsed(version=LATER["version"], sequence=43)}, None),
    ],
)
def test_of_an_older_deploy_it_says_whether_airflow_is_at_it_or_runs_use_it(at, server, status, now) -> None:
    server.answer(PATH, {**logged(), "details": None})
    server.answer(NOW, {**LATER, **status})
    assert at("show", VERSION, "--json").json["now"] == (
        now and {"reason": "", "parsed": None, "state": "", "used_by": [], **now}
    )


def test_a_status_that_cannot_be_read_hides_nothing_else(at, server) -> None:
    server.answer(PATH, {**logged(flags=["skip_import_check"]), "details": DETAILS})
    server.answer(NOW, {"code": "forbidden", "message": "No.", "hint": "Ask."}, 403)
    done = at("show", VERSION)
    assert done.code == 0
    assert ["flags", "skip_import_check"] in [line.split() for line in done.out.splitlines()]


def test_without_a_version_it_is_the_newest_deploy(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [logged()], "next": None})
    server.answer(PATH, {**logged(), "details": DETAILS})
    server.answer(NOW, LATER)
    assert at("show").out.splitlines()[0] == f"{VERSION} of prod, deploy 42"
    server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [], "next": None})
    assert "Nothing is deployed to prod yet." in at("show").err


def test_a_version_that_is_not_there_gets_the_server_s_error(at, server) -> None:
    server.answer(PATH, {"code": "version_not_found", "message": "prod has no such version.", "hint": "Look."}, 404)
    done = at("show", VERSION)
    assert (done.code, done.out) == (4, "")
    assert "prod has no such version." in done.err
