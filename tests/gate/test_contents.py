"""Each content is looked at once, in pieces, and what is known of it is bounded."""

import sys
import threading

import pytest

from dagferry_core.limits import PIECE_BYTES
from dagferry_gate import contents as contents_module
from dagferry_gate import ruff as ruff_module
from dagferry_gate.contents import MAX_SOURCE_BYTES, Contents, Words
from dagferry_gate.errors import CheckFailed
from dagferry_gate.ruff import Ruff, find_ruff
from dagferry_gate.rules import Rules
from trees import Tree, tree

RUFF = find_ruff()
RULES = Rules("3.11")
A, D, S = Words.AIRFLOW, Words.DAG, Words.ASSET


def words(*sources: bytes) -> list[Words]:
    made = tree({f"{number:03}.py": source for number, source in enumerate(sources)})
    found = Contents(RUFF).words(made.files.values(), made.open_content)
    return [found[entry.sha256] for entry in made.files.values()]


def report_counts(contents: Contents, made: Tree, rules: Rules = RULES) -> list[int]:
    reports = contents.reports(made.files.values(), made.open_content, rules)
    return [reports[entry.sha256].error_count for entry in made.files.values()]


def test_the_words_are_those_that_airflow_looks_for_in_any_case() -> None:
    assert words(b"from airflow import DAG", b"# Airflow ASSETS", b"dagger", b"\xff\0aIrFlOw", b"") == [
        A | D,
        A | S,
        D,
        A,
        0,
    ]


@pytest.mark.parametrize("shift", range(-8, 9))
def test_a_word_across_two_pieces_is_found(shift) -> None:
    source = b"x" * (PIECE_BYTES + shift - 4) + b"airflow" + b"y" * PIECE_BYTES + b"dag"
    assert words(source) == [A | D]


@pytest.mark.parametrize(
    ("found", "in_2", "in_3"),
    [(A | D, True, True), (A | S, False, True), (A | D | S, True, True), (D, False, False), (A, False, False)],
)
def test_airflow_3_also_reads_assets(found, in_2, in_3) -> None:
    assert (found.may_be_dag("2"), found.may_be_dag("3"), found.may_be_dag(None)) == (in_2, in_3, in_3)


def test_a_content_is_read_and_checked_once_whatever_its_path() -> None:
    contents = Contents(RUFF)
    made = tree({"a.py": "(", "b.py": "(", "c.py": "x = 1\n"})
    assert report_counts(contents, made) == [1, 1, 0]
    assert made.opened == ["a.py", "c.py"]
    moved = tree({"team/a.py": "(", "d.py": "x = 1\n", "e.py": "y"})
    assert report_counts(contents, moved) == [0, 0, 1]
    assert moved.opened == ["e.py"]


def test_another_python_or_airflow_checks_again() -> None:
    contents, made = Contents(RUFF), tree({"a.py": "type X = int\n"})
    assert report_counts(contents, made, Rules("3.11")) == [1]
    assert report_counts(contents, made, Rules("3.12")) == [0]
    assert report_counts(contents, made, Rules("3.12", "3")) == [0]
    assert len(made.opened) == 3
    assert report_counts(contents, made, Rules("3.12", "2")) == [0]
    assert len(made.opened) == 3


def test_what_cannot_be_decoded_needs_no_ruff_and_is_known_as_well() -> None:
    contents = Contents(RUFF)
    made = tree({"a.py": b"x = '\xff'", "b.py": "x = 1\n", "c.py": b"\0"})
    assert report_counts(contents, made) == report_counts(contents, made) == [1, 0, 1]
    assert made.opened == ["a.py", "b.py", "c.py"]


def test_a_source_is_transcoded_before_it_is_checked() -> None:
    made = tree({"a.py": b"# coding: latin-1\n\xe4 = '\xf6'; = 1\n", "b.py": b"# coding: latin-1\n\xe4 = '\xf6'\n"})
    reports = Contents(RUFF).reports(made.files.values(), made.open_content, Rules("3.11"))
    error = reports[made.files["a.py"].sha256].errors[0]
    assert (error.line, error.column) == (2, 10)
    assert reports[made.files["b.py"].sha256].errors == ()


