"""The main job with real processes: what is deployed is what every pod gets, and nothing is lost on the way."""

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness import eventually, free_port, pack, tree

HOME = Path(__file__).parents[2]
AIRFLOW = "apache-airflow-core==3.1.3"

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "sql/load.sql": b"select 1\n"}
B = {**A, "shop.py": b"rate = 2\n", "new/dag.py": b"pass\n"}


def test_a_deploy_reaches_every_sidecar_and_a_change_too(serve, follow) -> None:
    server = serve()
    pods = [follow(server, f"pod-{number}") for number in range(3)]
    for number, files in enumerate((A, B, A), 1):
        told = server.deploy(files)
        assert (told["sequence"], told["unchanged"]) == (number, False)
        for pod in pods:
            assert pod.runs(told["version"]).tree() == files
    assert server.current()["added"] == 0
    assert server.current()["removed"] == 1


def test_the_same_content_again_is_unchanged_and_adds_nothing(serve) -> None:
    server = serve()
    first = server.deploy(A)
    again = server.deploy(pack(dict(reversed(A.items())), prefix="./dags/"))
    assert again["unchanged"] is True
    assert (again["version"], again["digest"]) == (first["version"], first["digest"])
    assert server.current()["sequence"] == 1


def test_fifty_deploys_at_once_leave_a_log_without_gaps(serve) -> None:
    server = serve()
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        told = list(pool.map(lambda number: server.deploy({"dag.py": b"n = %d\n" % number}), range(50)))
    assert sorted(answer["sequence"] for answer in told) == list(range(1, 51))
    log = json.loads(server.get("/default/dags/deploys?limit=200")[1])["deploys"]
    assert [deploy["sequence"] for deploy in log] == list(range(50, 0, -1))
    assert {deploy["digest"] for deploy in log} == {answer["digest"] for answer in told}


def test_deployments_are_apart(serve, follow) -> None:
    server = serve("--deployments", "prod,staging")
    prod, staging = follow(server, "prod", "--deployment", "prod"), follow(server, "staging", "--deployment", "staging")
    one, two = server.deploy(A, "prod"), server.deploy(B, "staging")
    assert prod.runs(one["version"]).tree() == A
    assert staging.runs(two["version"]).tree() == B
    assert server.request("/other/dags/upload", pack(A))[0] == 404
    assert server.request("/upload", pack(A))[0] == 404


def test_the_upload_url_without_a_deployment_is_that_of_default(serve) -> None:
    server = serve()
    status, _ = server.request("/upload", pack(A))
    assert status == 200
    assert server.current()["sequence"] == 1


def test_what_people_download_can_be_deployed_again(serve, tmp_path) -> None:
    server = serve()
    digest = server.deploy(A)["digest"]
    packed = server.get("/default/dags/download")[1]
    (tmp_path / "down.tar.gz").write_bytes(packed)
    (tmp_path / "down").mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "down.tar.gz", "-C", tmp_path / "down"], check=True)
    assert tree(tmp_path / "down" / "dags") == A
    assert server.deploy(packed)["digest"] == digest


def test_a_git_archive_is_deployed_as_it_is(serve, follow, tmp_path) -> None:
    work = tmp_path / "repo"
    shutil.copytree(HOME / "examples" / "dags", work / "dags")
    git = ["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "dags"], check=True)
    server = serve()
    pod = follow(server)
    for arguments in (["--format=tar.gz", "HEAD", "dags"], ["--format=tar", "HEAD:dags"]):
        packed = subprocess.run([*git, "archive", *arguments], check=True, capture_output=True).stdout
        told = server.deploy(packed)
        assert pod.runs(told["version"]).tree() == tree(work / "dags")
    assert told["unchanged"] is True


def test_airflows_own_example_dags_are_published_unchanged(serve, follow, tmp_path) -> None:
    download = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", tmp_path / "wheel", AIRFLOW],
        check=False,
        capture_output=True,
    )
    if download.returncode and not os.environ.get("CI"):
        pytest.skip("Airflow's wheel cannot be downloaded here")
    assert download.returncode == 0, download.stderr
    with zipfile.ZipFile(next((tmp_path / "wheel").glob("*.whl"))) as wheel:
        names = [name for name in wheel.namelist() if name.startswith("airflow/example_dags/")]
        wheel.extractall(tmp_path / "unpacked", names)
    (tmp_path / "unpacked/airflow/example_dags").rename(tmp_path / "dags")
    expected = tree(tmp_path / "dags")
    assert len(expected) > 40
    server = serve()
    pod = follow(server)
    for options in (["-czf"], ["--zstd", "-cf"], ["-cf"]):
        subprocess.run(["tar", *options, tmp_path / "dags.tar", "-C", tmp_path, "dags"], check=True)
        told = server.deploy((tmp_path / "dags.tar").read_bytes())
        assert pod.runs(told["version"]).tree() == expected


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_the_commands_of_the_docs_deploy_with_the_tar_of_macos_too(serve, tmp_path, program) -> None:
    found = shutil.which(program)
    if not found or not shutil.which("curl"):
        assert not os.environ.get("CI"), "apt-get install curl libarchive-tools"
        pytest.skip(f"{program} or curl is not installed")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tar").symlink_to(found)
    (tmp_path / "dags").mkdir()
    server = serve("--deployments", "default,prod")
    commands = [
        line.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{server.port}")
        for page in ("README.md", "docs/reference/protocol.md")
        for line in re.sub(r"\\\n *", "", (HOME / page).read_text()).splitlines()
        # A change needs a version and a digest that only a program knows: tests/client has one.
        if re.match(" {4}(tar|curl) .*(dags.tar.gz|upload)", line) and "change" not in line
    ]
    assert len(commands) >= 4
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "NO_PROXY": "*"}
    for number, command in enumerate(commands):
        (tmp_path / "dags" / "dag.py").write_text(f"n = {number}\n")
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, check=True, capture_output=True)
        assert b"curl" not in command.encode() or json.loads(done.stdout)["version"], done.stdout


