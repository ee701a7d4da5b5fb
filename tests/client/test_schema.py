"""What ``--json`` prints is what the schemas in docs/reference/json/ say, of every command and of errors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jsonschema
import pytest

from dagferry_client.app import COMMANDS
from dagferry_client.schema import json_schema
from recorded_answers import LISTED, STATUS

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "json"
ME = {"actor": "a", "expires": 7.5, "deployments": [{"name": "prod", "scopes": ["read"], "prefixes": ["a/"]}]}
LIST = {"GET /-/deployments": {"deployments": [LISTED]}}
FROZEN = {**STATUS, "frozen": {"reason": "audit", "until": 8, "actor": "ann"}}

PRINTED = {
    "status": (["status"], {"GET /prod/dags/status": FROZEN}),
    "status of all": (["status", "--all"], {**LIST, "GET /prod/dags/status": STATUS}),
    "deployments": (["deployments"], LIST),
    "doctor": (["doctor"], {"GET /healthz": {"status": "ok"}, "GET /-/whoami": ME, **LIST}),
    "doctor that fails": (["doctor"], {"GET /healthz": []}),
    "whoami": (["whoami"], {"GET /-/whoami": ME}),
    "completion": (["completion", "bash"], {}),
}
"""For each command at least once: its arguments, and what the server answers."""


def schema(name: str) -> dict[str, Any]:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def closed(part: Any) -> Any:
    """The schema, without the fields that a later version may have added."""
    if isinstance(part, list):
        return [closed(one) for one in part]
    if not isinstance(part, dict):
        return part
    found = {name: closed(one) for name, one in part.items()}
    return {"additionalProperties": False, **found} if "required" in found else found


def test_every_command_says_what_it_prints_and_is_tried() -> None:
    assert {arguments[0] for arguments, _ in PRINTED.values()} == set(COMMANDS)
    assert {path.stem for path in SCHEMAS.glob("*.json")} == {*COMMANDS, "error"}


@pytest.mark.parametrize("name", [*COMMANDS, "error"])
def test_each_schema_is_one(name) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))
    assert schema(name)["$id"].endswith(f"/docs/reference/json/{name}.json")


@pytest.mark.parametrize(("arguments", "answers"), PRINTED.values(), ids=PRINTED)
def test_what_a_command_prints_has_these_fields_and_no_others(at, server, arguments, answers) -> None:
    for request, answer in answers.items():
        server.answer(request, answer)
    jsonschema.validate(at(*arguments, "--json").json, closed(schema(arguments[0])))


def test_an_error_has_the_fields_of_its_schema_and_maybe_others(at, server) -> None:
    refused = {"code": "gate_refused", "message": "No.", "hint": "Mend it.", "problems": [{"path": "a.py"}]}
    server.answer("GET /-/whoami", refused, 422)
    said = json.loads(at("whoami", "--json").err)
    assert said == refused
    jsonschema.validate(said, schema("error"))
    with pytest.raises(jsonschema.ValidationError, match="problems"):
        jsonschema.validate(said, closed(schema("error")))


# --- how a schema is made of types ------------------------------------------------------------------------------------


class Leaf(NamedTuple):
    """A ``leaf``."""

    kind: Literal["a", "b"]
    size: int | float | None


class Tree(NamedTuple):
    """It has what a type may have."""

    leaf: Leaf | None
    children: list[Leaf]
    by_name: Mapping[str, int]
    paths: tuple[str, ...]
    ready: bool = True


def made(*types: type) -> dict[str, Any]:
    return json_schema("A tree", "https://dags.example.com/tree.json", types)


TREE = {
    "leaf": {"kind": "a", "size": 1.5},
    "children": [{"kind": "b", "size": None}],
    "by_name": {"x": 1},
    "paths": ["a"],
    "ready": True,
}


@pytest.mark.parametrize("changed", [{}, {"leaf": None}, {"children": []}, {"more": 1}])
def test_what_the_type_allows_is_valid(changed) -> None:
    jsonschema.validate({**TREE, **changed}, made(Tree))


@pytest.mark.parametrize(
    "changed",
    [
        {"leaf": {"kind": "c", "size": 1}},
        {"leaf": {"kind": "a"}},
        {"children": None},
        {"children": [{}]},
        {"by_name": {"x": "1"}},
        {"paths": [1]},
        {"ready": 1},
    ],
)
def test_what_it_does_not_allow_is_not(changed) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**TREE, **changed}, made(Tree))


def test_one_of_several_types_is_enough() -> None:
    several = made(Leaf, Tree)
    jsonschema.validate(TREE, several)
    jsonschema.validate(TREE["leaf"], several)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, several)
    assert several["$defs"]["Leaf"]["description"] == "A `leaf`."
