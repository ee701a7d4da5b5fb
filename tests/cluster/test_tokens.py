"""Tokens of a real API server are what the shipped issuers file says: for sync, of Airflow's namespace, for us."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.control import ApiServer
from cluster.namespaces import restricted_namespace
from cluster.trusting import shipped_issuers
from credentials import TokensFile
from harness import Server, pack, tree

FILES = {"a.py": b"# a DAG\n"}
CURRENT = "/prod/dags/current"


@pytest.fixture(scope="module")
def airflow(api_server: ApiServer) -> str:
    """Airflow's namespace."""
    return restricted_namespace(api_server, "dagferry-server", "worker")


@pytest.fixture(scope="module")
def server(api_server: ApiServer, airflow: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one deploy that trusts the API server."""
    folder = tmp_path_factory.mktemp("server")
    issuers = shipped_issuers(folder, api_server, airflow, api_server.token(airflow, "dagferry-server"))
    tokens = TokensFile(folder / "tokens.toml")
    secret = tokens.add("ci", ["deploy"], ["prod"])
    server = Server(
        folder / "data", "--deployments=prod", f"--tokens-file={tokens.path}", f"--issuers-file={issuers}"
    ).ready()
    server.headers = {"Authorization": f"Bearer {secret}"}
    server.deploy(FILES, "prod")
    server.headers = {}
    yield server
    server.stop()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_pod_of_airflow_s_namespace_may_sync(api_server: ApiServer, airflow: str, server: Server) -> None:
    for account in ("default", "worker"):
        assert server.get(CURRENT, **bearer(api_server.token(airflow, account, "dagferry")))[0] == 200


def test_it_may_not_deploy(api_server: ApiServer, airflow: str, server: Server) -> None:
    token = api_server.token(airflow, "worker", "dagferry")
    assert server.request("/prod/dags/upload", pack(FILES), **bearer(token))[0] == 403


def test_a_token_for_another_audience_is_refused(api_server: ApiServer, airflow: str, server: Server) -> None:
    for audience in ("", "vault"):
        assert server.get(CURRENT, **bearer(api_server.token(airflow, "worker", audience)))[0] == 401


def test_a_pod_of_another_namespace_is_refused(api_server: ApiServer, server: Server) -> None:
    other = restricted_namespace(api_server)
    assert server.get(CURRENT, **bearer(api_server.token(other, "default", "dagferry")))[0] == 401


def test_a_changed_token_is_refused(api_server: ApiServer, airflow: str, server: Server) -> None:
    header, payload, signature = api_server.token(airflow, "worker", "dagferry").split(".")
    other = api_server.token(restricted_namespace(api_server), "default", "dagferry").split(".")[1]
    for token in (f"{header}.{other}.{signature}", f"{header}.{payload}.{signature[:-8]}AAAAAAAA"):
        assert server.get(CURRENT, **bearer(token))[0] == 401


def test_a_sidecar_with_the_pod_s_token_publishes_the_deploy(
    api_server: ApiServer, airflow: str, server: Server, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(api_server.token(airflow, "worker", "dagferry"))
    once = ["-m", "dagferry_sidecar", "--once", f"--root={tmp_path}/pod", f"--server={server.url}", "--deployment=prod"]
    subprocess.run([sys.executable, *once, f"--token-file={token}"], check=True, timeout=60)
    assert tree(tmp_path / "pod" / "current") == FILES
