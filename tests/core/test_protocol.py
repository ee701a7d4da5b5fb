"""The facts that client and server share have one home, and the server's routes are made of them."""

import re
from pathlib import Path

from dagferry_core import protocol
from dagferry_server.http.routes import ROUTES

HOME = Path(__file__).parents[2]
SOURCES = [
    path
    for package in ("core", "follow", "runtime", "gate", "server", "sidecar", "client", "airflow_plugin", "checker")
    for path in sorted((HOME / package).rglob("*.py"))
    if path.name != "protocol.py"
]
SHARED = [
    *(name for name in (*protocol.REQUEST_HEADERS, *protocol.ANSWER_HEADERS) if name.startswith("Dagferry-")),
    protocol.BUNDLE_TYPE,
    protocol.PATCH_TYPE,
]


def test_no_other_module_writes_a_shared_name_or_path_anew() -> None:
    literals = re.compile("|".join(f"[\"']{re.escape(name)}[\"']" for name in SHARED) + r"|[\"'][^\"'\s]*/dags/(?!\*)")
    assert literals.search('{"Dagferry-Live": x}')
    assert literals.search("'/{deployment}/dags/current'")
    for path in SOURCES:
        found = [line for line in path.read_text().splitlines() if literals.search(line)]
        assert not found, f"{path.relative_to(HOME)}: {found}"


def test_every_path_is_one_of_the_server_s() -> None:
    paths = {value for name, value in vars(protocol).items() if name.endswith("_PATH")}
    assert paths == {route.path for route in ROUTES if not (route.admin and route.scope is None)}


def test_the_headers_of_a_request_are_those_of_the_route() -> None:
    current = next(route for route in ROUTES if route.path == protocol.CURRENT_PATH)
    assert {parameter.name for parameter in current.parameters} == set(protocol.REQUEST_HEADERS)