def test_a_padded_pipe_of_bsdtar_is_refused_with_what_to_do(serve, tmp_path) -> None:
    if not shutil.which("bsdtar"):
        assert not os.environ.get("CI"), "apt-get install libarchive-tools"
        pytest.skip("bsdtar is not installed (Debian: libarchive-tools)")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "dag.py").write_text("")
    piped = subprocess.run(["bsdtar", "-czf", "-", "dags"], cwd=tmp_path, check=True, capture_output=True).stdout
    status, body = serve().request("/default/dags/upload", piped)[:2]
    told = json.loads(body)
    assert (status, told["code"]) == (422, "archive_trailing_data")
    assert "bsdtar" in told["hint"]
    assert "-f dags.tar.gz" in told["hint"]


def test_a_sidecar_waits_for_a_server_that_is_not_there_yet(serve, follow) -> None:
    port = free_port()
    pod = follow(f"http://127.0.0.1:{port}")
    eventually("the sidecar to be alive", lambda: alive(pod))
    assert pod.probe("/readyz")[0] == 503
    server = serve(port=port)
    assert pod.runs(server.deploy(A)["version"]).tree() == A
    assert pod.probe("/readyz")[0] == 200


def alive(pod) -> bool:
    try:
        return pod.probe("/healthz")[0] == 200
    except OSError:
        return False


def test_a_pod_restarts_from_its_tree_while_the_server_is_away_and_catches_up_later(serve, follow) -> None:
    server = serve()
    pod = follow(server)
    first = server.deploy(A)["version"]
    pod.runs(first).stop()
    server.stop()
    pod = follow(server.url)
    eventually("the sidecar to be ready", lambda: alive(pod) and pod.probe("/readyz")[0] == 200)
    assert pod.tree() == A
    server = serve(port=server.port)
    assert pod.runs(server.deploy(B)["version"]).tree() == B


def test_a_server_that_is_killed_loses_nothing_it_said_yes_to(serve, follow) -> None:
    server = serve()
    pod = follow(server)
    for number in range(5):
        told = server.deploy({"dag.py": b"n = %d\n" % number})
        server.kill()
        server = serve(port=server.port)
        assert server.current()["version"] == told["version"]
        pod.runs(told["version"])


def test_a_store_that_was_lost_does_not_change_the_trees_until_something_is_deployed(serve, follow) -> None:
    server = serve()
    pod = follow(server)
    version = server.deploy(A)["version"]
    pod.runs(version)
    server.kill()
    server = serve(data="new", port=server.port)
    eventually(
        "the sidecar to see the new log", lambda: any("log id" in line["message"].lower() for line in pod.logged())
    )
    assert pod.live == version
    server.deploy(B)  # maybe within the same second, and so with the same version as the one that was lost
    eventually("the deploy of the new log", lambda: pod.tree() == B)


def test_a_restored_backup_is_followed_only_after_new_log_id(serve, follow, tmp_path) -> None:
    server = serve()
    pod = follow(server)
    server.deploy(A)
    server.stop()
    shutil.copytree(tmp_path / "data", tmp_path / "backup")
    server = serve(port=server.port)
    newest = server.deploy(B)["version"]
    pod.runs(newest)
    server.stop()

    server = serve(data="backup", port=server.port)
    eventually("the refusal", lambda: pod.metric('dagferry_sidecar_syncs_total{outcome="sequence_regressed"}') > 0)
    assert pod.live == newest
    server.stop()

    subprocess.run(
        [sys.executable, "-m", "dagferry_server", "new-log-id", "--data-dir", tmp_path / "backup"], check=True
    )
    server = serve(data="backup", port=server.port)
    assert pod.runs(server.current()["version"]).tree() == A


def test_one_deploy_can_be_followed_through_both_logs(serve, follow) -> None:
    server = serve()
    pod = follow(server, "pod-7")
    version = server.deploy(A)["version"]
    pod.runs(version)
    assert any(line.get("version") == version and line.get("deployment") == "default" for line in server.logged())
    eventually(
        "the server to be told",
        lambda: any(line.get("instance") == "pod-7" and version in line.values() for line in server.logged()),
    )
    assert any(line.get("version") == version and line.get("instance") == "pod-7" for line in pod.logged())


def test_an_init_container_syncs_once_and_ends(serve, follow) -> None:
    server = serve()
    server.deploy(A)
    pod = follow(server, "pod-0", "--once")
    assert pod.process.wait(30) == 0
    assert pod.tree() == A
