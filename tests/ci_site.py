"""What a CI job finds: a checkout with dags and ``deploy/ci``, a server that knows its token, and a pod."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from credentials import TokensFile
from deployfiles import HOME
from harness import Server, Sidecar

DAG = "from airflow.sdk import DAG\n"
BINARIES = Path(sys.executable).parent
"""Has the command ``dagferry`` of this checkout."""
EXAMPLE_SERVER = "https://dags.example.com"
"""The server of all examples."""
IDENTITY = {
    "circleci": """[ "$*" = 'run oidc get --claims {"aud": "dagferry"}' ] || exit 2""",
    "aws": """[ "$1 $2 $3 $4" = "sts get-web-identity-token --audience dagferry" ] || exit 2""",
}
"""Commands that give a job its identity, and the arguments that they get."""


class Site(NamedTuple):
    """``checkout`` is what the job runs in, ``environment`` what it has before the variables of its file."""

    server: Server
    pod: Sidecar
    checkout: Path
    token: str
    environment: dict[str, str]

    def here(self, text: str) -> str:
        """Return a file of CI with this server instead of that of the examples."""
        assert EXAMPLE_SERVER in text
        return text.replace(EXAMPLE_SERVER, self.server.url)

    def command(self, name: str, script: str) -> None:
        """Put a command into the job's PATH, before all others."""
        path = self.checkout.parent / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    @property
    def version(self) -> str:
        """The version that is deployed; empty if there is none."""
        return str(self.server.current("prod").get("version") or "")


@pytest.fixture
def site(tmp_path: Path, serve: Callable[..., Server], follow: Callable[..., Sidecar]) -> Site:
    tokens = TokensFile(tmp_path / "tokens.toml")
    token, all_scopes = tokens.add("ci", ["deploy"], ["prod"]), tokens.add("all", ["read", "sync"])
    (tmp_path / "pod-token").write_text(tokens.add("pods", ["sync"]))
    server = serve("--deployments", "prod,other", "--tokens-file", str(tokens.path))
    server.headers = {"Authorization": f"Bearer {all_scopes}"}
    pod = follow(server, "pod-0", "--deployment", "prod", "--token-file", str(tmp_path / "pod-token"))
    checkout = tmp_path / "checkout"
    (checkout / "dags").mkdir(parents=True)
    (checkout / "dags" / "etl.py").write_text(DAG)
    (checkout / "deploy" / "ci").mkdir(parents=True)
    for name in ("deploy.sh", "requirements.txt"):
        shutil.copy(HOME / "deploy" / "ci" / name, checkout / "deploy" / "ci")
    (tmp_path / "bin").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "temp").mkdir()
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{BINARIES}:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temp"),
        "LANG": "C.UTF-8",
        "CI": "true",
    }
    made = Site(server, pod, checkout, token, environment)
    for name, check in IDENTITY.items():
        made.command(name, f"{check}\necho {token}")
    return made
