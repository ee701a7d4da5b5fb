"""What the profile s3 of compose.yaml starts, started here with the same arguments: two servers that one may lose."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deployfiles import COMPOSE, HOME, documents
from harness import Process, Server, Sidecar, eventually, free_port
from nginx import nginx
from plain_browser import PlainBrowser

pytestmark = pytest.mark.slow

[PROJECT] = documents(COMPOSE)
SERVICES: dict[str, Any] = PROJECT["services"]
NAMES = ("server-1", "server-2")


class Machine:
    """The containers of the profile as processes of this machine: hosts are ports, and folders are in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "deploy").mkdir()
        script = folder / "deploy" / "new-secrets"
        script.write_bytes((HOME / "deploy" / "new-secrets").read_bytes())
        script.chmod(0o755)
        subprocess.run([script, sys.executable, "-m", "dagferry_server"], check=True, capture_output=True)
        self.ports = {name: free_port() for name in ("s3", "nginx", *NAMES)}
        self.places = {f"{name}:8000": f"127.0.0.1:{self.ports[name]}" for name in NAMES}
        self.places |= {"//s3:7070": f"//127.0.0.1:{self.ports['s3']}", ":7070": f"127.0.0.1:{self.ports['s3']}"}
        self.places |= {f"/run/secrets/{name}": self.secret(name) for name in ("tokens", "peer-secret")}

    def secret(self, name: str) -> str:
        """The path of the file of a secret."""
        return str(self.folder / "deploy" / PROJECT["secrets"][name]["file"])

    def here(self, text: str, more: Mapping[str, str]) -> str:
        """A text of the compose file with the hosts and paths of this machine."""
        for old, new in {**more, **self.places}.items():
            text = text.replace(old, new)
        return text

    def environment(self, service: str) -> dict[str, str]:
        """The variables of a service."""
        found = {name: self.here(value, {}) for name, value in SERVICES[service].get("environment", {}).items()}
        for file in SERVICES[service]["env_file"]:
            lines = (self.folder / "deploy" / file).read_text().splitlines()
            found |= dict(line.split("=", 1) for line in lines)
        return found

    @contextlib.contextmanager
    def s3(self) -> Iterator[None]:
        """The store."""
        shell, flags, line = SERVICES["s3"]["entrypoint"]
        places = {"/app/versitygw": shlex.quote(os.environ["VERSITYGW"]), "/data": shlex.quote(str(self.folder / "s3"))}
        command = [shell, flags, self.here(line, places)]
        process = subprocess.Popen(command, env={**os.environ, **self.environment("s3")}, stdout=subprocess.DEVNULL)
        try:
            eventually("the bucket", (self.folder / "s3" / "dags").is_dir)
            yield
        finally:
            process.kill()
            process.wait()

    def server(self, name: str) -> Server:
        """One of the servers, started anew: what it kept on its disk is gone, as with a new container."""
        data = self.folder / f"{name}-{free_port()}"
        data.mkdir()
        listen, admin, *rest = SERVICES[name]["command"][1:]
        assert (listen, admin) == ("--listen=0.0.0.0:8000", "--admin-listen=127.0.0.1:8001")
        flags = [SERVICES[name]["command"][0], *(self.here(each, {}) for each in rest)]
        found = Server(data, *flags, port=self.ports[name], **self.environment(name))
        found.headers = {"Authorization": f"Bearer {self.token('deploy')}"}
        return found

    def token(self, name: str) -> str:
        return (self.folder / "deploy" / "secrets" / f"{name}-token").read_text().strip()

    @contextlib.contextmanager
    def nginx(self) -> Iterator[Server]:
        """nginx with the file that the service mounts; the client is at its port."""
        [mount] = SERVICES["nginx"]["volumes"]
        text = (COMPOSE.parent / mount.partition(":")[0]).read_text()
        text = self.here(text, {"listen 8000": f"listen 127.0.0.1:{self.ports['nginx']}"})
        client = Server.__new__(Server)
        client.port, client.ca_file = self.ports["nginx"], None
        client.url = f"http://127.0.0.1:{client.port}"
        client.headers = {"Authorization": f"Bearer {self.token('deploy')}"}
        with nginx(self.folder / "nginx", text):
            yield client


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    if not os.environ.get("VERSITYGW"):
        if os.environ.get("CI"):
            pytest.fail("CI needs VERSITYGW, the path of versitygw")
        pytest.skip("needs VERSITYGW, the path of versitygw")
    machine = Machine(tmp_path)
    with machine.s3():
        yield machine


