"""Every exit code has its meaning, which is the same for every command and in the docs."""

import re
from pathlib import Path

import pytest

from dagferry_client.exits import EXIT_CODES
from dagferry_core import errors
from errortable import ALL_ERRORS

HOME = Path(__file__).parents[2]


def test_every_code_that_a_command_may_end_with_has_a_meaning() -> None:
    named = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert named | {error.exit_code for error in ALL_ERRORS} <= set(EXIT_CODES)
    assert set(EXIT_CODES) == {0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 141}


@pytest.mark.parametrize("page", ["cli", "errors"])
def test_the_docs_have_them_all(page) -> None:
    text = (HOME / "docs" / "reference" / f"{page}.md").read_text()
    table = text.partition("| exit code | meaning |")[2].partition("\n\n")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)] == list(EXIT_CODES)


SAID = {"code": "x", "message": "No.", "hint": "So."}


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["whoami"], 200, 0),
        (["whoami", "--bogus"], None, 2),
        (["whoami", "--target", "absent"], None, 2),
        (["whoami"], 422, 3),
        (["whoami"], 403, 4),
        (["whoami"], 423, 4),
        (["whoami"], 500, 5),
        (["whoami", "--token-file", "absent"], None, 6),
    ],
)
def test_a_command_ends_with_the_code_of_what_happened(at, server, arguments, status, code) -> None:
    if status:
        body = {"actor": "a", "expires": None, "deployments": []} if status == 200 else SAID
        server.answer("GET /-/whoami", body, status)
    assert at(*arguments).code == code


def test_a_bug_ends_with_1(at, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise errors.DagferryError("It is broken.")

    monkeypatch.setattr("dagferry_client.settings.resolve", broken)
    assert at("whoami").code == 1
