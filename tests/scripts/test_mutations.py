"""The list of mutations stays true to the code: ``make mutations`` runs them, which takes minutes."""

import ast
import builtins
import functools
from pathlib import Path
from typing import NamedTuple

import mutations
import pytest
from mirror import HOME, modules, packages

KNOWN = mutations.known()


@pytest.mark.parametrize("mutation", KNOWN, ids=lambda mutation: mutation.breaks.replace("/", "-"))
def test_what_a_mutation_changes_occurs_once_in_its_file_and_stays_python(mutation: mutations.Mutation) -> None:
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


@pytest.mark.slow
def test_a_change_that_a_test_notices_is_killed_and_any_other_survives(tmp_path: Path) -> None:
    source = tmp_path / "doubling.py"
    source.write_text("def twice(number):\n    return 2 * number\n")
    (tmp_path / "test_doubling.py").write_text(
        "from doubling import twice\n\ndef test_twice():\n    assert twice(4) == 8\n"
    )
    for new, survives in (("2 * number", True), ("number + number", True), ("3 * number", False), ("number", False)):
        mutation = mutations.Mutation("doubling.py", "2 * number", new, "it", ["test_doubling.py"])
        assert mutations.survives(tmp_path, mutation) is survives
        assert source.read_text().endswith("return 2 * number\n")


@pytest.mark.slow
def test_the_changes_of_one_module_are_noticed(capsys) -> None:
    assert mutations.main(["follow/dagferry_follow/pauses.py"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "3 changes, 3 killed, 0 survived"
