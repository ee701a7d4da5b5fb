"""``dagferry history`` shows who deployed what, when and why, newest first."""

import pytest

from dagferry_client.api import MAX_PAGE_DEPLOYS
from recorded_answers import logged

VERSION = logged()["version"]


def test_a_deploy_has_a_row_that_says_who_when_why_and_what(at, server) -> None:
    deploy = logged(
        kind="rollback",
        source="20261119T000000Z-000040",
        added=1,
        removed=3,
        under="team-a/",
        git={"commit": "4f2a91c07b1d5e6f", "branch": "main"},
        flags=["skip_gate", "skip_import_check"],
        description="Undo\x1b[2J it",
    )
    server.answer("GET /prod/dags/deploys?limit=21", {"deploys": [deploy], "next": None})
    done = at("history")
    assert done.code == 0
    head, row = done.out.splitlines()
    assert head.split() == ["VERSION", "WHEN", "WHO", "KIND", "FILES", "PART", "GIT", "FLAGS", "WHY"]
    assert row.startswith(f"{VERSION}  ")
    assert "ago (2026-11-20 06:45:01 UTC)  token:ci  rollback to 20261119T000000Z-000040  +1 ~1 -3  team-a/  " in row
    assert row.endswith("4f2a91c07b1d (main)  skip_gate skip_import_check  Undo?[2J it")


def test_columns_in_which_nothing_is_are_left_out(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=21", {"deploys": [logged(43), logged(42)], "next": None})
    assert at("history").out.splitlines()[0].split() == ["VERSION", "WHEN", "WHO", "KIND", "FILES"]


def test_limit_says_how_many_and_that_there_are_more(at, server) -> None:
    deploys = [logged(sequence) for sequence in (44, 43, 42)]
    server.answer("GET /prod/dags/deploys?limit=3", {"deploys": deploys, "next": 42})
    done = at("history", "--limit", "2")
    assert len(done.out.splitlines()) == 3
    assert "dagferry history --all" in done.err
    server.answer("GET /prod/dags/deploys?limit=3", {"deploys": deploys[:2], "next": None})
    assert at("history", "--limit", "2").err == ""
    server.answer("GET /prod/dags/deploys?limit=2", {"deploys": deploys[:2], "next": 43})
    assert at("history", "--limit", "1").err.startswith("This is the newest deploy. ")


def test_a_limit_above_a_page_takes_several(at, server) -> None:
    first = [logged(sequence) for sequence in range(300, 300 - MAX_PAGE_DEPLOYS, -1)]
    server.answer("GET /prod/dags/deploys?limit=200", {"deploys": first, "next": 101})
    server.answer("GET /prod/dags/deploys?limit=200&before=101", {"deploys": [logged(100)], "next": None})
    assert len(at("history", "--limit", "250", "--json").json["deploys"]) == 201


def test_all_is_the_whole_log(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=200", {"deploys": [logged(3), logged(2)], "next": 2})
    server.answer("GET /prod/dags/deploys?limit=200&before=2", {"deploys": [logged(1)], "next": None})
    done = at("history", "--all", "--json")
    assert done.json == {"deployment": "prod", "deploys": [logged(3), logged(2), logged(1)], "more": False}


def test_an_older_server_has_fewer_fields(at, server) -> None:
    old = {name: value for name, value in logged().items() if name not in {"under", "flags", "source", "git"}}
    server.answer("GET /prod/dags/deploys?limit=21", {"deploys": [old], "next": None})
    assert at("history", "--json").json["deploys"] == [logged()]


@pytest.mark.parametrize(
    "page",
    [
        {"deploys": [logged(2), logged(2)], "next": None},
        {"deploys": [logged(1), logged(2)], "next": None},
        {"deploys": [logged(2)], "next": 3},
        {"deploys": [], "next": 7},
    ],
)
def test_a_log_that_is_not_in_order_is_no_answer_and_no_loop(at, server, page) -> None:
    server.answer("GET /prod/dags/deploys?limit=200", page)
    done = at("history", "--all")
    assert (done.code, done.out) == (5, "")
    assert "the deploys are not in order" in done.err


def test_nothing_deployed_is_said_on_stderr_and_no_error(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=21", {"deploys": [], "next": None})
    done = at("history")
    assert (done.code, done.out) == (0, "")
    assert "Nothing is deployed to prod yet." in done.err


@pytest.mark.parametrize("limit", ["0", "-1", "x"])
def test_a_limit_is_a_number_of_deploys(at, limit) -> None:
    assert at("history", "--limit", limit).code == 2
