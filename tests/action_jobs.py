"""Jobs that use the GitHub Action: a checkout, a real server with tokens and an issuer, and GitHub beside it."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from credentials import TokensFile, issuers_file
from deployfiles import HOME
from github_api import PULL_REQUEST, GitHub, github
from github_runner import Done, Runner, clean_environment
from harness import Server
from issuer import LocalIssuer, issuer_in_a_thread
from localtrees import read, write

ACTION = HOME / "deploy" / "ci" / "github"
GOOD = b"from airflow import DAG\n"
BAD = GOOD + b"1 = 2\n"
DAGS = {f"{name}.py": GOOD + f"# {name}\n".encode() for name in "abcde"}
ANN = {"GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@example.com"}
ANN |= {"GIT_COMMITTER_NAME": "Ann", "GIT_COMMITTER_EMAIL": "ann@example.com"}
MAX_DEPLOYMENTS = 200
RULES = [
    'claims = { repository_id = "123", ref = "refs/heads/main" }\nscopes = ["deploy"]\ndeployments = ["*"]',
    'claims = { repository_id = "123", ref = "refs/heads/other" }\nscopes = ["deploy"]\ndeployments = ["elsewhere"]',
]


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, **ANN}
    )
    return done.stdout.strip()


def commit(workspace: Path, message: str) -> str:
    git(workspace, "add", "-A")
    git(workspace, "commit", "-q", "--allow-empty", "-m", message)
    return git(workspace, "rev-parse", "HEAD")


class Place(NamedTuple):
    """A server with tokens and an issuer; each test has a deployment of its own."""

    server: Server
    issuer: LocalIssuer
    github: GitHub
    deploy: str
    override: str
    elsewhere: str
    sync: str
    names: Iterator[int]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    with issuer_in_a_thread() as issuer, github() as api:
        tokens = TokensFile(folder / "tokens.toml")
        deploy, override = tokens.add("deploy", ["deploy"]), tokens.add("all", ["deploy", "override", "admin", "sync"])
        elsewhere, sync = tokens.add("elsewhere", ["deploy"], ["elsewhere"]), tokens.add("pods", ["sync"])
        server = Server(
            folder / "data",
            "--deployments", ",".join(f"d{number}" for number in range(MAX_DEPLOYMENTS)),
            "--tokens-file", str(tokens.path),
            "--issuers-file", issuers_file(folder / "issuers.toml", issuer.url, *RULES, name="github"),
            "--airflow-python", "3.12",
        )  # fmt: skip
        server.ready().headers = {"Authorization": f"Bearer {override}"}
        try:
            yield Place(server, issuer, api, deploy, override, elsewhere, sync, itertools.count())
        finally:
            server.stop()


class Job:
    """A job of a workflow: a checkout in ``workspace``, and the action with its inputs."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self.server = place.server
        self.deployment = f"d{next(place.names)}"
        self.workspace = folder / "workspace"
        write(self.workspace / "dags", DAGS)
        git(self.workspace, "init", "-qb", "main")
        self.commit = commit(self.workspace, "Load sales\n\nIt was slow.")
        self.inputs = {"server": place.server.url, "deployment": self.deployment, "token": place.deploy, "wait": ""}
        environment = clean_environment(folder / "home", Path(sys.executable).parent)
        self.runner = Runner(ACTION, self.workspace, {**environment, **place.github.environment(keyless=False)})

    def run(self, given: Mapping[str, str] | None = None, **environment: str) -> Done:
        """Run the action with ``given`` beside the usual inputs."""
        return self.runner.run({**self.inputs, **(given or {})}, **environment)

    def pull_request(self) -> dict[str, str]:
        """What is in the environment of a job for a pull request."""
        event = self.workspace.parent / "event.json"
        event.write_text(json.dumps({"pull_request": {"number": PULL_REQUEST, "title": "$(touch pwned)"}}))
        return {"GITHUB_EVENT_PATH": str(event), "GITHUB_EVENT_NAME": "pull_request", "GITHUB_HEAD_REF": "feature"}

    def current(self) -> dict[str, Any]:
        return self.server.current(self.deployment)

    def newest(self) -> dict[str, Any]:
        return json.loads(self.server.get(f"/{self.deployment}/dags/deploys")[1])["deploys"][0]

    def digest(self, folder: str = "dags") -> str:
        """The digest of a folder on this machine, whatever the action did."""
        return read(self.workspace / folder, hashes=self.workspace.parent / "hashes").manifest.digest

    def is_deployed(self, folder: str = "dags") -> bool:
        return self.current().get("digest") == self.digest(folder)


@pytest.fixture
def job(place: Place, tmp_path: Path) -> Iterator[Job]:
    place.github.comments.clear()
    place.github.answer = None
    made = Job(place, tmp_path)
    yield made
    assert not list(tmp_path.rglob("pwned")), "a text was executed"
    assert not (Path.cwd() / "pwned").exists()


def assert_red(done: Done, *said: str) -> None:
    assert not done.is_green
    assert done.errors()
    for text in said:
        assert text in done.errors()[0]
