"""The rules of the deploy log: entries, sequences, times, and what retention keeps."""

import json
from pathlib import Path

import pytest

from dagferry_core.bundle.manifest import Changes
from dagferry_core.deploylog import (
    MAX_DESCRIPTION_CHARACTERS,
    Deploy,
    Retention,
    Stored,
    decode,
    kept_bundles,
    next_deploy,
)
from dagferry_core.errors import FormatError
from dagferry_core.names import MAX_SEQUENCE

NOW = 1_795_157_101.5
DAY = 86400


def deploy(
    sequence: int = 1,
    *,
    newest: Deploy | None = None,
    now: float = NOW,
    digit: str = "a",
    description: str = "first",
) -> Deploy:
    return next_deploy(
        newest,
        sequence - 1,
        digest="sha256:" + digit * 64,
        kind="upload",
        description=description,
        actor="anonymous",
        now=now,
        changes=Changes(["a.py"], [], []),
        nonce="0123456789abcdef",
        previous="e" * 64,
        details="f" * 64,
    )


def test_an_entry_is_read_as_it_was_written() -> None:
    entry = deploy(42)
    assert decode(entry.encode(), 42) == entry
    assert entry.version == "20261120T064501Z-000042"
    assert (entry.added, entry.changed, entry.removed) == (1, 0, 0)
    assert json.loads(entry.encode())["format"] == 2


def test_a_description_is_truncated_where_it_gets_long() -> None:
    assert deploy(description="é" * MAX_DESCRIPTION_CHARACTERS).description == "é" * 1000
    assert deploy(description="é" * MAX_DESCRIPTION_CHARACTERS + "x").description == "é" * 1000


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        deploy(42).encode()[:-10],
        json.dumps({**deploy(42)._asdict(), "digest": "sha256:no"}).encode(),
        json.dumps({**deploy(42)._asdict(), "kind": "Up load"}).encode(),
        json.dumps({**deploy(42)._asdict(), "kind": ""}).encode(),
        json.dumps({**deploy(42)._asdict(), "nonce": "../../x"}).encode(),
        json.dumps({**deploy(42)._asdict(), "nonce": 7}).encode(),
        json.dumps({**deploy(42)._asdict(), "previous": "x"}).encode(),
        json.dumps({**deploy(42)._asdict(), "details": "F" * 64}).encode(),
        json.dumps({**deploy(42)._asdict(), "format": "2"}).encode(),
        json.dumps({**deploy(42)._asdict(), "format": True}).encode(),
        json.dumps({**deploy(42)._asdict(), "format": 0}).encode(),
        json.dumps({**deploy(42)._asdict(), "git": ["main"]}).encode(),
        json.dumps({**deploy(42)._asdict(), "git": {"commit": 7}}).encode(),
        json.dumps({**deploy(42)._asdict(), "time": "now"}).encode(),
        json.dumps({**deploy(42)._asdict(), "added": True}).encode(),
        json.dumps({**deploy(42)._asdict(), "sequence": 41}).encode(),
        json.dumps({**deploy(42)._asdict(), "version": deploy(41).version}).encode(),
        json.dumps({**deploy(42)._asdict(), "version": "latest"}).encode(),
        json.dumps({**deploy(42)._asdict(), "kind": "upload!"}).encode(),
        json.dumps({**deploy(42)._asdict(), "kind": "k" * 41}).encode(),
        json.dumps({**deploy(42)._asdict(), "nonce": "0123456789abcdef/../x"}).encode(),
        json.dumps({**deploy(42)._asdict(), "previous": "e" * 65}).encode(),
        deploy(41).encode(),
    ],
)
def test_a_damaged_entry_is_distinguished_from_an_intact_one(damage: bytes) -> None:
    with pytest.raises(FormatError):
        decode(damage, 42)


GOLDEN = Path(__file__).parent.parent / "golden" / "format1" / "entries"


