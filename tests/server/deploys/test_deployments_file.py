"""What a deployments file says, and what is wrong with one."""

import re

import pytest

from dagferry_core.errors import EXIT_USAGE, SetupError
from dagferry_core.limits import GIB
from dagferry_gate.rules import Rules
from dagferry_server.deploys.deployments_file import DeploymentSettings, common_settings, documented, parse_deployments
from dagferry_server.settings import SETTINGS, read_settings

WHOLE = b"""# all of them
defaults = { keep-days = 30, disabled = "not today" }
deployments = [
    { name = "prod", tiers = 4, max-expanded-bytes = "2GiB", keep-deploys = 50 },
    # with a list
    { name = "staging", exclude = [
        "*.pyc",
        "tests/",
    ] },
]
# the end
"""


def common(*flags: str) -> DeploymentSettings:
    return common_settings(read_settings(flags, {}, lambda: (None, None)))


def parsed(text: str | bytes, *flags: str) -> dict[str, DeploymentSettings]:
    return dict(parse_deployments(text.encode() if isinstance(text, str) else text, common(*flags)).deployments)


def test_what_an_entry_does_not_say_is_as_in_defaults_and_then_as_the_flags_say() -> None:
    found = parsed(
        """defaults = { keep-days = 30, tiers = 2 }
        deployments = [ { name = "prod", keep-days = 7 }, { name = "staging" } ]""",
        "--keep-deploys", "5", "--keep-days", "60",
    )  # fmt: skip
    assert [(one.tiers, one.keep_deploys, one.keep_days) for one in found.values()] == [(2, 5, 7), (2, 5, 30)]
    assert list(found) == ["prod", "staging"]


def test_every_key_can_be_set() -> None:
    (found,) = parsed(
        'deployments = [ { name = "prod", tiers = 3, max-expanded-bytes = "2GiB", max-files = 7, '
        'exclude = ["a", "b/"], allow-empty = true, keep-deploys = 1, keep-days = 0, '
        'gate = "off", airflow-python = "3.10", airflow = 3, airflowignore = "regexp", max-removed-percent = 0, '
        'import-check = "block", check-seconds = 7, import-check-away = "closed", '
        'disabled = "no", expected = { scheduler = 1, worker = 2 }, converge-seconds = 90 } ]'
    ).values()
    assert found == DeploymentSettings(
        **{
            "tiers": 3,
            "max-expanded-bytes": 2 * GIB,
            "max-files": 7,
            "exclude": ("a", "b/"),
            "allow-empty": True,
            "keep-deploys": 1,
            "keep-days": 0,
            "gate": "off",
            "airflow-python": "3.10",
            "airflow": "3",
            "airflowignore": "regexp",
            "max-removed-percent": 0,
            "import-check": "block",
            "check-seconds": 7,
            "import-check-away": "closed",
            "disabled": "no",
            "expected": {"scheduler": 1, "worker": 2},
            "converge-seconds": 90,
        }
    )
    assert found.archive_rules == (2 * GIB, 7, ("a", "b/"), True)


def test_the_gate_refuses_only_where_a_python_was_chosen_or_where_it_is_told_to() -> None:
    found = parsed(
        """deployments = [
            { name = "a" },
            { name = "b", airflow-python = "3.11", airflow = "2" },
            { name = "c", airflow-python = "3.11", gate = "warn" },
            { name = "d", gate = "enforce", airflow = "3", airflowignore = "regexp" },
            { name = "e", gate = "off" },
        ]"""
    )
    assert [one.gate_level for one in found.values()] == ["warn", "enforce", "warn", "enforce", "off"]
    newest = Rules().python
    assert [found[name].gate_rules for name in "abd"] == [
        Rules(newest, None, None),
        Rules("3.11", "2", None),
        Rules(newest, "3", "regexp"),
    ]
    (found_by_flag,) = parsed("deployments = [ { name = 'a' } ]", "--airflow-python", "3.12").values()
    assert (found_by_flag.gate_level, found_by_flag.gate_rules.python) == ("enforce", "3.12")


def test_by_default_no_pods_are_expected_and_each_has_a_minute() -> None:
    (found,) = parsed('deployments = [ { name = "prod" } ]').values()
    assert (found.expected, found.converge_seconds) == ({}, 60)


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ("expected = { worker = -1 }", "expected.worker"),
        ("expected = { worker = 10001 }", "expected.worker"),
        ('expected = { worker = "1" }', "expected.worker"),
        ("expected = { worker = true }", "expected.worker"),
        ("expected = { worker = 1.5 }", "expected.worker"),
        ('expected = { "" = 1 }', "expected"),
        ('expected = { "two words" = 1 }', "expected"),
        ("expected = 1", "expected"),
        ("converge-seconds = 0", "converge-seconds"),
        ("converge-seconds = 3601", "converge-seconds"),
        ('converge-seconds = "60"', "converge-seconds"),
        ("converge-seconds = 1.5", "converge-seconds"),
    ],
)
def test_an_expected_fleet_that_makes_no_sense_is_refused_by_its_key(entry, wrong) -> None:
    with pytest.raises(SetupError, match=f"deployment 'prod', cannot be used: {wrong}"):
        parsed(f'deployments = [ {{ name = "prod", {entry} }} ]')


def test_a_list_and_a_size_may_be_written_as_their_flags_have_them() -> None:
    (found,) = parsed('deployments = [ { name = "prod", exclude = "a,b/", max-expanded-bytes = 1024 } ]').values()
    assert (found.exclude, found.max_expanded_bytes) == (("a", "b/"), 1024)
    (found,) = parsed('deployments = [ { name = "prod", exclude = [] } ]').values()
    assert found.exclude == ()


