"""Which DAG files a deploy would remove, by name or by an ``.airflowignore``, and what that is of all."""

import hashlib

import pytest

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_gate.check import Gate
from dagferry_gate.ruff import find_ruff
from dagferry_gate.rules import Rules
from dagferry_server.deploys.removals import Removals, find_removals
from dagferry_server.deploys.tree import Tree

GATE = Gate(find_ruff())
RULES = Rules("3.11", "3")
FIVE = {f"{name}.py": f"from airflow import DAG  # {name}\n" for name in "abcde"}
NONE = Removals([], 0, 0)


class Made:
    """A tree in memory that notes what was read of it."""

    def __init__(self, files: dict[str, str]) -> None:
        self.read: list[str] = []
        entries = [
            Entry(path, len(text), 0o644, hashlib.sha256(text.encode()).hexdigest()) for path, text in files.items()
        ]
        self.files = files
        self.tree = Tree("A tree", Manifest(entries), self._open)

    def _open(self, entry: Entry):
        self.read.append(entry.path)
        return lambda offset, size: self.files[entry.path].encode()[offset : offset + size]


def found(old: dict[str, str], new: dict[str, str], under: str = "", rules: Rules = RULES) -> Removals:
    return find_removals(GATE, Made(old).tree, Made(new).tree, rules, under)


def without(files: dict[str, str], *names: str) -> dict[str, str]:
    return {path: text for path, text in files.items() if path not in names}


def test_an_archive_of_one_dag_over_five_removes_four() -> None:
    assert found(FIVE, {"c.py": FIVE["c.py"]}) == (["a.py", "b.py", "d.py", "e.py"], 5, 1)
    assert found(FIVE, {"new.py": "from airflow import DAG\n"}) == (sorted(FIVE), 5, 1)


def test_what_changed_or_came_removes_nothing() -> None:
    assert found(FIVE, {**FIVE, "a.py": "from airflow import DAG  # other\n", "f.py": "airflow dag"}) == NONE
    assert found(FIVE, FIVE) == found({}, FIVE) == found({}, {}) == NONE


def test_helpers_and_other_files_do_not_count() -> None:
    others = {"lib/h.py": "x = 1\n", "x.sql": "select 'airflow dag'\n"}
    assert found({**FIVE, **others}, FIVE) == NONE
    assert found({**FIVE, **others}, without(FIVE, "a.py")) == (["a.py"], 5, 4)


@pytest.mark.parametrize("end", ["z\n" * 1000, "#" * 70_000, "z" * 1001])
def test_what_an_airflowignore_may_hide_that_is_too_much_to_read_is_gone(end) -> None:
    too_much = {".airflowignore": "*\n" + end}
    assert found(FIVE, {**FIVE, **too_much}) == (sorted(FIVE), 5, 0)
    # Where that was so before, it cannot be told.
    assert found({**FIVE, **too_much}, {**FIVE, ".airflowignore": "*.sql\n" + end}) == NONE
    assert found({**FIVE, **too_much}, {**without(FIVE, "a.py"), **too_much}) == (["a.py"], 5, 4)


def test_what_an_airflowignore_hides_is_gone() -> None:
    assert found(FIVE, {**FIVE, ".airflowignore": "[a-d].py\n"}) == (["a.py", "b.py", "c.py", "d.py"], 5, 1)
    assert found({**FIVE, ".airflowignore": "a.py\n"}, {**FIVE, ".airflowignore": "b.py\n"}) == (["b.py"], 4, 4)
    assert found({**FIVE, ".airflowignore": "*\n"}, {}) == NONE


def test_an_airflowignore_at_which_airflow_ends_hides_all() -> None:
    assert found(FIVE, {**FIVE, ".airflowignore": "!\n"}) == (sorted(FIVE), 5, 0)


def test_the_syntax_of_the_airflow_decides_what_is_hidden() -> None:
    new = {**FIVE, ".airflowignore": "[ab]\\.py$\n"}
    assert found(FIVE, new, rules=Rules("3.11", "2")).gone == ["a.py", "b.py"]
    assert found(FIVE, new) == NONE


def test_a_file_that_lost_the_words_is_gone() -> None:
    assert found(FIVE, {**FIVE, "b.py": ""}) == (["b.py"], 5, 4)


def test_a_file_that_moved_is_not_gone_but_a_copy_replaces_only_one() -> None:
    assert found(FIVE, {f"team/{path}": text for path, text in FIVE.items()}) == NONE
    same = dict.fromkeys(FIVE, "from airflow import DAG\n")
    assert found(same, {"team/x.py": "from airflow import DAG\n"}) == (["b.py", "c.py", "d.py", "e.py"], 5, 1)


def test_below_a_folder_only_that_counts() -> None:
    old = {f"{team}/{path}": text for team in ("one", "two") for path, text in FIVE.items()}
    new = without(old, *(path for path in old if path > "two/a.py"))
    assert found(old, new, "two/") == (["two/b.py", "two/c.py", "two/d.py", "two/e.py"], 5, 6)
    assert found(old, new, "one/") == NONE
    assert found(old, new) == (["two/b.py", "two/c.py", "two/d.py", "two/e.py"], 10, 6)


@pytest.mark.parametrize(
    ("gone", "before", "percent", "too_many"),
    [
        (2, 2, 50, False), (2, 3, 50, True), (1, 3, 33, True), (1, 3, 34, False), (2, 4, 50, False), (3, 4, 50, True),
        (1, 100, 0, True), (0, 100, 0, False), (3, 3, 99, True), (3, 3, 100, False),
    ],
)  # fmt: skip
def test_more_than_the_percentage_of_three_or_more_is_too_much(gone, before, percent, too_many) -> None:
    assert Removals(["x.py"] * gone, before, before - gone).exceed(percent) is too_many


def test_a_usual_change_reads_nothing_of_the_old_tree() -> None:
    old = Made({f"{number}.py": f"from airflow import DAG  # usual {number}\n" for number in range(20)})
    new = Made({**old.files, "3.py": "from airflow import DAG  # usual and changed\n"})
    assert find_removals(Gate(find_ruff()), old.tree, new.tree, RULES) == NONE
    assert old.read == []