@pytest.mark.parametrize("name", ["plain", "rollback", "text", "longest", "last"])
def test_an_entry_of_format_1_is_read_as_it_is(name: str) -> None:
    data = (GOLDEN / f"{name}.json").read_bytes()
    raw = json.loads(data)
    entry = decode(data, raw["sequence"])
    assert {field: getattr(entry, field) for field in raw} == raw
    assert entry[10:] == (1, "", "", "", None, "", None, "")
    assert entry.encode() == data


def test_what_today_s_server_needs_of_an_entry_is_in_it_so_that_it_reads_one_of_format_2() -> None:
    """As commit 31d7e5f did it: every field of format 1, of its type; what else there is does not matter."""
    raw = json.loads(deploy(42).encode())
    plain = json.loads((GOLDEN / "plain.json").read_bytes())
    assert {name: type(raw[name]) for name in plain} == {name: type(value) for name, value in plain.items()}
    assert raw["kind"] in {"upload", "rollback"}


@pytest.mark.parametrize("kind", ["rollback", "promote", "merge-2"])
def test_kinds_and_fields_of_later_formats_are_read(kind: str) -> None:
    later = {**json.loads(deploy(42).encode()), "kind": kind, "format": 3, "approved_by": ["somebody"]}
    entry = decode(json.dumps(later).encode(), 42)
    assert entry == deploy(42)._replace(kind=kind, format=3)


def test_where_a_content_comes_from_is_kept() -> None:
    entry = deploy(42)._replace(git={"commit": "3b18e512dba79e4c8300dd08aeb37f8e728b8dad", "branch": "main"})
    assert decode(entry.encode(), 42) == entry


def test_time_never_runs_backwards_even_if_the_clock_does() -> None:
    first = deploy(1)
    second = deploy(2, newest=first, now=NOW - 365 * DAY)
    assert second.time == first.time
    assert second.version > first.version


def test_a_sequence_above_every_known_one_is_used_even_if_that_one_cannot_be_read() -> None:
    assert deploy(8, newest=deploy(5)).sequence == 8


def test_the_last_sequence_can_be_used_and_none_beyond_it() -> None:
    last = deploy(MAX_SEQUENCE)
    assert decode(last.encode(), MAX_SEQUENCE) == last
    with pytest.raises(OverflowError, match="is the highest possible sequence"):
        deploy(MAX_SEQUENCE + 1)


History = list[tuple[Deploy, int]]


def kept(*histories: History, max_store_bytes: int = 1000, now: float = NOW, **rules: int) -> set[str]:
    chosen = Retention(**{"keep_deploys": 2, "keep_days": 90, **rules})
    stored = {
        str(number): Stored([one for one, _ in history], {one.digest: size for one, size in history}, chosen)
        for number, history in enumerate(histories)
    }
    found = kept_bundles(stored, max_store_bytes, now)
    return {digest.removeprefix("sha256:")[0] for digests in found.values() for digest in digests}


def stored(*days_and_digits: tuple[int, str], size: int = 10) -> History:
    return [
        (deploy(number, now=NOW - days * DAY, digit=digit), size)
        for number, (days, digit) in enumerate(days_and_digits, 1)
    ]


def test_the_newest_are_those_with_the_highest_sequences_whatever_their_times_say() -> None:
    assert kept(stored((0, "a"), (0, "b"), (400, "c"), (300, "d"))) == {"a", "b", "c", "d"}
    assert kept(stored((91, "a"), (91, "b"), (400, "c"), (300, "d"))) == {"c", "d"}


def test_the_newest_stay_however_old_they_are() -> None:
    assert kept(stored((900, "a"), (800, "b"), (700, "c"))) == {"b", "c"}


def test_the_young_stay_beyond_the_newest() -> None:
    assert kept(stored((900, "a"), (80, "b"), (3, "c"), (2, "d"))) == {"b", "c", "d"}


def test_a_deploy_is_young_until_it_is_older_than_keep_days() -> None:
    history = stored((90, "a"), (1, "b"), (1, "c"))
    moment = history[0][0].time + 90 * DAY
    assert kept(history, now=moment) == {"a", "b", "c"}
    assert kept(history, now=moment + 1) == {"b", "c"}


