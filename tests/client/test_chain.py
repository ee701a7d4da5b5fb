"""A log that was changed after it was written is noticed, and the first entry that does not fit is named."""

import random

import pytest

from dagferry_client.chain import check_chain
from dagferry_client.deploy_log import LoggedDeploy
from dagferry_core.deploylog import Known, entry_sha256
from goldens import GOLDEN
from recorded_answers import logged, of_stored


def log(count: int = 6) -> list[LoggedDeploy]:
    """An intact log, newest first."""
    deploys: list[LoggedDeploy] = []
    previous = ""
    for sequence in range(1, count + 1):
        deploy = LoggedDeploy(**logged(sequence, previous=previous))
        previous = entry_sha256(deploy.entry().encode())
        deploys.insert(0, deploy)
    return deploys


def changed(deploys: list[LoggedDeploy], sequence: int, **fields: object) -> list[LoggedDeploy]:
    return [deploy._replace(**fields) if deploy.sequence == sequence else deploy for deploy in deploys]


def test_an_intact_log_has_no_problem() -> None:
    deploys = log()
    found = check_chain(deploys)
    assert (found.entries, found.chained, found.problems, found.unknown) == (6, 5, [], 0)
    assert found.anchor == entry_sha256(deploys[0].entry().encode())


def test_an_empty_log_is_intact() -> None:
    assert check_chain([]) == (0, 0, [], "", 0)


@pytest.mark.parametrize("name", ["format1", "format2", "format3"])
def test_logs_of_older_servers_are_intact(name) -> None:
    stored = sorted((GOLDEN / name / "data" / "prod" / "deploys").glob("*.json"))
    found = check_chain([LoggedDeploy(**of_stored(path.read_bytes())) for path in reversed(stored)])
    assert (found.entries, found.problems) == (len(stored), [])


@pytest.mark.parametrize(
    "fields",
    [
        {"digest": f"sha256:{'f' * 64}"},
        {"actor": "somebody"},
        {"description": "x"},
        {"kind": "rollback"},
        {"added": 7},
        {"nonce": "f" * 16},
        {"details_sha256": "f" * 64},
        {"git": {"commit": "f"}},
    ],
)
def test_an_entry_that_was_changed_is_named(fields) -> None:
    assert check_chain(changed(log(), 3, **fields)).problems == ["entry 3 is not what it was when entry 4 was made"]


def test_what_an_entry_says_about_the_one_before_it_is_compared() -> None:
    assert check_chain(changed(log(), 3, previous="f" * 64)).problems == [
        "entry 2 is not what it was when entry 3 was made",
        "entry 3 is not what it was when entry 4 was made",
    ]


def test_an_entry_that_no_longer_names_the_one_before_it_is_noticed() -> None:
    deploys = log()
    assert check_chain(changed(deploys, 6, previous="")).problems == ["entry 6 does not name the entry before it"]


def test_missing_entries_are_named() -> None:
    deploys = log(9)
    kept = [deploy for deploy in deploys if deploy.sequence not in {1, 2, 5, 7, 8}]
    assert check_chain(kept).problems == [
        "entries 1 to 2 are missing",
        "entry 5 is missing",
        "entries 7 to 8 are missing",
    ]


def test_entries_in_another_order_than_their_times_are_noticed() -> None:
    deploys = log(2)
    older = changed(deploys, 2, time=deploys[1].time - 1)
    assert "entry 2 is older than entry 1" in check_chain(older).problems


@pytest.mark.parametrize("fields", [{"time": 1795157101}, {"time": 10**18}, {"version": "20261120T064501Z-000003"}])
def test_a_version_that_does_not_fit_time_and_number_is_noticed(fields) -> None:
    [problem] = check_chain(changed(log(3)[1:], 2, **fields)).problems
    assert problem.startswith("entry 2 ")


def test_an_entry_before_the_first_is_noticed() -> None:
    assert check_chain([LoggedDeploy(**logged(1, previous="f" * 64))]).problems == ["entry 1 names an entry before it"]


def test_what_a_newer_server_wrote_is_not_called_damaged() -> None:
    found = check_chain(changed(log(), 3, format=99, description="with fields of format 99"))
    assert (found.unknown, found.problems) == (1, [])


def test_any_changed_field_of_any_entry_but_the_newest_is_noticed() -> None:
    chance = random.Random(9)
    for _ in range(200):
        deploys = log(5)
        sequence = chance.randint(1, 4)
        field = chance.choice(["actor", "description", "nonce", "digest", "added", "previous"])
        wrong = 99 if field == "added" else f"sha256:{'e' * 64}" if field == "digest" else "e" * 64
        wrong = "e" * 16 if field == "nonce" else wrong
        assert check_chain(changed(deploys, sequence, **{field: wrong})).problems


def test_a_chain_that_was_made_again_is_noticed_by_an_entry_that_is_known() -> None:
    sha256 = entry_sha256(log()[0].entry().encode())
    newest = log()[0].sequence
    assert check_chain(log(), Known(newest, sha256)).problems == []
    assert check_chain(log(), Known(newest, "f" * 64)).problems == [
        f"entry {newest} was rewritten, or one before it: its sha256 was {'f' * 64} and now is {sha256}"
    ]


def test_a_log_that_was_cut_is_noticed_by_an_entry_that_is_known() -> None:
    assert check_chain(log(5)[1:], Known(5, "f" * 64)).problems == ["entry 5 was cut off: the log ends with entry 4"]
    assert check_chain([], Known(5, "f" * 64)).problems == ["entry 5 was cut off: the log ends with entry 0"]
    kept = [deploy for deploy in log(5) if deploy.sequence != 3]
    assert check_chain(kept, Known(3, "f" * 64)).problems == [
        "entry 3 is missing",
        "entry 3, which is known, is missing",
    ]
