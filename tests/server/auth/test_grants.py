"""What an entry grants, and which limits of it make no sense."""

import pytest

from dagferry_core.errors import SetupError
from dagferry_server.auth.access import Grant
from dagferry_server.auth.grants import MAX_PREFIXES, GrantEntry, parse_prefix
from dagferry_server.config.toml_file import checked


def granted(**fields: object) -> Grant:
    return checked(GrantEntry, {"scopes": ["deploy"], "deployments": ["prod"], **fields}, "The file").grant


def test_an_entry_grants_scopes_on_deployments_without_limits() -> None:
    assert granted() == Grant(frozenset({"deploy"}), ("prod",), (), None)


def test_folders_are_written_with_or_without_a_slash() -> None:
    assert granted(prefixes=["team-a", "b/c/"]).prefixes == ("team-a/", "b/c/")
    assert parse_prefix("team-a") == "team-a/"


def test_an_entry_may_have_a_gate_of_its_own() -> None:
    assert [granted(gate=level).gate for level in ("off", "warn", "enforce")] == ["off", "warn", "enforce"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"prefixes": []}, "at least 1"),
        ({"prefixes": ["a/"] * (MAX_PREFIXES + 1)}, f"at most {MAX_PREFIXES}"),
        ({"prefixes": [""]}, "prefixes.0: a folder such as team-a/ is expected"),
        ({"prefixes": ["a/", "../b/"]}, "prefixes.1: a folder such as team-a/ is expected"),
        ({"prefixes": ["/"]}, "absolute"),
        ({"prefixes": ["."]}, "top folder"),
        ({"prefixes": "team-a/"}, "prefixes: "),
        ({"prefixes": ["a/"], "scopes": ["read", "override"]}, "prefixes is for deploys"),
        ({"prefixes": ["a/"], "scopes": ["deploy", "admin"]}, "'admin' cannot be limited"),
        ({"gate": "on"}, "'off', 'warn' or 'enforce'"),
        ({"gate": "off", "scopes": ["sync"]}, "gate is for deploys"),
        ({"prefix": ["a/"]}, "prefix: Extra inputs"),
    ],
)
def test_limits_that_make_no_sense_are_refused(fields: dict[str, object], why: str) -> None:
    with pytest.raises(SetupError) as error:
        granted(**fields)
    assert why in error.value.message
