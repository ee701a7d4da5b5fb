"""The list of mutations stays true to the code: ``make mutations`` runs them, which takes minutes."""

import ast

import mutations
import pytest
from mirror import HOME

KNOWN = mutations.known()


@pytest.mark.parametrize("mutation", KNOWN, ids=lambda mutation: mutation.breaks.replace("/", "-"))
def test_what_a_mutation_changes_occurs_once_in_its_file_and_stays_python(mutation: mutations.Mutation) -> None:
    text = (HOME / mutation.file).read_text()
    assert text.count(mutation.old) == 1
    assert ast.dump(ast.parse(text.replace(mutation.old, mutation.new))) != ast.dump(ast.parse(text))
    assert [name for name in mutation.tests if not (HOME / name).is_file()] == []


def test_no_mutation_is_listed_twice() -> None:
    assert len({(one.file, one.old, one.new) for one in KNOWN}) == len({one.breaks for one in KNOWN}) == len(KNOWN)
