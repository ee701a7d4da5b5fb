"""The root field of a GraphQL document is found as GraphQL has it, in whatever form the document is written."""

import graphql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagferry_server.errors import RequestError
from dagferry_server.http.json_body import MAX_JSON_BYTES
from dagferry_server.http.root_field import root_field

QUERIES = {
    "shorthand": "{ workspaces { id } }",
    "in one line": "query{workspaces{id}}",
    "named": "query GetWorkspaces {\n\t workspaces {\n id\n label\n}\n}",
    "variables": 'query Q($take: Int = 3, $name: [String!]! = ["{"], $in: In = {a: {b: "}"}}) { workspaces { id } }',
    "a name like another": "query deployment { workspaces { deployment } }",
    "comments": "# { deployment }\nquery # }\n Q # (\n { # x\r\n workspaces # { deployment\n { id } }",
    "commas and a mark": "\ufeffquery,Q,{,workspaces,{,id,},}",
    "strings": 'query Q($a: S = "\\"} # {", $b: S = """ a " } \\""" { deployment } # """) { workspaces { id } }',
    "directives": "query Q @a(x: {y: 1}) @b { workspaces @include(if: true) { id } }",
    "a fragment after it": "query { ...F } fragment F on Query { workspaces { id } }",
    "a fragment before it": "fragment F on Query { workspaces { id } } query { ...F }",
    "fragments of fragments": "fragment F on Query { ... G } fragment G on Query { workspaces { id } } { ...F }",
    "an unused fragment": "fragment F on Query { deployment { id } } { workspaces { id } }",
    "inline": "{ ... on Query { workspaces { id } } }",
    "inline with a directive": '{ ... @include(if: $x, o: {a: "{"}) { ... { workspaces { id } } } }',
    "a fragment called on...": "{ ... on on { workspaces { id } } }",
    "arguments with braces": '{ workspaces(where: {id: "}"}) { id } }',
    "more fields": "{ workspaces { id } deployment { id } }",
    "a mutation": "mutation M($a: Int) { workspaces(a: $a) { id } }",
    "a subscription": "subscription { workspaces { id } }",
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_the_root_field_is_found(query: str) -> None:
    assert root_field(query) == ("workspaces", "workspaces")
    assert root_field(query) == by_library(query)


def test_an_alias_is_the_key_of_the_response() -> None:
    for query in ("{ mine: workspaces { id } }", "query Q { mine : workspaces }", "{ mine #x\n:\nworkspaces }"):
        assert root_field(query) == ("mine", "workspaces") == by_library(query)


def test_of_several_operations_the_named_one_counts() -> None:
    document = "query A { workspaces { id } } query B { deployment { id } }"
    assert root_field(document, "B").name == "deployment"
    for name in (None, "", "C"):
        with pytest.raises(RequestError, match="not a GraphQL document with one operation"):
            root_field(document, name)


MALFORMED = [
    "", " ", "#", "query", "{", "}", "{}", "{ }", "{{a}}", "query Q", "query Q {", "workspaces", "{ workspaces { id }",
    "{ workspaces } }", "{ workspaces ) }", "{ (workspaces } )", '"{ workspaces }"', '{ "workspaces" }', "{ 1 }",
    "{ a: }", "{ a: 1 }", "{ : a }", "{ ... }", "{ ...F }", "{ ...F } fragment F on Q { ...F }", "{ ... on Q }",
    "{ ...F } fragment F on Q { ...G } fragment G on Q { ...F }", "{ ... on Q } fragment F on Q { workspaces }",
    "fragment F on Q { workspaces }", "{ a } { b }", "{ a } trailing", "type Query { workspaces: Int }", "{ $a }",
    "{ ... @x(a: ) }", "\0", "{ \u0430stro }", '{ a(b: "x) { c }', '{ a(b: """x") { c } }',
]  # fmt: skip


@pytest.mark.parametrize("query", MALFORMED, ids=ascii)
def test_what_has_no_root_field_is_refused(query: str) -> None:
    with pytest.raises(RequestError, match="not a GraphQL document with one operation"):
        root_field(query)


@pytest.mark.parametrize(
    "piece",
    ['\\"', '"', '"""', '\\"""', "{", "(", "[", "...", "... on Q {", "a:", "#", "#\n", "fragment F on Q{a}", "a "],
)
def test_a_hostile_document_takes_no_longer_than_its_size(piece: str) -> None:
    # If it were searched again from each place, this test would take hours.
    for prefix in ("", "{", '{a(b:"', '{a(b:"""'):
        with pytest.raises(RequestError):
            root_field(prefix + piece * (4 * MAX_JSON_BYTES // len(piece)))


WORDS = st.sampled_from(
    [*'{}()[]:@$!"#=|', "...", "on", "query", "mutation", "fragment", "F", "a", "b", '"x"', '"""', "\n", " ", ",", "1"]
)


@given(st.lists(WORDS, max_size=30).map(" ".join))
def test_whatever_comes_it_is_a_field_or_refused(document: str) -> None:
    try:
        found = root_field(document)
    except RequestError:
        found = None
    try:
        expected = by_library(document)
    except (graphql.GraphQLError, LookupError):
        return
    assert found == expected


def by_library(document: str) -> tuple[str, str]:
    """What a complete parser finds."""
    parsed = graphql.parse(document)
    operation = graphql.get_operation_ast(parsed)
    if operation is None:
        raise LookupError
    fragments = {one.name.value: one for one in parsed.definitions if isinstance(one, graphql.FragmentDefinitionNode)}
    found = operation.selection_set.selections[0]
    while not isinstance(found, graphql.FieldNode):
        name = found.name.value if isinstance(found, graphql.FragmentSpreadNode) else None
        found = (fragments.pop(name) if name else found).selection_set.selections[0]
    return (found.alias or found.name).value, found.name.value
