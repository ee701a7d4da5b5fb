"""A pod is a witness of the deploy log: it follows none that was rewritten or cut, and everybody can see that."""

import json
import shutil
import subprocess
import sys

import pytest

from harness import Server, Sidecar, eventually
from rewriting import digest_of, entry_file, rewrite

pytestmark = pytest.mark.slow

A, B, C, D = ({"etl.py": f"rate = {number}\n".encode()} for number in range(4))
REWRITTEN, REGRESSED = "log_rewritten", "sequence_regressed"


@pytest.fixture
def server(serve) -> Server:
    """A server with the deploys A, B, C."""
    server = serve()
    for files in (A, B, C):
        server.deploy(files)
    return server


@pytest.fixture
def pod(server, follow) -> Sidecar:
    """A sidecar that has C live."""
    return follow(server).runs(server.current()["version"])


def error_of(server: Server) -> str:
    """The code of the error that the only pod reports; empty if it reports none, or there is none yet."""
    pods = json.loads(server.get("/default/dags/status")[1])["sidecars"]
    return "".join(pod["error"] for pod in pods if pod["state"] == "failing").partition(":")[0]


def refuses(server: Server, pod: Sidecar, code: str) -> None:
    eventually(f"the pod to report {code}", lambda: error_of(server) == code)
    assert pod.tree() == C
    assert pod.metric(f'dagferry_sidecar_syncs_total{{outcome="{code}"}}') > 0


def again(serve, server: Server) -> Server:
    """Start a server on the same folder and port."""
    return serve(port=server.port)


def changed(server: Server, what: str) -> None:
    """Do to the data folder what an attacker, or a mistake, does."""
    data = server.data
    if what == "other content, chain made again":
        rewrite(data, 3, digest=digest_of(data, 1))
    elif what == "an older entry, chain made again":
        rewrite(data, 1, actor="nobody")
    elif what == "only a description":
        rewrite(data, 3, description="It was not me")
    elif what == "an older entry that does not fit":
        text = entry_file(data, 3).read_bytes()
        entry_file(data, 3).write_bytes(text.replace(b"anonymous", b"anonymouS"))


CHANGES = [
    "other content, chain made again",
    "an older entry, chain made again",
    "only a description",
    "an older entry that does not fit",
]


@pytest.mark.parametrize("what", CHANGES)
def test_a_rewritten_log_is_refused_though_its_chain_fits(server, pod, serve, what) -> None:
    server.stop()
    changed(server, what)
    refuses(again(serve, server), pod, REWRITTEN)


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_deployed_on_top_of_a_rewritten_log_is_refused_too(server, pod, serve, what) -> None:
    pod.stop()
    server.stop()
    changed(server, what)
    server = again(serve, server)
    server.deploy(D)
    pod = type(pod)(server.url, pod.root)
    try:
        refuses(server, pod, REWRITTEN)
    finally:
        pod.stop()


def test_a_log_that_was_cut_is_refused_and_so_is_what_is_deployed_then(server, pod, serve) -> None:
    server.stop()
    entry_file(server.data, 3).unlink()
    server = again(serve, server)
    refuses(server, pod, REGRESSED)
    server.deploy(D)  # the same sequence, other content
    refuses(server, pod, REWRITTEN)
    server.deploy(A)
    refuses(server, pod, REWRITTEN)


def test_an_old_backup_is_refused_until_it_has_a_new_log_id(server, pod, serve, tmp_path) -> None:
    server.stop()
    backup = shutil.copytree(server.data, tmp_path / "backup")
    server = again(serve, server)
    pod.runs(server.deploy(D)["version"])
    pod.runs(server.deploy(C)["version"])
    server.stop()
    shutil.rmtree(server.data)
    shutil.copytree(backup, server.data)
    server = again(serve, server)
    refuses(server, pod, REGRESSED)
    for files in (A, B, D):
        server.deploy(files)
    refuses(server, pod, REWRITTEN)
    server.stop()
    command = [sys.executable, "-m", "dagferry_server", "new-log-id", "--data-dir", str(server.data)]
    subprocess.run(command, check=True, capture_output=True)
    server = again(serve, server)
    assert pod.runs(server.current()["version"]).tree() == D
    assert any("another log id" in line["message"] for line in pod.logged())
    eventually("the pod to report no error", lambda: error_of(server) == "")


def test_an_init_container_does_not_publish_a_rewritten_log_and_says_so(server, pod, serve) -> None:
    pod.stop()
    server.stop()
    rewrite(server.data, 2, description="It was not me")
    server = again(serve, server)
    server.deploy(D)
    once = type(pod)(server.url, pod.root, "--once")
    assert once.process.wait(30) == 0, "the tree that is there is good"
    assert once.tree() == C
    assert any(REWRITTEN in (line.get("code"), line["message"]) for line in once.logged()), once.log.read_text()


def test_a_log_that_goes_on_is_followed_over_many_deploys(server, pod, serve) -> None:
    pod.stop()
    for number in range(5):
        server.deploy({"etl.py": f"rate = {number} * 10\n".encode()})
    server.stop()
    server = again(serve, server)
    pod = type(pod)(server.url, pod.root)
    try:
        pod.runs(server.current()["version"])
        assert (
            json.loads((pod.root / "current").resolve().parent.joinpath("deploy.json").read_text())["entry_sha256"]
            == server.current()["entry_sha256"]
        )
        assert pod.metric(f'dagferry_sidecar_syncs_total{{outcome="{REWRITTEN}"}}') == 0
    finally:
        pod.stop()
