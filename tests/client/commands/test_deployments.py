"""``dagferry deployments`` lists what the caller may see, creates deployments and deletes them."""

import sys

import pytest

from credentials import TokensFile
from recorded_answers import LISTED as PROD
from terminals import Terminal

EMPTY = {
    **PROD,
    "name": "preview-7",
    "state": "EMPTY",
    "version": "",
    "deployed_at": None,
    "created_by": "token:ci",
    "scopes": ["read"],
    "frozen": {"reason": "audit\x1b[31m", "until": 4102444800, "actor": "ann"},
}


def test_each_deployment_has_a_row_with_its_state_and_why_it_is_closed(at, server) -> None:
    disabled = {**PROD, "name": "old", "disabled": "moved away"}
    server.answer("GET /-/deployments", {"deployments": [PROD, EMPTY, disabled]})
    done = at("deployments")
    assert done.code == 0
    head, prod, preview, old = done.out.splitlines()
    assert head.split() == ["DEPLOYMENT", "STATE", "VERSION", "DEPLOYED", "SCOPES", "NOTE"]
    assert prod.split()[:3] == ["prod", "HEALTHY", "20261120T064501Z-000042"]
    assert prod.endswith("days ago  deploy read")
    assert preview.split()[:4] == ["preview-7", "EMPTY", "-", "-"]
    assert preview.endswith("Frozen by ann until 2100-01-01 00:00:00 UTC: audit?[31m")
    assert old.endswith("Disabled: moved away")


def test_json_has_what_the_server_says(at, server) -> None:
    server.answer("GET /-/deployments", {"deployments": [PROD, EMPTY]})
    assert at("deployments", "--json").json == {"deployments": [PROD, EMPTY]}


def test_no_deployment_is_said_on_stderr_and_no_error(at, server) -> None:
    server.answer("GET /-/deployments", {"deployments": []})
    done = at("deployments")
    assert (done.code, done.out) == (0, "")
    assert "no deployment that you may see" in done.err


PREVIEW = "/-/deployments/preview-7"
NEW = {**PROD, "name": "preview-7", "state": "EMPTY", "version": "", "deployed_at": None, "created_by": "token:ci"}


@pytest.mark.parametrize(("created", "said"), [(True, "preview-7 was created"), (False, "preview-7 exists already")])
def test_create_says_whether_it_created_something_and_both_are_successes(at, server, created, said) -> None:
    server.answer(f"POST {PREVIEW}", {**NEW, "created": created})
    done = at("deployments", "create", "preview-7")
    assert (done.code, done.out) == (0, "")
    assert said in done.err
    server.answer(f"POST {PREVIEW}", {**NEW, "created": created})
    assert at("deployments", "create", "preview-7", "--json").json == {"created": created, "deployment": NEW}


@pytest.mark.parametrize(("deleted", "said"), [(True, "preview-7 was deleted"), (False, "preview-7 does not exist")])
def test_delete_says_whether_it_deleted_something_and_both_are_successes(at, server, deleted, said) -> None:
    gone = {"name": "preview-7", "deleted": deleted}
    server.answer(f"DELETE {PREVIEW}", gone)
    done = at("deployments", "delete", "preview-7")  # nobody is there to answer a question
    assert (done.code, done.out) == (0, "")
    assert said in done.err
    server.answer(f"DELETE {PREVIEW}", gone)
    assert at("deployments", "delete", "preview-7", "--yes", "--json").json == gone


@pytest.mark.parametrize(("method", "action"), [("POST", "create"), ("DELETE", "delete")])
def test_both_are_repeated_while_the_server_is_away(at, server, pauses, method, action) -> None:
    away = {"code": "store_unavailable", "message": "The store is away.", "hint": "Try again."}
    server.answer(f"{method} {PREVIEW}", away, 503)
    server.answer(f"{method} {PREVIEW}", {**NEW, "created": False, "deleted": False})
    assert at("deployments", action, "preview-7").code == 0
    assert len(pauses) == 1


@pytest.mark.parametrize(("method", "action"), [("POST", "create"), ("DELETE", "delete")])
def test_what_the_server_does_not_allow_is_an_error(at, server, method, action) -> None:
    refused = {"code": "deployment_configured", "message": "prod is configured.", "hint": "Change the file."}
    server.answer(f"{method} /-/deployments/prod", refused, 409)
    done = at("deployments", action, "prod")
    assert (done.code, done.out) == (4, "")
    assert "prod is configured." in done.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("create",), "No deployment to create was given"),
        (("delete", "--yes"), "No deployment to delete was given"),
        (("remove", "preview-7"), "'create', 'delete'"),
        (("create", "preview-*"), "preview-*"),
        (("create", "../prod"), "../prod"),
        (("create", "preview-7", "--yes"), "--yes is only for delete"),
        (("--yes",), "--yes is only for delete"),
    ],
)
def test_what_makes_no_sense_is_a_mistake_and_asks_nobody(at, arguments, why) -> None:
    done = at("deployments", *arguments)
    assert (done.code, done.out) == (2, "")
    assert why in done.err


@pytest.mark.slow
def test_a_person_is_asked_before_something_is_deleted(server, project) -> None:
    command = [sys.executable, "-m", "dagferry_client", "deployments", "delete", "preview-7"]

    def asked() -> Terminal:
        terminal = Terminal(*command, folder=project, DAGFERRY_SERVER=server.url)
        return terminal.shows("Delete preview-7?").shows("[y/N]")

    assert asked().end("\n") == 130  # and the scripted server was not asked
    server.answer(f"DELETE {PREVIEW}", {"name": "preview-7", "deleted": True})
    assert asked().end("y\n") == 0


@pytest.mark.slow
def test_a_real_server_creates_and_deletes_once(serve, dagferry, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret = tokens.add("ci", ["admin", "deploy"], ["preview-*"])
    server = serve("--deployments", "prod", "--tokens-file", str(tokens.path))

    def run(*arguments: str):
        return dagferry("deployments", *arguments, DAGFERRY_SERVER=server.url, DAGFERRY_TOKEN=secret)

    made = [run("create", "preview-7", "--json").json for _ in range(2)]
    assert [one["created"] for one in made] == [True, False]
    assert made[0]["deployment"] == run("--json").json["deployments"][0]
    assert [run("delete", "preview-7", "--json").json["deleted"] for _ in range(2)] == [True, False]
    assert run("--json").json == {"deployments": []}
    assert run("create", "other").code == 4