def test_a_source_that_is_too_large_is_not_even_read() -> None:
    made = tree({"a.py": b"#" * (MAX_SOURCE_BYTES + 1)})
    reports = Contents(RUFF).reports(made.files.values(), made.open_content, Rules())
    assert "larger than 10 MiB" in reports[made.files["a.py"].sha256].errors[0].message
    assert made.opened == []


def test_what_is_known_is_bounded_and_what_was_used_last_stays(monkeypatch) -> None:
    monkeypatch.setattr(contents_module, "MAX_KNOWN", 4)
    contents = Contents(RUFF)
    first, second = tree({"a.py": "a"}), tree({"b.py": "("})  # one fact, and two
    report_counts(contents, first)
    report_counts(contents, second)
    report_counts(contents, first)
    report_counts(contents, tree({"c.py": "c", "d.py": "d"}))
    for made in (first, second):
        made.opened.clear()
        report_counts(contents, made)
    assert (first.opened, second.opened) == ([], ["b.py"])


def test_nothing_is_known_of_what_could_not_be_checked(tmp_path, monkeypatch) -> None:
    contents, made = Contents(RUFF), tree({"a.py": "("})
    monkeypatch.setattr(RUFF, "path", "/bin/false")
    monkeypatch.setattr(RUFF, "_max_seconds", 0)
    with pytest.raises(CheckFailed):
        report_counts(contents, made)
    monkeypatch.undo()
    assert report_counts(contents, made) == [1]


def test_what_was_found_before_ruff_failed_is_known(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ruff_module, "MAX_BATCH_FILES", 1)
    path = tmp_path / "ruff"
    path.write_text(f"#!{sys.executable}\nimport time\nif open('0.py').read() == 'slow': time.sleep(60)\n")
    path.chmod(0o755)
    contents, made = Contents(Ruff(str(path), max_seconds=2)), tree({"a.py": "x", "b.py": "slow", "c.py": "y"})
    for opened in (["a.py", "b.py"], ["b.py"]):
        made.opened.clear()
        with pytest.raises(CheckFailed, match="took too long"):
            report_counts(contents, made)
        assert made.opened == opened


@pytest.mark.skipif(sys.platform != "linux", reason="limits from outside are Linux's")
def test_a_source_that_takes_too_long_costs_time_once(monkeypatch) -> None:
    monkeypatch.setattr(ruff_module, "MAX_SOURCE_SECONDS", 1)
    contents = Contents(RUFF)
    bomb = "# airflow dag\n" + "lambda:" * 2000 + "[" + "x," * 400_000 + "]"
    assert report_counts(contents, tree({"team-a/bomb.py": bomb})) == [1]
    made = tree({"team-a/bomb.py": bomb, "team-b/a.py": "(\n", "team-b/b.py": "x = 1\n"})
    assert report_counts(contents, made) == [1, 1, 0]
    assert made.opened == ["team-b/a.py", "team-b/b.py"]


def test_only_what_is_known_is_reported_without_ruff_if_that_is_asked() -> None:
    contents, made = Contents(RUFF), tree({"a.py": "(", "b.py": "x = 1\n"})
    report_counts(contents, tree({"a.py": "("}))
    with pytest.raises(CheckFailed, match="Not all of them were checked before"):
        contents.reports(made.files.values(), made.open_content, RULES, only_known=True)
    assert made.opened == []
    counts = report_counts(contents, made)
    reports = contents.reports(made.files.values(), made.open_content, RULES, only_known=True)
    assert [reports[entry.sha256].error_count for entry in made.files.values()] == counts == [1, 0]


def test_threads_may_share_it() -> None:
    contents = Contents(RUFF)
    found: dict[int, list[int]] = {}

    def check(number: int) -> None:
        found[number] = report_counts(contents, tree({"a.py": "(" * (1 + number % 2), "b.py": f"x = {number}"}))

    threads = [threading.Thread(target=check, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [1, 0] for number in range(8)}
