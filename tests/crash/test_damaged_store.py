"""Records and bundles that a disk has damaged: the server starts, reports it, and the next deploy is as any other."""

import json
import random

import pytest

from harness import eventually
from invariants import check_log, check_root

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "sql/load.sql": b"select 1\n"}
B = {**A, "shop.py": b"rate = 2\n"}
C = {**A, "shop.py": b"rate = 3\n"}
UNREADABLE = b'dagferry_server_unreadable_deploys{deployment="default"} 1.0'
HARMS = {
    "empty": lambda _: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "another entry": lambda data: data.replace(b'"sequence":2', b'"sequence":1'),
    "not JSON": lambda data: b"\x80" + data,
    "a field missing": lambda data: data.replace(b'"digest"', b'"Digest"'),
}


def entry(server, sequence: int):
    return server.data / f"default/deploys/{sequence:012d}.json"


@pytest.fixture
def deployed(fork_server, fork_sidecar, tmp_path):
    """A server with two deploys that has ended, and a sidecar that runs the second."""
    server = fork_server(tmp_path / "data").ready()
    pod = fork_sidecar(server.url, tmp_path / "pod")
    published = {server.deploy(files)["version"]: files for files in (A, B)}
    pod.runs(list(published)[-1])
    server.stop()
    return server, pod, published


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_newest_entry_is_reported_and_no_pod_is_sent_to_the_one_before_until_the_next_deploy(
    deployed, fork_server, fork_sidecar, tmp_path, harm
) -> None:
    server, pod, published = deployed
    _, newest = published
    entry(server, 2).write_bytes(HARMS[harm](entry(server, 2).read_bytes()))
    server = fork_server(server.data, port=server.port).ready()
    assert server.get("/default/dags/current")[0] == 503
    assert server.get("/readyz")[0] == 200
    assert UNREADABLE in server.get("/metrics")[1]
    said = [line for line in server.logged() if line["level"] == "error"]
    assert [(line["code"], line["sequence"]) for line in said] == [("store_damaged", 2)]
    fresh = fork_sidecar(server.url, tmp_path / "fresh")
    for each in (pod, fresh):
        eventually("the refusal", lambda each=each: refusals(each) > 0)
    assert (pod.live, fresh.live) == (newest, None)
    assert json.loads(pod.probe("/readyz")[1])["error"]["code"] == "server_refused"
    told = server.deploy(C)
    assert told["sequence"] == 3
    assert pod.runs(told["version"]).tree() == C
    assert fresh.runs(told["version"]).tree() == C
    eventually("all to be well", lambda: json.loads(pod.probe("/readyz")[1])["error"] is None)
    log = json.loads(server.get("/default/dags/deploys")[1])["deploys"]
    assert [deploy["sequence"] for deploy in log] == [3, 1]
    check_log(server.log)
    check_log(pod.log)


def test_a_damaged_older_entry_is_reported_and_hinders_nothing(deployed, fork_server) -> None:
    server, pod, published = deployed
    entry(server, 1).write_bytes(b"{}")
    server = fork_server(server.data, port=server.port).ready()
    assert server.current()["version"] == list(published)[-1]
    assert UNREADABLE in server.get("/metrics")[1]
    told = server.deploy(C)
    assert told["sequence"] == 3
    pod.runs(told["version"])


@pytest.mark.parametrize("content", [b"", b"{}", b'{"log_id": "../x"}', None])
def test_a_lost_log_id_gives_a_new_one_which_every_pod_follows_with_a_warning(deployed, fork_server, content) -> None:
    server, pod, _ = deployed
    log_id = json.loads((server.data / "default/log.json").read_text())["log_id"]
    if content is None:
        (server.data / "default/log.json").unlink()
    else:
        (server.data / "default/log.json").write_bytes(content)
    server = fork_server(server.data, port=server.port).ready()
    assert server.current()["log_id"] != log_id
    assert pod.runs(server.deploy(C)["version"]).tree() == C
    assert any("log id" in line["message"] for line in pod.logged())


def harmed(data: bytes, seed: int) -> bytes:
    """The same bytes with one changed, cut, or all of a block lost."""
    chance = random.Random(seed)
    place = chance.randrange(len(data))
    match seed % 3:
        case 0:
            return data[:place]
        case 1:
            return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
        case _:
            return data[:place] + bytes(len(data) - place)


@pytest.mark.parametrize("suffix", ["tar.zst", "index"])
def test_a_damaged_bundle_of_the_current_deploy_hinders_no_next_deploy(
    fork_server, fork_sidecar, tmp_path, suffix
) -> None:
    server = fork_server(tmp_path / "data").ready()
    pod = fork_sidecar(server.url, tmp_path / "pod")
    published = {}
    current = server.deploy(A)
    for seed in range(30):
        pod.runs(current["version"])
        stored = server.data / f"default/bundles/{current['digest'].removeprefix('sha256:')}.{suffix}"
        stored.write_bytes(harmed(stored.read_bytes(), seed))
        files = {**A, "shop.py": b"rate = %d\n" % (seed + 5)}
        current = server.deploy(files)
        published[current["version"]] = files
        assert current["sequence"] == seed + 2
    pod.runs(current["version"])
    assert check_root(pod.root, published) == current["version"]
    check_log(server.log)
    check_log(pod.log)


def refusals(pod) -> float:
    return pod.metric('dagferry_sidecar_syncs_total{outcome="server_refused"}') if answers(pod) else 0


def answers(pod) -> bool:
    try:
        return pod.probe("/healthz")[0] == 200
    except OSError:
        return False


def test_a_pod_that_cannot_get_a_damaged_bundle_gets_it_when_the_same_content_is_uploaded_again(
    deployed, fork_server, fork_sidecar, tmp_path
) -> None:
    server, _, published = deployed
    bundles = sorted((server.data / "default/bundles").glob("*.tar.zst"), key=lambda path: path.stat().st_mtime)
    failures = 'dagferry_sidecar_syncs_total{outcome="digest_mismatch"}'
    for seed in (1, 2, 3, 4, 7):
        server = fork_server(server.data, port=server.port).ready()
        bundles[-1].write_bytes(harmed(bundles[-1].read_bytes(), seed))
        fresh = fork_sidecar(server.url, tmp_path / f"fresh-{seed}")
        eventually("the sidecar to have failed", lambda pod=fresh: answers(pod) and pod.metric(failures) > 0)
        told = server.deploy(B)
        assert (told["sequence"], told["unchanged"]) == (2, True)
        assert fresh.runs(list(published)[-1]).tree() == B
        server.stop()
