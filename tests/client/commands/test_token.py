"""``dagferry token`` creates, lists and revokes the tokens of a tokens file, as ``dagferry-server token`` does."""

import os
import stat

import pytest

from commands import run
from dagferry_server.auth.tokens import parse_tokens, token_caller

NEW = ("token", "new", "--name", "ci", "--scopes", "read,deploy", "--deployments", "prod,team-*")


def test_a_new_token_is_one_for_the_server(dagferry) -> None:
    done = dagferry(*NEW, "--prefixes", "team-a")
    assert done.code == 0
    secret, entry = done.out.splitlines()
    assert secret not in entry + done.err
    caller = token_caller(parse_tokens(f"tokens = [\n{entry}\n]".encode(), with_users=False).tokens, secret, 0)
    assert (caller.actor, caller.expires) == ("token:ci", None)
    assert caller.prefixes("team-b") == ("team-a/",)


def test_a_token_is_added_to_a_file_that_only_its_owner_can_read(dagferry, project) -> None:
    done = dagferry(*NEW, "--add", "tokens.toml", "--expires", "90d", "--json")
    assert (done.code, done.json["added"]) == (0, "tokens.toml")
    file = project / "tokens.toml"
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    [token] = parse_tokens(file.read_bytes(), with_users=False).tokens
    assert f"{token.sha256.hex()}" in done.json["entry"]
    done = dagferry(*NEW, "--add", "tokens.toml")
    assert done.out.startswith("dgf_")
    assert len(done.out.splitlines()) == 1


@pytest.mark.slow
def test_both_commands_list_the_same(dagferry, project) -> None:
    file = str(project / "tokens.toml")
    dagferry(*NEW, "--add", file, "--prefixes", "team-a/")
    pods = ("token", "new", "--name", "pods", "--scopes", "sync", "--deployments", "*", "--expires", "1d")
    dagferry(*pods, "--add", file)
    ours = dagferry("token", "list", "--tokens-file", file)
    assert ours.code == 0
    assert ours.out == run("token", "list", "--tokens-file", file).stdout


def test_a_token_is_revoked_by_its_id_or_its_name(dagferry, project) -> None:
    for _ in range(3):
        dagferry(*NEW, "--add", "tokens.toml")
    tokens = dagferry("token", "list", "--tokens-file", "tokens.toml", "--json").json["tokens"]
    first = tokens[0]["sha256"]
    done = dagferry("token", "revoke", "--tokens-file", "tokens.toml", "--id", first[:12])
    assert (done.code, done.out) == (0, f"{first[:12]}  ci  deploy,read  prod,team-*\n")
    assert "within 2 seconds" in done.err
    revoked = dagferry("token", "revoke", "--tokens-file", "tokens.toml", "--name", "ci", "--json").json["revoked"]
    assert [one["sha256"] for one in revoked] == [one["sha256"] for one in tokens[1:]]
    done = dagferry("token", "revoke", "--tokens-file", "tokens.toml", "--name", "ci")
    assert (done.code, done.out) == (2, "")
    assert "has no such token" in done.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("new", "--name", "ci", "--scopes", "read"), "--deployments is required"),
        (("new", "--name", "a b"), "1 to 100 letters"),
        ((*NEW[1:], "--tokens-file", "x"), "--tokens-file is not an option of token new"),
        (("new", "--name", "ci", "--scopes", "read", "--deployments", "x", "--prefixes", "a"), "scope 'deploy'"),
        (("list",), "--tokens-file is required"),
        (("list", "--tokens-file", "none.toml"), "cannot be read: No such file"),
        (("list", "--tokens-file", "x", "--id", "0" * 12), "--id is not an option of token list"),
        (("revoke", "--tokens-file", "x"), "One of --name and --id is required"),
        (("revoke", "--tokens-file", "x", "--name", "a", "--id", "0" * 12), "One of --name and --id is required"),
        (("remove",), "'new', 'list', 'revoke'"),
        ((), "Missing argument"),
    ],
)
def test_what_makes_no_sense_is_a_mistake(dagferry, project, arguments, why) -> None:
    done = dagferry("token", *arguments)
    assert (done.code, done.out) == (2, "")
    assert why in done.err
    assert [name for name in os.listdir(project) if name != ".git"] == []


def test_it_needs_no_server(dagferry) -> None:
    assert "--server" not in dagferry("token", "--help").out