def test_a_full_store_loses_the_oldest_of_the_young_but_never_the_newest() -> None:
    history = stored((4, "a"), (3, "b"), (2, "c"), (1, "d"))
    assert kept(history, max_store_bytes=35) == {"b", "c", "d"}
    assert kept(history, max_store_bytes=1) == {"c", "d"}


def test_a_bundle_two_deploys_name_counts_once_and_stays_with_the_newer() -> None:
    assert kept(stored((900, "a"), (800, "b"), (1, "c"), (1, "a"))) == {"a", "c"}


def test_a_bundle_that_two_of_the_newest_deploys_name_counts_once() -> None:
    assert kept(stored((3, "b"), (2, "a"), (1, "a")), max_store_bytes=20) == {"a", "b"}


def test_a_bundle_that_two_young_deploys_name_counts_once_and_is_as_young_as_the_newer() -> None:
    history = stored((8, "a"), (6, "b"), (4, "a"), (1, "c"), (1, "d"))
    assert kept(history, max_store_bytes=40) == {"a", "b", "c", "d"}
    assert kept(history, max_store_bytes=30) == {"a", "c", "d"}


def test_an_older_bundle_does_not_stay_because_it_is_smaller_than_a_newer_one_that_goes() -> None:
    history = stored((4, "a")) + [(one, 50) for one, _ in stored((5, "-"), (3, "b"))[1:]] + stored((1, "c"))
    assert kept(history, keep_deploys=1, max_store_bytes=59) == {"c"}
    assert kept(history, keep_deploys=1, max_store_bytes=60) == {"b", "c"}


def test_of_young_deploys_of_one_moment_the_one_with_the_highest_sequence_stays() -> None:
    assert kept(stored((3, "a"), (3, "b"), (1, "c"), (1, "d")), max_store_bytes=30) == {"b", "c", "d"}


def test_the_current_deploy_stays_whatever_the_rules() -> None:
    assert kept(stored((900, "a"), (900, "b")), keep_deploys=0, keep_days=0, max_store_bytes=1) == {"b"}


def test_each_deployment_keeps_its_own() -> None:
    assert kept(stored((900, "a")), stored((1, "b"), (1, "c"), (1, "d"))) == {"a", "b", "c", "d"}


def test_in_a_full_store_the_oldest_go_whichever_deployment_they_are_of() -> None:
    prod = stored((8, "a"), (4, "b"), (1, "c"), (1, "d"))
    staging = stored((6, "1"), (2, "2"), (1, "3"), (1, "4"))
    newest = {"c", "d", "3", "4"}
    assert kept(prod, staging, max_store_bytes=80) == newest | {"a", "b", "1", "2"}
    assert kept(prod, staging, max_store_bytes=79) == newest | {"b", "1", "2"}
    assert kept(prod, staging, max_store_bytes=60) == newest | {"b", "2"}
    assert kept(prod, staging, max_store_bytes=50) == newest | {"2"}


def test_deployments_have_rules_of_their_own() -> None:
    history = stored((9, "a"), (5, "b"), (1, "c"), (1, "d"))
    short, long = Retention(1, 2), Retention(1, 7)
    sizes = {one.digest: size for one, size in history}
    deploys = [one for one, _ in history]
    found = kept_bundles({"x": Stored(deploys, sizes, short), "y": Stored(deploys, sizes, long)}, 1000, NOW)
    assert [len(found[name]) for name in ("x", "y")] == [2, 3]


def test_every_long_loop_may_rest() -> None:
    seen = []

    def paced(items):
        for item in items:
            seen.append(item)
            yield item

    history = stored((9, "a"), (8, "b"), (7, "c"), (1, "d"))
    sizes = {one.digest: size for one, size in history}
    rules = Retention(1, 90)
    kept_bundles({"prod": Stored([one for one, _ in history], sizes, rules)}, 1, NOW, paced)
    assert len(seen) == 4 + 1  # all of the log, and of the young the first that does not fit
