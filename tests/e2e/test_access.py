"""Authentication with real processes: keyless deploys, pods with their service account's token, no secret leaked."""

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from credentials import SCOPES, TokensFile, issuers_file
from harness import eventually, free_port, pack, tree
from issuer import github_claims, issuer_in_a_thread, kubernetes_claims, make_certificate

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n"}
B = {**A, "shop.py": b"rate = 2\n"}
GITHUB_RULE = """
claims = { repository_id = "123", ref = "refs/heads/main" }
scopes = ["deploy"]
deployments = ["default"]
"""
CLUSTER_RULE = """
claims = { sub = "system:serviceaccount:airflow:*" }
scopes = ["sync"]
deployments = ["default"]
"""


def replace(path: Path, text: str) -> None:
    """Write a file as Kubernetes does: never half of it."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


def test_github_deploys_without_a_secret_and_pods_sync_with_their_service_account(serve, follow, tmp_path) -> None:
    with issuer_in_a_thread() as github, issuer_in_a_thread() as cluster:
        issuers = Path(issuers_file(tmp_path / "issuers.toml", github.url, GITHUB_RULE, name="github"))
        more = issuers_file(tmp_path / "more.toml", cluster.url, CLUSTER_RULE, name="cluster", kind="kubernetes")
        issuers.write_text(issuers.read_text() + Path(more).read_text())
        server = serve("--issuers-file", str(issuers))
        projected = tmp_path / "token"
        projected.write_text(cluster.token(**kubernetes_claims()))
        pod = follow(server, "pod-0", "--token-file", str(projected), "--poll-wait", "1")
        stranger = follow(server, "pod-1")
        server.headers = {"Authorization": f"Bearer {github.token(**github_claims())}"}
        first = server.deploy(A)
        assert pod.runs(first["version"]).tree() == A
        # The kubelet renews the token; the old one ends.
        replace(projected, cluster.token(**kubernetes_claims(account="triggerer")))
        assert pod.runs(server.deploy(B)["version"]).tree() == B
        log = json.loads(server.get("/default/dags/deploys")[1])["deploys"]
        assert log[0]["actor"] == "github:repo:acme@1/dags@123:ref:refs/heads/main repository=acme/dags run_id=77"
        for headers in ({"Authorization": cluster.token(**kubernetes_claims())}, {"Authorization": ""}):
            assert server.request("/default/dags/upload", pack(A), **headers)[0] in {401, 403}
        eventually("the stranger to be refused", lambda: "401" in stranger.log.read_text())
        assert stranger.live is None


def test_a_sidecar_follows_over_tls(serve, follow, tmp_path) -> None:
    certificate, key = make_certificate(tmp_path)
    tokens = TokensFile(tmp_path / "tokens.toml")
    server = serve("--tokens-file", str(tokens.path), "--tls-cert", certificate, "--tls-key", key)
    secret = tokens.add("pods", ["sync", "deploy"])
    pod = follow(server, "pod", "--ca-file", certificate, DAGFERRY_TOKEN=secret)
    server.headers = {"Authorization": secret}
    eventually("the token to be taken", lambda: server.get("/default/dags/deploys")[0] == 200)
    assert pod.runs(server.deploy(A)["version"]).tree() == A
    distrustful = follow(server, "other", DAGFERRY_TOKEN=secret)
    eventually("the certificate to be refused", lambda: "--ca-file" in distrustful.log.read_text())


def test_no_secret_is_printed_logged_stored_or_served(serve, follow, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    tokens.users = ['{ name = "ann", scopes = ["read"], deployments = ["*"] }']
    secret, stale = tokens.add("all", SCOPES), tokens.add("old", SCOPES, expires="2020-01-01T00:00:00Z")
    proxy, unknown, folded = "proxycanary" * 4, "dgf_unknowncanary", "Basic Y2FuYXJ5OmNhbmFyeQ=="
    (tmp_path / "proxy").write_text(proxy)
    admin = f"127.0.0.1:{free_port()}"
    with issuer_in_a_thread() as issuer:
        jwt, foreign = issuer.token(**github_claims()), issuer.token(**github_claims("999"))
        issuers = issuers_file(tmp_path / "issuers.toml", issuer.url, GITHUB_RULE)
        server = serve(
            "--tokens-file", str(tokens.path), "--issuers-file", issuers, "--admin-listen", admin,
            "--proxy-user-header", "X-User", "--proxy-secret-file", str(tmp_path / "proxy"),
        )  # fmt: skip
        pods = [
            follow(server, "good", DAGFERRY_TOKEN=secret),
            follow(server, "bad", DAGFERRY_TOKEN=unknown),
            follow(server, "worse", DAGFERRY_TOKEN=f"two words {unknown}"),
        ]
        told: list[bytes] = []
        version = ""
        for sent in (
            secret,
            f"Bearer {jwt}",
            foreign,
            stale,
            unknown,
            folded,
            f"Bearer a b {unknown}",
            f"Bearer {unknown}{'x' * 9000}",
            jwt[:-5] + "AAAAA",
        ):
            answers = [server.request("/default/dags/upload", body, Authorization=sent) for body in (pack(B), b"junk")]
            answers += [
                server.get(path, Authorization=sent)
                for path in ("/default/dags/current", "/default/dags/deploys", f"/x/dags/current?token={sent[:1]}")
            ]
            if answers[0][0] == 200:
                version = json.loads(answers[0][1])["version"]
            told += [body for _, body in answers]
        for name, word in (("ann", proxy), ("ann", "wrong" + proxy), ("", proxy)):
            told.append(server.get("/default/dags/deploys", X_User=name, Dagferry_Proxy_Secret=word)[1])
        pods[0].runs(version)
        assert pods[2].process.wait(30) == 2
        told.append(pods[0].probe("/metrics")[1].encode())
        server.url = f"http://{admin}"
        told += [server.get(path)[1] for path in ("/metrics", "/readyz", "/openapi.json", "/healthz")]
    eventually("the bad pod to be refused", lambda: "401" in pods[1].log.read_text())
    for process in (*pods[:2], server):
        process.stop()
    everything = {str(number): answer for number, answer in enumerate(told)}
    everything |= {path.name: path.read_bytes() for path in tmp_path.glob("*.log")}
    for folder in (server.data, *(pod.root for pod in pods)):
        everything |= {f"{folder}/{name}": content for name, content in tree(folder).items()}
    assert b"token:all" in b"".join(everything.values())
    signature = jwt.rpartition(".")[2]
    for canary in (secret, stale, proxy, unknown, "Y2FuYXJ5", jwt, signature, foreign):
        leaked = [where for where, content in everything.items() if canary.encode() in content]
        assert not leaked, (canary, leaked)


def peak_bytes(process) -> int:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def test_a_gigabyte_without_credentials_costs_no_memory_and_no_disk(serve, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    server = serve("--tokens-file", str(tokens.path))
    before, peak = tree(server.data), peak_bytes(server.process)
    piece, total = bytes(1 << 20), 1 << 30
    for framing in (f"Content-Length: {total}", "Transfer-Encoding: chunked"):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(f"POST /default/dags/upload HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
            chunk = piece if framing.startswith("Content") else b"%x\r\n%b\r\n" % (len(piece), piece)
            with contextlib.suppress(OSError):  # the server has read enough of it
                for _ in range(total // len(piece)):
                    connection.sendall(chunk)
    assert server.get("/healthz")[0] == 200
    assert peak_bytes(server.process) - peak < 24 << 20
    assert tree(server.data) == before
    open_files = []
    for fd in os.listdir(f"/proc/{server.process.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # a connection that was still closing
            open_files.append(os.readlink(f"/proc/{server.process.pid}/fd/{fd}"))
    assert not [path for path in open_files if "incoming" in path]
    outcomes = [line["outcome"] for line in server.logged() if line["message"] == "Audit"]
    assert outcomes == ["unauthenticated", "unauthenticated"]


@pytest.mark.parametrize("allowed", [True, False])
def test_two_hundred_slow_clients_do_not_change_what_a_healthy_one_sees(serve, follow, tmp_path, allowed) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret, others = tokens.add("ci", SCOPES), tokens.add("slow", SCOPES)
    server = serve("--tokens-file", str(tokens.path))
    pod = follow(server, "pod", DAGFERRY_TOKEN=secret)
    server.headers = {"Authorization": secret}
    server.deploy(A)
    peak = peak_bytes(server.process)
    head = "POST /default/dags/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n"
    head += f"Authorization: {others}\r\n" if allowed else ""
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    end = threading.Event()

    def trickle() -> None:
        while not end.is_set():
            for connection in slow:
                with contextlib.suppress(OSError):  # it was cut off, as it should be
                    connection.send(b"x")
            time.sleep(0.05)

    for number, connection in enumerate(slow):
        # A quarter of them never come to the end of their headers.
        connection.sendall((head + ("X-More: " if number % 4 == 0 else "\r\n")).encode())
    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        for files in (B, A, B):
            assert pod.runs(server.deploy(files)["version"]).tree() == files
        assert server.get("/default/dags/deploys")[0] == 200
        assert peak_bytes(server.process) - peak < 200 * (1 << 20)
    finally:
        end.set()
        thread.join()
        for connection in slow:
            connection.close()
