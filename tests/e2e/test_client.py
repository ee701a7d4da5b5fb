"""``dagferry`` against a real server: who I am, what there is, whether it is live, and what is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from authorities import make_plain_authority, make_strict_authority
from credentials import TokensFile
from dagferry_core import __version__, protocol
from dagferry_server.http.routes import ROUTES
from harness import Server, Sidecar, free_port

pytestmark = pytest.mark.slow

needs_status = pytest.mark.skipif(
    protocol.STATUS_PATH not in {route.path for route in ROUTES}, reason="the server has no status yet"
)


class Site(NamedTuple):
    """A server with TLS and tokens."""

    server: Server
    ca_file: str
    tokens: dict[str, str]


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    ca_file = make_strict_authority(folder, "cluster")
    pair = str(folder / "cluster.pem")
    tokens = TokensFile(folder / "tokens.toml")
    secrets = {
        "ci": tokens.add("ci", ["deploy", "read"], ["prod"], prefixes=["team-a/"]),
        "owner": tokens.add("owner", ["deploy"], ["prod"]),
        "reader": tokens.add("reader", ["read"], ["*"], expires="2999-01-01T00:00:00Z"),
        "sidecar": tokens.add("sidecar", ["sync"], ["prod"]),
        "old": tokens.add("old", ["read"], ["*"], expires="2020-01-01T00:00:00Z"),
    }
    flags = ("--tokens-file", str(tokens.path), "--deployments", "prod,lab", "--tls-cert", pair, "--tls-key", pair)
    server = Server(folder / "data", *flags)
    server.ca_file = ca_file
    yield Site(server.ready(), ca_file, secrets)
    server.stop()


def dagferry(site: Site, token: str, name: str, *arguments: str, **environment: str) -> Done:
    """Run the sub-command ``name`` as the owner of ``token``."""
    ran = subprocess.run(
        [sys.executable, "-m", "dagferry_client", name, "--ca-file", site.ca_file, *arguments],
        env={
            "PATH": os.environ["PATH"],
            "DAGFERRY_SERVER": site.server.url,
            "DAGFERRY_TOKEN": site.tokens.get(token, token),
            **environment,
        },
        cwd=site.server.data,
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(ran.returncode, ran.stdout, ran.stderr)


def failed(done: Done) -> tuple[str, str]:
    """Name and text of the check that failed."""
    assert done.code != 0
    [check] = [one for one in json.loads(done.out)["checks"] if one["state"] == "failed"]
    return check["name"], f"{check['message']} {check['hint']}"


def states(done: Done) -> dict[str, str]:
    return {check["name"]: check["state"] for check in json.loads(done.out)["checks"]}


def test_whoami_says_what_each_token_may_do(site) -> None:
    done = dagferry(site, "ci", "whoami")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"token:ci on {site.server.url}, by the token of DAGFERRY_TOKEN\n")
    assert done.out.splitlines()[-1].split() == ["prod", "deploy", "read", "team-a/"]
    reader = json.loads(dagferry(site, "reader", "whoami", "--json").out)
    assert reader["expires"] > 4102444800
    assert [one["name"] for one in reader["deployments"]] == ["lab", "prod"]


@pytest.mark.parametrize("token", ["old", "dgf_wrong", ""])
def test_the_doctor_finds_a_token_that_is_no_good(site, token) -> None:
    name, text = failed(dagferry(site, token, "doctor", "--json"))
    assert name == "token"
    assert "DAGFERRY_TOKEN" in text


def test_the_doctor_finds_a_deployment_that_the_token_is_not_for(site) -> None:
    done = dagferry(site, "ci", "doctor", "--json", "-d", "lab")
    assert failed(done)[0] == "scopes"
    assert states(done)["tls"] == "warning", "the certificate is for a day"
    assert {states(done)[name] for name in ("dns", "connection", "server", "clock", "token")} == {"ok"}


def test_the_doctor_finds_what_is_wrong_on_the_way(site, tmp_path) -> None:
    other, _ = make_plain_authority(tmp_path, "other")
    url, plain = site.server.url, site.server.url.replace("https:", "http:")
    assert failed(dagferry(site, "ci", "doctor", "--json", "--ca-file", other, DAGFERRY_SERVER=url))[0] == "tls"
    name, text = failed(dagferry(site, "ci", "doctor", "--json", "--server", plain))
    assert (name, text) == (
        "server",
        f"{plain} expects https, and was asked over plain http. Write https:// in the server's URL.",
    )
    closed = f"https://127.0.0.1:{free_port()}"
    assert failed(dagferry(site, "ci", "doctor", "--json", "--server", closed))[0] == "connection"
    assert failed(dagferry(site, "ci", "doctor", "--json", "--server", f"{url}/absent"))[0] == "server"


@needs_status
def test_the_doctor_finds_nothing_wrong(site) -> None:
    done = dagferry(site, "reader", "doctor", "-d", "prod")
    assert done.code == 0
    assert f"It is dagferry/{__version__}; this command is dagferry/{__version__}." in done.out
    assert "failed" not in done.out
    assert "You may not deploy." in done.out


@needs_status
def test_deployments_and_status_follow_a_deploy_to_its_pod(site, tmp_path) -> None:
    def listed() -> dict[str, Any]:
        found = json.loads(dagferry(site, "reader", "deployments", "--json").out)["deployments"]
        return {one["name"]: one["state"] for one in found}

    assert listed() == {"lab": "EMPTY", "prod": "EMPTY"}
    site.server.headers["Authorization"] = f"Bearer {site.tokens['owner']}"
    version = site.server.deploy({"dag.py": b"x = 1\n"}, "prod")["version"]
    token = tmp_path / "token"
    token.write_text(site.tokens["sidecar"])
    flags = ("--deployment", "prod", "--instance", "worker-0", "--token-file", str(token), "--ca-file", site.ca_file)
    sidecar = Sidecar(site.server.url, Path(tmp_path / "pod"), *flags)
    sidecar.runs(version)
    done = dagferry(site, "reader", "status", "-d", "prod")
    assert done.out.startswith("prod: HEALTHY ")
    assert done.out.splitlines()[-1].split()[0] == "worker-0"
    assert [line.split()[:2] for line in dagferry(site, "reader", "status", "--all").out.splitlines()[1:]] == [
        ["lab", "EMPTY"],
        ["prod", "HEALTHY"],
    ]
    assert listed() == {"lab": "EMPTY", "prod": "HEALTHY"}
    sidecar.stop()
