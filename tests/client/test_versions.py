"""A version is named by its whole name, its number, or how its name begins; nothing is guessed."""

import pytest

from dagferry_client.versions import is_version
from recorded_answers import DETAILS, STATUS, logged

OLD, NEW = logged(41), logged(42)


def shows(at, server, text: str, deploy: dict) -> None:
    server.answer(f"GET /prod/dags/deploys/{deploy['version']}", {**deploy, "details": DETAILS})
    server.answer("GET /prod/dags/status", STATUS)
    assert at("show", text, "--json").json["deploy"]["version"] == deploy["version"]


def test_a_whole_name_is_used_as_it_is(at, server) -> None:
    shows(at, server, OLD["version"], OLD)
    assert len(server.requests) == 2, "no version was looked for"


@pytest.mark.parametrize("text", ["41", "000041"])
def test_a_number_is_that_of_the_deploy(at, server, text) -> None:
    server.answer("GET /prod/dags/deploys?limit=1&before=42", {"deploys": [OLD], "next": 41})
    shows(at, server, text, OLD)


def test_a_number_whose_entry_is_missing_is_not_that_of_the_entry_before_it(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=1&before=44", {"deploys": [NEW], "next": 42})
    done = at("show", "43")
    assert done.code == 4
    assert "prod has no version 43." in done.err


def test_the_number_zero_is_no_version(at, server) -> None:
    assert at("show", "0").code == 4
    assert server.requests == []


def test_eight_digits_are_a_number_and_no_date(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=1&before=20261121", {"deploys": [NEW], "next": 42})
    assert "has no version 20261120" in at("show", "20261120").err


def test_the_beginning_of_one_name_is_that_version(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=200", {"deploys": [NEW], "next": 42})
    server.answer("GET /prod/dags/deploys?limit=200&before=42", {"deploys": [OLD], "next": 41})
    # Times never run backwards, so the older one ends the search.
    shows(at, server, "20261120T064501", NEW)


def test_the_beginning_of_several_names_is_none_of_them(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=200", {"deploys": [NEW, OLD], "next": None})
    done = at("show", "20261120T06")
    assert done.code == 2
    assert f"2 versions of prod begin with 20261120T06: {NEW['version']}, {OLD['version']}." in done.err


def test_a_beginning_that_no_name_has_is_no_version(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=200", {"deploys": [NEW], "next": None})
    done = at("show", "20261121T", "--json")
    assert done.code == 4
    assert '"code": "version_not_found"' in done.err


@pytest.mark.parametrize("text", ["latest", "20261120T0645x", "-1", "./42", "v42", "20261120T064501Z-1/", ""])
def test_only_what_looks_like_a_version_is_one(text) -> None:
    assert is_version("42")
    assert is_version("20261120T064501Z-")
    assert not is_version(text)


def test_anything_else_is_a_mistake(at, server) -> None:
    done = at("show", "latest")
    assert done.code == 2
    assert "'latest' is not a version" in done.err
    assert "dagferry history" in done.err
