"""The API server is the Kubernetes that was built, keeps what it is told, and ends with who started it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from cluster.control import ISSUER, ApiServer
from cluster.namespaces import restricted_namespace
from harness import eventually

HERE = Path(__file__).parent
START = """
import sys
from pathlib import Path
from cluster.control import ApiServer
server = ApiServer(Path(sys.argv[1]))
print(server._etcd.pid, server._server.pid, flush=True)
sys.stdin.read()
"""


def test_it_is_the_kubernetes_that_was_asked_for(api_server: ApiServer) -> None:
    status, version = api_server.request("GET", "/version")
    assert (status, version["gitVersion"], version["major"]) == (200, api_server.version, "1")
    assert version["gitVersion"].startswith(f"v1.{version['minor']}.")


def test_it_calls_itself_what_clusters_do(api_server: ApiServer) -> None:
    assert api_server.request("GET", "/.well-known/openid-configuration")[1]["issuer"] == ISSUER


def test_without_credentials_nobody_reads_anything(api_server: ApiServer) -> None:
    for path in ("/api/v1/namespaces", "/openid/v1/jwks", "/.well-known/openid-configuration"):
        assert api_server.request("GET", path, token="")[0] == 403


def test_helm_finds_it(api_server: ApiServer) -> None:
    assert api_server.helm("list", "--namespace=default", "--short") == ""  # the others have what tests have installed


def test_a_restart_keeps_what_there_is(own_api_server: object) -> None:
    server = own_api_server()  # type: ignore[operator]
    namespace = restricted_namespace(server)
    server.restart()
    assert server.request("GET", f"/api/v1/namespaces/{namespace}")[0] == 200


def test_it_ends_when_the_process_that_started_it_is_killed(api_server: ApiServer, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", START, tmp_path / "server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    with process:
        assert process.stdout
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 2
        process.send_signal(signal.SIGKILL)
    for pid in pids:
        eventually(f"{pid} to end", lambda pid=pid: not Path(f"/proc/{pid}").exists())
