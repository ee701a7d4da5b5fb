"""What a newcomer does with ``dagferry``, a real server and 20 real sidecars: deploy, see, break, be stopped, undo."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from credentials import TokensFile
from harness import Server, Sidecar, eventually, free_port

PODS = 20
TIMEOUT_SECONDS = 120
DAG = """\
from airflow.sdk import dag, task


@dag(schedule="@hourly")
def {name}():
    @task
    def load():
        print("{name}")

    load()


{name}()
"""
NAMES = ("customers", "orders", "stock")
SETTINGS = """
deployments = [
  {{ name = "prod", airflow-python = "3.11", converge-seconds = {converge_seconds}, expected = {{ worker = {pods} }} }},
]
"""


class Newcomer:
    """Somebody with a dags folder, a token, and the command ``dagferry``."""

    def __init__(self, folder: Path, server: Server, token: str) -> None:
        self.dags = folder / "dags"
        self.token = token
        self._folder = folder
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DAGFERRY_SERVER": server.url,
            "DAGFERRY_DEPLOYMENT": "prod",
        }

    def begins(self, *arguments: str, token: str = "") -> "subprocess.Popen[str]":
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "dagferry_client", *arguments],
            cwd=self._folder,
            env={**self._environment, "DAGFERRY_TOKEN": token or self.token},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def types(self, *arguments: str, code: int = 0, token: str = "") -> str:
        """What a command prints on both outputs; it must end with ``code``."""
        command = self.begins(*arguments, token=token)
        printed, said = command.communicate(timeout=TIMEOUT_SECONDS)
        assert command.returncode == code, f"{arguments}: {command.returncode}\n{printed}{said}"
        return printed + said

    def asks(self, *arguments: str) -> Any:
        """What a command prints with ``--json``."""
        command = self.begins(*arguments, "--json")
        printed, said = command.communicate(timeout=TIMEOUT_SECONDS)
        assert command.returncode == 0, said
        return json.loads(printed)


@pytest.fixture
def tokens(tmp_path: Path) -> TokensFile:
    return TokensFile(tmp_path / "tokens.toml")


def serving(serve: Callable[..., Server], tmp_path: Path, tokens: TokensFile, converge_seconds: int) -> Server:
    file = tmp_path / "deployments.toml"
    file.write_text(SETTINGS.format(converge_seconds=converge_seconds, pods=PODS))
    # /healthz is on the other address as soon as there are credentials.
    return serve("--deployments-file", str(file), "--tokens-file", str(tokens.path))


def test_a_newcomer_deploys_is_stopped_overrides_sees_what_is_wrong_and_undoes_it(
    serve, follow, tmp_path: Path, tokens: TokensFile
) -> None:
    alice = tokens.add("alice", ["deploy", "read"], ["prod"])
    lead = tokens.add("lead", ["deploy", "read", "override"], ["prod"])
    for number in range(PODS):
        (tmp_path / f"token-{number}").write_text(tokens.add(f"pod-{number}", ["sync"], ["prod"]))
    server = serving(serve, tmp_path, tokens, converge_seconds=2)
    newcomer = Newcomer(tmp_path, server, alice)
    newcomer.dags.mkdir()
    for name in NAMES:
        (newcomer.dags / f"{name}.py").write_text(DAG.format(name=name))
    ports: set[int] = set()  # that of a sidecar that does not listen yet may be found once more
    while len(ports) < PODS:
        ports.add(free_port())
    pods: list[Sidecar] = [
        follow(
            server, f"worker-{number}", "--deployment", "prod", "--component", "worker",
            "--token-file", str(tmp_path / f"token-{number}"), "--listen", f"127.0.0.1:{port}",
        )
        for number, port in enumerate(ports)
    ]  # fmt: skip
    processes = [pod.process.pid for pod in pods]

    def all_pods_run() -> bool:
        for pod in pods:
            assert pod.process.poll() is None, pod.log.read_text()
        return newcomer.asks("status")["counts"]["known"] == PODS

    eventually("the server to know all pods", all_pods_run, TIMEOUT_SECONDS)

    # Deploys, and waits until every pod has it.
    assert "EMPTY" in newcomer.types("status")
    said = newcomer.types("deploy", "-m", "First deploy", "--wait=5m")
    assert "3 files added" in said
    assert f"live in all {PODS} pods" in said
    first = newcomer.asks("status")
    assert (first["state"], first["counts"]["live"], first["counts"]["known"]) == ("HEALTHY", PODS, PODS)
    assert {pod.live for pod in pods} == {first["version"]}

    # Changes a DAG; sees who deployed what, and what differs.
    orders = newcomer.dags / "orders.py"
    good = orders.read_text().replace("@hourly", "@daily")
    orders.write_text(good)
    assert f"live in all {PODS} pods" in newcomer.types("deploy", "-m", "Orders once a day", "--wait=5m")
    assert "Nothing was deployed: prod has exactly this" in newcomer.types("deploy")
    history = newcomer.asks("history")["deploys"]
    assert [(one["sequence"], one["actor"], one["description"]) for one in history] == [
        (2, "token:alice", "Orders once a day"),
        (1, "token:alice", "First deploy"),
    ]
    assert '+@dag(schedule="@daily")' in newcomer.types("diff", "1", "2", "--content")

    # Breaks a DAG, and is stopped: by the command, and by the server if the command does not check.
    orders.write_text(good.replace("def load():", "def load(:"))
    for arguments in (["check"], ["deploy"], ["deploy", "--skip-gate"], ["deploy", "--dry-run"]):
        said = newcomer.types(*arguments, code=3)
        assert "orders.py:7:14: " in said, said
    assert [one["sequence"] for one in newcomer.asks("history")["deploys"]] == [2, 1]

    # Overrides, while a pod hangs: sees that it is not live everywhere, where not, and why.
    hung = pods[7]
    hung.process.send_signal(signal.SIGSTOP)
    said = newcomer.types("deploy", "--skip-gate", "-m", "Trust me", "--wait=6s", code=7, token=lead)
    assert "is not live in every pod after 6 s: " in said
    assert "worker-7 (behind)" in said
    eventually("the other pods", lambda: newcomer.asks("status")["counts"]["live"] == PODS - 1, TIMEOUT_SECONDS)
    said = newcomer.types("status")
    assert said.startswith("prod: DEGRADED worker-7 has lacked the newest deploy for more than 2 s.\n")
    status = newcomer.asks("status")
    assert {pod["instance"] for pod in status["sidecars"] if pod["state"] != "live"} == {"worker-7"}
    assert (status["counts"]["live"], status["counts"]["behind"]) == (PODS - 1, 1)
    newest = newcomer.asks("history")["deploys"][0]
    assert (newest["actor"], newest["flags"]) == ("token:lead", ["skip_gate"])
    assert b"def load(:" in pods[0].tree()["orders.py"]

    # Undoes it; is told that all pods are back when they are, and not before.
    undoing = newcomer.begins("rollback", "--previous", "-m", "It was broken", "--wait=5m")
    others = [pod for pod in pods if pod is not hung]

    def back(pod: Sidecar) -> bool:
        return pod.live is not None and pod.live.endswith("-000004")

    eventually("the other pods to be back", lambda: all(map(back, others)), TIMEOUT_SECONDS)
    eventually("the status to be degraded again", lambda: newcomer.asks("status")["state"] == "DEGRADED")
    assert undoing.poll() is None
    assert not back(hung)
    hung.process.send_signal(signal.SIGCONT)
    printed, said = undoing.communicate(timeout=TIMEOUT_SECONDS)
    assert undoing.returncode == 0, said
    assert f"live in all {PODS} pods" in said
    assert all(map(back, pods))
    assert newcomer.types("status").startswith(f"prod: HEALTHY All {PODS} pods have {printed.strip()} live.\n")

    # Every pod has what it had, none was restarted, and the log says all that happened.
    assert {pod.tree()["orders.py"] for pod in pods} == {good.encode()}
    assert [pod.process.pid for pod in pods if pod.process.poll() is None] == processes
    deploys = newcomer.asks("history")["deploys"]
    assert [(one["sequence"], one["kind"], one["actor"], one["description"]) for one in deploys] == [
        (4, "rollback", "token:alice", "It was broken"),
        (3, "upload", "token:lead", "Trust me"),
        (2, "upload", "token:alice", "Orders once a day"),
        (1, "upload", "token:alice", "First deploy"),
    ]
    assert (deploys[0]["source"], deploys[0]["digest"]) == (deploys[2]["version"], deploys[2]["digest"])
    assert newcomer.types("verify").startswith("prod: 4 entries")
