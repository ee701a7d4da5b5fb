"""Real reverse proxies in front of the server, configured as docs/how-to/proxies.md prints it."""

import json
import os
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from credentials import TokensFile
from harness import Server, eventually, pack
from login_service import login_service
from pages import HOME
from proxies import PROXIES, Proxy, documented, find, fronted

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n"}
PROXY_SECRET = "0123456789abcdef" * 4
LONG_WAIT_SECONDS = 50
LARGE = {**A, "large.bin": os.urandom(14_000_000)}
each_proxy = pytest.mark.parametrize("proxy", PROXIES, ids=lambda proxy: proxy.title)


def curl(*arguments: str, data: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["curl", "-sS", "--max-time", "60", *arguments], input=data, capture_output=True, check=False)


@each_proxy
def test_a_large_upload_arrives_in_every_form_and_reaches_who_waits(serve, follow, tmp_path, proxy: Proxy) -> None:
    server = serve()
    file = tmp_path / "dags.tar.gz"
    with fronted(proxy, server, tmp_path) as front:
        pod = follow(front.url)
        for number, way in enumerate(
            (
                ["-F", f"dags.tar.gz=@{file}"],
                ["--data-binary", f"@{file}"],
                ["--data-binary", f"@{file}", "-H", "Transfer-Encoding: chunked"],
                ["--data-binary", f"@{file}", "-H", "Expect: 100-continue"],
            )
        ):
            files = {**LARGE, "shop.py": b"rate = %d\n" % number}
            file.write_bytes(pack(files))
            done = curl("--fail-with-body", *way, f"{front.url}/default/dags/upload")
            assert done.returncode == 0, (way, done)
            assert pod.runs(json.loads(done.stdout)["version"]).tree() == files
        pod.stop()


@each_proxy
def test_the_server_s_own_limit_is_seen(serve, tmp_path, proxy: Proxy) -> None:
    server = serve("--third-party-ingress")
    file = tmp_path / "large.tar.gz"
    file.write_bytes(pack(LARGE))
    with fronted(proxy, server, tmp_path) as front:
        for way in (["-F", f"file=@{file}"], ["--data-binary", f"@{file}", "-H", "Transfer-Encoding: chunked"]):
            done = curl("-w", "%{stderr}%{http_code}", *way, f"{front.url}/default/dags/upload")
            assert done.stderr == b"413", (way, done)
            assert json.loads(done.stdout)["code"] == "upload_too_large"


