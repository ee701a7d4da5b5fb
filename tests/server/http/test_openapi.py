"""The description of the API."""

import json
import re

from dagferry_server.http.openapi import describe, errors_of
from dagferry_server.http.routes import ROUTES
from errortable import ALL_ERRORS

SPEC = describe(ROUTES)


def references(node: object) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if "$ref" in node else set()
        return own.union(*map(references, node.values()), set())
    return set().union(*map(references, node)) if isinstance(node, list) else set()


def test_it_has_every_route() -> None:
    described = {(method.upper(), path) for path, item in SPEC["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}
    assert json.loads(json.dumps(SPEC)) == SPEC


def test_every_reference_leads_somewhere() -> None:
    known = {f"#/components/schemas/{name}" for name in SPEC["components"]["schemas"]}
    assert references(SPEC) == known


def test_names_of_operations_are_unique_and_path_parameters_are_described() -> None:
    operations = [(path, operation) for path, item in SPEC["paths"].items() for operation in item.values()]
    names = [operation["operationId"] for _, operation in operations]
    assert len(set(names)) == len(names)
    for path, operation in operations:
        described = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert described == set(re.findall(r"{(\w+)}", path))


def test_every_error_of_a_route_is_described_under_its_status() -> None:
    for route in ROUTES:
        responses = SPEC["paths"][route.path][route.method.lower()]["responses"]
        for error in errors_of(route):
            schema = responses[str(error.status)]["content"]["application/json"]["schema"]
            assert error.code in schema["allOf"][1]["properties"]["code"]["enum"]


def test_an_upload_may_be_refused_for_all_that_can_be_wrong_with_an_archive() -> None:
    upload = next(route for route in ROUTES if route.takes_file)
    groups = {"ArchiveError", "BundleError"}
    leaves = {error for error in ALL_ERRORS if error.__bases__[0].__name__ in groups}
    assert leaves <= set(errors_of(upload))
