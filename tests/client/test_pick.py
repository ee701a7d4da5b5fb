"""A person at a terminal picks a deployment; without a terminal nothing is asked."""

import sys

import pytest

from recorded_answers import LISTED, STATUS
from terminals import Terminal

LISTS = {"deployments": [LISTED, {**LISTED, "name": "lab", "state": "EMPTY\x1b[31m"}, {**LISTED, "name": "1"}]}
COMMAND = (sys.executable, "-m", "dagferry_client", "status", "--json")


@pytest.fixture
def asked(server, project, tmp_path):
    """``dagferry status --json`` at a terminal, with its data in the file ``out``."""

    def start() -> Terminal:
        out = tmp_path / "out"
        return Terminal(*COMMAND, folder=project, stdout=out, DAGFERRY_SERVER=server.url).shows("Number or name")

    return start


@pytest.mark.parametrize(("typed", "name"), [("2", "lab"), ("lab", "lab"), ("1", "1")])
def test_it_is_picked_by_number_or_by_name(asked, server, tmp_path, typed, name) -> None:
    server.answer("GET /-/deployments", LISTS)
    server.answer(f"GET /{name}/dags/status", STATUS)
    terminal = asked()
    assert "  1  prod  HEALTHY\r\n  2  lab   EMPTY?[31m\r\n" in terminal.screen
    terminal.type(f"{typed}\n")
    assert terminal.end() == 0
    assert f"Next time: --deployment {name}" in terminal.screen
    assert (tmp_path / "out").read_text().startswith('{\n  "deployment": "prod"')


def test_what_is_not_in_the_list_is_asked_again(asked, server) -> None:
    server.answer("GET /-/deployments", LISTS)
    server.answer("GET /prod/dags/status", STATUS)
    terminal = asked()
    for wrong in ("0", "4", "prdo", "99999999999"):
        terminal.type(f"{wrong}\n")
        terminal.shows(f"'{wrong}' is neither a number of the list nor a name in it.")
    terminal.type("prod\n")
    assert terminal.end() == 0


def test_ctrl_c_ends_it_with_130_and_no_traceback(asked, server) -> None:
    server.answer("GET /-/deployments", LISTS)
    terminal = asked()
    assert terminal.interrupt() == 130
    assert "Traceback" not in terminal.screen
    assert terminal.screen.endswith("\n")


def test_where_there_is_nothing_to_pick_it_says_how_to_name_one(server, project) -> None:
    server.answer("GET /-/deployments", {"deployments": []})
    terminal = Terminal(*COMMAND[:-1], folder=project, DAGFERRY_SERVER=server.url)
    assert terminal.end() == 2
    assert "No deployment was given." in terminal.screen


def test_without_a_terminal_nothing_is_asked(at, server) -> None:
    done = at("status", DAGFERRY_DEPLOYMENT=None)
    assert (done.code, server.requests) == (2, [])
    assert "No deployment was given." in done.err
