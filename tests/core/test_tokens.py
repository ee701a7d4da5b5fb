"""What a token may be given, how it is written into a tokens file, and how it is shown."""

import hashlib
import re
from collections.abc import Callable

import pytest

from dagferry_core.tokens import (
    SCOPES,
    ShownToken,
    check_limits,
    expiry,
    format_time,
    in_order,
    make_token,
    parse_days,
    parse_deployments,
    parse_id,
    parse_name,
    parse_prefix,
    parse_prefixes,
    parse_scopes,
    token_table,
)

SHOWN = ShownToken("ab" * 32, "ci", ["deploy", "read"], ["prod", "team-*"], 1801353600.0, [])


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_scopes, "read, deploy,read", ("deploy", "read")),
        (parse_scopes, ",".join(reversed(SCOPES)), SCOPES),
        (parse_name, "ci@example.com", "ci@example.com"),
        (parse_name, "x" * 100, "x" * 100),
        (parse_deployments, "prod, team-*,*", ("prod", "team-*", "*")),
        (parse_prefix, "team-a", "team-a/"),
        (parse_prefixes, "team-a, b/c/", ("team-a/", "b/c/")),
        (parse_days, "1d", 1),
        (parse_days, "3650d", 3650),
        (parse_id, "0123456789ab", "0123456789ab"),
    ],
)
def test_what_is_given_is_read(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "why"),
    [
        (parse_scopes, "", "scopes are expected"),
        (
            parse_scopes,
            "deploy,owner",
            "scopes are expected, separated by commas: deploy, override, sync, read, check, admin",
        ),
        (parse_name, "", "1 to 100"),
        (parse_name, "x" * 101, "1 to 100"),
        (parse_name, 'a"', "1 to 100"),
        (parse_name, "a\n", "1 to 100"),
        (parse_name, "-a", "the first"),
        (parse_deployments, "", "names of deployments"),
        (parse_deployments, "Prod", "names of deployments"),
        (parse_deployments, "prod,", "names of deployments"),
        (parse_prefix, "../a", "a folder such as team-a/ is expected"),
        (parse_prefixes, "a,,b", "a folder such as"),
        (parse_prefix, "", "a folder such as"),
        (parse_days, "90", "such as 90d"),
        (parse_days, "0d", "1d to 3650d"),
        (parse_days, "3651d", "1d to 3650d"),
        (parse_days, "-1d", "such as 90d"),
        (parse_days, "٣d", "such as 90d"),
        (parse_days, "99999d", "such as 90d"),
        (parse_id, "0123456789A", "12 digits"),
        (parse_id, "0123456789AB", "12 digits"),
    ],
)
def test_anything_else_says_what_is_expected(parse: Callable[[str], object], text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        parse(text)


@pytest.mark.parametrize(
    ("scopes", "limits", "why"),
    [
        (["read"], {"prefixes": True, "gate": False}, "prefixes is for deploys"),
        (["read", "override"], {"prefixes": False, "gate": True}, "gate is for deploys"),
        (["deploy", "admin"], {"prefixes": True, "gate": False}, "'admin' cannot be limited"),
    ],
)
def test_limits_of_deploys_are_for_scopes_that_deploy(scopes, limits, why) -> None:
    with pytest.raises(ValueError, match=why):
        check_limits(scopes, **limits)


def test_other_limits_make_sense() -> None:
    check_limits(["read", "admin"], prefixes=False, gate=False)
    check_limits(["deploy", "read"], prefixes=True, gate=True)
    check_limits(["deploy", "admin"], prefixes=False, gate=True)


def test_a_new_token_is_a_secret_and_an_entry_that_does_not_show_it() -> None:
    secret, entry = make_token("ci", ["deploy"], ["prod", "team-*"])
    assert re.fullmatch("dgf_[A-Za-z0-9_-]{43}", secret)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    assert entry == f'{{ name = "ci", sha256 = "{digest}", scopes = ["deploy"], deployments = ["prod", "team-*"] }},'
    assert make_token("ci", ["deploy"], ["prod"]).secret != secret


def test_limits_and_an_end_are_written_into_the_entry() -> None:
    entry = make_token("ci", ["deploy"], ["prod"], 1801353600.0, ["team-a/", 'a "b" ü/']).entry
    assert entry.endswith(', prefixes = ["team-a/", "a \\"b\\" ü/"], expires = 2027-01-31T00:00:00Z },')


def test_a_token_expires_after_whole_days() -> None:
    assert expiry(None, 5.7) is None
    assert expiry(2, 5.7) == 5 + 2 * 86400
    assert format_time(1801353600.9) == "2027-01-31T00:00:00Z"


def test_scopes_are_shown_in_one_order() -> None:
    assert in_order({"admin", "sync", "deploy", "later"}) == ["deploy", "sync", "admin"]


def test_tokens_are_shown_with_their_ids_and_their_ends() -> None:
    never = SHOWN._replace(sha256="cd" * 32, name="pods", expires=None)
    assert token_table([SHOWN, never], 1801353599.0) == [
        ["ID", "NAME", "SCOPES", "DEPLOYMENTS", "EXPIRES"],
        ["abababababab", "ci", "deploy,read", "prod,team-*", "2027-01-31T00:00:00Z"],
        ["cdcdcdcdcdcd", "pods", "deploy,read", "prod,team-*", "never"],
    ]
    assert token_table([SHOWN], 1801353600.0)[1][-1] == "2027-01-31T00:00:00Z (expired)"


def test_folders_have_a_column_if_a_token_is_limited_to_some() -> None:
    limited = SHOWN._replace(prefixes=["team-a/", "b/"])
    assert [row[5] for row in token_table([SHOWN, limited], 0)] == ["PREFIXES", "", "team-a/,b/"]