def test_a_wait_of_the_longest_kind_is_answered_by_the_server(serve, tmp_path) -> None:
    for proxy in PROXIES:
        find(proxy)  # a thread cannot skip the test
    # All at once: it takes as long as the wait.
    server = serve()
    version = server.deploy(A)["version"]
    answers: dict[str, tuple[int, float]] = {}

    def wait(proxy: Proxy) -> None:
        with fronted(proxy, server, tmp_path) as front:
            began = time.monotonic()
            done = curl(
                *("-w", "%{http_code}", "-H", f'If-None-Match: "{version}"', "-H", f"Prefer: wait={LONG_WAIT_SECONDS}"),
                f"{front.url}/default/dags/current",
            )
            answers[proxy.title] = int(done.stdout), time.monotonic() - began

    threads = [threading.Thread(target=wait, args=(proxy,)) for proxy in PROXIES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {title: status for title, (status, _) in answers.items()} == {proxy.title: 304 for proxy in PROXIES}
    assert min(seconds for _, seconds in answers.values()) >= LONG_WAIT_SECONDS - 1


@each_proxy
def test_after_a_restart_of_the_server_deploys_go_on_arriving(serve, follow, tmp_path, proxy: Proxy) -> None:
    server = serve()
    with fronted(proxy, server, tmp_path) as front:
        pod = follow(front.url)
        pod.runs(front.deploy(A)["version"])
        server.stop()
        server = serve(port=server.port)
        files = {**A, "shop.py": b"rate = 2\n"}

        def deployed() -> str:
            status, body = front.request("/default/dags/upload", pack(files))
            return json.loads(body)["version"] if status == 200 else ""

        # A proxy that checks its servers' health takes a moment to believe in this one again.
        assert pod.runs(eventually("an upload to be taken", deployed)).tree() == files
        pod.stop()


@each_proxy
def test_no_caller_can_pose_as_the_proxy(serve, tmp_path, proxy: Proxy) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    tokens.users = ['{ name = "ann", scopes = ["deploy"], deployments = ["default"] },']
    (tmp_path / "proxy-secret").write_text(PROXY_SECRET)
    tokens.write()
    server = serve(
        *("--tokens-file", str(tokens.path), "--proxy-user-header", "X-Forwarded-User"),
        *("--proxy-secret-file", str(tmp_path / "proxy-secret")),
    )
    forged = {"X_Forwarded_User": "ann", "Dagferry_Proxy_Secret": PROXY_SECRET}
    assert server.get("/default/dags/deploys", **forged)[0] == 200  # past the proxy, who knows the secret is the proxy
    with fronted(proxy, server, tmp_path) as front:
        assert front.get("/default/dags/deploys", **forged)[0] == 401


CADDY = next(proxy for proxy in PROXIES if proxy.title == "Caddy")


@pytest.mark.parametrize("login_names_nobody", [False, True])
def test_behind_caddy_s_login_nobody_chooses_a_name(serve, tmp_path, login_names_nobody) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    tokens.users = ['{ name = "*", scopes = ["deploy"], deployments = ["default"] },']
    (tmp_path / "proxy-secret").write_text(PROXY_SECRET)
    tokens.write()
    server = serve(
        *("--tokens-file", str(tokens.path), "--proxy-user-header", "X-Forwarded-User"),
        *("--proxy-secret-file", str(tmp_path / "proxy-secret")),
    )
    forged = {"X_Forwarded_User": "ann@example.com"}
    with login_service(names_nobody=login_names_nobody) as login:
        text = documented("Caddy with a login").replace("127.0.0.1:4180", f"127.0.0.1:{login}")
        with fronted(CADDY, server, tmp_path, text, healthy=401, DAGFERRY_PROXY_SECRET=PROXY_SECRET) as front:
            assert front.get("/default/dags/deploys", **forged)[0] == 401
            status, body = front.get("/default/dags/deploys", Authorization="bob", **forged)
            assert status == (401 if login_names_nobody else 200), body
            if not login_names_nobody:
                front.request("/default/dags/upload", pack(A), Authorization="bob", **forged)
                assert server_log_actors(front) == ["proxy:bob@example.com"]


def server_log_actors(front: Server) -> list[str]:
    """Who deployed, as somebody who is logged in sees it."""
    status, body = front.get("/default/dags/deploys", Authorization="ann")
    assert status == 200
    return [deploy["actor"] for deploy in json.loads(body)["deploys"]]


HAPROXY = next(proxy for proxy in PROXIES if proxy.title == "HAProxy")


@pytest.mark.parametrize("check", ["option httpchk", "option httpchk HEAD /healthz"])
def test_a_health_check_of_any_kind_finds_the_server_healthy(serve, tmp_path, check) -> None:
    text = documented("HAProxy").replace("option httpchk GET /healthz", check)
    assert check in text
    # A server that fails its check is taken out within milliseconds, and answers 503 from then on.
    text = text.replace("8000 check", "8000 check inter 50ms fall 1 rise 1")
    # Else a check may take no longer than until the next one.
    text = text.replace("timeout server 75s", "timeout server 75s\n    timeout check 20s")
    assert "timeout check" in text
    server = serve()
    with fronted(HAPROXY, server, tmp_path, text) as front:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            assert front.get("/healthz")[0] == 200
            time.sleep(0.05)


@contextmanager
def _answering(answer: str) -> Iterator[str]:
    """Something that answers every upload so; yields the upload's URL."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            while (line := self.rfile.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self.rfile.read(length)
            self.wfile.write(f"HTTP/1.1 {answer}".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{other.server_address[1]}/prod/dags/upload"
        other.shutdown()


def _script(url: str, folder: Path) -> str:
    """The lines of the page on CI that deploy, for this URL."""
    text = (HOME / "docs" / "how-to" / "deploy-from-ci.md").read_text()
    text = text.partition("## With curl\n")[2].partition("\n### ")[0]
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    script = "\n".join(lines).replace("https://dags.example.com/prod/dags/upload", url)
    assert url in script
    return f"set -e\ncd {folder}\nDAGFERRY_TOKEN=secret\n{script}\n"


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        ("200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<html>log in</html> ", False),
        ("302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", False),
        ("308 Permanent Redirect\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", False),
        ("403 Forbidden\r\nContent-Length: 0\r\n\r\n", False),
        ("", True),
    ],
    ids=["login page", "redirect", "lasting redirect", "refusal", "the server"],
)
def test_the_documented_lines_fail_whenever_nothing_was_deployed(serve, tmp_path, answer, passes) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "etl.py").write_text("x = 1\n")
    server = serve()
    if not passes:
        with _answering(answer) as url:
            done = subprocess.run(["bash", "-c", _script(url, tmp_path)], capture_output=True, check=False)
    else:
        url = f"{server.url}/default/dags/upload"
        done = subprocess.run(["bash", "-c", _script(url, tmp_path)], capture_output=True, check=False)
    assert (done.returncode == 0) == passes, done