@contextlib.contextmanager
def running(*processes: Process) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()


def has(server: Server, machine: Machine, version: str) -> None:
    """Wait until a server itself, not nginx, answers a sidecar with this version."""
    bearer = f"Bearer {machine.token('sidecar')}"

    def current() -> bool:
        status, body = server.get("/prod/dags/current", Authorization=bearer)
        return status == 200 and json.loads(body)["version"] == version

    eventually(f"{server.url} to have {version}", current)


def test_both_serve_what_one_has_stored_and_when_one_is_killed_the_other_goes_on(
    machine: Machine, tmp_path: Path
) -> None:
    one, two = (machine.server(name) for name in NAMES)
    with running(one, two), machine.nginx() as site:
        for server in (one, two):
            server.ready()
        sidecar = Sidecar(
            site.url,
            tmp_path / "dags",
            "--deployment=prod",
            f"--token-file={machine.folder}/deploy/secrets/sidecar-token",
        )
        with running(sidecar):
            first = site.deploy({"dag.py": b"a = 1\n"}, "prod")["version"]
            for server in (one, two):
                has(server, machine, first)
            sidecar.runs(first)
            one.kill()
            for number in range(5):
                version = site.deploy({"dag.py": f"a = {number + 2}\n".encode()}, "prod")["version"]
            sidecar.runs(version)
            assert sidecar.tree() == {"dag.py": b"a = 6\n"}
            two.stop()
            again = machine.server("server-1")
            with running(again):
                again.ready()
                has(again, machine, version)
                last = site.deploy({"dag.py": b"a = 7\n"}, "prod")["version"]
                sidecar.runs(last)
                history = site.get("/prod/dags/deploys")[1]
                assert [entry["sequence"] for entry in json.loads(history)["deploys"]] == [*range(7, 0, -1)]


def test_a_session_counts_on_both_servers_and_a_rollback_on_one_page_is_on_the_other(machine: Machine) -> None:
    one, two = (machine.server(name) for name in NAMES)
    page = "/-/ui/deployments/prod"
    with running(one, two), machine.nginx() as site:
        for server in (one, two):
            server.ready()
        site.deploy({"dag.py": b"a = 1\n"}, "prod")
        second = site.deploy({"dag.py": b"a = 2\n"}, "prod")["version"]
        for server in (one, two):
            has(server, machine, second)
        browser = PlainBrowser()
        seen = browser.send(browser.open(site.url + page), "sign-in", token=machine.token("deploy"))
        assert (seen.status, seen.url) == (200, site.url + page)
        # nginx asks them in turn: neither page nor form may depend on which one answers.
        assert {browser.open(site.url + page).status for _ in range(6)} == {200}
        done = browser.send(browser.open(seen.link("Undo: back to #1")), "/rollback", description="Undone on the page")
        assert (done.status, done.url) == (200, site.url + page), done.words
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies)
        for server in (one, two):
            alone = PlainBrowser(Cookie=cookies, Host="127.0.0.1")

            def shows_all(alone: PlainBrowser = alone, server: Server = server) -> bool:
                # Servers that have just started say that the other has not answered until it has.
                words = alone.open(server.url + page).words
                return "Undone on the page" in words and "servers answered" not in words

            eventually(f"{server.url} to show the rollback and all servers", shows_all)
        two.kill()
        eventually(
            "the page to say that a server is away",
            lambda: "1 of 2 servers answered" in browser.open(site.url + page).words,
        )


def test_nobody_reaches_what_servers_ask_each_other_through_nginx(machine: Machine) -> None:
    with machine.nginx() as site:
        assert site.request("/-/peers/poke", b"{}")[0] == 404


def test_the_two_servers_are_alike_and_know_each_other() -> None:
    one, two = (SERVICES[name] for name in NAMES)
    assert one == two
    [peers] = [text.partition("=")[2] for text in one["command"] if text.startswith("--peers=")]
    assert [peer.partition(":")[0] for peer in peers.split(",")] == list(NAMES)


def test_nginx_has_the_name_that_the_sidecar_asks_and_the_port_of_the_one_server() -> None:
    assert SERVICES["nginx"]["networks"]["default"]["aliases"] == ["server"]
    assert SERVICES["nginx"]["ports"] == SERVICES["server"]["ports"]
    text = (COMPOSE.parent / "nginx" / "two-servers.conf").read_text()
    assert re.findall(r"server (server-\d):8000", text) == list(NAMES)