def test_a_disabled_deployment_keeps_all_it_has() -> None:
    found = parsed(
        'deployments = [ { name = "a", keep-deploys = 1 }, { name = "b", keep-deploys = 1, disabled = "x" } ]'
    )
    assert (found["a"].retention.keep_deploys, found["b"].retention.keep_deploys) == (1, 10_000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not end with the list deployments"),
        ("deployments = []", "lists no deployments"),
        ("deployments = 7", "lists no deployments"),
        ("defaults = 7\ndeployments = [ { name = 'a' } ]", "defaults is not a table"),
        ("defaults = { keep-days = 1 }", "does not end with the list deployments"),
        ("deployments = [ { name = 'a' } ]\ndefaults = {}", "does not end with the list deployments"),
        ("keep-days = 7\ndeployments = [ { name = 'a' } ]", "unknown key 'keep-days'"),
        ("[deployments.prod]\nkeep-days = 7", "half of such a file"),
        ("[[deployments]]\nname = 'prod'", "half of such a file"),
        ("deployments = [ { name = 'a', keep-dais = 7 } ]", "deployment 'a', cannot be used: keep-dais"),
        ("deployments = [ { name = 'a', keep_days = 7 } ]", "deployment 'a', cannot be used: keep_days"),
        ("deployments = [ { name = 'a', third-party-ingress = true } ]", "third-party-ingress"),
        ("defaults = { gates = 'off' }\ndeployments = [ { name = 'a' } ]", "defaults, cannot be used: gates"),
        ("defaults = { name = 'a' }\ndeployments = [ { name = 'a' } ]", "defaults, cannot be used: name"),
        ("deployments = [ { name = 'a' }, { name = 'a' } ]", "'a' twice"),
        ("deployments = [ { keep-days = 7 } ]", "entry 1, needs a name"),
        ("deployments = [ { name = 'a' }, { name = 'Prod' } ]", "entry 2, needs a name"),
        ("deployments = [ { name = '../x' } ]", "entry 1, needs a name"),
        ("deployments = [ 'a' ]", "entry 1, needs a name"),
        ("deployments = [ { name = 'a', tiers = 0 } ]", "tiers: a whole number from 1 to 10000"),
        ("deployments = [ { name = 'a', tiers = 'auto' } ]", "tiers: a whole number"),
        ("deployments = [ { name = 'a', tiers = [4] } ]", "tiers: "),
        ("deployments = [ { name = 'a', keep-days = [4] } ]", "keep-days: "),
        ("deployments = [ { name = 'a', keep-days = 1.5 } ]", "keep-days: "),
        ("deployments = [ { name = 'a', keep-days = true } ]", "keep-days: "),
        ("deployments = [ { name = 'a', keep-deploys = 0 } ]", "keep-deploys: "),
        ("deployments = [ { name = 'a', exclude = true } ]", "exclude: "),
        ("deployments = [ { name = 'a', exclude = ['a,b'] } ]", "exclude: a list of texts without commas"),
        ("deployments = [ { name = 'a', exclude = ['tests/sub'] } ]", "exclude: "),
        ("deployments = [ { name = 'a', allow-empty = 'yes' } ]", "allow-empty: "),
        ("deployments = [ { name = 'a', gate = 'on' } ]", "gate: one of off, warn, enforce is expected"),
        ("deployments = [ { name = 'a', gate = false } ]", "gate: "),
        (
            "deployments = [ { name = 'a', airflow-python = 3.10 } ]",
            "airflow-python: a number with a point is not exact",
        ),
        ("deployments = [ { name = 'a', airflow-python = '3.7' } ]", "airflow-python: one of 3.8, 3.9, 3.10, "),
        ("deployments = [ { name = 'a', airflow-python = '3.11.4' } ]", "airflow-python: one of 3.8, "),
        ("deployments = [ { name = 'a', airflow = 4 } ]", "airflow: one of 2, 3 is expected"),
        ("deployments = [ { name = 'a', airflowignore = 'gitignore' } ]", "airflowignore: one of glob, regexp"),
        (
            "deployments = [ { name = 'a', max-removed-percent = 101 } ]",
            "max-removed-percent: a whole number from 0 to",
        ),
        ("deployments = [ { name = 'a', disabled = '' } ]", "disabled: "),
        ("deployments = [ { name = 'a', disabled = true } ]", "disabled: "),
        ("deployments = [ { name = 'a', disabled = \"a\\u001bb\" } ]", "disabled: "),
        ("deployments = [", "not valid TOML"),
        (b"\xff", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_said_and_where(text, words) -> None:
    with pytest.raises(SetupError, match=re.escape(words)) as caught:
        parsed(text)
    assert caught.value.exit_code == EXIT_USAGE


def test_no_beginning_of_a_file_says_something_else_than_the_whole() -> None:
    whole = parsed(WHOLE)
    assert whole["prod"].disabled
    for end in range(len(WHOLE)):
        try:
            found = parsed(WHOLE[:end])
        except SetupError:
            continue
        assert found == whole, end


def test_every_key_that_a_flag_has_too_is_documented_as_the_flag_is() -> None:
    flags = {setting.flag: setting.help for setting in SETTINGS}
    rows = documented()
    assert all(meaning for _, _, meaning in rows)
    bare = ["`name`", "`disabled`", "`webhooks`", "`expected`", "`converge-seconds`"]
    assert [key for key, flag, _ in rows if not flag] == bare
    assert [key for key, flag, meaning in rows if flag and flags[flag.strip("`")] != meaning] == ["`tiers`"]
