"""The list of mutations stays true to the code: ``make mutations`` runs them, which takes minutes."""

import ast
import builtins
import functools
from typing import NamedTuple

import mutations
import pytest
from mirror import HOME, modules, packages

KNOWN = mutations.known()


@pytest.mark.parametrize("mutation", KNOWN, ids=lambda mutation: mutation.breaks.replace("/", "-"))
def test_what_a_mutation_changes_stands_once_in_its_file_and_stays_python(mutation: mutations.Mutation) -> None:
    text = (HOME / mutation.file).read_text()
    assert text.count(mutation.old) == 1
    assert ast.dump(ast.parse(text.replace(mutation.old, mutation.new))) != ast.dump(ast.parse(text))
    assert [name for name in mutation.tests if not (HOME / name).is_file()] == []


class Names(NamedTuple):
    """What source names: ``plain`` names, of variables and imports, and ``attributes`` and keywords of calls."""

    plain: set[str]
    attributes: set[str]

    @classmethod
    def of(cls, text: str) -> "Names":
        found = cls(set(dir(builtins)), set())
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Name(id=name) | ast.alias(asname=str(name)) | ast.arg(arg=name):
                    found.plain.add(name)
                case ast.alias(name=name):
                    found.plain.add(name.partition(".")[0])
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    found.plain.add(name)
                    found.attributes.add(name)
                case ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                    found.attributes.add(name)
        return found


@functools.cache
def attributes_of_the_packages() -> set[str]:
    sources = (HOME / module for package in packages() for module in modules(package))
    return set().union(*(found.attributes | found.plain for found in (Names.of(path.read_text()) for path in sources)))


@pytest.mark.parametrize("mutation", KNOWN, ids=lambda mutation: mutation.breaks.replace("/", "-"))
def test_a_mutation_uses_names_that_there_are(mutation: mutations.Mutation) -> None:
    """Any test notices a name that does not exist, and shows nothing by it."""
    text = (HOME / mutation.file).read_text()
    before, after = Names.of(text), Names.of(text.replace(mutation.old, mutation.new))
    assert after.plain - before.plain == set()
    unknown = after.attributes - before.attributes - attributes_of_the_packages()
    assert {name for name in unknown if not name.startswith("__")} == set()


def test_no_mutation_is_listed_twice() -> None:
    assert len({(one.file, one.old, one.new) for one in KNOWN}) == len({one.breaks for one in KNOWN}) == len(KNOWN)
