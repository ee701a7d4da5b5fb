"""``dagferry show`` says everything about one deploy."""

from recorded_answers import DETAILS, logged

VERSION = logged()["version"]
PATH = f"GET /prod/dags/deploys/{VERSION}"


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
    assert at("show", VERSION).out.splitlines()[-2:] == ["M  a.py", "and more: the list is cut."]


def test_a_deploy_without_details_says_where_to_look(at, server) -> None:
    server.answer(PATH, {**logged(), "details": None})
    assert at("show", VERSION).out.splitlines()[-1] == "Which files it changed was not recorded. See: dagferry diff"


def test_json_has_what_the_server_says(at, server) -> None:
    deploy, details = logged(source="x@y", kind="promote"), {**DETAILS, "warnings": ["w"]}
    server.answer(PATH, {**deploy, "details": details})
    assert at("show", VERSION, "--json").json == {"deployment": "prod", "deploy": deploy, "details": details}


def test_without_a_version_it_is_the_newest_deploy(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [logged()], "next": None})
    server.answer(PATH, {**logged(), "details": DETAILS})
    assert at("show").out.splitlines()[0] == f"{VERSION} of prod, deploy 42"
    server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [], "next": None})
    assert "Nothing is deployed to prod yet." in at("show").err


def test_a_version_that_is_not_there_gets_the_server_s_error(at, server) -> None:
    server.answer(PATH, {"code": "version_not_found", "message": "prod has no such version.", "hint": "Look."}, 404)
    done = at("show", VERSION)
    assert (done.code, done.out) == (4, "")
    assert "prod has no such version." in done.err
