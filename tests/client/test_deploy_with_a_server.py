"""``dagferry deploy`` against a real server and real pods: what was in the folder is what a pod has, to the byte."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from dagferry_client.http import Http
from harness import Server, Sidecar
from localtrees import write

pytestmark = pytest.mark.slow

DAGS = {f"{name}.py": f"from airflow import DAG\n# {name}\n".encode() for name in "abcde"}
FILES = {**DAGS, "sql/ü load.sql": b"select 1\n", "run.sh": b"#!/bin/sh\n"}
BIG = random.Random(7).randbytes(1_200_000)


@pytest.fixture
def run(dagferry, serve):
    """The command against a server whose gate enforces."""
    server = serve("--airflow-python", "3.12", "--exclude", "*.secret")

    def against(*arguments: str, **environment: str):
        done = dagferry(*arguments, DAGFERRY_SERVER=server.url, DAGFERRY_DEPLOYMENT="default", **environment)
        assert "Traceback" not in done.err
        return done

    against.server = server
    return against


@pytest.fixture
def dags(project: Path) -> Path:
    folder = write(project / "dags", FILES)
    (folder / "run.sh").chmod(0o755)
    return folder


@pytest.fixture
def pod(run, follow) -> Sidecar:
    return follow(run.server, "pod-0", "--deployment", "default")


@pytest.fixture
def queries(monkeypatch) -> list[Any]:
    """The parameters of all uploads that are sent."""
    sent: list[Any] = []
    request = Http.request

    def recorded(self: Http, method: str, path: str, **options: Any) -> Any:
        if path.endswith("/dags/upload"):
            sent.append(sorted(options["query"]))
        return request(self, method, path, **options)

    monkeypatch.setattr(Http, "request", recorded)
    return sent


def deployed(run, *arguments: str) -> dict[str, Any]:
    done = run("deploy", "--json", *arguments)
    assert done.code == 0, done.err
    return done.json


def test_a_pod_has_what_the_folder_has_after_the_first_deploy_and_after_each_change(run, dags, pod, queries) -> None:
    first = deployed(run)
    assert pod.runs(first["deployed"]["version"]).tree() == FILES
    assert os.access(pod.root / "current" / "run.sh", os.X_OK)

    write(dags, {"a.py": DAGS["a.py"] + b"a = 1\n", "new/n.py": b"n = 1\n"})
    (dags / "sql" / "ü load.sql").unlink()
    (dags / "run.sh").chmod(0o644)
    second = deployed(run)["deployed"]
    assert (second["added_paths"], second["changed_paths"], second["removed_paths"]) == (
        ["new/n.py"],
        ["a.py", "run.sh"],
        ["sql/ü load.sql"],
    )
    expected = {path.relative_to(dags).as_posix(): path.read_bytes() for path in dags.rglob("*") if path.is_file()}
    assert pod.runs(second["version"]).tree() == expected
    assert not os.access(pod.root / "current" / "run.sh", os.X_OK)
    assert queries == [[], ["base", "digest"]]


def test_the_same_again_is_unchanged_and_a_dry_run_changes_nothing(run, dags) -> None:
    version = deployed(run)["deployed"]["version"]
    again = run("deploy")
    assert (again.code, again.out) == (0, f"{version}\n")
    assert "Nothing was deployed" in again.err
    write(dags, {"a.py": DAGS["a.py"] + b"a = 1\n"})
    assert run("deploy", "--dry-run").out == "M  a.py\n"
    assert run.server.current()["version"] == version


def test_a_machine_without_a_cache_sends_a_change_too(run, dags, tmp_path, queries) -> None:
    write(dags, {"data.bin": BIG})
    deployed(run)
    shutil.rmtree(tmp_path / "cache")
    write(dags, {"a.py": DAGS["a.py"] + b"a = 1\n"})
    assert deployed(run)["sent_bytes"] < 1000
    assert queries == [[], ["base", "digest"]]


def test_a_change_onto_what_somebody_else_deployed_is_computed_from_that(run, dags, pod) -> None:
    deployed(run)
    run.server.deploy({**FILES, "theirs.py": b"x = 1\n", "data.bin": BIG})
    mine = deployed(run)["deployed"]
    assert mine["removed_paths"] == ["data.bin", "theirs.py"]
    assert pod.runs(mine["version"]).tree() == FILES


def test_what_the_server_excludes_is_said_and_everything_is_sent_then(run, dags, queries) -> None:
    write(dags, {"x.secret": b"1"})
    first = run("deploy")
    assert first.code == 0
    assert "excluded 1 file by its patterns: dags/x.secret" in first.err
    write(dags, {"a.py": DAGS["a.py"] + b"a = 1\n", "data.bin": BIG})
    assert deployed(run)["deployed"]["excluded_paths"] == ["dags/x.secret"]
    write(dags, {"a.py": DAGS["a.py"] + b"a = 2\n"})
    done = run("deploy")
    assert done.code == 0
    assert "Sending everything." in done.err
    assert queries[-2:] == [["base", "digest"], []]
    assert run.server.current()["sequence"] == 3


def test_only_the_expected_version_is_built_upon(run, dags) -> None:
    version = deployed(run)["deployed"]["version"]
    write(dags, {"a.py": DAGS["a.py"] + b"a = 1\n"})
    refused = run("deploy", "--if-current", "20200101T000000Z-000007")
    assert (refused.code, refused.out) == (3, "")
    assert run("deploy", "--if-current", version).code == 0


def test_two_teams_deploy_below_their_folders_and_leave_each_other_alone(run, project, pod, queries) -> None:
    ours, theirs = write(project / "ours", DAGS), write(project / "theirs", {"t.py": b"t = 1\n"})
    deployed(run, "ours", "--under", "team-a/")
    deployed(run, "theirs", "--under", "team-b")
    write(ours, {"a.py": DAGS["a.py"] + b"a = 1\n"})
    write(theirs, {"t.py": b"t = 2\n"})
    deployed(run, "theirs", "--under", "team-b")
    last = deployed(run, "ours", "--under", "team-a")["deployed"]
    assert last["under"] == "team-a/"
    assert last["changed_paths"] == ["team-a/a.py"]
    tree = pod.runs(last["version"]).tree()
    assert tree["team-b/t.py"] == b"t = 2\n"
    assert {path: content for path, content in tree.items() if path.startswith("team-a/")} == {
        f"team-a/{path.name}": path.read_bytes() for path in ours.iterdir()
    }


def test_what_does_not_parse_is_stopped_here_and_skip_gate_deploys_it(run, dags) -> None:
    deployed(run)
    write(dags, {"a.py": DAGS["a.py"] + b"def (\n"})
    stopped = run("deploy")
    assert stopped.code == 3
    assert "a.py:3:5" in stopped.err
    assert run.server.current()["sequence"] == 1
    assert deployed(run, "--skip-gate")["deployed"]["sequence"] == 2
    [newest, _] = json.loads(run.server.get("/default/dags/deploys")[1])["deploys"]
    assert newest["flags"] == ["skip_gate"]


def test_most_dags_only_go_if_somebody_says_so(run, dags) -> None:
    deployed(run)
    for name in "bcde":
        (dags / f"{name}.py").unlink()
    refused = run("deploy")
    assert refused.code == 3
    assert "- b.py\n  - c.py\n  - d.py\n  - e.py\n" in refused.err
    assert deployed(run, "--yes")["deployed"]["removed"] == 4


def test_what_is_over_the_limit_is_not_sent(dagferry, serve, dags) -> None:
    server: Server = serve("--third-party-ingress")
    write(dags, {"data.bin": random.Random(8).randbytes(9 << 20)})
    done = dagferry("deploy", DAGFERRY_SERVER=server.url, DAGFERRY_DEPLOYMENT="default")
    assert done.code == 3
    assert "default accepts 8.0 MiB. The largest of the files, before packing: 'data.bin' (9.0 MiB)" in done.err
    assert not [line for line in server.logged() if line.get("request", "").endswith("/dags/upload")]


def test_where_it_comes_from_is_in_the_log(run, project, dags) -> None:
    write(project, {"Dockerfile": b"FROM a"})
    deployed(run, "-m", "Fix it")
    write(project, {"Dockerfile": b"FROM b"})
    write(dags, {"a.py": DAGS["a.py"] + b"a = 1\n"})
    assert "These need an image deploy; DAGs alone were sent: Dockerfile changed since" in run("deploy").err
    log = json.loads(run.server.get("/default/dags/deploys")[1])["deploys"]
    assert log[1]["description"] == "Fix it"
    assert log[1]["git"]["image"].startswith("Dockerfile=")


def test_wait_fails_without_a_pod_and_the_first_deploy_stays(run, dags) -> None:
    done = run("deploy", "--wait=1s", "--undo-on-failure")
    assert done.code == 7
    assert "no pod is known" in done.err
    assert "Whether a pod lacks the deploy is not known, so nothing is undone." in done.err
    assert run.server.current()["sequence"] == 1


def test_wait_ends_when_the_pod_has_it_and_a_pod_that_hangs_is_undone(run, dags, pod) -> None:
    live = deployed(run, "--wait")
    assert live["live"] is True
    assert pod.live == live["deployed"]["version"]
    pod.process.send_signal(19)
    try:
        write(dags, {"a.py": DAGS["a.py"] + b"a = 1\n"})
        done = run("deploy", "--wait=2s", "--undo-on-failure", "--json")
    finally:
        pod.process.send_signal(18)
    assert done.code == 7
    assert (done.json["live"], done.json["undone_by"]) == (False, run.server.current()["version"])
    assert run.server.current()["digest"] == live["deployed"]["digest"]
    assert pod.runs(done.json["undone_by"]).tree() == FILES
