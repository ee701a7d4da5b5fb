"""What ``--json`` prints is what the schemas in docs/reference/json/ say, of every command and of errors."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jsonschema
import pytest

from dagferry_client.app import COMMANDS
from dagferry_client.schema import json_schema
from dagferry_core.bundle.manifest import Entry, Manifest
from deployfiles import AIRFLOW
from harness import pack
from localtrees import write
from recorded_answers import DEPLOYED, DETAILS, LISTED, STATUS, VERSION, import_check, import_failure, logged, parsed

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "json"
ME = {"actor": "a", "expires": 7.5, "deployments": [{"name": "prod", "scopes": ["read"], "prefixes": ["a/"]}]}
LIST = {"GET /-/deployments": {"deployments": [LISTED]}}
FROZEN = {**STATUS, "frozen": {"reason": "audit", "until": 8, "actor": "ann"}}
NEWER = {"version": logged(43)["version"], "sequence": 43}
AIRFLOW_SAYS = {
    **STATUS,
    "parsed": parsed(error_count=1, errors=[import_failure(new=False)], hindrances=["It waits."]),
    "leases": {"versions": {VERSION: ["bundle-dag-processor-0-1"]}, "holders": 1},
    "import_check": import_check(
        checking=[{"id": "0" * 32, "base": "", "digest": "sha256:1", "actor": "token:ci", "created": 1}],
        refused=[
            {
                "actor": "token:ci",
                "created": 1.5,
                "problems": [{"path": "a.py", "line": 3, "message": "No.", "kind": "exit"}],
            }
        ],
    ),
}
OLD = logged(41)["version"]
ENTRY = logged(git={"commit": "4f2a"}, flags=["repeated"])
SHA = hashlib.sha256(b"a").hexdigest()
MANIFEST = Manifest([Entry("a.py", 1, 0o644, SHA)])
LOG = {"deploys": [logged(digest=MANIFEST.digest)], "next": None}
ARCHIVE = pack({"a.py": b"a"})
ALONE = {"path": "a.py", "size": 1, "mode": 420, "sha256": SHA}
DIFF = {"added": [ALONE], "changed": [], "removed": [{**ALONE, "path": "b.bin"}], "cut": False}

PRINTED = {
    "deploy": (
        ["deploy", "--wait-parsed"],
        {
            "GET /prod/dags/deploys?limit=1": LOG,
            "POST /prod/dags/upload": {**DEPLOYED, "kind": "upload", "digest": MANIFEST.digest},
            "GET /prod/dags/status": AIRFLOW_SAYS,
            "GET /prod/dags/status ": AIRFLOW_SAYS,  # once until it is live, and once until it is parsed
        },
    ),
    "check": (["check"], {}),
    "status": (["status"], {"GET /prod/dags/status": FROZEN}),
    "status with Airflow": (["status"], {"GET /prod/dags/status": AIRFLOW_SAYS}),
    "status of all": (["status", "--all"], {**LIST, "GET /prod/dags/status": STATUS}),
    "deployments": (["deployments"], LIST),
    "deployments create": (
        ["deployments", "create", "prod"],
        {"POST /-/deployments/prod": {**LISTED, "created": True}},
    ),
    "deployments delete": (
        ["deployments", "delete", "prod"],
        {"DELETE /-/deployments/prod": {"name": "prod", "deleted": True}},
    ),
    "doctor": (["doctor"], {"GET /healthz": {"status": "ok"}, "GET /-/whoami": ME, **LIST}),
    "doctor that fails": (["doctor"], {"GET /healthz": []}),
    "doctor for values": (["doctor", "--values", str(AIRFLOW / "sidecar.yaml")], {}),
    "whoami": (["whoami"], {"GET /-/whoami": ME}),
    "history": (["history"], {"GET /prod/dags/deploys?limit=21": {"deploys": [ENTRY, logged(41)], "next": None}}),
    "show": (
        ["show", VERSION],
        {f"GET /prod/dags/deploys/{VERSION}": {**ENTRY, "details": DETAILS}, "GET /prod/dags/status": AIRFLOW_SAYS},
    ),
    "show without details": (
        ["show", VERSION],
        {
            f"GET /prod/dags/deploys/{VERSION}": {**logged(), "details": None},
            "GET /prod/dags/status": {**STATUS, **NEWER},
        },
    ),
    "diff": (["diff", OLD, VERSION], {f"GET /prod/dags/diff?from={OLD}&to={VERSION}": DIFF}),
    "diff of contents": (
        ["diff", OLD, VERSION, "--content"],
        {
            f"GET /prod/dags/diff?from={OLD}&to={VERSION}": DIFF,
            f"GET /prod/dags/versions/{VERSION}/files/a.py": b"a",
            f"GET /prod/dags/versions/{OLD}/files/b.bin": b"\0",
        },
    ),
    "download": (
        ["download"],
        {"GET /prod/dags/deploys?limit=1": LOG, f"GET /prod/dags/download?version={VERSION}": ARCHIVE},
    ),
    "rollback": (
        ["rollback", OLD, "--wait"],
        {
            "POST /prod/dags/rollback?dry_run=1": {**DEPLOYED, "dry_run": True},
            "POST /prod/dags/rollback": DEPLOYED,
            "GET /prod/dags/status": STATUS,
        },
    ),
    "promote": (
        ["promote", "staging", "prod", "--version", OLD, "--dry-run"],
        {"POST /prod/dags/promote?dry_run=1": {**DEPLOYED, "dry_run": True}},
    ),
    "verify": (
        ["verify"],
        {
            "GET /prod/dags/deploys?limit=200": LOG,
            f"GET /prod/dags/versions/{VERSION}/files": {
                "version": VERSION,
                "digest": MANIFEST.digest,
                "files": [ALONE],
            },
            f"GET /prod/dags/download?version={VERSION}": ARCHIVE,
        },
    ),
    "token": (["token", "new", "--name", "ci", "--scopes", "deploy", "--deployments", "prod"], {}),
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
def test_what_a_command_prints_has_these_fields_and_no_others(at, server, project, arguments, answers) -> None:
    write(project, {"dags/a.py": b"a"})
    for request, answer in answers.items():
        server.answer(request.rstrip(), answer)
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
